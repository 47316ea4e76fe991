"""Weights: pocket weights and their cards, official files and where they are searched, and every kind of wrong file."""

import hashlib
import json
import os
import pickle
import struct

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from pneumo_utils.common.errors import StudyError
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.checkpoint import map_published_keys, read_weights
from pneumo_utils.models.create import trunk
from pneumo_utils.models.darknet import (
    DarknetHeader,
    conv_layers,
    convolution_tensors,
    count_stored_convolutions,
    load_darknet,
    save_darknet,
)
from pneumo_utils.models.registry import ARCHITECTURES, TorchvisionModel, WeightsSource
from pneumo_utils.models.weights import CARD_FIELDS, load_pocket, save_pocket

torch.set_num_threads(1)

CARD_SAYS = {**dict.fromkeys(CARD_FIELDS, 1), "date": "2026-01-02"}


@pytest.fixture(autouse=True)
def empty_places(tmp_path, monkeypatch):
    """No cache of this machine is looked into, and the network is not there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PNEUMO_WEIGHTS", raising=False)

    def unplugged(request):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", unplugged)


@pytest.fixture(scope="module")
def official():
    torch.manual_seed(0)
    net = models.resnet18()
    for module in net.modules():  # statistics of its own, so that they too are seen to arrive
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.fixture(scope="module")
def small():
    return trunk("mobilenetv2", size="pocket", top=True, classes=5, seed=7)


def same(chain, second):
    first, two = chain.state_dict(), second.state_dict()
    return list(first) == list(two) and all(torch.equal(first[key], two[key]) for key in first)


# ---------------------------------------------------------------- pocket


def test_pocket_weights_round_trip_with_card(tmp_path, small):
    path = save_pocket(small, CARD_SAYS, tmp_path)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}
    network = trunk("mobilenetv2", "pocket", folder=tmp_path, top=True)
    assert all(
        torch.equal(tensor.half(), network.state_dict()[key].half()) for key, tensor in small.state_dict().items()
    )
    assert {parameter.dtype for parameter in network.parameters()} == {
        torch.float32
    } and network.top.fc.out_features == 5
    card = json.loads((tmp_path / "mobilenetv2.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == network.about.digest
    assert card["name"] == "mobilenetv2" and card["classes"] == 5
    assert (
        network.about.weights == "pocket, pre-trained on drawn images (2026-01-02)" and network.about.size == "pocket"
    )
    assert trunk("mobilenetv2", "pocket", folder=tmp_path).blocks == network.blocks[:-1]


def test_loading_weights_leaves_torch_random_state_unchanged(tmp_path, small):
    save_pocket(small, CARD_SAYS, tmp_path)
    state = torch.random.get_rng_state()
    trunk("mobilenetv2", "pocket", folder=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_flipped_bit_in_pocket_weights_is_refused(tmp_path, small):
    path = save_pocket(small, CARD_SAYS, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(StudyError, match="is not the file that its card describes.*pneumo pretrain mobilenetv2"):
        trunk("mobilenetv2", "pocket", folder=tmp_path)


def test_missing_pocket_weights_are_refused(tmp_path):
    with pytest.raises(
        StudyError,
        match="no pocket weights for vgg16: vgg16.safetensors and vgg16.json not found.*`pneumo pretrain vgg16`",
    ):
        trunk("vgg16", "pocket", folder=tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "mobilenetv2"}'])
def test_unreadable_card_is_refused(tmp_path, small, content):
    save_pocket(small, CARD_SAYS, tmp_path).with_suffix(".json").write_text(content)
    with pytest.raises(StudyError, match="The card .*mobilenetv2.json cannot be read"):
        load_pocket("mobilenetv2", tmp_path)


def test_incomplete_card_is_refused(tmp_path, small):
    with pytest.raises(StudyError, match="does not say: seed, date"):
        save_pocket(small, {key: 1 for key in CARD_FIELDS if key not in ("seed", "date")}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_float16_are_not_saved(tmp_path):
    chain = trunk("resnet18", size="pocket", seed=0)
    chain.conv1.norm.running_var[3] = 1e6
    with pytest.raises(StudyError, match="not all of conv1.norm.running_var is finite in float16"):
        save_pocket(chain, CARD_SAYS, tmp_path)


def test_pocket_weights_without_a_top(tmp_path):
    save_pocket(trunk("darknet19", size="pocket", seed=0), CARD_SAYS, tmp_path)
    assert "top" not in trunk("darknet19", "pocket", folder=tmp_path).blocks
    with pytest.raises(StudyError, match="come without the classifier"):
        trunk("darknet19", "pocket", folder=tmp_path, top=True)


# ---------------------------------------------------------------- official ones, and where they are


@pytest.mark.parametrize("file", ["resnet18.safetensors", "resnet18.pth", "resnet18.pt"])
@pytest.mark.parametrize("how", ["parameter", "variable"])
def test_official_weights_from_a_folder(tmp_path, monkeypatch, official, file, how):
    tensors = official.state_dict()
    save_file(tensors, tmp_path / file) if file.endswith("safetensors") else torch.save(tensors, tmp_path / file)
    if how == "variable":
        monkeypatch.setenv("PNEUMO_WEIGHTS", str(tmp_path))
    chain = trunk("resnet18", "imagenet", top=True, folder=tmp_path if how == "parameter" else None).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(chain(image), official(image))
    assert chain.about.weights == f"ImageNet ({file})" and len(chain.about.digest) == 64


def hashed(folder, official):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(official.state_dict(), folder / "new")
    name = f"resnet18-{hashlib.sha256((folder / 'new').read_bytes()).hexdigest()[:8]}.pth"
    return (folder / "new").rename(folder / name)


def test_official_weights_from_torch_hub_cache(tmp_path, monkeypatch, official):
    path = hashed(tmp_path / "torch" / "hub" / "checkpoints", official)
    monkeypatch.setattr(TorchvisionModel, "source", WeightsSource(f"https://example.org/{path.name}"))
    assert torch.equal(trunk("resnet18", "imagenet").conv1.conv.weight, official.conv1.weight)


def test_cached_file_with_wrong_checksum_is_refused(tmp_path, official):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    hashed(cache, official).rename(cache / "resnet18-f37072fd.pth")
    with pytest.raises(
        StudyError, match="resnet18-f37072fd.pth is damaged: its name says that its sha256 begins with f37072fd"
    ):
        trunk("resnet18", "imagenet")


def test_official_weights_from_hugging_face_cache(tmp_path):
    published = ARCHITECTURES["resnet50v2"].published
    net = published.build(1000)
    kept = tmp_path / "hub" / f"models--{published.source.hub.replace('/', '--')}"
    (kept / "snapshots" / "abc").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    save_file(net.state_dict(), kept / "snapshots" / "abc" / "model.safetensors")
    chain = trunk("resnet50v2", "imagenet")
    assert torch.equal(chain.conv1.conv.weight, net.stem.conv.weight)
    assert torch.equal(chain.conv5_x[2].conv2.weight, net.stages[3].blocks[2].conv2.weight)


def test_download_is_tried_last_and_kept(tmp_path, monkeypatch, official):
    path = hashed(tmp_path / "far", official)
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(TorchvisionModel, "source", WeightsSource(path.as_uri()))
    assert torch.equal(trunk("resnet18", "imagenet").conv1.conv.weight, official.conv1.weight)
    path.unlink()
    assert trunk("resnet18", "imagenet").about.weights == f"ImageNet ({path.name})"


@pytest.mark.parametrize(
    "name, places",
    [
        (
            "resnet18",
            [
                "resnet18-f37072fd.pth in {}",
                "resnet18.safetensors in {}",
                "torch's cache",
                "https://download.pytorch.org/models/resnet18-",
            ],
        ),
        ("xception", ["xception-43020ad28.pth in {}", "xception.pth in {}", "torch's cache", "https://github.com"]),
        (
            "resnet50v2",
            [
                "resnetv2_50.a1h_in1k.safetensors in {}",
                "the Hugging Face cache",
                "https://huggingface.co/timm/resnetv2_50.a1h_in1k",
            ],
        ),
        (
            "darknet19",
            ["darknet19.weights in {}", "torch's cache", "https://pjreddie.com/media/files/darknet19.weights"],
        ),
    ],
)
def test_failed_download_lists_searched_places(tmp_path, name, places):
    with pytest.raises(StudyError) as error:
        trunk(name, "imagenet", folder=tmp_path)
    message = str(error.value)
    assert all(place.format(tmp_path) in message for place in places)
    assert "no route to host" in message and "PNEUMO_WEIGHTS" in message and "weights=pocket" in message


def test_missing_weights_folder_is_refused(tmp_path, monkeypatch):
    with pytest.raises(StudyError, match="nowhere, the folder given, is no folder"):
        trunk("resnet18", "imagenet", folder=tmp_path / "nowhere")
    monkeypatch.setenv("PNEUMO_WEIGHTS", "/nowhere")
    with pytest.raises(StudyError, match="/nowhere, PNEUMO_WEIGHTS, is no folder"):
        trunk("resnet18", "imagenet")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        # as fastai's learner saves
        lambda tensors: {"model": tensors, "opt": {"state": [torch.ones(2)], "hypers": [{"lr": 0.1}]}},
        lambda tensors: {f"module.{key}": tensor for key, tensor in tensors.items()},
        lambda tensors: {"state_dict": {f"model.{key}": tensor for key, tensor in tensors.items()}},
        lambda tensors: {key: tensor for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")},
        lambda tensors: {**tensors, "head.1.weight": torch.ones(2, 2)},  # trained on, with a head
        lambda tensors: {
            key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()
        },
    ],
)
def test_weights_file_with_our_own_keys(tmp_path, small, wrap):
    torch.save(wrap(small.state_dict()), tmp_path / "mine.pth")
    network = trunk("mobilenetv2", tmp_path / "mine.pth", size="pocket", top=True, classes=5)
    assert same(network, small)
    assert network.about.weights == "the file mine.pth"


def test_published_and_own_keys_are_distinguished(tmp_path):
    """Xception's blocks are numbered one lower by its publisher, so many keys name a tensor in both ways, but not
    the same.
    """
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = ARCHITECTURES["xception"].published.build(10)
        torch.save(net.state_dict(), tmp_path / "theirs.pth")
    theirs = trunk("xception", tmp_path / "theirs.pth", top=True, classes=10)
    save_file(theirs.state_dict(), tmp_path / "ours.safetensors")
    ours = trunk("xception", tmp_path / "ours.safetensors", top=True, classes=10)
    assert same(theirs, ours)
    assert torch.equal(ours.block5.rep[1].pointwise.weight, net.block4.rep[1].pointwise.weight)


def test_densenet_file_with_old_key_names():
    with torch.device("meta"):
        net = models.densenet201()
        published = net.state_dict(keep_vars=True)
        keys = map_published_keys(published, ARCHITECTURES["densenet201"].split_blocks(net))
    assert (
        keys["features.denseblock3.denselayer7.norm.1.weight"]
        == keys["features.denseblock3.denselayer7.norm1.weight"]
        == "block3.7.norm1.weight"
    )
    assert keys["features.norm5.running_var"] == "norm.norm.running_var"


def test_top_with_other_number_of_classes_is_refused(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "five.pth")
    with pytest.raises(
        StudyError,
        match=r"2 of another shape: top.fc.weight is \(5, 256\), not \(1000, 256\).*ask "
        r"for classes=5",
    ):
        trunk("mobilenetv2", tmp_path / "five.pth", size="pocket", top=True)
    assert "top" not in trunk("mobilenetv2", tmp_path / "five.pth", size="pocket").blocks


def test_weights_of_another_network_are_refused(tmp_path, official, small):
    torch.save(official.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(
        StudyError,
        match=r"does not fit. \d+ missing: .*; \d+ not of this network: .*, \.\.\..*the "
        r"weights of a full resnet18",
    ):
        trunk("mobilenetv2", tmp_path / "resnet.pth")
    torch.save(small.state_dict(), tmp_path / "small.pth")
    with pytest.raises(
        StudyError, match="of another shape: conv1.conv.weight is .*the weights of a pocket mobilenetv2"
    ):
        trunk("mobilenetv2", tmp_path / "small.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(
        StudyError, match="1 not of this network: a. They are the weights of some other network than a pocket vgg16"
    ):
        trunk("vgg16", tmp_path / "a.pth", size="pocket")


def test_partial_weights_file_is_refused(tmp_path, small):
    save_file(
        {key: tensor for key, tensor in small.state_dict().items() if key.startswith("conv1")},
        tmp_path / "part.safetensors",
    )
    with pytest.raises(StudyError, match="missing: block_0.*The file holds only a part of a pocket mobilenetv2"):
        trunk("mobilenetv2", tmp_path / "part.safetensors", size="pocket")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_weights_are_refused(tmp_path, small, bad):
    tensors = {key: tensor.clone() for key, tensor in small.state_dict().items()}
    tensors["block_3.conv.project.weight"][0, 0] = bad
    torch.save(tensors, tmp_path / "bad.pth")
    before = trunk("mobilenetv2", size="pocket", seed=1)
    with pytest.raises(StudyError, match="not finite, in block_3.conv.project.weight"):
        trunk("mobilenetv2", tmp_path / "bad.pth", size="pocket")
    assert same(before, trunk("mobilenetv2", size="pocket", seed=1))


class Trap:
    sprung = []

    def __reduce__(self):
        return Trap.sprung.append, ("foreign code ran",)


def test_pickle_is_not_executed(tmp_path, small):
    torch.save({"state_dict": small.state_dict(), "extra": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"weights": Trap()}, protocol=2))
    for file in ("trap.pth", "plain.pth"):
        with pytest.raises(StudyError, match="is a pickle that would run code when read, and is not read"):
            trunk("mobilenetv2", tmp_path / file, size="pocket")
    assert not Trap.sprung


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_file_is_refused(tmp_path, small, ending, share):
    whole, cut = tmp_path / f"whole{ending}", tmp_path / f"cut{ending}"
    save_file(small.state_dict(), whole) if ending == ".safetensors" else torch.save(small.state_dict(), whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        StudyError, match="cut.*is not a whole (torch checkpoint|safetensors file).*cut short or damaged"
    ):
        trunk("mobilenetv2", cut, size="pocket")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<!DOCTYPE html><title>404</title>", "a web page, perhaps of an error"),
        (
            b"GIF89a and so on",
            r"not a whole torch checkpoint \(it begins with b'GIF89a a'\)|not a whole safetensors file",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "a pointer of Git LFS"),
    ],
)
def test_file_of_another_format_is_refused(tmp_path, content, message):
    for ending in (".pth", ".safetensors"):
        (tmp_path / f"x{ending}").write_bytes(content)
        with pytest.raises(StudyError, match=message):
            trunk("resnet18", tmp_path / f"x{ending}", size="pocket")


@pytest.mark.parametrize("content", [{}, [torch.ones(1)], {"epoch": 3}, torch.ones(3), {"state_dict": {}}])
def test_checkpoint_without_named_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(StudyError, match="holds no table of weights by name"):
        trunk("resnet18", tmp_path / "odd.pth", size="pocket")


def holding_itself():
    table = {"epoch": 3}
    table["state_dict"] = table
    return table


@pytest.mark.parametrize("content", [holding_itself(), {1: torch.ones(1)}, {("a", 1): torch.ones(1)}])
def test_recursive_or_empty_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(StudyError, match="odd.pth holds no table of weights by name"):
        read_weights(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    "key, tensor, message",
    [
        ("weight", torch.ones(2, 2).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        ("weight", torch.ones(2, 2).to_sparse(), "sparse"),
        ("weight", torch.ones(2, 2).to_sparse_csr(), "sparse"),
        ("weight", torch.ones(2, 2, device="meta"), "without values"),
        ("weight", torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), "quantised"),
        ("weight", torch.ones(2, 2, dtype=torch.int8), "int8"),
        ("weight", torch.ones(2, 2, dtype=torch.bool), "bool"),
        ("weight", torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        ("bn.running_var", torch.tensor([1.0, -0.1]), "a variance cannot be negative"),
        ("bn.num_batches_tracked", torch.tensor(1.5), "counts batches"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, on quantised and sparse tensors
def test_unusable_tensors_are_named(tmp_path, key, tensor, message):
    torch.save({"conv.weight": torch.ones(1), key: tensor}, tmp_path / "odd.pth")
    with pytest.raises(StudyError, match=rf"odd.pth (holds {key} as no network can take it: .*{message}|is not a)"):
        read_weights(tmp_path / "odd.pth")


def test_damaged_pickles_and_wrong_headers_are_refused(tmp_path):
    """Bytes changed at random in a checkpoint of torch's two formats and in the header of a safetensors file."""
    draw = np.random.default_rng(0)
    torch.save({"weight": torch.ones(8)}, tmp_path / "new.pth")
    torch.save({"weight": torch.ones(8)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({"weight": torch.ones(8)}, tmp_path / "x.safetensors")
    for name, first in (("new.pth", 4), ("old.pth", 1), ("x.safetensors", 0)):
        whole = (tmp_path / name).read_bytes()
        for case in range(60):
            damaged = bytearray(whole)
            for place in draw.integers(first, min(len(whole), 300), 1 + case % 4):
                damaged[place] = draw.integers(0, 256)
            (tmp_path / f"case{case}.{name}").write_bytes(damaged)
            try:
                assert {tensor.numel() for tensor in read_weights(tmp_path / f"case{case}.{name}").values()} == {8}
            except StudyError as error:
                assert str(tmp_path) in str(error)


def test_non_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    os.mkfifo(tmp_path / "pipe.weights")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("pipe.pth", "folder.safetensors"):
        with pytest.raises(StudyError, match="There is no file of weights at"):
            read_weights(tmp_path / name)
    with pytest.raises(StudyError, match="There is no file of weights at"):
        load_darknet(tiny(), tmp_path / "pipe.weights")


def test_trained_chain_returns_its_trunk(tmp_path):
    chain = with_head(
        trunk("resnet18", size="pocket", seed=1),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2)),
    )
    save_file(chain.state_dict(), tmp_path / "trained.safetensors")
    assert same(
        trunk("resnet18", tmp_path / "trained.safetensors", size="pocket"), trunk("resnet18", size="pocket", seed=1)
    )


