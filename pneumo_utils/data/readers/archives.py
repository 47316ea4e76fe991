"""Unpack archives safely: only into their own folder, and only up to a size that images can have."""

import errno
import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pneumo_utils.common import run_paths
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import json_digest, max_unpacked_size, open_regular_file, write_atomically, write_folder
from pneumo_utils.data.image_reader import IMAGE_SUFFIXES
from pneumo_utils.data.pixel_cache import data_dir, explain_data_write_errors, free_data_space

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
# Largest size in bytes of a zip's list of entries, which is held in memory before anything is unpacked. The 112,120
# images of ChestX-ray14 in one zip make a list of 11 MB.
MAX_LISTING_BYTES = 64_000_000
# An archive may have this many entries, or more if they have this many bytes on average: writing hundreds of thousands
# of empty files takes minutes. The largest published archive has 112,120 entries of 400 kB.
ALLOWED_ENTRIES, MIN_BYTES_PER_ENTRY = 20_000, 500
# Largest size in bytes of a name or another header of a tar, since tarfile reads each into memory at once.
MAX_HEADER_BYTES = 4_000_000


def is_archive(path: Path) -> bool:
    """Tell whether a file name is that of an archive.

    path: the file.
    """
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack_archives(paths: list[Path]) -> Path:
    """Unpack archives into one folder, unless they are unpacked already, and return the folder.

    paths: the archives. Raises `StudyError` if one is damaged or unsafe.
    """
    stamp = json_digest([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths])[:16]
    folder = data_dir() / "unpacked" / f"{paths[0].name.split('.')[0]}-{stamp}"
    with run_paths.path_lock(folder), explain_data_write_errors(str(folder)):
        if (folder / ".whole").exists():
            return folder
        with write_folder(folder) as temporary:
            for path in paths:
                _unpack(path, temporary / path.name.split(".")[0])
            write_atomically(temporary / ".whole", "")
            shutil.rmtree(folder, ignore_errors=True)
    return folder


def first_image_name(path: Path) -> str:
    """Return the file name of the first image in an archive, or an empty string.

    path: the archive. Raises `StudyError` if it is damaged.
    """
    with _explain_damage(path):
        if path.suffix.lower() == ".zip":
            with open_regular_file(path) as file, _zip(path, file) as archive:
                names = archive.namelist()
                return next(filter(None, map(_image_name, names)), "")
        with _tar(path) as archive:
            return next(filter(None, (_image_name(member.name) for member in _members(path, archive))), "")


def _image_name(name: str) -> str:
    """Return the file name of an entry if it is an image, else an empty string."""
    path = PurePosixPath(name)
    return path.name if path.suffix.lower() in IMAGE_SUFFIXES else ""


