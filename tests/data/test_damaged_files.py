"""Damaged files end in one message or are excluded by name; no traceback, no endless wait, no image lost silently."""

import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from dicoms import dicom
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pneumo_utils.common import files
from pneumo_utils.common.errors import StudyError, UnreadableImage
from pneumo_utils.data import image_reader
from pneumo_utils.data.readers import archives, csv_reader, kermany, medmnist, nih
from pneumo_utils.models import checkpoint

SIDE = 24


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PNEUMO_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PNEUMO_DATA", str(tmp_path / "data"))


def picture(seed=0):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


CHILDREN = {
    f"{label}/{name.format(index)}": picture(index + 10 * (label == "NORMAL"))
    for label, name in (("NORMAL", "IM-{:04}-0001.png"), ("PNEUMONIA", "person{}_virus_1.png"))
    for index in range(3)
}


def tarred(entries, compress=False):
    """The bytes of a tar of these entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0) if compress else buffer.getvalue()


def zipped(entries, method=zipfile.ZIP_STORED):
    """The bytes of a zip of these entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def flipped(data, index):
    return data[:index] + bytes([data[index] ^ 16]) + data[index + 1 :]


def read(path, data):
    path.write_bytes(data)
    return kermany.read(path, say=None)


# archives


@pytest.mark.parametrize("compress", [False, True])
def test_undamaged_tar_is_read(tmp_path, compress):
    assert len(read(tmp_path / "all.tar.gz", tarred(CHILDREN, compress))) == 6


@pytest.mark.parametrize("share", np.linspace(0.01, 0.999, 25).round(3))
def test_flipped_bit_in_a_compressed_tar_is_reported(tmp_path, share):
    data = tarred(CHILDREN, compress=True)
    with pytest.raises(StudyError, match="all.tar.gz is damaged or no archive.*Fetch it again"):
        read(tmp_path / "all.tar.gz", flipped(data, max(10, int(share * len(data)))))
    assert not list((tmp_path / "data").rglob("*.png"))


@pytest.mark.parametrize("entry", range(1, 6))
@pytest.mark.parametrize("byte", [3, 126, 150])  # of the name, of the size, of the sum
def test_damaged_tar_header_is_reported(tmp_path, entry, byte):
    data = tarred(CHILDREN)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        index = archive.getmembers()[entry].offset
    with pytest.raises(StudyError, match=f"all.tar is damaged.*after {entry} entries.*damaged header.*Fetch it again"):
        read(tmp_path / "all.tar", flipped(data, index + byte))


def test_tar_truncated_between_entries_is_reported(tmp_path):
    data = tarred(CHILDREN)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        index = archive.getmembers()[4].offset
    with pytest.raises(StudyError, match="all.tar is damaged.*after 4 entries.*breaks off without the mark of its end"):
        read(tmp_path / "all.tar", data[:index])


def test_tar_with_trailing_data_is_reported(tmp_path):
    with pytest.raises(StudyError, match="all.tar is damaged.*its end is marked, and more follows"):
        read(tmp_path / "all.tar", tarred(CHILDREN) + tarred({"NORMAL/IM-0009-0001.png": picture()}))


def test_compressed_tar_with_wrong_checksum_is_reported(tmp_path):
    data = tarred(CHILDREN, compress=True)
    with pytest.raises(StudyError, match="all.tgz is damaged.*CRC"):
        read(tmp_path / "all.tgz", flipped(data, len(data) - 7))


def test_zip_entry_with_wrong_checksum_is_reported(tmp_path):
    data = zipped(CHILDREN)
    index = data.index(CHILDREN["NORMAL/IM-0001-0001.png"]) + 90
    with pytest.raises(StudyError, match="all.zip is damaged.*Bad CRC-32 for file 'NORMAL/IM-0001-0001.png'"):
        read(tmp_path / "all.zip", flipped(data, index))


