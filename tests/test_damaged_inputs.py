"""Files as bad disks, broken downloads and mischief leave them: each ends in one message or is set aside by name; none
in a traceback, a file that waits for ever, or images that are missing without a word.
"""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from pneumo_utils.datasets import kermany
from pneumo_utils.ground.errors import StudyError

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
    f"{label}/{name.format(at)}": picture(at + 10 * (label == "NORMAL"))
    for label, name in (("NORMAL", "IM-{:04}-0001.png"), ("PNEUMONIA", "person{}_virus_1.png"))
    for at in range(3)
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


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


def read(path, data):
    path.write_bytes(data)
    return kermany.read(path, say=None)


# archives


@pytest.mark.parametrize("compress", [False, True])
def test_a_whole_tar_is_read(tmp_path, compress):
    assert len(read(tmp_path / "all.tar.gz", tarred(CHILDREN, compress))) == 6


@pytest.mark.parametrize("share", np.linspace(0.01, 0.999, 25).round(3))
def test_a_flipped_bit_in_a_packed_tar_loses_no_image_silently(tmp_path, share):
    data = tarred(CHILDREN, compress=True)
    with pytest.raises(StudyError, match="all.tar.gz is damaged or no archive.*Fetch it again"):
        read(tmp_path / "all.tar.gz", flipped(data, max(10, int(share * len(data)))))
    assert not list((tmp_path / "data").rglob("*.png"))


@pytest.mark.parametrize("entry", range(1, 6))
@pytest.mark.parametrize("byte", [3, 126, 150])  # of the name, of the size, of the sum
def test_a_damaged_header_in_a_tar_is_told(tmp_path, entry, byte):
    data = tarred(CHILDREN)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        at = archive.getmembers()[entry].offset
    with pytest.raises(StudyError, match=f"all.tar is damaged.*after {entry} entries.*damaged header.*Fetch it again"):
        read(tmp_path / "all.tar", flipped(data, at + byte))


def test_a_tar_that_ends_between_two_entries(tmp_path):
    data = tarred(CHILDREN)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        at = archive.getmembers()[4].offset
    with pytest.raises(StudyError, match="all.tar is damaged.*after 4 entries.*breaks off without the mark of its end"):
        read(tmp_path / "all.tar", data[:at])


def test_a_tar_that_goes_on_after_its_end(tmp_path):
    with pytest.raises(StudyError, match="all.tar is damaged.*its end is marked, and more follows"):
        read(tmp_path / "all.tar", tarred(CHILDREN) + tarred({"NORMAL/IM-0009-0001.png": picture()}))


def test_a_packed_tar_whose_sum_is_wrong(tmp_path):
    data = tarred(CHILDREN, compress=True)
    with pytest.raises(StudyError, match="all.tgz is damaged.*CRC"):
        read(tmp_path / "all.tgz", flipped(data, len(data) - 7))


def test_an_entry_of_a_zip_whose_sum_is_wrong(tmp_path):
    data = zipped(CHILDREN)
    at = data.index(CHILDREN["NORMAL/IM-0001-0001.png"]) + 90
    with pytest.raises(StudyError, match="all.zip is damaged.*Bad CRC-32 for file 'NORMAL/IM-0001-0001.png'"):
        read(tmp_path / "all.zip", flipped(data, at))


def test_a_zip_that_lists_fewer_entries_than_it_announces(tmp_path):
    data = bytearray(zipped(CHILDREN))
    data[-12] = 7
    with pytest.raises(StudyError, match="all.zip is damaged.*announces 7 entries, and its list has 6"):
        read(tmp_path / "all.zip", bytes(data))