def _unpack(path: Path, target: Path) -> None:
    """Unpack one archive into a folder, after all entries have been checked."""
    target.mkdir(parents=True, exist_ok=True)
    with _explain_damage(path):
        if path.suffix.lower() == ".zip":
            with open_regular_file(path) as file, _zip(path, file) as archive:
                entries = [(info.filename, info.file_size, _kind_in_zip(info)) for info in archive.infolist()]
                _check_entries(path, entries)
                for (name, size, kind), info in zip(entries, archive.infolist()):
                    if kind == "file":
                        with archive.open(info) as source:  # it verifies the CRC at the end
                            _copy(path, name, source, size, target)
        else:
            with _tar(path) as archive:
                members = list(_members(path, archive))
                _check_end(path, archive, members)
                entries = [(member.name, member.size, _kind_in_tar(member)) for member in members]
                _check_entries(path, entries)
                for (name, size, kind), member in zip(entries, members):
                    if kind == "file":
                        _copy(path, name, archive.extractfile(member), size, target)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn any error of a damaged archive into a `StudyError`."""
    try:
        yield
    except OSError as error:
        if error.errno in {None, errno.EINVAL}:  # a broken gzip stream, or a seek to before the start of the file
            raise _damaged(path, str(error)) from error
        raise
    except (StudyError, KeyboardInterrupt):
        raise
    except Exception as error:  # zipfile and tarfile raise nearly every built-in exception on damaged files
        raise _damaged(path, str(error).strip().partition("\n")[0] or type(error).__name__) from error


def _damaged(path: Path, reason: str) -> StudyError:
    return StudyError(f"{path} is damaged or no archive ({reason}). Nothing was unpacked. Fetch it again.")


def _zip(path: Path, file) -> zipfile.ZipFile:
    """Open a zip; refuse a list of entries that is too large or shorter than the end record says."""
    size_of_file = os.fstat(file.fileno()).st_size
    file.seek(max(0, size_of_file - (1 << 16) - 128))
    tail = file.read()
    count, size = None, 0
    if (offset := tail.rfind(b"PK\5\6")) >= 0 and len(tail) >= offset + 22:
        count, size = struct.unpack_from("<HI", tail, offset + 10)
        if offset >= 76 and tail[offset - 20 : offset - 16] == b"PK\6\7":  # the zip64 record comes before it
            size = struct.unpack_from("<Q", tail, offset - 36)[0]
    if size > MAX_LISTING_BYTES:
        raise StudyError(
            f"{path} has a list of entries of {size:,} bytes, and no release has more than "
            f"{MAX_LISTING_BYTES:,}. Nothing was unpacked. Fetch it from the publisher."
        )
    archive = zipfile.ZipFile(file)
    listed = len(archive.infolist())
    if count is not None and listed % (1 << 16) != count and count != 0xFFFF:  # some writers count modulo 65,536
        raise _damaged(path, f"its end announces {count:,} entries, and its list has {listed:,}")
    return archive


class _BoundedStream:
    """A stream of an archive's bytes that raises `StudyError` beyond the size that the archive may have unpacked."""

    def __init__(self, path: Path, file, packed: int):
        self.path, self.file = path, file
        self.max_size = max_unpacked_size(packed)

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a name or note of {size:,} bytes")
        data = self.file.read(size)
        if self.file.tell() > self.max_size:
            raise _too_large(self.path, self.file.tell())
        return data

    def seek(self, position: int) -> int:
        if position > self.max_size:
            raise _too_large(self.path, position)
        return self.file.seek(position)

    def tell(self) -> int:
        return self.file.tell()


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar, gzipped or not, through a bounded stream."""
    with open_regular_file(path) as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        stream = _BoundedStream(path, gzip.GzipFile(fileobj=file) if packed else file, os.fstat(file.fileno()).st_size)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            yield archive


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar; stop with an error as soon as they are too many or too large.

    Listing a gzipped tar means unpacking it, so the limits are checked at every member.
    """
    count = total = 0
    last_offset = -1
    for member in archive:
        if member.size < 0 or member.offset <= last_offset:  # tarfile would loop for ever
            raise _damaged(path, f"the size of {member.name!r} makes no sense")
        last_offset, count, total = member.offset, count + 1, total + member.size
        _check_totals(path, count, total)
        yield member


def _check_end(path: Path, archive: tarfile.TarFile, members: list[tarfile.TarInfo]) -> None:
    """Refuse a tar that has data after its last readable member, or ends too early: tarfile detects neither.

    Reading to the end also makes gzip verify its checksum.
    """
    stream = archive.fileobj
    stream.seek(archive.offset)
    after = f"after {len(members):,} entries, the last of them {members[-1].name!r}, " if members else ""
    end_marker = stream.read(tarfile.BLOCKSIZE)
    if len(end_marker) < tarfile.BLOCKSIZE:
        raise _damaged(path, f"{after}it breaks off without the mark of its end")
    if end_marker.strip(b"\0"):
        raise _damaged(path, f"{after}an entry has a damaged header, and nothing behind it can be found")
    while chunk := stream.read(CHUNK):
        if chunk.strip(b"\0"):
            raise _damaged(path, f"{after}its end is marked, and more follows")


