"""The readers on releases as published and as people change them, and the findings of the quality check."""

import functools
import gzip
import http.server
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chapter_runs import ROOT
from click.testing import CliRunner
from PIL import Image

from pneumo_utils.cli import FAULT_EXIT_CODE, data
from pneumo_utils.common.errors import StudyError
from pneumo_utils.data import duplicates, shortcuts
from pneumo_utils.data.cohort import concat_cohorts as pooled
from pneumo_utils.data.quality_report import check_release
from pneumo_utils.data.readers import (
    covid_gan,
    curated_covid,
    download,
    find_reader,
    kermany,
    labels,
    medmnist,
    nih,
    rsna,
)
from pneumo_utils.phantom.writers.ground_truth import phantom_table, true_masks
from pneumo_utils.phantom.writers.writer import cached_release

SIZE = 48
IMAGES = {"nih": 240, "medmnist": 240, "kermany": 200, "rsna": 120, "curated_covid": 120, "covid_gan": 120}


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "data"
    torch.set_num_threads(1)  # several processes of several threads wait for each other
    monkeypatch.setenv("PNEUMO_DATA", str(shared))
    monkeypatch.setenv("PNEUMO_RUNS", str(shared / "runs"))


def released(name):
    return cached_release(name, IMAGES[name], SIZE, seed=3)


def messages(findings, about, level=None):
    return [finding.text for finding in findings if finding.about == about and level in (None, finding.level)]


# readers


@pytest.mark.parametrize("name", IMAGES)
def test_find_reader_recognises_every_release(name):
    assert find_reader(released(name)).__name__.endswith(name)


@pytest.mark.parametrize(
    "name, how", [(name, {"which": "pneumoniamnist"} if name == "medmnist" else {}) for name in IMAGES]
)
def test_ground_truth_uses_image_names_of_the_cohort(name, how):
    """The lungs of the true mask are darker than what is outside them, in the picture as it was read."""
    root = released(name)
    some = find_reader(root).read(root, say=None, **how).sample(12, seed=0)
    lungs, pixels = true_masks(root, some.table["image"], 32)["lungs"], some.pixels(32)[:].astype(float)
    darker = [image[mask].mean() < image[4:-4, 4:-4][~mask[4:-4, 4:-4]].mean() for image, mask in zip(pixels, lungs)]
    assert sum(darker) >= 9, "most of them: a lung may be full"


def test_read_rsna():
    root = released("rsna")
    cohort, truth = rsna.read(root, say=None), phantom_table(root)
    assert len(cohort) == 120 and cohort.excluded.empty
    truth = truth.loc[cohort.table["image"]]
    pneumonia = truth["findings"].str.contains("Pneumonia").to_numpy()
    assert (cohort.table["target"] == 1).sum() <= pneumonia.sum() and pneumonia[
        (cohort.table["target"] == 1).to_numpy()
    ].all()
    assert ((cohort.table["labels"] == "Normal").to_numpy() == (truth["findings"] == "No Finding").to_numpy()).all()
    assert (cohort.table["view"].to_numpy() == truth["view"].to_numpy()).all()
    assert cohort.table["age"].isna().sum() == 1 and any(
        "ages over 120 are taken as unknown: 1" in note for note in cohort.notes
    )
    known = cohort.table["age"].notna().to_numpy()
    assert (cohort.table["age"].to_numpy()[known] == truth["age"].to_numpy()[known].astype(int)).all()
    rows = pd.read_csv(root / "stage_2_train_labels.csv").dropna()
    assert len(cohort.boxes) == len(rows)
    box, line = cohort.boxes.iloc[0], rows.iloc[0]
    assert box["image"] == line["patientId"] == cohort.table["image"][box["row"]] and np.isclose(
        box["x"] * 1024, line["x"]
    )
    assert cohort.weights("zhao")["Lung Opacity"] < cohort.weights("ratio")["Lung Opacity"], (
        "rows of boxes counted as images"
    )


