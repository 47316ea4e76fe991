"""Wrong folders and files of images: each ends in a message with the file and the remedy, or is excluded by name."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicoms import dicom
from PIL import Image
from pydicom.uid import JPEGLSLossless

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.readers import find_reader, kermany, medmnist, nih, rsna

SIDE = 40
RAMP = np.tile(np.linspace(20, 220, SIDE).astype(np.uint8), (SIDE, 1))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "data"))


def picture(format="JPEG", mode="L", seed=0):
    noise = np.random.default_rng(seed).integers(0, 30, RAMP.shape).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(RAMP + noise).convert(mode).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def children(tmp_path):
    """Eight good images of children; returns the folder and how to put one more file beside them."""
    root = tmp_path / "children"
    for label, name in (("NORMAL", "IM-{:04}-0001.jpeg"), ("PNEUMONIA", "person{}_virus_1.jpeg")):
        (root / label).mkdir(parents=True)
        for index in range(4):
            (root / label / name.format(index + 1)).write_bytes(picture(seed=index + 10 * (label == "NORMAL")))

    def put(name, data):
        (root / "NORMAL" / name).write_bytes(data)
        return kermany.read(root, say=None)

    put.root = root
    return put


# folders


def test_no_folder(tmp_path):
    with pytest.raises(StudyError, match="There is no folder .*nowhere.*pneumo data get"):
        kermany.read(tmp_path / "nowhere")


def test_empty_folder(tmp_path):
    with pytest.raises(StudyError, match="is empty.*pneumo data make"):
        find_reader(tmp_path)


def test_wrong_folder_says_what_it_is(children):
    with pytest.raises(StudyError, match="is not NIH ChestX-ray14; it looks like Kermany.*kermany.read"):
        nih.read(children.root)


def test_folder_of_nothing_known(tmp_path):
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "beach.jpg").write_bytes(picture())
    with pytest.raises(
        StudyError, match="is none of the releases.*1 images.*holidays(.|\n)*kermany +folders NORMAL and PNEUMONIA"
    ):
        find_reader(tmp_path)


def test_half_a_release(children):
    shutil.rmtree(children.root / "PNEUMONIA")
    with pytest.raises(StudyError, match="is incomplete: of Kermany.*PNEUMONIA.*Fetch it again"):
        kermany.read(children.root)


def test_an_archive_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(StudyError, match="notes.txt is a file"):
        kermany.read(tmp_path / "notes.txt")


# image files


@pytest.mark.parametrize(
    "name, data, why",
    [
        ("cut.jpeg", picture()[:-200], "truncated"),
        ("cut.png", picture("PNG")[:-300], "truncated"),
        ("nothing.jpeg", b"", r"empty file \(0 bytes\)"),
        ("words.png", b"This is not an image.\n" * 20, "not an image, though its name ends in .png"),
        ("no_pixels.dcm", b"\0" * 200, "not DICOM: the preamble is missing"),
    ],
)
def test_broken_files_are_set_aside_by_name(children, name, data, why):
    cohort = children(name, data)
    assert len(cohort) == 8 and list(cohort.excluded["image"]) == [f"NORMAL/{name}"]
    assert cohort.excluded["reason"].str.contains(why).all(), cohort.excluded["reason"][0]
    assert any(name in line and "excluded" in line for line in cohort.summary())


def bomb():
    """A PNG of a few hundred bytes that announces 30,000 x 30,000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_decompression_bomb(children):
    cohort = children("bomb.png", bomb())
    assert "decompression bomb" in cohort.excluded["reason"][0]


def test_a_file_damaged_in_its_middle_is_named_when_it_is_decoded(children):
    good = bytearray(picture("PNG"))
    index = good.index(b"IDAT") + 200
    good[index : index + 40] = b"\xff" * 40
    cohort = children("inside.png", bytes(good))
    assert len(cohort) == 9, "its first and last bytes are fine"
    with pytest.raises(
        StudyError,
        match=r"1 of 9 images look whole and cannot be "
        r"decoded:\n.*inside.png.*\n.*cohort.without\(\['NORMAL/inside.png'\]\)",
    ):
        cohort.pixels(16)
    assert cohort.without(["NORMAL/inside.png"]).pixels(16).shape == (8, 16, 16)