def test_zip_with_missing_entries_is_reported(tmp_path):
    data = bytearray(zipped(CHILDREN))
    data[-12] = 7
    with pytest.raises(StudyError, match="all.zip is damaged.*announces 7 entries, and its list has 6"):
        read(tmp_path / "all.zip", bytes(data))


def test_zip_with_negative_offsets_is_reported(tmp_path):
    data = bytearray(zipped(CHILDREN))
    data[-4] += 1
    with pytest.raises(StudyError, match="all.zip is damaged or no archive"):
        read(tmp_path / "all.zip", bytes(data))


@pytest.mark.parametrize(
    "entries, message",
    [
        ({f"NORMAL/{'x' * 300}.png": b"1"}, "is too long: 'NORMAL/xxx"),
        ({"NORMAL": b"1", "NORMAL/a.png": b"1"}, "is that of a file and of a folder"),
        ({"NORMAL/a.png": b"1", "NORMAL": b"1"}, "is that of a file and of a folder"),
    ],
)
@pytest.mark.parametrize("pack, name", [(zipped, "all.zip"), (tarred, "all.tar")])
def test_invalid_names_in_an_archive_are_refused(tmp_path, pack, name, entries, message):
    with pytest.raises(StudyError, match=f"{name} holds an entry whose name.*{message}"):
        read(tmp_path / name, pack(entries))


@pytest.mark.parametrize("pack, name", [(zipped, "all.zip"), (tarred, "all.tar.gz")])
def test_archive_with_too_many_files_is_refused(tmp_path, monkeypatch, pack, name):
    monkeypatch.setattr(archives, "ALLOWED_ENTRIES", 50)
    with pytest.raises(StudyError, match=f"{name} holds .* entries or more with 0 bytes in all"):
        read(tmp_path / name, pack({f"NORMAL/{index}.png": b"" for index in range(60)}))


def test_zip_with_a_huge_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_LISTING_BYTES", 300)
    data = zipped(CHILDREN)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(StudyError, match="all.zip has a list of entries of .* bytes, and no release has more than 300"):
        read(tmp_path / "all.zip", data)


def test_archive_limits_allow_the_largest_release():
    images, bytes_of_nih = 112_120, 45_000_000_000
    assert images <= max(archives.ALLOWED_ENTRIES, bytes_of_nih // archives.MIN_BYTES_PER_ENTRY)
    assert (
        images * 100 < archives.MAX_LISTING_BYTES and images < csv_reader.MAX_ROWS and 10_000_000 < csv_reader.MAX_BYTES
    )
    assert images * 224 * 224 <= files.max_unpacked_size(3_000_000_000), "the arrays of ChestMNIST"


# folders


def folder(root, entries=CHILDREN):
    for name, data in entries.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "test_list.txt", "pneumoniamnist.npz", "NORMAL/pipe.png"])
def test_pipe_in_a_folder_is_ignored(tmp_path, name):
    """Opening it would wait for ever."""
    os.mkfifo(folder(tmp_path / "children") / name)
    cohort = kermany.read(tmp_path / "children", say=None)
    assert len(cohort) == 6
    assert cohort.excluded.to_dict("records") == [
        {"image": name, "reason": "no regular file (a pipe, a device or a folder)"}
    ]


def test_pipe_as_release_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(StudyError, match="x.zip is no regular file.*Name the folder"):
        kermany.read(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["x.zip", "NORMAL/gone.png"])
def test_broken_link_is_reported(tmp_path, name):
    (folder(tmp_path / "children") / name).symlink_to("nowhere")
    cohort = kermany.read(tmp_path / "children", say=None)
    assert len(cohort) == 6
    assert cohort.excluded.to_dict("records") == [{"image": name, "reason": "a link to a file that does not exist"}]