def test_read_kermany():
    root = released("kermany")
    cohort, truth = kermany.read(root, say=None), phantom_table(root)
    assert len(cohort) == 200 and cohort.excluded.empty
    truth = truth.loc[cohort.table["image"]]
    assert (cohort.table["cause"].to_numpy() == truth["cause"].to_numpy()).all()
    assert ((cohort.table["labels"] == "normal").to_numpy() == (truth["cause"] == "normal").to_numpy()).all()
    together = pd.DataFrame(
        {"number": cohort.table["patient_in_folder"].to_numpy(), "true": truth["patient"].to_numpy()}
    )
    assert (together.groupby("true")["number"].nunique() == 1).all(), "images of one child have one number"
    assert any("patient numbers occur in more than one part" in note for note in cohort.notes)
    causes = cohort.relabel({"normal": "normal", "bacterial": "bacterial", "viral": "viral"}, column="cause")
    assert causes.counts().to_dict() == truth["cause"].value_counts().to_dict()


@pytest.mark.parametrize("folders", [("NORMAL", "PNEUMONIA"), ("normal", "Pneumonia")])
def test_read_kermany_unsplit_with_mendeley_names(tmp_path, folders):
    rng = np.random.default_rng(0)
    for label, names in zip(
        folders,
        (["NORMAL-12-0001.png", "NORMAL-12-0002.png"], ["BACTERIA-7-0001.jpg", "VIRUS-8-0001.bmp", "strange.jpg"]),
    ):
        (tmp_path / label).mkdir()
        for name in names:
            Image.fromarray(rng.integers(0, 255, (30, 30)).astype(np.uint8)).save(tmp_path / label / name)
    cohort = kermany.read(tmp_path, say=None)
    table = cohort.table.set_index(cohort.table["image"].str.rpartition("/")[2])
    assert table["patient"].to_dict() == {
        "NORMAL-12-0001.png": "12",
        "NORMAL-12-0002.png": "12",
        "BACTERIA-7-0001.jpg": "7",
        "VIRUS-8-0001.bmp": "8",
        "strange.jpg": "",
    }
    assert table["cause"].to_dict() == {
        "NORMAL-12-0001.png": "normal",
        "NORMAL-12-0002.png": "normal",
        "BACTERIA-7-0001.jpg": "bacterial",
        "VIRUS-8-0001.bmp": "viral",
        "strange.jpg": "",
    }
    assert any("there is no official split" in note for note in cohort.notes) and any(
        "tell no patient: 1" in note for note in cohort.notes
    )
    with pytest.raises(StudyError, match="no official split here"):
        cohort.split(by="official")
    assert cohort.relabel(column="cause").excluded["image"].str.endswith("strange.jpg").all()


def test_nested_copy_of_kermany_is_read_once(tmp_path):
    shutil.copytree(released("kermany") / "chest_xray" / "chest_xray", tmp_path / "chest_xray")
    shutil.copytree(released("kermany") / "chest_xray" / "chest_xray", tmp_path / "chest_xray" / "chest_xray")
    cohort = kermany.read(tmp_path, say=None)
    assert (
        len(cohort) == 200 and (cohort.excluded["reason"] == "the same file once more in a doubled folder").sum() == 200
    )


def test_read_nih():
    root = released("nih")
    cohort = nih.read(root, say=None)
    assert len(cohort) == 240 and cohort.multilabel and cohort.excluded.empty
    raw = pd.read_csv(root / "Data_Entry_2017_v2020.csv").set_index("Image Index").loc[cohort.table["image"]]
    assert (
        cohort.counts()
        == [
            raw["Finding Labels"].str.split("|").map(lambda names, f=finding: f in names).sum()
            for finding in cohort.classes
        ]
    ).all()
    assert cohort.table["split"].value_counts().to_dict() == {
        "train": len((root / "train_val_list.txt").read_text().split()),
        "test": len((root / "test_list.txt").read_text().split()),
    }
    assert set(cohort.boxes["finding"]) <= set(cohort.classes) and "Infiltration" in set(cohort.boxes["finding"])
    official = cohort.split(by="official", valid=0.2)
    assert (
        set(official.table["split"]) == {"train", "valid", "test"} and official.shared_patients()["patients"].sum() == 0
    )
    assert (official.table["split"] == "test").equals(cohort.table["split"] == "test")