def test_a_switch_that_fastai_users_know_does_not_let_half_images_in(children):
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        assert "truncated" in children("cut.jpeg", picture()[:-200]).excluded["reason"][0]
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


# DICOM


def dicom_bytes(path, **changes):
    return dicom(path, RAMP, **changes).read_bytes()


def test_dicom_without_pixels(children, tmp_path):
    assert (
        children("empty.dcm", dicom_bytes(tmp_path / "x.dcm", drop=("PixelData",))).excluded["reason"][0]
        == "DICOM without pixels"
    )


def test_dicom_shorter_than_its_rows(children, tmp_path):
    cohort = children("short.dcm", dicom_bytes(tmp_path / "x.dcm", Rows=400))
    assert cohort.excluded["reason"][0].startswith("truncated: 40 x 400 pixels of 8 bits need 16,000 bytes")


def test_dicom_longer_than_its_rows(children, tmp_path):
    cohort = children("long.dcm", dicom_bytes(tmp_path / "x.dcm", Rows=20))
    assert len(cohort) == 9
    with pytest.raises(StudyError, match="long.dcm: 40 x 20 pixels of 8 bits need 800 bytes and 1,600 are there"):
        cohort.pixels(16)


@pytest.mark.parametrize("bits", [{"BitsStored": 12}, {"BitsStored": 0}, {"HighBit": 3}, {"BitsAllocated": 12}])
def test_dicom_with_bits_that_make_no_image(children, tmp_path, bits):
    assert (
        "its bits make no image" in children("bits.dcm", dicom_bytes(tmp_path / "x.dcm", **bits)).excluded["reason"][0]
    )


def test_dicom_compressed_without_a_decoder(children, tmp_path):
    from pydicom.encaps import encapsulate

    data = dicom_bytes(
        tmp_path / "x.dcm", syntax=JPEGLSLossless, PixelData=encapsulate([b"\xff\xd8 not for us \xff\xd9"])
    )
    cohort = children("exotic.dcm", data)
    assert len(cohort) == 8 and cohort.excluded["reason"][0].startswith("compressed as JPEG-LS Lossless")
    assert "no decoder is installed; `pip install pylibjpeg" in cohort.excluded["reason"][0]


# tables


ENTRIES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View "
    "Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = [
    "00000001_000.png,No Finding,0,1,058Y,M,PA,2048,2500,0.1,0.1",
    "00000001_001.png,Mass|Nodule,1,1,059Y,M,AP,2048,2500,0.1,0.1",
    "00000002_000.png,Pneumonia,0,2,007M,F,PA,2048,2500,0.1,0.1",
]
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


@pytest.fixture
def adults(tmp_path):
    """A small NIH: `adults(header=..., rows=..., boxes=...)` writes it and reads it."""
    root = tmp_path / "adults"

    def write(
        header=ENTRIES,
        rows=ROWS,
        boxes=("00000002_000.png,Infiltrate,102.4,204.8,512,256,,,",),
        end="\n",
        mark=b"",
        name="Data_Entry_2017_v2020.csv",
    ):
        shutil.rmtree(root, ignore_errors=True)
        (root / "images").mkdir(parents=True)
        for index, row in enumerate(ROWS):
            (root / "images" / row.split(",")[0]).write_bytes(picture("PNG", seed=index))
        lines = ([header] if header else []) + list(rows)
        (root / name).write_bytes(mark + end.join(lines).encode() + end.encode())
        (root / "BBox_List_2017.csv").write_bytes(end.join([BOXES, *boxes]).encode())
        return nih.read(root, say=None)

    write.root = root
    return write


def test_table_without_a_header(adults):
    with pytest.raises(
        StudyError,
        match="Data_Entry_2017_v2020.csv has no header: its first line is '00000001_000.png.*Put the header back",
    ):
        adults(header="")


def test_table_with_other_column_names(adults):
    with pytest.raises(
        StudyError, match="Data_Entry_2017_v2020.csv has no column 'Finding Labels' \\(there is 'Findings'\\).*Rename"
    ):
        adults(header=ENTRIES.replace("Finding Labels", "Findings"))


