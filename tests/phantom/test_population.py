"""The phantom: the same bytes for every batch size, correct masks, plausible tables, and no trivial shortcut."""

import numpy as np
import pytest
import torch

from pneumo_utils.phantom.patients import FINDING_SET_COUNTS, FINDING_SETS, FINDINGS
from pneumo_utils.phantom.population import POPULATION_KINDS, Population

pytestmark = pytest.mark.usefixtures("one_thread")
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.mark.parametrize("kind", POPULATION_KINDS)
def test_image_does_not_depend_on_its_batch(kind):
    people = Population(kind, seed=3)
    whole = people.render(range(20), size=64)
    alone = [people.render([i], size=64) for i in range(20)]
    backwards = people.render(range(19, -1, -1), size=64)
    assert torch.equal(whole.image, torch.cat([a.image for a in alone]))
    assert torch.equal(whole.image, backwards.image.flip(0))
    for row, phantom in enumerate(alone):
        for name, mask in phantom.masks.items():
            assert torch.equal(whole.masks[name][row], mask[0])
        assert [b[1:] for b in phantom.boxes] == [b[1:] for b in whole.boxes if b[0] == row]
    assert people.table([7]).equals(people.table(range(20)).loc[[7]])


def test_large_batch_equals_its_chunks():
    people = Population("children", seed=3)
    whole = people.render(range(80), size=64)
    parts = [people.render(range(k, k + 16), size=64) for k in range(0, 80, 16)]
    assert torch.equal(whole.image, torch.cat([p.image for p in parts]))


def test_seeds_give_different_patients():
    a, b = (Population("children", seed=s).render(range(4), size=64).image.float() for s in (1, 2))
    assert ((a - b).abs().mean((1, 2)) > 5).all()


@pytest.mark.parametrize("device", DEVICES)
def test_render_returns_images_masks_and_boxes(device):
    shots = Population("nih", seed=5).render(range(40), size=96, device=device)
    assert shots.image.dtype == torch.uint8 and shots.image.shape == (40, 96, 96)
    table = Population("nih", seed=5).table(range(40))
    present = {f for joined in table["findings"] for f in joined.split("|")} - {"No Finding"}
    assert set(shots.masks) == {"lungs", "bones", "heart"} | present
    for name in ("lungs", "bones", "heart"):
        share = shots.masks[name].float().mean((1, 2))
        assert shots.masks[name].dtype == torch.bool and (share > 0.02).all() and (share < 0.65).all()
    for name in present:
        has = table["findings"].str.split("|").map(lambda joined, name=name: name in joined).to_numpy()
        drawn = shots.masks[name].flatten(1).any(1).cpu().numpy()
        assert not drawn[~has].any() and drawn[has].mean() > 0.8


@pytest.mark.parametrize("device", DEVICES)
def test_boxes_are_the_extents_of_the_masks(device):
    shots = Population("nih", seed=5).render(range(40), size=96, device=device)
    assert shots.boxes
    for row, finding, x, y, width, height in shots.boxes:
        mask = shots.masks[finding][row].cpu().numpy()
        assert 0 <= x and 0 <= y and x + width <= 96 and y + height <= 96
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x, y, x + width, y + height)


@pytest.mark.parametrize("device", DEVICES)
def test_cpu_and_gpu_agree(device):
    people = Population("nih", seed=8)
    here, there = people.render(range(8), size=64), people.render(range(8), size=64, device=device)
    difference = (here.image.int() - there.image.cpu().int()).abs()
    assert difference.max() <= 2 and (difference > 0).float().mean() < 0.01


@pytest.mark.parametrize("finding", FINDINGS)
def test_finding_changes_pixels_in_its_mask_by_severity(finding):
    people = Population("nih", seed=9)
    without = people.render(range(12), size=96, force={"findings": []})
    contrast = []
    for severity in (0.15, 0.5, 0.95):
        shots = people.render(range(12), size=96, force={"findings": [finding], "severity": severity})
        change = (shots.image.float() - without.image.float()).abs()
        mask = shots.masks[finding]
        inside, outside = float(change[mask].mean()), float(change[~mask].mean())
        assert inside > 3 * outside, severity
        contrast.append(float((change * mask).sum()))
    assert contrast[0] < contrast[1] < contrast[2]


def test_pneumonia_causes_have_their_patterns():
    """Bacterial pneumonia is on one side or focal, viral on both."""
    people = Population("children", seed=4)
    force = {"findings": ["Pneumonia"], "severity": 0.8}
    shares = {}
    for cause in ("bacterial", "viral"):
        mask = people.render(range(60), size=64, force={**force, "cause": cause}).masks["Pneumonia"].float()
        halves = torch.stack([mask[:, :, :32].sum((1, 2)), mask[:, :, 32:].sum((1, 2))])
        shares[cause] = float((halves.min(0).values / (halves.max(0).values + 1e-6)).mean())
    assert shares["viral"] > 2 * shares["bacterial"]