def _kind_in_zip(info: zipfile.ZipInfo) -> str:
    if info.is_dir():
        return "folder"
    return "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"


def _kind_in_tar(member: tarfile.TarInfo) -> str:
    return "folder" if member.isdir() else "file" if member.isreg() else "link"


def _check_totals(path: Path, count: int, total: int) -> None:
    """Refuse an archive with too many bytes, or with too many entries for its bytes."""
    if total > max_unpacked_size(path.stat().st_size):
        raise _too_large(path, total)
    if count > max(ALLOWED_ENTRIES, total // MIN_BYTES_PER_ENTRY):
        raise StudyError(
            f"{path} holds {count:,} entries or more with {total:,} bytes in all, which is too little for images. "
            f"Nothing was unpacked. Fetch it from the publisher."
        )


def _too_large(path: Path, total: int) -> StudyError:
    return StudyError(
        f"{path} ({path.stat().st_size:,} bytes) announces at least {total:,} bytes when unpacked, "
        f"more than images ever shrink. "
        "It is made to fill a disk; nothing was unpacked. Fetch it from the publisher."
    )


def _check_entries(path: Path, entries: list[tuple[str, int, str]]) -> None:
    """Refuse entries outside the folder, links, too much content, and more content than the disk has room for.

    entries: name, size in bytes and kind ("file", "folder" or "link") of each entry.
    """
    for name, _, kind in entries:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or (parts.parts and ":" in parts.parts[0]):
            raise StudyError(
                f"{path} holds an entry that would be written outside its folder: {name!r}. Nothing was unpacked. "
                f"Fetch it from the publisher."
            )
        if kind == "link":
            raise StudyError(
                f"{path} holds a link or a device, {name!r}, where only files belong. Nothing was unpacked. Fetch it "
                f"from the publisher."
            )
    total = sum(size for _, size, _ in entries)
    _check_totals(path, len(entries), total)
    if total > (free := free_data_space()):
        raise StudyError(
            f"{path} needs {total:,} bytes to unpack, and the disk of {data_dir()} has {free:,} left. "
            "Free some space, or set PNEUMO_DATA to a folder on a larger disk."
        )


def _copy(path: Path, name: str, source, size: int, target: Path) -> None:
    """Copy one entry to its place below a folder; it must have exactly the size that the archive says."""
    destination = target / name.replace("\\", "/")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        exists = destination.is_file()
    except OSError as error:
        raise _explain_name(path, name, error) from error
    if exists:
        raise StudyError(
            f"{path} holds two files of one name: {name}. Nothing was kept. Unpack it by hand and remove the wrong "
            f"one, or fetch it again."
        )
    remaining = size
    try:
        file = open(destination, "wb")
    except OSError as error:
        raise _explain_name(path, name, error) from error
    with file:
        while chunk := source.read(CHUNK):
            remaining -= len(chunk)
            if remaining < 0:
                raise StudyError(
                    f"{path}: {name} goes on after the {size:,} bytes that it announces. Nothing was "
                    f"kept. Fetch it from the publisher."
                )
            file.write(chunk)
    if remaining:
        raise StudyError(f"{path}: {name} ends {remaining:,} bytes before it should. Nothing was kept. Fetch it again.")


def _explain_name(path: Path, name: str, error: OSError) -> Exception:
    """Return a message about a name that no file can have on this disk; any other error is returned unchanged."""
    fault = {
        errno.ENAMETOOLONG: "is too long",
        errno.EEXIST: "is that of a file and of a folder",
        errno.ENOTDIR: "is that of a file and of a folder",
        errno.EISDIR: "is that of a file and of a folder",
        errno.EINVAL: "is none that a file can have",
        errno.EILSEQ: "is none that a file can have",
    }.get(error.errno or 0)
    if not fault:
        return error
    short = name if len(name) <= 80 else f"{name[:40]}...{name[-20:]}"
    return StudyError(
        f"{path} holds an entry whose name {fault}: {short!r}. Nothing was kept. Unpack it by hand and rename it, or "
        f"fetch it again."
    )