def test_windows_line_ends_and_a_byte_order_mark(adults):
    plain, windows = adults(), adults(end="\r\n", mark=b"\xef\xbb\xbf")
    columns = ["image", "patient", "age", "labels", "view", "sex"]
    pd.testing.assert_frame_equal(plain.table[columns], windows.table[columns])
    assert len(windows.boxes) == 1


def test_the_older_table(adults):
    """Ages with their unit, and an empty column at the end."""
    cohort = adults(header=ENTRIES + ",", rows=[row + "," for row in ROWS], name="Data_Entry_2017.csv")
    assert cohort.table["age"].round(2).tolist() == [58, 59, 0.58]


def test_a_label_nobody_knows(adults):
    with pytest.raises(
        StudyError, match="Data_Entry_2017_v2020.csv line 3: nobody knows the label 'Nodul'; did you mean 'Nodule'"
    ):
        adults(rows=[ROWS[0], ROWS[1].replace("Nodule", "Nodul"), ROWS[2]])


@pytest.mark.parametrize(
    "box, why",
    [
        ("00000002_000.png,Mass,900,100,300,100,,,", "a box that lies outside its image of 1024 x 1024"),
        ("00000002_000.png,Mass,-50,100,300,100,,,", "a box that lies outside its image of 1024 x 1024"),
        ("00000002_000.png,Mass,300,100,-20,100,,,", "a box without extent"),
        ("00000002_000.png,Mass,300,100,0,100,,,", "a box without extent"),
        ("00000002_000.png,Mass,,,,,,,", "a box without extent"),
        ("00000002_000.png,Infiltrate,102.4,204.8,512,256,,,", "the same box once more"),
    ],
)
def test_boxes_that_are_none_are_set_aside(adults, box, why):
    cohort = adults(boxes=["00000002_000.png,Infiltrate,102.4,204.8,512,256,,,", box])
    assert cohort.excluded.to_dict("records") == [
        {"image": "00000002_000.png, BBox_List_2017.csv line 3", "reason": why}
    ]
    assert cohort.boxes[["finding", "x", "y", "width", "height"]].round(6).values.tolist() == [
        ["Infiltration", 0.1, 0.2, 0.5, 0.25]
    ]


def test_a_box_that_is_no_number(adults):
    with pytest.raises(StudyError, match="BBox_List_2017.csv line 2: x is 'left', not a number"):
        adults(boxes=["00000002_000.png,Mass,left,1,2,3,,,"])


def test_a_patient_with_two_ages(adults):
    cohort = adults(rows=[ROWS[0], ROWS[1].replace("059Y", "041Y"), ROWS[2]])
    assert any(
        "patient 1 at 58 in line 2 and at 41 in line 3" in note
        and "Data_Entry_2017_v2020.csv" in note
        and "correct the table" in note
        for note in cohort.notes
    )
    assert cohort.table["age"].tolist()[:2] == [58, 41]


def test_a_patient_of_two_sexes(adults):
    cohort = adults(rows=[ROWS[0], ROWS[1].replace(",M,", ",F,"), ROWS[2]])
    assert any("two sexes" in note and "patient 1" in note for note in cohort.notes)


def test_two_rows_of_one_image(adults):
    with pytest.raises(StudyError, match="lines 2, 5: 00000001_000.png is there more than once"):
        adults(rows=[*ROWS, ROWS[0]])


def test_two_files_of_one_name(adults):
    adults()
    (adults.root / "images_002" / "images").mkdir(parents=True)
    again = adults.root / "images_002" / "images" / "00000001_000.png"
    again.write_bytes((adults.root / "images" / "00000001_000.png").read_bytes())
    cohort = nih.read(adults.root, say=None)
    assert len(cohort) == 3 and cohort.excluded["reason"][0].startswith("the same file once more")
    again.write_bytes(picture("PNG", seed=99))
    with pytest.raises(
        StudyError,
        match="images/00000001_000.png and images_002/images/00000001_000.png are two different images of one name",
    ):
        nih.read(adults.root)


def test_tables_without_images(adults):
    adults()
    shutil.rmtree(adults.root / "images")
    with pytest.raises(
        StudyError, match="is incomplete: of NIH ChestX-ray14, the table is there and none of its images.*Fetch them"
    ):
        nih.read(adults.root)