# ---------------------------------------------------------------- darknet's own files


def tiny():
    """A convolution with batch norm, a pool, and one with a bias, as darknet's classifiers end."""
    return nn.Sequential(nn.Sequential(conv_layers(1, 2, 1)), nn.MaxPool2d(2, 2), nn.Conv2d(2, 3, 1))


NUMBERS = [
    *(0.1, 0.2),
    *(1.5, 2.0),
    *(0.3, 0.4),
    *(4.0, 9.0),
    *(5.0, -6.0),
    *(0.7, 0.8, 0.9),
    *(1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
]


@pytest.mark.parametrize(
    "start",
    [
        struct.pack("<4i", 0, 1, 0, 32),
        struct.pack("<3iQ", 0, 2, 0, 2**40),
        struct.pack("<3iQ", 0, 2, 5, 32),
        struct.pack("<4i", 1001, 0, 0, 32),
    ],
)
def test_hand_written_darknet_file_is_read(tmp_path, start):
    """Shift, scale, mean, variance, filters; then bias, filters: what comes out is darknet's formula, leaky by a
    tenth.
    """
    (tmp_path / "tiny.weights").write_bytes(start + struct.pack(f"<{len(NUMBERS)}f", *NUMBERS))
    network = tiny().eval()
    header = load_darknet(network, tmp_path / "tiny.weights")
    assert header.seen == (2**40 if (header.minor, header.revision) == (2, 0) else 32)
    assert header.size == len(start) == (20 if header.minor == 2 else 16)
    with torch.no_grad():
        output = network(torch.full((1, 1, 2, 2), 0.5)).flatten().tolist()
    normed = [
        (0.5 * weight - mean) / (variance + 1e-5) ** 0.5 * scale + shift
        for weight, mean, variance, scale, shift in [(5.0, 0.3, 4.0, 1.5, 0.1), (-6.0, 0.4, 9.0, 2.0, 0.2)]
    ]
    first, second = [value if value > 0 else 0.1 * value for value in normed]
    assert output == pytest.approx(
        [0.7 + first * 1 + second * 2, 0.8 + first * 3 + second * 4, 0.9 + first * 5 + second * 6], rel=1e-5
    )


@pytest.mark.parametrize("header", [DarknetHeader(0, 1, 0, 7), DarknetHeader(0, 2, 0, 7)])
def test_darknet_file_round_trip(tmp_path, header):
    first, second = (
        trunk("darknet19", size="pocket", top=True, seed=1),
        trunk("darknet19", size="pocket", top=True, seed=2),
    )
    first.block3[1].norm.running_mean.normal_()
    save_darknet(first, tmp_path / "x.weights", header)
    numbers = sum(p.numel() for p in first.parameters()) + sum(
        b.numel() for name, b in first.named_buffers() if "running" in name
    )
    assert (tmp_path / "x.weights").stat().st_size == header.size + 4 * numbers
    assert load_darknet(second, tmp_path / "x.weights") == header
    assert same(first, second)


def test_published_darknet_files_have_expected_size():
    """79,327,120 bytes of darknet19_448.conv.23, the most copied file of its time: 18 convolutions under the old
    header.
    """
    with torch.device("meta"):
        network = trunk("darknet19", top=True)
    sizes = [4 * sum(tensor.numel() for tensor in part) for part in convolution_tensors(network)]
    assert len(sizes) == 19 and 16 + sum(sizes[:18]) == 79_327_120


def test_trunks_from_darknet_files(tmp_path):
    whole = trunk("darknet19", size="pocket", top=True, seed=1)
    save_darknet(whole, tmp_path / "whole.weights")
    save_darknet(whole, tmp_path / "darknet19_448.conv.23", n_convolutions=18)
    wanted = trunk("darknet19", size="pocket", seed=1)
    assert same(trunk("darknet19", tmp_path / "whole.weights", size="pocket", top=True), whole)
    for file in ("whole.weights", "darknet19_448.conv.23"):
        network = trunk("darknet19", tmp_path / file, size="pocket")
        assert same(network, wanted) and network.blocks == wanted.blocks
    with pytest.raises(
        StudyError,
        match=r"has [\d,]+ bytes; 19 convolutions .*take [\d,]+. It ends exactly after "
        r"convolution 18: it is a cut-off",
    ):
        trunk("darknet19", tmp_path / "darknet19_448.conv.23", size="pocket", top=True)


def test_darknet_file_of_the_first_convolutions(tmp_path):
    first, second = trunk("darknet19", size="pocket", seed=1), trunk("darknet19", size="pocket", seed=2)
    before = {key: tensor.clone() for key, tensor in second.state_dict().items()}
    save_darknet(first, tmp_path / "x.conv.3", n_convolutions=3)
    assert count_stored_convolutions(second, tmp_path / "x.conv.3") == 3
    load_darknet(second, tmp_path / "x.conv.3", n_convolutions=3)
    changed = {
        key.rpartition(".")[0] for key, tensor in second.state_dict().items() if not torch.equal(tensor, before[key])
    }
    assert changed == {"block1.1.conv", "block2.1.conv", "block3.1.conv"}
    assert torch.equal(second.block3[1].conv.weight, first.block3[1].conv.weight)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content[:-4], "takes? .*It was cut short in copying, or is of another network"),
        (lambda content: content[:-1], "It was cut short in copying"),
        (
            lambda content: content + b"\0\0\0\0",
            "It was cut short in copying, or is of another network or number of classes",
        ),
        (lambda content: content[:10], "too few for the header"),
        (
            lambda content: content[:40] + struct.pack("<f", float("nan")) + content[44:],
            "not finite, the first at float 5",
        ),
    ],
)
def test_darknet_files_that_do_not_fit_are_refused(tmp_path, change, message):
    path = tmp_path / "x.weights"
    path.write_bytes(change(struct.pack("<3iQ", 0, 2, 0, 1) + np.ones(len(NUMBERS), "<f4").tobytes()))
    with pytest.raises(StudyError, match=message):
        load_darknet(tiny(), path)


def test_longer_darknet_file_reports_unread_values(tmp_path):
    network = tiny()
    save_darknet(network, tmp_path / "x.weights")
    with pytest.raises(
        StudyError, match="has 96 bytes; 1 convolutions .* take 60. It goes on to convolution 2: load that many"
    ):
        load_darknet(network, tmp_path / "x.weights", n_convolutions=1)


def test_darknet_file_is_refused_for_other_networks(tmp_path):
    save_darknet(tiny(), tmp_path / "x.weights")
    with pytest.raises(StudyError, match="x.weights is a file of darknet, and vgg16 is none of its networks"):
        trunk("vgg16", tmp_path / "x.weights", size="pocket")
