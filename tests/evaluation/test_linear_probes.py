"""Linear models on simple features: what each feature measures and what it ignores."""

import numpy as np
import pytest
import torch
from fastai.torch_core import TensorImage

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.readers import covid_gan
from pneumo_utils.evaluation.baselines import BORDER_WIDTH, GRID_SIZE, PROBES, fine_spectrum, grid_means, linear_probe
from pneumo_utils.evaluation.scores import metric_values
from pneumo_utils.explain.map_metrics import KeepImagePart, high_pass, low_pass
from pneumo_utils.phantom import writers

SIDE = 48


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PNEUMO_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield {
            name: covid_gan.read(
                writers.write_release("covid_gan", 160, SIDE, 1, tmp_path_factory.mktemp("sets") / name, shortcuts),
                say=None,
            )
            for name, shortcuts in (("generators", ()), ("findings", ("findings",)))
        }


def test_image_statistics_ignore_pixel_positions():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    seen = PROBES["image statistics"](pictures)
    assert seen[:, 0] == pytest.approx(pictures.mean((1, 2)), rel=1e-5) and seen[:, 1] == pytest.approx(
        pictures.std((1, 2)), rel=1e-5
    )
    assert (
        seen[:, 2] == pytest.approx(pictures.min((1, 2)))
        and seen[:, 7] == pytest.approx(np.median(pictures, axis=(1, 2)))
        and seen[:, -1] == pytest.approx(pictures.max((1, 2)))
    )
    assert PROBES["image statistics"](pictures[:, ::-1, ::-1]) == pytest.approx(seen)


def test_grid_means_of_sizes_that_do_not_divide():
    planes = np.arange(2 * 45 * 23, dtype=float).reshape(2, 45, 23)
    result = grid_means(planes).reshape(2, GRID_SIZE, GRID_SIZE)
    assert result[0, 0, 0] == planes[0, :2, :1].mean() and result[1, -1, -1] == planes[1, 42:, 21:].mean()
    assert grid_means(np.ones((1, 44, 44))).tolist() == [[1.0] * GRID_SIZE**2]
    assert grid_means(np.ones((1, 16, 9))).shape == (1, 16 * 9)


def test_probes_have_at_most_500_parameters():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    assert max(see(pictures).shape[1] + 1 for see in PROBES.values()) == 485


def test_fine_spectrum_locates_a_grid_pattern():
    checkers = np.where(np.add.outer(range(44), range(44)) % 2, 90, 110)[None].astype(np.uint8)
    seen = fine_spectrum(checkers).reshape(GRID_SIZE, -1)
    assert np.unravel_index(seen.argmax(), seen.shape) == (11, seen.shape[1] - 1)  # half a cycle a pixel both ways
    slow = (128 + 100 * np.sin(2 * np.pi * np.arange(44) / 44))[None, None].repeat(44, 1).astype(np.uint8)
    assert fine_spectrum(slow).max() < seen.max() / 2


def test_border_probe_ignores_the_centre():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    other = pictures.copy()
    other[:, BORDER_WIDTH:-BORDER_WIDTH, BORDER_WIDTH:-BORDER_WIDTH] = 7
    assert PROBES["borders"](pictures) == pytest.approx(PROBES["borders"](other))
    other[:, 0, 5] += 60
    assert PROBES["borders"](pictures) != pytest.approx(PROBES["borders"](other))


def test_fine_spectrum_separates_generators(sets):
    parts = sets["generators"].split(by="image", test=0.5, seed=0)
    result = {
        name: metric_values([linear_probe(name, parts.part("train"), parts.part("test"), SIDE)], "auroc")[0]
        for name in PROBES
    }
    assert (
        min(result["fine detail"], result["borders"]) > 0.97
        and max(result["coarse shapes"], result["image statistics"]) < 0.75
    )


def test_fine_spectrum_fails_without_generator_fingerprint(sets):
    parts = sets["findings"].split(by="image", test=0.5, seed=0)
    assert (
        metric_values([linear_probe("fine detail", parts.part("train"), parts.part("test"), SIDE)], "auroc")[0] < 0.85
    )


def test_probe_with_other_classes_is_refused(sets):
    with pytest.raises(StudyError, match="cannot be tested on"):
        linear_probe("borders", sets["findings"], sets["findings"].replace(classes=["a", "b"]), SIDE)


def test_low_and_high_pass_add_up_to_the_image():
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(high_pass(pictures) - 0.5 + low_pass(pictures), pictures, atol=1e-6)
    assert low_pass(pictures)[0, 0, 8, 8] == pytest.approx(float(pictures[0, 0, 6:11, 6:11].mean()), abs=1e-6)
    assert torch.allclose(low_pass(torch.full((1, 1, 8, 8), 0.3)), torch.full((1, 1, 8, 8), 0.3))


def test_keep_border_greys_the_centre():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    left = KeepImagePart("frame")(TensorImage(pictures), split_idx=1)
    assert (
        (left[..., 2:-2, 2:-2] == 0.5).all()
        and (left[..., :2, :] == pictures[..., :2, :]).all()
        and (left[..., -2:] == pictures[..., -2:]).all()
    )
    assert (KeepImagePart("whole")(TensorImage(pictures)) == pictures).all()


def test_unknown_image_part_is_refused():
    with pytest.raises(StudyError, match="no part 'middle'.*whole, frame, fine, coarse"):
        KeepImagePart("middle")