def test_undecodable_file_name_is_handled(tmp_path, capsys):
    root = folder(tmp_path / "children")
    (root / "NORMAL" / os.fsdecode(b"caf\xe9.png")).write_bytes(picture())
    cohort = kermany.read(root)
    assert len(cohort) == 6 and cohort.pixels(8).shape == (6, 8, 8)
    assert cohort.excluded.to_dict("records") == [
        {"image": "NORMAL/caf\\xe9.png", "reason": "its name is not text in UTF-8"}
    ]
    assert "caf\\xe9.png" in capsys.readouterr().out
    root.rename(renamed := tmp_path / os.fsdecode(b"caf\xe9"))
    with pytest.raises(StudyError, match=r"caf\\xe9 is not text in UTF-8. Rename the folder"):
        kermany.read(renamed)


# tables


HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
TABLES = {
    "Data_Entry_2017_v2020.csv": "\n".join(
        [HEADER, *(f"0000000{index}_000.png,Mass,0,{index},58,M,PA,2048,2500,0.1,0.1" for index in range(3))]
    ).encode(),
    "BBox_List_2017.csv": b"Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,1,2,3,4,,,\n",
    "train_val_list.txt": b"00000000_000.png\n00000001_000.png\n",
    "test_list.txt": b"00000002_000.png\n",
}


@pytest.fixture
def adults(tmp_path):
    """A small NIH: `adults(name=data)` writes it with other tables, and reads it."""

    def write(changes=None):
        root = folder(tmp_path / "adults", {f"images/0000000{index}_000.png": picture(index) for index in range(3)})
        return nih.read(folder(root, TABLES | (changes or {})), say=None)

    return write


def test_table_with_carriage_returns_is_read(adults):
    cohort = adults({name: data.replace(b"\n", b"\r") for name, data in TABLES.items()})
    assert list(cohort.table["split"]) == ["train", "train", "test"] and len(cohort.boxes) == 1


ENTRIES, BOXES = (TABLES[name] for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"))


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("Data_Entry_2017_v2020.csv", b"x" * 200_000 + b",b\n1,2\n", "is not a table throughout: field larger"),
        ("Data_Entry_2017_v2020.csv", ENTRIES.replace(b"Mass", b"M" * 200_000, 1), "nobody knows the label 'MMM.*[.]"),
        ("Data_Entry_2017_v2020.csv", b"," * 2000 + b"\n", "first line names 2,001 columns"),
        ("Data_Entry_2017_v2020.csv", ENTRIES + b'\n"open', "is not a table throughout"),
        ("Data_Entry_2017_v2020.csv", ENTRIES + b"\n\0\0", "is not a text table"),
        ("Data_Entry_2017_v2020.csv", b"<!DOCTYPE html>\n<p>Sign in", "is a web page, not what its name says"),
        ("BBox_List_2017.csv", BOXES + b"x" * 200_000, "is not a table throughout: field larger"),
        ("BBox_List_2017.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-LFS"),
    ],
)
def test_invalid_tables_are_refused(adults, name, data, message):
    with pytest.raises(StudyError, match=f"{name}.* {message}") as error:
        adults({name: data})
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "data, why",
    [
        (b"<!DOCTYPE html>\n<html>Sign in</html>\n", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "is a pointer of git-LFS"),
        (b"\0\1\2", "is not a text table"),
        (b"sorry,\ntry again\n", "its 2 lines name no image of the table"),
        (b"", "its 0 lines name no image of the table"),
    ],
)
@pytest.mark.parametrize("name", ["train_val_list.txt", "test_list.txt"])
def test_invalid_split_list_is_refused(adults, name, data, why):
    cohort = adults({name: data})
    assert list(cohort.excluded["image"]) == [name] and why in cohort.excluded["reason"][0]
    assert list(cohort.table["split"]) == (["", "", "test"] if name == "train_val_list.txt" else ["train", "train", ""])
    assert any(name in line and "excluded" in line for line in cohort.summary())


