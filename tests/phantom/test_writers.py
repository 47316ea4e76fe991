"""Phantom releases on disk: the published layout with its oddities, written completely or not at all, and only once."""

import csv
import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from PIL import Image

from pneumo_utils import cli
from pneumo_utils.common.errors import StudyError
from pneumo_utils.phantom.population import SHORTCUTS
from pneumo_utils.phantom.writers.ground_truth import all_phantoms, is_phantom, phantom_table, true_masks
from pneumo_utils.phantom.writers.writer import PHANTOM_RELEASES, ReleaseWriter, cached_release, write_release

IMAGES, SIZE = 120, 48


@pytest.fixture
def released(tmp_path_factory, monkeypatch):
    """The folder of a small release, made once for all tests of this file."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "data"
    torch.set_num_threads(1)  # several processes of several threads wait for each other
    monkeypatch.setenv("PNEUMO_DATA", str(shared))
    monkeypatch.setenv("PNEUMO_RUNS", str(shared / "runs"))
    return lambda name, images=IMAGES, shortcuts=(): cached_release(name, images, SIZE, seed=3, shortcuts=shortcuts)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def files(root, ending):
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob(f"*{ending}")
        if "truth" not in path.parts and not path.name.startswith(".")
    )


def test_rsna_tables_have_one_row_per_box(released):
    root = released("rsna")
    labels, details = rows(root / "stage_2_train_labels.csv"), rows(root / "stage_2_detailed_class_info.csv")
    assert labels[0] == ["patientId", "x", "y", "width", "height", "Target"] and details[0] == ["patientId", "class"]
    assert [row[0] for row in labels] == [row[0] for row in details]
    assert len({row[0] for row in labels[1:]}) == IMAGES < len(labels) - 1
    for row, (_, kind) in zip(labels[1:], details[1:]):
        assert (row[5] == "1") == (kind == "Lung Opacity") == all(row[1:5]), row
    assert set(kind for _, kind in details[1:]) == {"Normal", "Lung Opacity", "No Lung Opacity / Not Normal"}
    masks = true_masks(root, [row[0] for row in labels[1:]], 1024)["Pneumonia"]
    for row, mask in zip(labels[1:], masks):
        if row[5] == "1":
            x, y, w, h = (round(float(value)) for value in row[1:5])
            inside = mask[y : y + h, x : x + w]
            assert inside.any(0).all() and inside.any(1).all(), "the box is as tight as the shadow"


def test_rsna_dicom_follows_the_release(released):
    root = released("rsna")
    datasets = [pydicom.dcmread(path) for path in sorted((root / "stage_2_train_images").glob("*.dcm"))]
    assert len(datasets) == IMAGES
    dataset = datasets[0]
    assert (dataset.Modality, dataset.ConversionType, dataset.BitsStored, dataset.PhotometricInterpretation) == (
        "CR",
        "WSD",
        8,
        "MONOCHROME2",
    )
    assert dataset.file_meta.TransferSyntaxUID.name.startswith("JPEG Baseline") and dataset.pixel_array.shape == (
        SIZE,
        SIZE,
    )
    ages = np.array([int(dataset.PatientAge) for dataset in datasets])
    assert (ages > 120).sum() == 1 and (ages < 18).any()
    assert {dataset.ViewPosition for dataset in datasets} == {"PA", "AP"} and {
        dataset.PatientSex for dataset in datasets
    } == {"M", "F"}


def test_kermany_phantoms_reproduce_published_faults(released):
    root = released("kermany")
    names = [name for name in files(root, ".jpeg") if "__MACOSX" not in name]
    assert len(names) == IMAGES and all(name.startswith("chest_xray/chest_xray/") for name in names)
    assert list((root / "__MACOSX").rglob("._*.jpeg")), "the droppings of a Mac come along"
    folders = Counter("/".join(name.split("/")[2:4]) for name in names)
    assert set(folders) == {
        f"{split}/{label}" for split in ("train", "val", "test") for label in ("NORMAL", "PNEUMONIA")
    }
    people = phantom_table(root)
    where = people.groupby("patient")["cause"].size().index
    assert (
        people.reset_index()
        .assign(split=lambda t: t["image"].str.split("/").str[0])
        .groupby("patient")["split"]
        .nunique()
        == 1
    ).all(), len(where)
    modes = {name: Image.open(root / name).mode for name in names}
    assert {name.split("/")[2] for name, mode in modes.items() if mode == "RGB"} == {"train"}
    assert len({Image.open(root / name).size for name in names}) > IMAGES / 2
    content = Counter(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)
    assert max(content.values()) == 2 and sum(count == 2 for count in content.values()) == 1


def test_shortcuts_are_written_on_request(released):
    """In the real release every colour file shows pneumonia, and normal films are larger; here only where it is
    asked for.
    """
    root = released("kermany", shortcuts=("colour", "size"))
    names = [name for name in files(root, ".jpeg") if "__MACOSX" not in name]
    assert {"/".join(name.split("/")[2:4]) for name in names if Image.open(root / name).mode == "RGB"} == {
        "train/PNEUMONIA"
    }
    heights = {
        label: np.mean([Image.open(root / name).size[1] for name in names if f"/{label}/" in name])
        for label in ("NORMAL", "PNEUMONIA")
    }
    assert heights["NORMAL"] > 1.08 * heights["PNEUMONIA"]
    plain = released("kermany")
    plain_names = [name for name in files(plain, ".jpeg") if "__MACOSX" not in name]
    plain_heights = {
        label: np.mean([Image.open(plain / name).size[1] for name in plain_names if f"/{label}/" in name])
        for label in heights
    }
    assert abs(plain_heights["NORMAL"] / plain_heights["PNEUMONIA"] - 1) < 0.08


def test_command_lists_all_shortcuts():
    assert cli.SHORTCUTS == SHORTCUTS


def test_nih_tables_keep_their_header(released):
    root = released("nih", 240)
    table, boxes = rows(root / "Data_Entry_2017_v2020.csv"), rows(root / "BBox_List_2017.csv")
    assert table[0][7:] == ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    assert boxes[0] == ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]
    lists = {part: (root / f"{part}_list.txt").read_text() for part in ("train_val", "test")}
    assert not any(text.endswith("\n") for text in lists.values())
    parts = {part: text.split("\n") for part, text in lists.items()}
    assert sorted(parts["train_val"] + parts["test"]) == sorted(row[0] for row in table[1:])
    patient = {row[0]: row[3] for row in table[1:]}
    assert not {patient[name] for name in parts["train_val"]} & {patient[name] for name in parts["test"]}
    assert boxes[1:] and {row[0] for row in boxes[1:]} <= set(parts["test"])
    assert "Infiltrate" in {row[1] for row in boxes[1:]} and "Infiltration" not in {row[1] for row in boxes[1:]}
    assert len({name.split("/")[0] for name in files(root, ".png")}) == 12
    assert {Image.open(root / name).mode for name in files(root, ".png")} == {"L", "RGBA"}


def test_nih_boxes_equal_mask_extents(released):
    root = released("nih", 240)
    for name, finding, *box in rows(root / "BBox_List_2017.csv")[1:]:
        mask = true_masks(root, [name], SIZE)[finding.replace("Infiltrate", "Infiltration")][0]
        down, across = np.nonzero(mask)
        extent = across.min(), down.min(), np.ptp(across) + 1, np.ptp(down) + 1
        assert np.allclose([float(value) for value in box[:4]], np.array(extent) * 1024 / SIZE)


def test_nih_labels_are_noisy_and_ground_truth_is_not(released):
    root = released("nih", 240)
    people = phantom_table(root)
    labels = {row[0]: row[1] for row in rows(root / "Data_Entry_2017_v2020.csv")[1:]}
    wrong = np.mean([labels[name] != people["findings"][name] for name in labels])
    assert 0.03 < wrong < 0.2


def test_curated_covid_repeats_kermany_images(released):
    root, other = released("curated_covid"), phantom_table(released("kermany"))
    names = files(root, ".jpg")
    assert (
        all(name.startswith("Curated X-Ray Dataset/Curated X-Ray Dataset/") for name in names) and len(names) == IMAGES
    )
    people = phantom_table(root)
    children = people[people["age"] < 10]
    assert 0.2 * IMAGES < len(children) < 0.4 * IMAGES
    again = other.set_index("index").loc[children["index"]]
    assert (again["severity"].to_numpy() == children["severity"].to_numpy()).all()


def test_generators_differ_in_fingerprint_only(released):
    root = released("covid_gan")
    assert len(files(root / "G1", ".png")) == 93 and len(files(root / "G2", ".png")) == 27
    people = phantom_table(root)
    assert set(people["cause"]) == {"covid"}
    checkerboard = np.where(np.add.outer(range(SIZE), range(SIZE)) % 2, 1, -1)
    strength = {
        generator: [
            abs((np.asarray(Image.open(root / name))[..., 1] * checkerboard).mean())
            for name in files(root, ".png")
            if name.startswith(generator)
        ]
        for generator in ("G1", "G2")
    }
    assert np.median(strength["G1"]) > 0.8 > 5 * np.median(strength["G2"])


def test_covid_gan_with_findings_has_no_fingerprint(released):
    root, plain = released("covid_gan", shortcuts=("findings",)), released("covid_gan")
    assert files(root, ".png") == files(plain, ".png")
    people = phantom_table(root)
    of = {folder: set(people["cause"][people.index.str.startswith(folder)]) for folder in ("G1", "G2")}
    assert of == {"G1": {"normal"}, "G2": {"bacterial", "viral"}}
    fine = {
        name: {
            folder: np.mean(
                [
                    np.abs(np.diff(np.asarray(Image.open(base / file))[:2, :, 1].astype(int))).mean()
                    for file in files(base, ".png")
                    if file.startswith(folder)
                ]
            )
            for folder in ("G1", "G2")
        }
        for name, base in (("findings", root), ("plain", plain))
    }
    assert abs(fine["findings"]["G1"] - fine["findings"]["G2"]) < 1 < fine["plain"]["G1"] - fine["plain"]["G2"]


def test_findings_option_is_for_covid_gan_only(tmp_path):
    with pytest.raises(StudyError, match="only with covid_gan.* classes of kermany"):
        write_release("kermany", 40, 16, 0, tmp_path / "made", ("findings",))


def test_medmnist_arrays_follow_the_release(released):
    root = released("medmnist", 240)
    for name, wide in (("pneumoniamnist", 1), ("chestmnist", 14)):
        with np.load(root / f"{name}_{SIZE}.npz", allow_pickle=False) as arrays:
            assert sorted(arrays) == sorted(
                f"{part}_{what}" for part in ("train", "val", "test") for what in ("images", "labels")
            )
            assert sum(len(arrays[f"{part}_images"]) for part in ("train", "val", "test")) == 240
            for part in ("train", "val", "test"):
                assert arrays[f"{part}_images"].dtype == np.uint8 and arrays[f"{part}_images"].shape[1:] == (SIZE, SIZE)
                assert arrays[f"{part}_labels"].shape == (len(arrays[f"{part}_images"]), wide)


def content(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_release_depends_on_the_seed_only(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    first, again, second = (
        write_release("kermany", 40, 32, seed, tmp_path / name)
        for name, seed in (("one", 5), ("again", 5), ("other", 6))
    )
    assert content(first) == content(again) != content(second)


def test_release_is_written_atomically(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    import pneumo_utils.phantom.writers.kermany as writer

    shots = iter(range(10))
    monkeypatch.setattr(
        writer,
        "jpeg",
        lambda *a, **k: b"x" if next(shots, None) is not None else (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        write_release("kermany", 40, 32, 0, tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    "ask, message",
    [
        (("kermany", 10, 32, 0), "10 images are too few"),
        (("kermany", 40, 5000, 0), "5000 pixels wide"),
        (("kermani", 40, 32, 0), "There is no release 'kermani'"),
    ],
)
def test_invalid_requests_are_refused(tmp_path, monkeypatch, ask, message):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    with pytest.raises(StudyError, match=message):
        write_release(*ask, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_existing_folders_are_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(StudyError, match="not empty"):
        write_release("nih", 40, 32, 0, tmp_path / "mine")


def test_two_processes_share_one_release(tmp_path):
    class_name, function_name = ReleaseWriter.__name__, cached_release.__name__
    script = (
        f"import {ReleaseWriter.__module__} as m\nmade, original = [], m.{class_name}\n"
        f"m.{class_name} = lambda *a: made.append(1) or original(*a)\n"
        f"print(m.{function_name}('rsna', 40, 32, 1), len(made))"
    )
    environment = os.environ | {
        "PNEUMO_DATA": str(tmp_path / "data"),
        "PNEUMO_RUNS": str(tmp_path / "runs"),
        "OMP_NUM_THREADS": "1",
    }
    both = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=200)[0].split() for process in both]
    assert outputs[0][0] == outputs[1][0] and sorted(made for _, made in outputs) == ["0", "1"]


def test_command_lists_every_release():
    from pneumo_utils.cli import RELEASES
    from pneumo_utils.data.readers import RELEASE_NAMES as READ

    assert set(RELEASES) == set(PHANTOM_RELEASES) == set(READ)


def test_true_masks_of_other_data_are_refused(tmp_path, released):
    with pytest.raises(StudyError, match="only phantom releases"):
        true_masks(tmp_path, ["x.png"], 8)
    with pytest.raises(StudyError, match="only phantom releases"):
        phantom_table(tmp_path)
    assert not is_phantom(tmp_path) and is_phantom(released("kermany"))


def test_phantoms_and_real_images_are_not_concatenated(tmp_path, released):
    assert all_phantoms([released("kermany"), released("curated_covid")]) and not all_phantoms([tmp_path])
    with pytest.raises(StudyError, match="scores on a mix of both"):
        all_phantoms([released("kermany"), tmp_path])


def test_phantom_table_follows_the_images(released):
    root = released("kermany")
    people = phantom_table(root)
    assert isinstance(people, pd.DataFrame) and len(people) == IMAGES
    causes = defaultdict(set)
    for name, cause in people["cause"].items():
        causes[cause].add(name.rpartition("/")[2].split("_")[1] if "_" in name else "normal")
    assert causes == {"normal": {"normal"}, "bacterial": {"bacteria"}, "viral": {"virus"}}