def test_read_nih_jpeg_with_gzipped_tables(tmp_path):
    root = released("nih")
    (tmp_path / "images").mkdir()
    paths = sorted(root.rglob("images/*.png"))[:50]
    for path in paths:
        Image.open(path).convert("L").save(tmp_path / "images" / f"{path.stem}.jpg")
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))
    cohort, whole = nih.read(tmp_path, say=None), nih.read(root, say=None)
    assert len(cohort) == 50
    assert (cohort.excluded["reason"] == "in the table, and no image of that name").sum() == 190
    theirs = whole.where(whole.table["image"].isin(cohort.table["image"]))
    assert sorted(zip(cohort.table["image"], cohort.table["labels"])) == sorted(
        zip(theirs.table["image"], theirs.table["labels"])
    ) and len(cohort.boxes) == len(theirs.boxes)
    assert {
        "train_val_list.txt is not there: its part of the official split is unknown",
        "published as .png, here 50 .jpg",
    } <= set(cohort.notes)


def test_read_covid_gan_from_archives(tmp_path):
    root = released("covid_gan")
    for name, folder in (("G_NC.zip", "G1"), ("G_PC.zip", "G2")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in (root / folder).iterdir():
                archive.write(path, f"{folder}/{path.name}")
    packed, plain = covid_gan.read(tmp_path, say=None), covid_gan.read(root, say=None)
    assert packed.table["image"].tolist() == plain.table["image"].tolist() and packed.counts().to_dict() == {
        "normal": 93,
        "pneumonia": 27,
    }
    assert (packed.pixels(16)[:] == plain.pixels(16)[:]).all()
    (tmp_path / "G_PC.zip").unlink()
    with pytest.raises(StudyError, match="is incomplete: of Synthetic COVID-19.*no image in G2"):
        covid_gan.read(tmp_path)


def test_tar_is_read_like_its_folder(tmp_path):
    root = released("kermany")
    with tarfile.open(tmp_path / "children.tar.gz", "w:gz") as archive:
        archive.add(root / "chest_xray", "chest_xray")
    packed = kermany.read(tmp_path / "children.tar.gz", say=None)
    assert packed.table["image"].tolist() == kermany.read(root, say=None).table["image"].tolist()


def test_read_curated_covid():
    cohort = curated_covid.read(released("curated_covid"), say=None)
    assert len(cohort) == 120 and (cohort.counts() > 0).all() and (cohort.table["view"] == "PA").all()
    with pytest.raises(StudyError, match='does not say whose image is whose.*by="image"'):
        cohort.split(by="patient")


def test_read_medmnist():
    root = released("medmnist")
    with pytest.raises(StudyError, match="holds chestmnist_48, pneumoniamnist_48: say which"):
        medmnist.read(root)
    cohort = medmnist.read(root, which="pneumoniamnist", say=None)
    with np.load(root / "pneumoniamnist_48.npz") as arrays:
        assert (
            cohort.targets().tolist()
            == np.concatenate([arrays[f"{part}_labels"][:, 0] for part in ("train", "val", "test")]).tolist()
        )
        assert (cohort.part("test").pixels(48)[:] == arrays["test_images"]).all()
    assert (
        medmnist.read(root / "pneumoniamnist_48.npz", say=None).table["image"].tolist()
        == cohort.table["image"].tolist()
    )
    chest = medmnist.read(root, which="chestmnist", say=None)
    with np.load(root / "chestmnist_48.npz") as arrays:
        assert (chest.part("train").targets() == arrays["train_labels"]).all()


def test_reader_prints_a_summary(capsys):
    kermany.read(released("kermany"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Kermany (children, Guangzhou): 200 images of ") and lines[1].startswith("  split: ")


# what a check finds


def test_quality_report_of_kermany():
    root = cached_release("kermany", IMAGES["kermany"], SIZE, seed=3, shortcuts=("colour", "size"))
    findings, cohort = check_release(root), kermany.read(root, say=None)
    colour = int((cohort.table["mode"] == "RGB").sum())
    assert f"all {colour} RGB files are pneumonia" in messages(findings, "shortcuts", "wrong")
    assert any(text.startswith("height alone tells pneumonia") for text in messages(findings, "shortcuts", "wrong"))
    assert any("byte-identical files in 1 groups" in text for text in messages(findings, "duplicates", "wrong"))
    shared = cohort.shared_patients().set_index(["of", "also in"]).loc[("test", "train")]
    test, train = (set(cohort.part(name).table["patient"]) for name in ("test", "train"))
    assert shared["patients"] == len(test & train) > 0
    assert any(
        text.startswith(f"{len(test & train)} of {len(test)} patients of test are in train too")
        for text in messages(findings, "patients", "wrong")
    )
    assert any("a random split by image would have" in text for text in messages(findings, "patients"))
    assert messages(findings, "counts")[0].startswith("not the published ones: images 200 of 5,856")


def test_quality_report_finds_kermany_images_in_curated_covid():
    findings = check_release(released("curated_covid"), other_root=released("kermany"))
    mine, theirs = phantom_table(released("curated_covid")), phantom_table(released("kermany"))
    children = mine[mine["age"] < 10]["index"]
    copied = kermany.read(released("kermany"), say=None)
    # a copy there stands in the place of a picture of its own
    lost = {row for rows in duplicates.identical_files(copied) for row in rows[1:]}
    there = set(theirs.loc[copied.table["image"].drop(list(lost)), "index"])
    assert messages(findings, "overlap", "wrong")[0].startswith(
        f"{len(set(children) & there)} of 120 pictures are also in Kermany"
    )


def test_quality_report_finds_the_generator_fingerprint():
    findings = check_release(released("covid_gan"))
    texture = [text for text in messages(findings, "shortcuts", "wrong") if text.startswith("the fine texture")]
    assert len(texture) == 1 and float(texture[0].rsplit(" ", 1)[1]) > 0.97
    frame = next(text for text in messages(findings, "shortcuts") if text.startswith("the outermost pixels"))
    assert float(frame.rsplit(" ", 1)[1]) < 0.8, "nothing else tells them apart"


def test_quality_report_counts_minors():
    cohort = nih.read(released("nih"), say=None)
    young = int((cohort.table["age"] < 18).sum())
    assert any(
        text.startswith(f"{young} of 240 images are of people under 18")
        for text in messages(check_release(released("nih")), "ages")
    )
    assert any("people under 18" in text for text in messages(check_release(released("rsna")), "ages", "wrong"))


def test_quality_report_checks_md5(tmp_path):
    shutil.copy(released("medmnist") / "pneumoniamnist_48.npz", tmp_path / "pneumoniamnist.npz")
    assert "is not the published file: md5" in messages(check_release(tmp_path), "checksum", "wrong")[0]


def test_quality_report_names_unreadable_files(tmp_path):
    shutil.copytree(released("kermany") / "chest_xray" / "chest_xray" / "train", tmp_path / "train")
    victims = sorted((tmp_path / "train" / "NORMAL").iterdir())[:3]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:-100])
    victims[2].write_text("hello")
    findings = messages(check_release(tmp_path), "excluded files", "wrong")
    assert len(findings) == 3 and all(any(victim.name in text for text in findings) for victim in victims)


def test_near_duplicates_are_found():
    """A picture again at another size, in another quality, lighter and with less contrast; all others are different
    people.
    """
    cohort = rsna.read(released("rsna"), say=None)
    pixels = cohort.pixels(32)[:].astype(float)
    assert duplicates.near_duplicates(cohort).empty
    again = []
    for image in pixels[:40]:
        small = Image.fromarray((0.8 * image + 25).astype(np.uint8)).resize((27, 27), Image.Resampling.BILINEAR)
        again.append(np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR)))
    differ = (duplicates.perceptual_hash(pixels)[:40, None] != duplicates.perceptual_hash(np.array(again))[None]).sum(
        -1
    )
    assert differ.diagonal().max() <= duplicates.MAX_HASH_DISTANCE < differ[~np.eye(40, dtype=bool)].min()