def test_split_list_names_without_image_are_counted(adults):
    cohort = adults({"test_list.txt": b"00000002_000.png\n00000777_000.png\n\n00000778_000.png\n"})
    assert list(cohort.table["split"]) == ["train", "train", "test"]
    assert (
        "  excluded, in test_list.txt, and not in the table: 2 (00000777_000.png, 00000778_000.png)" in cohort.summary()
    )


def test_image_in_both_split_lists_is_reported(adults):
    cohort = adults({"test_list.txt": b"00000002_000.png\n00000001_000.png\n"})
    assert any("images in both lists of the official split" in note and "00000001_000" in note for note in cohort.notes)


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(ENTRIES)[:-20], gzip.compress(ENTRIES)[:20] + bytes(20)], ids=["no", "cut", "0"]
)
def test_damaged_compressed_table_is_refused(tmp_path, data):
    (tmp_path / "table.csv.gz").write_bytes(data)
    with pytest.raises(StudyError, match="table.csv.gz cannot be read.*Fetch it again"):
        csv_reader.read_csv_table(tmp_path / "table.csv.gz", {"image": ("Image Index",)})


@pytest.mark.parametrize("limit, message", [("MAX_BYTES", "holds more than 100 bytes"), ("MAX_ROWS", "has 200 lines")])
def test_too_long_table_is_refused(tmp_path, monkeypatch, limit, message):
    monkeypatch.setattr(csv_reader, limit, 100)
    (tmp_path / "boxes.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 200))
    with pytest.raises(StudyError, match=f"boxes.csv.gz {message}.*Fetch it from the publisher"):
        csv_reader.read_csv_by_position(tmp_path / "boxes.csv.gz", ["a", "b"], "a")


# arrays


def arrays(**changes):
    """The bytes of a small PneumoniaMNIST, with other entries where `changes` name them."""
    buffer = io.BytesIO()
    held = {f"{part}_images": np.full((2, 8, 8), 7, np.uint8) for part in ("train", "val", "test")}
    held |= {f"{part}_labels": np.array([[0], [1]], np.uint8) for part in ("train", "val", "test")}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in (held | changes).items():
            if isinstance(value, np.ndarray):
                data = io.BytesIO()
                np.save(data, value)
                value = data.getvalue()
            archive.writestr(f"{name}.npy", value)
    return buffer.getvalue()


def with_header(text, rest=b""):
    text = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + rest


def patched(data, name, index, value):
    """A zip with other bytes at a place of the header of one entry, before it and in the list at the end."""
    data = bytearray(data)
    for mark, place, length in ((b"PK\3\4", index, 30), (b"PK\1\2", index + 2, 46)):
        start = data.index(name.encode()) if length == 30 else data.rindex(name.encode())
        assert data[start - length :].startswith(mark)
        data[start - length + place : start - length + place + len(value)] = value
    return bytes(data)


def damaged_inside():
    data = bytearray(arrays(train_images=np.random.default_rng(0).integers(0, 255, (2, 8, 8), dtype=np.uint8)))
    index = data.index(b"train_images.npy") + 30
    data[index : index + 60] = b"\xff" * 60
    return bytes(data)


def one_array():
    data = io.BytesIO()
    np.save(data, np.zeros((2, 8, 8), np.uint8))
    return data.getvalue()


NAME = "train_images.npy"


@pytest.mark.parametrize(
    "data, message",
    [
        (damaged_inside(), "cannot be read: .*"),
        (patched(arrays(), NAME, 6, b"\1\0"), "cannot be read: .*encrypted"),
        (patched(arrays(), NAME, 8, b"\x63\0"), "cannot be read: .*compression"),
        (
            arrays(
                train_images=with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (30000, 1000, 1000), }")
            ),
            r"cannot be read: train_images announces 30,000,000,000 bytes of shape \(30000, 1000, 1000\), and 0 bytes",
        ),
        (
            arrays(train_images=with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8), }")),
            "cannot be read: train_images announces -64 bytes",
        ),
        (arrays(train_images=with_header("{'descr': ((((")), "cannot be read: the header of train_images is damaged"),
        (arrays(train_images=with_header("(" * 100)), "cannot be read: .*"),
        (arrays(train_images=b"not an array"), "cannot be read: .*magic string"),
        (arrays(train_images=b""), "cannot be read: .*"),
        (arrays(train_images=np.zeros((2, 0, 0), np.uint8)), "not square uint8 images"),
        (arrays(train_images=np.zeros((2, 8, 8, 2), np.uint8)), "not square uint8 images"),
        (arrays(train_images=np.zeros((2, 8, 8), np.float32)), "not square uint8 images"),
        (arrays(train_images=np.array(3, np.uint8)), "not square uint8 images"),
        (arrays(train_labels=np.array([["a"], ["b"]])), "train_labels holds <U1"),
        (one_array(), "cannot be read: File is not a zip file"),
    ],
)
def test_invalid_arrays_are_refused(tmp_path, data, message):
    (tmp_path / "pneumoniamnist.npz").write_bytes(data)
    with pytest.raises(StudyError, match=f"pneumoniamnist.npz(: train_images holds .*)?.*{message}"):
        medmnist.read(tmp_path, say=None)


