"""Archives unpacked beside the other made data: only inside their folder, and only to the size that they announce."""

import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from pneumo_utils.cohort.decode import FILES
from pneumo_utils.cohort.home import home, room
from pneumo_utils.ground import places
from pneumo_utils.ground.errors import StudyError
from pneumo_utils.ground.files import digest_of, write

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
MOST = 50  # times the archive's own size: images hardly shrink, so what grows more is made to fill a disk
HARMLESS = 50_000_000  # bytes that may always be unpacked: tables do shrink
CHUNK = 1 << 20


def is_one(path: Path) -> bool:
    """Return whether a file has the name of an archive."""
    return path.name.lower().endswith(ENDINGS)


def unpacked(paths: list[Path]) -> Path:
    """The folder in which the content of these archives lies, unpacked once."""
    stamp = digest_of([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths])[:16]
    place = home() / "unpacked" / f"{paths[0].name.split('.')[0]}-{stamp}"
    with places.lock(place), room(str(place)):
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
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                return next(
                    (PurePosixPath(name).name for name in names if PurePosixPath(name).suffix.lower() in FILES), ""
                )
        with tarfile.open(path) as archive:
            return next(
                (
                    PurePosixPath(member.name).name
                    for member in archive
                    if PurePosixPath(member.name).suffix.lower() in FILES
                ),
                "",
            )
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError):
        return ""  # unpacking it says what is wrong


def _unpack(path: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                entries = [(info.filename, info.file_size, _kind_in_zip(info)) for info in archive.infolist()]
                _check(path, entries)
                for (name, size, kind), info in zip(entries, archive.infolist()):
                    if kind == "file":
                        with archive.open(info) as source:
                            _copy(path, name, source, size, target)
        else:
            with tarfile.open(path) as archive:
                members = _listed(path, archive)
                entries = [(member.name, member.size, _kind_in_tar(member)) for member in members]
                _check(path, entries)
                for (name, size, kind), member in zip(entries, members):
                    if kind == "file":
                        _copy(path, name, archive.extractfile(member), size, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise StudyError(f"{path} is damaged or no archive ({str(error).splitlines()[0]}). Fetch it again.") from error
    except OSError as error:
        if error.errno is None:  # gzip tells a broken stream this way
            raise StudyError(f"{path} is damaged or no archive ({error}). Fetch it again.") from error
        raise


def _listed(path: Path, archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members, read only as far as they stay within bounds: listing a packed tar means unpacking it."""
    members, total = [], 0
    for member in archive:
        members.append(member)
        total += member.size
        _bounded(path, total)
    return members


def _kind_in_zip(info: zipfile.ZipInfo) -> str:
    if info.is_dir():
        return "folder"
    return "link" if stat.S_ISLNK(info.external_attr >> 16) else "file"


def _kind_in_tar(member: tarfile.TarInfo) -> str:
    return "folder" if member.isdir() else "file" if member.isreg() else "link"


def _bounded(path: Path, total: int) -> None:
    if total > max(HARMLESS, MOST * path.stat().st_size):
        raise StudyError(
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
    _bounded(path, total)
    there = next(parent for parent in [home(), *home().absolute().parents] if parent.exists())
    if total > shutil.disk_usage(there).free:
        raise StudyError(
            f"{path} needs {total:,} bytes to unpack, and {there} has {shutil.disk_usage(there).free:,} "
            f"left. "
            "Free some space, or set PNEUMO_DATA to a folder on a larger disk."
        )


def _copy(path: Path, name: str, source, size: int, target: Path) -> None:
    place = target / name.replace("\\", "/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        raise StudyError(
            f"{path} holds two files of one name: {name}. Nothing was kept. Unpack it by hand and remove the wrong "
            f"one, or fetch it again."
        )
    left = size
    with open(place, "wb") as file:
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