def test_images_without_a_table(adults):
    adults()
    (adults.root / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(StudyError, match="is incomplete: of NIH ChestX-ray14, Data_Entry_2017_v2020.csv is not there"):
        nih.read(adults.root)


def test_an_empty_and_a_binary_table(adults):
    adults()
    for data, message in ((b"", "is empty"), (b"PK\0\0\0", "is not a text table")):
        (adults.root / "Data_Entry_2017_v2020.csv").write_bytes(data)
        with pytest.raises(StudyError, match=f"Data_Entry_2017_v2020.csv {message}. Fetch it again"):
            nih.read(adults.root)


def test_rsna_tables_that_contradict_themselves(tmp_path):
    (tmp_path / "stage_2_train_images").mkdir()
    dicom(tmp_path / "stage_2_train_images" / "a.dcm", RAMP)
    (tmp_path / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\na,,,,,0\na,1,2,3,4,1\n")
    with pytest.raises(StudyError, match="is incomplete: of RSNA.*stage_2_detailed_class_info.csv is not there"):
        rsna.read(tmp_path)
    (tmp_path / "stage_2_detailed_class_info.csv").write_text("patientId,class\na,Normal\na,Normal\n")
    with pytest.raises(StudyError, match="stage_2_train_labels.csv lines 2, 3: a has two values of target"):
        rsna.read(tmp_path)


def test_arrays_that_would_be_unpickled(tmp_path):
    np.savez(
        tmp_path / "pneumoniamnist.npz",
        train_images=np.array([{"run": "me"}], dtype=object),
        train_labels=np.zeros((1, 1), dtype=np.uint8),
    )
    with pytest.raises(StudyError, match="pneumoniamnist.npz cannot be read: Object arrays cannot be loaded"):
        medmnist.read(tmp_path)


def test_half_an_array_file(tmp_path):
    np.savez(
        tmp_path / "pneumoniamnist.npz",
        train_images=np.zeros((2, 28, 28), dtype=np.uint8),
        train_labels=np.zeros((2, 1), dtype=np.uint8),
    )
    with pytest.raises(StudyError, match="is incomplete: of MedMNIST.*no array val_images"):
        medmnist.read(tmp_path)
    whole = (tmp_path / "pneumoniamnist.npz").read_bytes()
    (tmp_path / "pneumoniamnist.npz").write_bytes(whole[:300])
    with pytest.raises(StudyError, match="pneumoniamnist.npz cannot be read.*Fetch it again"):
        medmnist.read(tmp_path)


# archives


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "name", ["../outside.jpeg", "/etc/outside.jpeg", "NORMAL/../../outside.jpeg", "..\\outside.jpeg", "C:/outside.jpeg"]
)
def test_a_zip_that_writes_outside_its_folder(tmp_path, name):
    path = zipped(tmp_path / "evil.zip", [("NORMAL/IM-0001-0001.jpeg", picture()), (name, picture())])
    with pytest.raises(
        StudyError, match="evil.zip holds an entry that would be written outside its folder.*Nothing was unpacked"
    ):
        kermany.read(path)
    assert not list(tmp_path.rglob("*.jpeg")) and not (tmp_path.parent / "outside.jpeg").exists()


def test_a_tar_with_a_link(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("NORMAL/link.jpeg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(StudyError, match="evil.tar holds a link"):
        kermany.read(tmp_path / "evil.tar")


def test_a_zip_that_expands_without_end(tmp_path):
    path = zipped(tmp_path / "bomb.zip", [(f"NORMAL/{index}.jpeg", b"\0" * 20_000_000) for index in range(6)])
    with pytest.raises(StudyError, match=r"bomb.zip .* announces at least 120,000,000 bytes.*nothing was unpacked"):
        kermany.read(path)
    assert sum(each.stat().st_size for each in tmp_path.rglob("*") if each.is_file() and each != path) < 1000


def test_a_tar_that_expands_without_end(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        for index in range(6):
            entry = tarfile.TarInfo(f"NORMAL/{index}.jpeg")
            entry.size = 20_000_000
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(StudyError, match="bomb.tar.gz .* announces at least"):
        kermany.read(tmp_path / "bomb.tar.gz")


def test_a_zip_that_lies_about_its_size(tmp_path):
    """The entry announces 10 bytes and holds more."""
    path = zipped(tmp_path / "liar.zip", [("NORMAL/IM-0001-0001.jpeg", b"x" * 5000)])
    data = path.read_bytes().replace(struct.pack("<I", 5000), struct.pack("<I", 10))
    path.write_bytes(data)
    with pytest.raises(StudyError, match="liar.zip"):
        kermany.read(path)
    assert not list((tmp_path / "data").rglob("*.jpeg"))


def test_a_zip_with_two_files_of_one_name(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(
            tmp_path / "twice.zip",
            [("NORMAL/IM-0001-0001.jpeg", picture()), ("NORMAL/IM-0001-0001.jpeg", picture(seed=1))],
        )
    with pytest.raises(StudyError, match="twice.zip holds two files of one name: NORMAL/IM-0001-0001.jpeg"):
        kermany.read(path)


def test_an_archive_beside_what_was_unpacked_from_it_is_left_alone(children):
    with tarfile.open(children.root / "all.tar", "w") as archive:
        for label in ("NORMAL", "PNEUMONIA"):
            archive.add(children.root / label, label)
    assert len(kermany.read(children.root, say=None)) == 8
    assert not (children.root.parent / "data" / "unpacked").exists()


def test_a_broken_zip(tmp_path):
    path = zipped(tmp_path / "half.zip", [("NORMAL/IM-0001-0001.jpeg", picture())])
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(StudyError, match="half.zip is damaged or no archive.*Fetch it again"):
        kermany.read(path)


# the cache


def test_a_disk_that_fills_while_the_cache_is_written(children, tmp_path):
    """A limit on the size of files stands in for the full disk; what was written before is kept and the next call
    goes on.
    """
    script = (
        f"import resource\nfrom pneumo_utils.data.readers import kermany\nc = kermany.read({str(children.root)!r}, "
        f"say=None)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\nimport signal\nsignal.signal(signal.SIGXFSZ, "
        "signal.SIG_IGN)\nc.pixels(32)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert (
        done.returncode == 1 and "There is no room left to write" in done.stderr and "set PNEUMO_DATA" in done.stderr
    ), done.stderr
    assert children("one.jpeg", picture(seed=50)).pixels(32).shape == (9, 32, 32)


def test_a_disk_that_fills_while_a_release_is_made(tmp_path):
    script = (
        "import resource, signal\nfrom pneumo_utils.phantom.writers import write_release\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\nwrite_release('kermany', 40, 64, 0, "
        f"{str(tmp_path / 'new')!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 1 and "There is no room left to write" in done.stderr, done.stderr
    assert not (tmp_path / "new").exists() and not (tmp_path / ".new.partial").exists()


def test_a_cache_from_another_version(children, capsys):
    cohort = children("one.jpeg", picture(seed=50))
    before = cohort.pixels(16)[:]
    about = next((children.root.parent / "data" / "pixels").glob("*/about.json"))
    about.write_text(about.read_text().replace("Pillow ", "Pillow 0."))
    (about.parent / "pixels").write_bytes(b"\7" * (9 * 16 * 16))
    assert (cohort.pixels(16)[:] == before).all()
    assert "made by another version, decoding the images again" in capsys.readouterr().out


def test_a_damaged_cache(children, capsys):
    cohort = children("one.jpeg", picture(seed=50))
    before = cohort.pixels(16)[:]
    place = next((children.root.parent / "data" / "pixels").glob("*/pixels"))
    place.write_bytes(place.read_bytes()[:500])
    assert (cohort.pixels(16)[:] == before).all()
    assert "damaged" in capsys.readouterr().out


def test_dicom_is_never_forced():
    """`force=True` would take any file for DICOM."""
    import pathlib

    import pneumo_utils

    sources = [path.read_text() for path in (pathlib.Path(pneumo_utils.__file__).parent).rglob("*.py")]
    assert pydicom.dcmread and not any("force=True" in source and "dcmread" in source for source in sources)