def test_array_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ALWAYS_ALLOWED_BYTES", 10_000)
    (tmp_path / "pneumoniamnist.npz").write_bytes(arrays(train_images=np.zeros((2, 400, 400), np.uint8)))
    with pytest.raises(StudyError, match="train_images announces 320,128 bytes in .* packed ones, more than images"):
        medmnist.read(tmp_path, say=None)


def test_grey_arrays_with_a_channel_axis_are_read(tmp_path):
    (tmp_path / "pneumoniamnist.npz").write_bytes(arrays(train_images=np.full((2, 8, 8, 1), 9, np.uint8)))
    cohort = medmnist.read(tmp_path, say=None)
    assert set(cohort.table["mode"]) == {"L"} and cohort.part("train").pixels(8)[0].tolist() == [[9] * 8] * 8


def test_array_file_changed_before_decoding_is_refused(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    path.write_bytes(arrays())
    cohort = medmnist.read(tmp_path, say=None)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyError, match="cannot be decoded"):
        cohort.pixels(8)


# checksums


def test_png_with_wrong_checksum_is_not_decoded(tmp_path):
    path, data = tmp_path / "x.png", picture()
    index = data.index(b"IDAT") + 5
    stream = zlib.decompressobj().decompress(data[index - 1 :])
    # the same pixels but one, in a stream that is sound, under the sum of the old one
    other = zlib.compress(stream[:30] + bytes([stream[30] ^ 1]) + stream[31:])
    length = int.from_bytes(data[index - 9 : index - 5], "big")
    old_sum = data[index - 1 + length : index + 3 + length]
    path.write_bytes(
        data[: index - 9] + len(other).to_bytes(4, "big") + b"IDAT" + other + old_sum + data[index + 3 + length :]
    )
    with pytest.raises(UnreadableImage, match="damaged: broken PNG file"):
        image_reader.read_grey(path)


def test_torch_archive_with_wrong_checksum_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.full((50,), 1.5)}, path)
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(np.full(50, 1.5, "<f4").tobytes()) + 9))
    with pytest.raises(StudyError, match="x.pth is not a whole torch checkpoint .*sum"):
        checkpoint.read_weights(path)


def test_duplicate_column_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,Class,class\n1,a,b\n")
    with pytest.raises(StudyError, match="x.csv is not a table throughout: 2 of its columns are called 'Class'"):
        csv_reader.read_csv_table(path, {"labels": ("class",)})


# DICOM

RAMP = np.tile(np.arange(SIDE, dtype=np.uint8) * 10, (SIDE, 1))
NAN, INFINITE, HUGE = float("nan"), float("inf"), 1e308