def test_split_by_duplicate_group():
    cohort = kermany.read(released("kermany"), say=None)
    pairs = duplicates.near_duplicates(cohort)
    groups = duplicates.duplicate_groups(cohort, pairs)
    assert all(
        groups[first] == groups[second] for first, second in zip(pairs["one"], pairs["other"])
    ) and groups.nunique() == len(cohort) - len(pairs)
    table = cohort.table.assign(picture=groups.astype(str))
    split = cohort.replace(table=table).split(by="picture", test=0.25)
    assert (split.table.groupby("picture")["split"].nunique() == 1).all()


def test_linked_groups_join_duplicates_and_patients():
    """a and b are one picture, b and c one patient, d stands alone: three of a kind and one."""
    table = pd.DataFrame(
        {"image": list("abcd"), "patient": ["", "p", "p", ""], "split": ["train", "test", "valid", "test"]},
        index=[3, 5, 8, 9],
    )
    cohort = kermany.read(released("kermany"), say=None).replace(table=table)
    pairs = pd.DataFrame({"one": [3], "other": [5], "bits": [2]})
    kin = duplicates.linked_groups(cohort, pairs)
    assert kin[3] == kin[5] == kin[8] != kin[9] and kin.nunique() == 2
    assert duplicates.has_duplicate_in(cohort, pairs).tolist() == [False, True, False, False]
    assert duplicates.has_duplicate_in(cohort, pairs, "test").tolist() == [True, False, False, False]
    none = pairs[:0]
    assert duplicates.linked_groups(cohort, none).nunique() == 3 and not duplicates.has_duplicate_in(cohort, none).any()


