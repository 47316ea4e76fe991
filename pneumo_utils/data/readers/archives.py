"""Archives unpacked beside the other made data: only inside their folder, and only to the size that they announce."""

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
from pneumo_utils.common.files import digest_of, most_unpacked, open_regular, write
from pneumo_utils.data.image_reader import FILES
from pneumo_utils.data.pixel_cache import home, room

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 20
GZIP = b"\x1f\x8b"
# Bytes that a zip's list of entries may have, which is held in memory before anything is unpacked. The 112,120 images
# of ChestX-ray14 in one zip make a list of 11 MB.
LISTING = 64_000_000
# Entries that an archive may always have, and bytes of content for each one beyond: writing hundreds of thousands of
# empty files takes minutes. The largest published archive has 112,120 entries of 400 kB.
ENTRIES, BYTES_EACH = 20_000, 500
# Bytes of a name or of other notes that a tar may hold in one piece, since tarfile reads a piece into memory whole.
PIECE = 4_000_000


def is_one(path: Path) -> bool:
    """Return whether a file has the name of an archive."""
    return path.name.lower().endswith(ENDINGS)


def unpacked(paths: list[Path]) -> Path:
    """The folder in which the content of these archives lies, unpacked once."""
    stamp = digest_of([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths])[:16]
    place = home() / "unpacked" / f"{paths[0].name.split('.')[0]}-{stamp}"
    with run_paths.lock(place), room(str(place)):
        if (place / ".whole").exists():
            return place
        beside = place.with_name(f".{place.name}")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            for path in paths:
                _unpack(path, beside / path.name.split(".")[0])
            write(beside / ".whole", "")
            shutil.rmtree(place, ignore_errors=True)
            os.replace(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return place


def first_picture(path: Path) -> str:
    """The name of the first image in an archive, without its folder; nothing where there is none."""
    with _sound(path):
        if path.suffix.lower() == ".zip":
            with open_regular(path) as file, _zip(path, file) as archive:
                names = archive.namelist()
                return next(filter(None, map(_picture, names)), "")
        with _tar(path) as archive:
            return next(filter(None, (_picture(member.name) for member in _members(path, archive))), "")


def _picture(name: str) -> str:
    path = PurePosixPath(name)
    return path.name if path.suffix.lower() in FILES else ""


def _unpack(path: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with _sound(path):
        if path.suffix.lower() == ".zip":
            with open_regular(path) as file, _zip(path, file) as archive:
                entries = [(info.filename, info.file_size, _kind_in_zip(info)) for info in archive.infolist()]
                _check(path, entries)
                for (name, size, kind), info in zip(entries, archive.infolist()):
                    if kind == "file":
                        with archive.open(info) as source:  # which checks the sum of what it read
                            _copy(path, name, source, size, target)
        else:
            with _tar(path) as archive:
                members = list(_members(path, archive))
                _to_the_end(path, archive, members)
                entries = [(member.name, member.size, _kind_in_tar(member)) for member in members]
                _check(path, entries)
                for (name, size, kind), member in zip(entries, members):
                    if kind == "file":
                        _copy(path, name, archive.extractfile(member), size, target)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into a message."""
    try:
        yield
    except OSError as error:
        if error.errno in {None, errno.EINVAL}:  # a broken stream of gzip, and a place before the file's beginning
            raise _damaged(path, str(error)) from error
        raise
    except (StudyError, KeyboardInterrupt):
        raise
    except Exception as error:  # zipfile and tarfile stumble over damage with nearly every built-in exception
        raise _damaged(path, str(error).strip().partition("\n")[0] or type(error).__name__) from error


def _damaged(path: Path, why: str) -> StudyError:
    return StudyError(f"{path} is damaged or no archive ({why}). Nothing was unpacked. Fetch it again.")


def _zip(path: Path, file) -> zipfile.ZipFile:
    """Open a zip whose list of entries has a size that can be read, and as many entries as its end announces."""
    end = os.fstat(file.fileno()).st_size
    file.seek(max(0, end - (1 << 16) - 128))
    tail = file.read()
    count, size = None, 0
    if (at := tail.rfind(b"PK\5\6")) >= 0 and len(tail) >= at + 22:
        count, size = struct.unpack_from("<HI", tail, at + 10)
        if at >= 76 and tail[at - 20 : at - 16] == b"PK\6\7":  # the longer form, of large archives, lies before it
            size = struct.unpack_from("<Q", tail, at - 36)[0]
    if size > LISTING:
        raise StudyError(
            f"{path} has a list of entries of {size:,} bytes, and no release has more than {LISTING:,}. Nothing was "
            f"unpacked. Fetch it from the publisher."
        )
    archive = zipfile.ZipFile(file)
    found = len(archive.infolist())
    if count is not None and found % (1 << 16) != count and count != 0xFFFF:  # some writers count modulo 65,536
        raise _damaged(path, f"its end announces {count:,} entries, and its list has {found:,}")
    return archive


class _Bounded:
    """A stream of bytes that ends in an error where it grows beyond what an archive of its size may hold."""

    def __init__(self, path: Path, file, packed: int):
        self.path, self.file = path, file
        self.most = most_unpacked(packed)

    def read(self, size: int) -> bytes:
        if size > PIECE:
            raise tarfile.ReadError(f"a name or note of {size:,} bytes")
        data = self.file.read(size)
        if self.file.tell() > self.most:
            raise _too_large(self.path, self.file.tell())
        return data

    def seek(self, place: int) -> int:
        if place > self.most:
            raise _too_large(self.path, place)
        return self.file.seek(place)

    def tell(self) -> int:
        return self.file.tell()


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    with open_regular(path) as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        stream = _Bounded(path, gzip.GzipFile(fileobj=file) if packed else file, os.fstat(file.fileno()).st_size)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            yield archive


def _members(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members, read only as far as they stay within bounds: listing a packed tar means unpacking it."""
    count = total = 0
    before = -1
    for member in archive:
        if member.size < 0 or member.offset <= before:  # tarfile would go round in circles
            raise _damaged(path, f"the size of {member.name!r} makes no sense")
        before, count, total = member.offset, count + 1, total + member.size
        _bounded(path, count, total)
        yield member


def _to_the_end(path: Path, archive: tarfile.TarFile, members: list[tarfile.TarInfo]) -> None:
    """Refuse a tar that goes on after its last readable member, or breaks off: tarfile tells neither.

    Reading on to the end also makes gzip check the sum of the whole.
    """
    stream = archive.fileobj
    stream.seek(archive.offset)
    after = f"after {len(members):,} entries, the last of them {members[-1].name!r}, " if members else ""
    mark = stream.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        raise _damaged(path, f"{after}it breaks off without the mark of its end")
    if mark.strip(b"\0"):
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


def _bounded(path: Path, count: int, total: int) -> None:
    if total > most_unpacked(path.stat().st_size):
        raise _too_large(path, total)
    if count > max(ENTRIES, total // BYTES_EACH):
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


def _check(path: Path, entries: list[tuple[str, int, str]]) -> None:
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
    _bounded(path, len(entries), total)
    there = next(parent for parent in [home(), *home().absolute().parents] if parent.exists())
    if total > shutil.disk_usage(there).free:
        raise StudyError(
            f"{path} needs {total:,} bytes to unpack, and {there} has {shutil.disk_usage(there).free:,} "
            f"left. "
            "Free some space, or set PNEUMO_DATA to a folder on a larger disk."
        )


def _copy(path: Path, name: str, source, size: int, target: Path) -> None:
    place = target / name.replace("\\", "/")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        again = place.is_file()
    except OSError as error:
        raise _unfit(path, name, error) from error
    if again:
        raise StudyError(
            f"{path} holds two files of one name: {name}. Nothing was kept. Unpack it by hand and remove the wrong "
            f"one, or fetch it again."
        )
    left = size
    try:
        file = open(place, "wb")
    except OSError as error:
        raise _unfit(path, name, error) from error
    with file:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise StudyError(
                    f"{path}: {name} goes on after the {size:,} bytes that it announces. Nothing was "
                    f"kept. Fetch it from the publisher."
                )
            file.write(chunk)
    if left:
        raise StudyError(f"{path}: {name} ends {left:,} bytes before it should. Nothing was kept. Fetch it again.")


def _unfit(path: Path, name: str, error: OSError) -> Exception:
    """What an entry's name is that no file can have here; any other error as it is."""
    why = {
        errno.ENAMETOOLONG: "is too long",
        errno.EEXIST: "is that of a file and of a folder",
        errno.ENOTDIR: "is that of a file and of a folder",
        errno.EISDIR: "is that of a file and of a folder",
        errno.EINVAL: "is none that a file can have",
        errno.EILSEQ: "is none that a file can have",
    }.get(error.errno or 0)
    if not why:
        return error
    short = name if len(name) <= 80 else f"{name[:40]}...{name[-20:]}"
    return StudyError(
        f"{path} holds an entry whose name {why}: {short!r}. Nothing was kept. Unpack it by hand and rename it, or "
        f"fetch it again."
    )