def one_dicom(tmp_path, drop=(), **changes):
    """A release of children with one DICOM more."""
    root = folder(tmp_path / "children")
    with pytest.MonkeyPatch.context() as patch:  # pydicom warns of values that it writes all the same
        patch.setattr("pydicom.config.settings.writing_validation_mode", 0)
        dicom(root / "NORMAL" / "odd.dcm", RAMP, drop, **changes)
    return kermany.read(root, say=None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "rescale slope 0 and intercept 5 make no greys"),
        ({"RescaleSlope": NAN, "RescaleIntercept": 0}, "its RescaleSlope is nan"),
        ({"RescaleSlope": INFINITE, "RescaleIntercept": 0}, "its RescaleSlope is inf"),
        ({"RescaleSlope": [1, 2], "RescaleIntercept": 0}, "its RescaleSlope has 2 values"),
        ({"RescaleSlope": HUGE, "RescaleIntercept": 0}, "make no greys"),
        ({"RescaleSlope": 1e-9, "RescaleIntercept": 1e300}, "make no greys"),
        ({"RescaleSlope": 1, "RescaleIntercept": NAN}, "its RescaleIntercept is nan"),
        ({"RescaleSlope": 1, "RescaleIntercept": -INFINITE}, "its RescaleIntercept is -inf"),
        ({"RescaleSlope": 1, "RescaleIntercept": [0, 1]}, "its RescaleIntercept has 2 values"),
        ({"BitsStored": 9}, "its bits make no image"),
        ({"BitsStored": 12, "BitsAllocated": 16, "HighBit": 15, "Columns": SIDE // 2}, "its bits make no image"),
        ({"HighBit": 3}, "its bits make no image"),
        ({"BitsStored": [8, 8]}, "its BitsStored has 2 values"),
        ({"PixelRepresentation": 7}, "its PixelRepresentation is 7"),
        ({"SamplesPerPixel": 4, "Columns": SIDE // 4}, "has 4 values a pixel"),
        ({"SamplesPerPixel": 0}, "has 0 values a pixel"),
        ({"NumberOfFrames": 10**9}, "frames, not one radiograph"),
        ({"Rows": 0}, "announces 24 x 0 pixels"),
        ({"Rows": [24, 24]}, "its Rows has 2 values"),
        ({"drop": ("PhotometricInterpretation",)}, "what its pixels mean"),
        ({"drop": ("BitsStored",)}, "its bits make no image"),
    ],
)
def test_dicom_with_invalid_attributes_is_excluded(tmp_path, changes, why):
    cohort = one_dicom(tmp_path, **changes)
    assert list(cohort.excluded["image"]) == ["NORMAL/odd.dcm"] and why in cohort.excluded["reason"][0], cohort.excluded
    with pytest.raises(UnreadableImage, match=re.escape(why)):
        image_reader.read_grey(tmp_path / "children" / "NORMAL" / "odd.dcm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes", [{"WindowCenter": NAN, "WindowWidth": 0}, {"RescaleSlope": "", "RescaleIntercept": ""}, {}]
)
def test_dicom_with_invalid_window_or_rescale_is_read(tmp_path, changes):
    cohort = one_dicom(tmp_path, **changes)
    assert len(cohort) == 7 and (image_reader.read_grey(tmp_path / "children" / "NORMAL" / "odd.dcm") == RAMP).all()


def test_deflated_dicom_bomb_is_excluded(tmp_path):
    """A small file of this kind may ask for any amount of memory."""
    cohort = one_dicom(tmp_path, syntax=DeflatedExplicitVRLittleEndian)
    assert "Deflated Explicit VR Little Endian, which is not read" in cohort.excluded["reason"][0]


def test_too_large_dicom_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pneumo_utils.data.dicom.LARGEST_FILE", 900)
    assert "more than any radiograph" in one_dicom(tmp_path).excluded["reason"][0]