def test_split_by_linked_group_shares_no_image_and_no_patient():
    pool = pooled(labels.read_children(released("kermany")), labels.read_curated(released("curated_covid")))
    pairs = duplicates.near_duplicates(pool)
    pool = pool.replace(table=pool.table.assign(kin=duplicates.linked_groups(pool, pairs)))
    by_image, by_kin = (pool.split(by=by, test=0.25, valid=0.25, seed=1) for by in ("image", "kin"))
    tested = (by_kin.table["split"] == "test").to_numpy()
    assert (
        len(pairs)
        and not duplicates.has_duplicate_in(by_kin, pairs)[tested].any()
        and not by_kin.shared_patients()["patients"].any()
    )
    assert duplicates.has_duplicate_in(by_image, pairs)[(by_image.table["split"] == "test").to_numpy()].any()


# three causes


def test_cause_labels_from_file_names_and_folders():
    children, curated = (
        labels.read_children(released("kermany")),
        labels.read_curated(released("curated_covid")),
    )
    plain, everyone = (
        kermany.read(released("kermany"), say=None),
        curated_covid.read(released("curated_covid"), say=None).counts(),
    )
    assert children.classes == curated.classes == ["normal", "bacterial", "viral"]
    assert (children.table["labels"] == plain.table["cause"]).all() and len(children) == len(plain)
    assert curated.counts()["viral"] == everyone["viral"] + everyone["covid"] and len(curated) == everyone.sum()


def test_cause_labels_without_covid():
    whole, without = (labels.read_curated(released("curated_covid"), covid) for covid in ("viral", "out"))
    covid = curated_covid.read(released("curated_covid"), say=None).counts()["covid"]
    assert len(whole) - len(without) == covid == len(without.excluded) - len(whole.excluded)
    with pytest.raises(StudyError, match="cannot count as 'flu'"):
        labels.read_curated(released("curated_covid"), "flu")


def test_missing_cause_is_refused(tmp_path):
    shutil.copytree(released("kermany"), tmp_path / "children")
    for path in (tmp_path / "children").rglob("*_virus_*"):
        path.unlink()
    with pytest.raises(StudyError, match="has no viral image here, and three classes are needed"):
        labels.read_children(tmp_path / "children")
    with pytest.raises(StudyError, match="curated_covid.read takes"):
        labels.read_children(released("curated_covid"))


def test_auroc_of_a_shortcut_by_hand():
    rng = np.random.default_rng(0)
    member, value = rng.random(80) < 0.3, rng.integers(0, 10, 80)
    pairs = [(a > b) + 0.5 * (a == b) for a in value[member] for b in value[~member]]
    assert np.isclose(shortcuts.property_auroc(member, value, either_direction=False), np.mean(pairs))


# the command