def test_prevalence_in_children_equals_the_release():
    table = Population("children", seed=1).table(range(12000))
    share = table["cause"].value_counts(normalize=True)
    assert abs(1 - share["normal"] - 0.73) < 0.02
    assert abs(share["bacterial"] / (1 - share["normal"]) - 0.65) < 0.03
    assert table["age"].between(1, 5).all()
    assert 1.4 < len(table) / table["patient"].nunique() < 1.7
    assert (table.groupby("patient")["cause"].nunique() == 1).all() and (
        table.groupby("patient")["sex"].nunique() == 1
    ).all()


def test_prevalence_in_adults_equals_the_release():
    table = Population("adults", seed=1).table(range(12000))
    assert abs(table["findings"].str.contains("Pneumonia").mean() - 0.225) < 0.015
    assert abs((table["findings"] == "No Finding").mean() - 0.332) < 0.015


def test_finding_co_occurrence_equals_the_public_table():
    table = Population("nih", seed=1).table(range(60000))
    assert 2.8 < len(table) / table["patient"].nunique() < 4.8
    public = np.array([[f in joined.split("|") for f in FINDINGS] for joined in FINDING_SETS], dtype=float)
    weights = FINDING_SET_COUNTS / FINDING_SET_COUNTS.sum()
    expected = (public * weights[:, None]).T @ public
    drawn = np.array([[f in joined.split("|") for f in FINDINGS] for joined in table["findings"]], dtype=float)
    observed = drawn.T @ drawn / len(drawn)
    assert np.abs(observed - expected).max() < 0.012
    assert np.corrcoef(observed.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", POPULATION_KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_label_noise_equals_requested_rate(kind, rate):
    table = Population(kind, seed=1, label_noise=rate).table(range(8000))
    assert abs((table["label"] != table["findings"]).mean() - rate) < 0.015


def _auroc(score, truth):
    order = np.argsort(np.argsort(score))
    n = truth.sum()
    return (order[truth].sum() - n * (n - 1) / 2) / (n * (~truth).sum())


def test_trivial_statistics_predict_labels_only_with_shortcuts():
    def separation(shortcuts):
        people = Population("children", seed=11, shortcuts=shortcuts)
        ill = (people.table(range(400))["cause"] != "normal").to_numpy()
        image = people.render(range(400), size=64).image.numpy().astype(float)
        statistics = {
            "mean": image.mean((1, 2)), "deviation": image.std((1, 2)), "brightest": image.max((1, 2)), "darkest": image.min((1, 2)),  # noqa: E501
            "corner": image[:, 55:63, 1:8].max((1, 2)),
        }  # fmt: skip
        return {name: max(a := _auroc(s, ill), 1 - a) for name, s in statistics.items()}

    plain = separation(())
    assert max(plain.values()) < 0.8 and plain["mean"] < 0.7, plain
    assert separation(("brightness",))["mean"] > plain["mean"] + 0.1
    assert separation(("marker",))["corner"] > 0.8


def test_forced_findings_are_drawn():
    people = Population("nih", seed=2)
    force = {"findings": ["Effusion"], "severity": 0.8, "age": 40, "site": 2, "view": "PA"}
    row = people.table([5], force).iloc[0]
    assert (row["findings"], row["age"], row["site"], row["view"]) == ("Effusion", 40, 2, "PA")
    shots = people.render([5], size=64, force=force)
    assert set(shots.masks) == {"lungs", "bones", "heart", "Effusion"} and len(shots.boxes) == 1
    with pytest.raises(ValueError, match="Gout"):
        people.render([5], size=64, force={"findings": ["Gout"]})
    with pytest.raises(ValueError, match="weather"):
        people.render([5], size=64, force={"weather": 1})


def test_layers_show_the_stages_of_image_formation():
    steps = Population("children", seed=2).layers(3, 64)
    assert list(steps)[:9] == ["soft_tissue", "bone", "air", "fluid", "primary", "scatter", "noise", "log", "processed"]
    assert all(field.shape == (64, 64) and torch.isfinite(field).all() for field in steps.values())
    thick = steps["soft_tissue"].flatten() + 3 * steps["bone"].flatten()
    ranks = torch.stack([thick.argsort().argsort(), (-steps["primary"].flatten()).argsort().argsort()]).double()
    assert torch.corrcoef(ranks)[0, 1] > 0.9
    lungs, heart = steps["lungs"] > 0, steps["heart"] > 0
    assert steps["air"][lungs].mean() > 2 * steps["air"][heart].mean()


def test_image_sizes_show_the_same_patient():
    people = Population("children", seed=6)
    large, small = people.render(range(6), size=192).image.float(), people.render(range(6), size=64).image.float()
    pooled = torch.nn.functional.avg_pool2d(large[:, None], 3)[:, 0]
    assert (pooled - small).abs().mean() < 6


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="martians"):
        Population("martians")
    with pytest.raises(ValueError, match="smell"):
        Population("children", shortcuts=("smell",))
    with pytest.raises(ValueError, match="label_noise"):
        Population("children", label_noise=2)
    with pytest.raises(ValueError, match="indices"):
        Population("children").table([-1])
    assert Population("children").render([], size=32).image.shape == (0, 32, 32)
