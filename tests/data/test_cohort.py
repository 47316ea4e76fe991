"""Cohorts: decoding, splits, class weights, the cache of pixels, and fastai's DataLoaders."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from dicoms import dicom
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from pneumo_utils.common.errors import StudyError, UnreadableImage
from pneumo_utils.data import pixel_cache
from pneumo_utils.data.cohort import BOX_COLUMNS, TABLE_COLUMNS, Cohort, concat_cohorts
from pneumo_utils.data.dicom import age_in_years
from pneumo_utils.data.image_reader import read_grey
from pneumo_utils.data.pixel_cache import ImageFiles

SIDE = 24


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "data"))


def on_paper(labels, patients=None, several=False, classes=None, boxes=None, split=""):
    """A cohort of a table alone, for what needs no pixels."""
    count = len(labels)
    names = [f"{index}.png" for index in range(count)]
    table = pd.DataFrame(
        {
            "image": names,
            "patient": patients if patients is not None else names,
            "age": 40.0,
            "sex": "M",
            "view": "PA",
            "site": "",
            "labels": labels,
            "split": split,
            "width": 8,
            "height": 8,
            "mode": "L",
            "bytes": 1,
            "source": "paper",
        }
    )[TABLE_COLUMNS]
    result = {} if boxes is None else {"boxes": boxes}
    return Cohort(
        "On paper",
        table,
        ImageFiles(tuple(names), tuple((name, 1, 1) for name in names)),
        classes or sorted(set(labels)),
        multilabel=several,
        **result,
    )


@pytest.fixture
def on_disk(tmp_path):
    """Thirty grey PNGs, two of each of fifteen patients, every third patient ill."""

    def write(count=30, folder="images", start=0):
        root, rng = tmp_path / folder, np.random.default_rng(start)
        root.mkdir()
        rows, stamps = [], []
        for index in range(count):
            path = root / f"{index}.png"
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)).save(path)
            stat = path.stat()
            rows.append(
                {
                    "image": path.name,
                    "patient": f"p{index // 2}",
                    "age": 5.0,
                    "sex": "F",
                    "view": "AP",
                    "site": "",
                    "labels": "ill" if index // 2 % 3 == 0 else "well",
                    "split": "",
                    "width": SIDE,
                    "height": SIDE,
                    "mode": "L",
                    "bytes": stat.st_size,
                    "source": folder,
                }
            )
            stamps.append((path.name, stat.st_size, stat.st_mtime_ns))
        return Cohort(
            folder,
            pd.DataFrame(rows)[TABLE_COLUMNS],
            ImageFiles(tuple(str(root / row["image"]) for row in rows), tuple(stamps)),
            ["well", "ill"],
        )

    return write


# decoding


GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(tmp_path, image, name="x.png", **how):
    image.save(tmp_path / name, **how)
    return tmp_path / name


def test_read_grey_keeps_8_bit_values(tmp_path):
    assert (read_grey(saved(tmp_path, Image.fromarray(GREY))) == GREY).all()


def test_read_grey_scales_16_bit_values(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    assert (read_grey(saved(tmp_path, Image.fromarray(deep))) == GREY).all()
    twelve = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    assert np.abs(read_grey(saved(tmp_path, Image.fromarray(twelve))).astype(int) - GREY).max() <= 1


def test_read_grey_converts_colour_palette_cmyk_and_alpha(tmp_path):
    colour = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)
    luma = (colour @ [0.299, 0.587, 0.114]).round()
    assert np.abs(read_grey(saved(tmp_path, Image.fromarray(colour))) - luma).max() <= 1
    few = np.repeat(np.array([[10, 200, 90, 255]], dtype=np.uint8), 4, axis=0)
    palette = Image.fromarray(few).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    assert palette.mode == "P" and (read_grey(saved(tmp_path, palette)) == few).all()
    cmyk = Image.fromarray(np.full((16, 16, 3), 120, dtype=np.uint8)).convert("CMYK")
    assert np.abs(read_grey(saved(tmp_path, cmyk, "x.jpg", quality=98)).astype(int) - 120).max() <= 2
    half = np.dstack([GREY, np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None].repeat(16, 0)])
    assert (read_grey(saved(tmp_path, Image.fromarray(half, "LA"))) == np.where(np.arange(16) < 8, GREY, 0)).all(), (
        "what is transparent is black"
    )


def test_read_grey_applies_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    assert (read_grey(saved(tmp_path, Image.fromarray(GREY), exif=exif)) == np.rot90(GREY, -1)).all()


def test_read_grey_resizes_the_whole_image_to_a_square(tmp_path):
    wide = np.zeros((20, 80), dtype=np.uint8)
    wide[:, 40:] = 200
    small = read_grey(saved(tmp_path, Image.fromarray(wide)), 10)
    assert small.shape == (10, 10) and small[:, 0].max() < 5 and small[:, -1].min() > 195


def test_reduced_jpeg_decoding_equals_full_decoding(tmp_path):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 20)).astype(np.uint8)).resize(
        (512, 512), Image.Resampling.BICUBIC
    )
    path = saved(tmp_path, image, "x.jpg", quality=95)
    whole = Image.open(path).convert("L").resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(read_grey(path, 64).astype(float) - np.asarray(whole)).mean() < 2


@pytest.mark.parametrize(
    "stored, elements, expected",
    [
        (GREY, {}, GREY),
        (GREY, {"PhotometricInterpretation": "MONOCHROME1"}, 255 - GREY),
        (GREY.astype(np.uint16) * 16, {"BitsStored": 12, "HighBit": 11}, (GREY * (16 * 255 / 4095)).round()),
        (GREY.astype(np.uint16) * 16 + 4096, {"BitsStored": 12, "HighBit": 11}, (GREY * (16 * 255 / 4095)).round()),
        (GREY.astype(np.int16) - 128, {"BitsStored": 8, "HighBit": 7}, GREY),
        (GREY.astype(np.uint16), {"BitsStored": 8, "HighBit": 7, "RescaleSlope": "2", "RescaleIntercept": "-50"}, GREY),
        (
            GREY.astype(np.uint16),
            {"BitsStored": 8, "HighBit": 7, "RescaleSlope": "-1", "RescaleIntercept": "255"},
            255 - GREY,
        ),
        (
            np.stack([GREY] * 3, axis=-1),
            {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
            GREY,
        ),
    ],
    ids=["plain", "MONOCHROME1", "12 bits", "stray bits above 12", "signed", "rescaled", "rescaled downwards", "RGB"],
)
def test_dicom_pixels(tmp_path, stored, elements, expected):
    assert np.abs(read_grey(dicom(tmp_path / "x.dcm", stored, **elements)).astype(float) - expected).max() <= 0.5


def test_dicom_with_several_frames_is_refused(tmp_path):
    path = dicom(tmp_path / "x.dcm", np.stack([GREY, GREY]), Rows=16, Columns=16, NumberOfFrames=2)
    with pytest.raises(UnreadableImage, match="holds 2 frames"):
        read_grey(path)


@pytest.mark.parametrize(
    "text, age",
    [
        ("058Y", 58),
        ("45", 45),
        (45, 45),
        ("006M", 0.5),
        ("014W", 14 * 7 / 365.25),
        ("010D", 10 / 365.25),
        ("", None),
        ("unknown", None),
        (None, None),
    ],
)
def test_dicom_ages_in_years(text, age):
    assert age_in_years(text) == pytest.approx(age) if age is not None else np.isnan(age_in_years(text))


# splits


def many(seed=0, patients=400):
    rng = np.random.default_rng(seed)
    images_per_patient = rng.integers(1, 6, patients)
    who = np.repeat([f"p{index}" for index in range(patients)], images_per_patient)
    ill = dict(zip(dict.fromkeys(who), rng.random(patients) < 0.3))
    return on_paper(["ill" if ill[patient] else "well" for patient in who], who)


@pytest.mark.parametrize("test, valid", [(0.2, 0.1), (0.15, 0.15), (0.25, 0), (0.1, 0.1), (0.33, 0.1)])
def test_split_by_patient_shares_no_patient(test, valid):
    cohort = many()
    split = cohort.split(by="patient", test=test, valid=valid, seed=4)
    table = split.table
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    assert (table["split"] == "test").mean() == pytest.approx(test, abs=0.03) and (
        table["split"] == "valid"
    ).mean() == pytest.approx(valid, abs=0.03)
    shares = (table["labels"] == "ill").groupby(table["split"]).mean()
    assert shares.max() - shares.min() < 0.05
    assert split.shared_patients()["patients"].sum() == 0
    assert table["split"].tolist() == cohort.split(by="patient", test=test, valid=valid, seed=4).table["split"].tolist()
    assert table["split"].tolist() != cohort.split(by="patient", test=test, valid=valid, seed=5).table["split"].tolist()
    assert (cohort.table["split"] == "").all(), "the cohort that was split is as it was"


def test_split_by_image_reports_shared_patients():
    split = many().split(by="image", test=0.2)
    row = split.shared_patients().iloc[0]
    train, test = split.part("train").table, split.part("test").table
    assert row["images"] == sum(patient in set(train["patient"]) for patient in test["patient"]) > 0.5 * len(test)
    assert row["share of images"] == pytest.approx(row["images"] / len(test))


def test_folds_partition_the_patients():
    cohort = many()
    folds = cohort.folds(5, seed=1)
    held = [set(fold.part("valid").table["image"]) for fold in folds]
    assert set.union(*held) == set(cohort.table["image"]) and sum(map(len, held)) == len(cohort)
    assert all(fold.shared_patients()["patients"].sum() == 0 for fold in folds)


def test_stratified_split_puts_rare_findings_in_every_part():
    rng = np.random.default_rng(0)
    labels = [
        "Hernia|Mass" if index % 40 == 0 else rng.choice(["No Finding", "Mass", "Mass|Edema"]) for index in range(800)
    ]
    split = on_paper(labels, several=True, classes=["Edema", "Hernia", "Mass"]).split(test=0.2, valid=0.2)
    assert {name: int(split.part(name).counts()["Hernia"]) for name in ("train", "valid", "test")} == {
        "train": 12,
        "valid": 4,
        "test": 4,
    }


@pytest.mark.parametrize(
    "how, message",
    [
        ({"test": 0.8, "valid": 0.3}, "leaves nothing on one side"),
        ({"test": -0.1}, "leaves nothing"),
        ({"by": "hospital"}, "cannot be split by 'hospital'"),
        ({"by": "official"}, "has no official split here"),
        ({"by": "site"}, "does not say whose image is whose"),
    ],
)
def test_impossible_splits_are_refused(how, message):
    with pytest.raises(StudyError, match=message):
        many().split(**how)


def test_too_many_folds_are_refused():
    with pytest.raises(StudyError, match="too few for 10 folds: at most 2 different patients"):
        on_paper(["a", "b"] * 4, ["p1", "p2", "p3", "p4", "p1", "p2", "p3", "p4"]).folds(10)


def test_unknown_part_is_refused():
    with pytest.raises(StudyError, match="has no part 'test': it is not split yet"):
        many().part("test")
    with pytest.raises(StudyError, match="has no part 'valid': its split has test, train"):
        many().split(test=0.5).part("valid")


# labels and weights


def test_class_weights_equal_scikit_learn():
    cohort = on_paper(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=cohort.table["labels"].to_numpy())
    assert list(cohort.weights().values()) == pytest.approx(expected.tolist())
    assert cohort.weights("ratio") == {"a": 1, "b": 2, "c": 6}
    with pytest.raises(StudyError, match="no weights called 'inverse'"):
        cohort.weights("inverse")


def test_class_weights_of_paper_5_count_box_rows():
    """RSNA: 20,672 images without and 6,012 with an opacity, on which lie 9,555 boxes; the paper prints 2.1635."""
    labels = ["normal"] * 20672 + ["pneumonia"] * 6012
    rows = np.concatenate([np.arange(20672, 26684), np.arange(20672, 20672 + 9555 - 6012)])
    boxes = pd.DataFrame(
        {"row": rows, "image": "", "finding": "Lung Opacity", "x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2}
    )[BOX_COLUMNS]
    cohort = on_paper(labels, boxes=boxes)
    assert round(cohort.weights("zhao")["pneumonia"], 4) == 2.1635
    assert round(cohort.weights("ratio")["pneumonia"], 3) == 3.438


def test_class_weight_without_images_is_refused():
    with pytest.raises(StudyError, match="no image of the class 'covid'"):
        on_paper(["a", "b"], classes=["a", "b", "covid"]).weights()


def test_relabel_counts_images_without_a_label():
    cohort = on_paper(["Normal"] * 3 + ["Lung Opacity"] * 2 + ["Other"]).relabel(
        {"Normal": "normal", "Lung Opacity": "pneumonia"}
    )
    assert cohort.classes == ["normal", "pneumonia"] and cohort.targets().tolist() == [0, 0, 0, 1, 1]
    assert cohort.excluded.to_dict("records") == [{"image": "5.png", "reason": "no label taken from labels"}]


def test_split_of_few_patients_is_as_close_as_possible():
    cohort = on_paper(["a", "b"] * 12, [f"p{index // 2}" for index in range(24)])
    split = cohort.split(test=0.15, valid=0.05)
    assert (
        split.table["split"].value_counts()[["test", "valid"]].min() >= 2
        and split.shared_patients()["patients"].sum() == 0
    )
    with pytest.raises(StudyError, match="too few for a test part of 0.4 and a validation part of 0.4: at most 2"):
        on_paper(["a", "b"] * 2, ["p1", "p1", "p2", "p2"]).split(test=0.4, valid=0.4)


def test_subsample_of_many_classes():
    labels = ["Hernia"] + ["Mass", "Edema", "Nodule", "Fibrosis"] * 30
    drawn = [set(on_paper(labels).sample(4, seed=seed).table["labels"]) for seed in range(40)]
    assert all(len(some) >= 3 for some in drawn) and sum("Hernia" in some for some in drawn) < 10


def test_subsample_keeps_class_shares():
    some = many().sample(200, seed=0)
    assert len(some) == 200 and some.table["image"].is_unique
    assert (some.table["labels"] == "ill").mean() == pytest.approx((many().table["labels"] == "ill").mean(), abs=0.01)


# pixels


def test_pixels_are_in_table_order(on_disk):
    cohort = on_disk()
    expected = {
        name: np.asarray(Image.open(path).resize((12, 12), Image.Resampling.BILINEAR))
        for name, path in zip(cohort.table["image"], cohort.images.paths)
    }
    for some in (
        cohort,
        cohort.where(cohort.table["labels"] == "ill"),
        cohort.sample(9, seed=1),
        cohort.without(["3.png", "0.png"]),
    ):
        pixels = some.pixels(12)
        assert pixels.shape == (len(some), 12, 12) and pixels.dtype == np.uint8
        for index, name in enumerate(some.table["image"]):
            assert (pixels[index] == expected[name]).all()
        assert (np.asarray(pixels)[2:5] == pixels[2:5]).all()
    assert isinstance(cohort.pixels(12).store, np.memmap)


def counting(monkeypatch, stop_after=None):
    decoded = []

    def grey_and_count(path, size):
        if stop_after is not None and len(decoded) >= stop_after:
            raise KeyboardInterrupt
        decoded.append(path)
        return read_grey(path, size)

    monkeypatch.setattr(pixel_cache, "read_grey", grey_and_count)
    return decoded


def test_image_is_decoded_once_on_demand(on_disk, monkeypatch):
    cohort, decoded = on_disk(), counting(monkeypatch)
    cohort.sample(10, seed=0).pixels(12)
    assert len(decoded) == 10
    cohort.pixels(12)
    cohort.pixels(12)
    assert len(decoded) == len(set(decoded)) == 30


def test_killed_pixel_cache_build_is_continued(on_disk, monkeypatch):
    cohort = on_disk()
    monkeypatch.setattr(pixel_cache, "FLUSH_EVERY", 5)
    counting(monkeypatch, stop_after=17)
    with pytest.raises(KeyboardInterrupt):
        cohort.pixels(12)
    decoded = counting(monkeypatch)
    pixels = cohort.pixels(12)
    assert 0 < len(decoded) <= 15
    assert all((pixels[index] == read_grey(path, 12)).all() for index, path in enumerate(cohort.images.paths))


def test_pixel_cache_depends_on_content_not_path(on_disk, tmp_path, monkeypatch):
    cohort = on_disk()
    cohort.pixels(12)
    shutil.copytree(tmp_path / "images", tmp_path / "moved", copy_function=shutil.copy2)
    moved = ImageFiles(tuple(path.replace("/images/", "/moved/") for path in cohort.images.paths), cohort.images.stamps)
    decoded = counting(monkeypatch)
    pixel_cache.pixels(moved, range(30), 12)
    assert decoded == []
    changed = ImageFiles(cohort.images.paths, ((*cohort.images.stamps[0][:2], 1), *cohort.images.stamps[1:]))
    pixel_cache.pixels(changed, range(30), 12)
    assert len(decoded) == 30


def test_two_processes_share_one_pixel_cache(on_disk, tmp_path):
    cohort = on_disk()
    script = (
        "import sys, numpy as np\nfrom pneumo_utils.data import pixel_cache as cache\n"
        "from pneumo_utils.data.pixel_cache import ImageFiles\n"
        f"images = ImageFiles({cohort.images.paths!r}, {cohort.images.stamps!r})\nn, grey = [], "
        f"cache.read_grey\ncache.read_grey = "
        f"lambda *a: n.append(1) or grey(*a)\n"
        "total = int(cache.pixels(images, range(30), 12)[:].sum())\nprint(total, len(n))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in both]
    assert outputs[0][0] == outputs[1][0] and sorted(int(count) for _, count in outputs) == [0, 30]


def test_concat_cohorts(on_disk):
    first, second = on_disk(8, "one"), on_disk(6, "other", start=9)
    both = concat_cohorts(first, second.where(second.table["labels"] == "well"))
    assert both.table["image"].str.startswith(("one/", "other/")).all() and both.table["patient"].nunique() == 4 + 2
    assert (both.pixels(12)[:8] == first.pixels(12)[:]).all() and (
        both.pixels(12)[8:] == second.where(second.table["labels"] == "well").pixels(12)[:]
    ).all()
    with pytest.raises(StudyError, match="have the same classes: one has well, ill; Other"):
        concat_cohorts(first, second.relabel({"well": "fine", "ill": "ill"}).replace(name="Other"))


def test_cohort_digest_depends_on_images_and_table(on_disk):
    cohort = on_disk()
    same = cohort.where(cohort.table["bytes"] > 0)
    assert cohort.digest == same.digest
    assert (
        len(
            {
                cohort.digest,
                cohort.sample(10, 0).digest,
                cohort.split(seed=1).digest,
                cohort.split(seed=2).digest,
                cohort.relabel({"well": "fine", "ill": "ill"}).digest,
            }
        )
        == 5
    )


def test_cached_result_can_depend_on_a_cohort(on_disk):
    from pneumo_utils.study.result_cache import canonical_form

    cohort = on_disk()
    assert canonical_form(cohort, set()) == cohort.digest


# fastai


@pytest.fixture
def ready(on_disk):
    return on_disk().split(by="patient", test=0.2, valid=0.2)


def test_loader_batches_match_the_table(ready):
    loaders = ready.dataloaders(size=12, batch_size=8, device="cpu")
    assert loaders.c == 2 and loaders.vocab == ["well", "ill"]
    valid = ready.part("valid")
    images = np.concatenate([np.asarray(x) for x, _ in loaders.valid])
    assert images.shape == (len(valid), 3, 12, 12) and np.allclose(images[:, 1] * 255, valid.pixels(12)[:], atol=1e-3)
    assert np.concatenate([np.asarray(y) for _, y in loaders.valid]).tolist() == valid.targets().tolist()
    train = ready.part("train")
    seen = np.concatenate([np.asarray(x[:, 0]) for x, _ in loaders.train])
    order = [int(np.abs(train.pixels(12)[:] / 255 - image).sum(axis=(1, 2)).argmin()) for image in seen]
    assert sorted(order) == list(range(len(train))) and order != sorted(order), "each once, shuffled"


def test_loader_order_depends_on_the_seed(ready):
    first, again, other = (
        [np.asarray(y).tolist() for _, y in ready.dataloaders(size=12, batch_size=8, seed=seed, device="cpu").train]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_flip_mirrors_half_of_the_training_images_only(ready):
    loaders = ready.dataloaders(size=12, batch_size=6, flip=True, channels=1, device="cpu")
    train, turned = ready.part("train").pixels(12)[:] / 255, 0
    for _ in range(10):
        for x, _ in loaders.train:
            for image in np.asarray(x[:, 0]):
                plain, mirrored = (
                    np.abs(train - variant).sum(axis=(1, 2)).min() for variant in (image, image[:, ::-1])
                )
                assert min(plain, mirrored) < 1e-3
                turned += mirrored < plain
    assert 0.35 < turned / (10 * len(train)) < 0.65
    valid = np.concatenate([np.asarray(x[:, 0]) for x, _ in loaders.valid])
    assert np.allclose(valid * 255, ready.part("valid").pixels(12)[:], atol=1e-3)


def test_last_batch_of_one_is_merged_into_the_previous_one(on_disk):
    cohort = on_disk(17)
    cohort = cohort.replace(table=cohort.table.assign(split=["train"] * 13 + ["valid"] * 4))
    loaders = cohort.dataloaders(size=8, batch_size=4, device="cpu")
    assert sorted(len(y) for _, y in loaders.train) == [4, 4, 5] and len(loaders.train) == 3
    assert sorted(row for rows in loaders.train.batches(list(range(13))) for row in rows) == list(range(13))
    dropped = cohort.dataloaders(size=8, batch_size=4, drop_last=True, device="cpu")
    assert [len(y) for _, y in dropped.train] == [4, 4, 4]


def test_training_part_smaller_than_a_batch(ready):
    with pytest.raises(StudyError, match="fewer than one batch of 64.*no step would be taken. Lower batch_size"):
        ready.dataloaders(size=8, batch_size=64, drop_last=True)
    assert len(ready.dataloaders(size=8, batch_size=64, device="cpu").train) == 1


def test_single_training_image(on_disk):
    cohort = on_disk(4)
    with pytest.raises(StudyError, match="has one image: batch norm cannot learn from it"):
        cohort.replace(table=cohort.table.assign(split=["train"] + ["valid"] * 3)).dataloaders(size=8, batch_size=2)


@pytest.mark.parametrize("several", [False, True])
def test_fastai_trains_on_the_loaders(ready, several):
    import fastai.callback.progress  # noqa: F401, brings no_bar
    from fastai.learner import Learner
    from torch import nn

    if several:
        ready = ready.replace(
            table=ready.table.assign(labels=["well|ill" if index % 3 else "No Finding" for index in range(len(ready))]),
            multilabel=True,
        )
    loaders = ready.dataloaders(size=12, batch_size=4, stats=([0.5] * 3, [0.25] * 3), device="cpu")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    learner = Learner(loaders, model)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, lr=1e-3)
        test = ready.part("test")
        answers, truth = learner.get_preds(
            dl=test.loader(size=12, batch_size=3, stats=([0.5] * 3, [0.25] * 3), device="cpu")
        )
        assert len(learner.get_preds()[0]) == len(ready.part("valid"))
    assert answers.shape == (len(test), 2) and np.isfinite(learner.recorder.losses).all()
    assert np.asarray(truth).tolist() == test.targets().tolist()
    assert isinstance(learner.loss_func, type(loaders.train_ds.loss_func))


def test_show_batch_draws_images(ready, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # where a figure of the book was drawn before, titles stand at the left
    with plt.rc_context({"axes.titlelocation": "center"}):
        ready.dataloaders(size=12, batch_size=4, device="cpu").show_batch()
    titles = {axis.get_title() for axis in plt.gcf().axes}
    plt.close("all")
    assert titles and titles <= {"well", "ill"}


def test_summary_equals_printed_text(ready):
    out = io.StringIO()
    print(ready, file=out)
    assert out.getvalue().startswith("images: 30 images of 15 patients: 20 well, 10 ill\n  split: ")