def test_data_command_makes_and_checks(tmp_path):
    made = CliRunner().invoke(
        data,
        [
            "make",
            "kermany",
            "--images",
            "60",
            "--size",
            "32",
            "--seed",
            "1",
            "--shortcut",
            "colour",
            str(tmp_path / "new"),
        ],
    )
    assert made.exit_code == 0 and "60 phantom images" in made.output, made.output
    checked = CliRunner().invoke(data, ["check", str(tmp_path / "new")])
    assert (
        checked.exit_code == FAULT_EXIT_CODE
        and "RGB files are pneumonia" in checked.output
        and "CC BY 4.0" in checked.output
    ), checked.output


def test_data_command_imports_no_torch():
    code = (
        "import sys, pneumo_utils.cli, pneumo_utils.data.readers.kermany; print([m for m in ('torch', 'fastai', "
        "'pydicom', 'sklearn') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_download_without_network_gives_instructions(tmp_path, monkeypatch):
    monkeypatch.setattr(medmnist, "FILES", {"pneumoniamnist.npz": "http://127.0.0.1:9/pneumoniamnist.npz"})
    with pytest.raises(StudyError, match="cannot be fetched from here.*By hand: https://zenodo.org.*pneumo data check"):
        download.download_release("medmnist", tmp_path / "new", say=lambda line: None)


def test_download_from_kaggle_names_the_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyError, match="pip install kagglehub.*By hand: kaggle competitions download rsna"):
        download.download_release("rsna", tmp_path / "new", say=lambda line: None)


@pytest.fixture
def server():
    """A web server of this machine in the place of Zenodo."""
    folder = released("medmnist")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *a: None
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def test_download_checks_the_file_and_prints_the_licence(tmp_path, monkeypatch, server):
    monkeypatch.setattr(medmnist, "FILES", {"pneumoniamnist.npz": f"{server}/pneumoniamnist_48.npz"})
    messages = []
    folder = download.download_release("medmnist", tmp_path / "new", say=messages.append)
    assert (folder / "pneumoniamnist.npz").read_bytes() == (released("medmnist") / "pneumoniamnist_48.npz").read_bytes()
    assert "CC BY 4.0" in messages[0] and any("is not the published file" in line for line in messages)
    with pytest.raises(StudyError, match="not empty"):
        download.download_release("medmnist", tmp_path / "new")
    assert not list(Path(tmp_path).rglob("*.part"))


def test_commands_of_the_data_page_run(tmp_path, monkeypatch):
    """Every `pneumo data` line of the data page, as it stands there."""
    page = (ROOT / "book" / "data.md").read_text()
    lines = [line for block in page.split("```sh\n")[1:] for line in block.split("```")[0].splitlines()]
    assert len(lines) == 6
    monkeypatch.chdir(tmp_path)
    for line in lines:
        done = CliRunner().invoke(data, line.removeprefix("pneumo data ").split())
        assert done.exit_code in (0, FAULT_EXIT_CODE if "check" in line else 0), (line, done.output, done.exception)
        assert "--against" not in line or "pictures are also in Kermany" in done.output


def test_code_of_the_data_page_runs():
    """The two pieces of Python, on releases in the place of those that they name."""
    page = (ROOT / "book" / "data.md").read_text()
    first, second = (block.split("```")[0] for block in page.split("```python\n")[1:])
    named: dict = {}
    exec(first.replace("my_children", str(released("kermany"))), named)
    assert len(named["loaders"].train) > 1 and named["split"].shared_patients()["patients"].sum() == 0
    names: dict = {}
    exec(
        second.replace("my_children", str(released("kermany"))).replace("my_covid", str(released("curated_covid"))),
        names,
    )
    split = names["split"]
    pairs = duplicates.near_duplicates(split)
    sides = split.table["split"]
    assert len(pairs) > 20 and (sides[pairs["one"]].to_numpy() == sides[pairs["other"]].to_numpy()).all()


def test_chance_spread_of_auroc():
    draw, member = np.random.default_rng(0), np.arange(60) < 19
    drawn = [shortcuts.property_auroc(member, draw.random(60), either_direction=False) for _ in range(4000)]
    assert np.isclose(shortcuts.auroc_chance_std(member), np.std(drawn), rtol=0.05)
