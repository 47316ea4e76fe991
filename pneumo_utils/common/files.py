"""Files are written beside their place and moved in, so that a reader meets the old one whole or the new one whole."""

import errno
import hashlib
import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path

import yaml

from pneumo_utils.common.errors import NO_ROOM, StudyError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# Times its packed size that a file may have when unpacked. Images are compressed already and hardly shrink; the
# arrays of ChestMNIST, 5.6 GB at 224 pixels, shrink to two thirds. What grows more is made to fill a disk or a memory.
MOST = 50
HARMLESS = 50_000_000  # bytes that may always be unpacked: tables and drawings do shrink


@contextmanager
def room_for(what):
    """Turn a full disk and a folder that cannot be written into a message."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StudyError(NO_ROOM.format(what=what, error=error.strerror)) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}:
            raise StudyError(
                f"{what} cannot be written: {error.strerror} ({error.filename}). Choose another folder with --out."
            ) from error
        raise


def most_unpacked(packed: int) -> int:
    """Return the bytes to which so many packed bytes may grow."""
    return max(HARMLESS, MOST * packed)


def irregular(path: str | Path) -> str:
    """Say why a path is no file that can be read to its end; an empty text where it is one."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            return "a link to a file that does not exist"
        return f"cannot be opened: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "no regular file (a pipe, a device or a folder)"


def open_regular(path: str | Path):
    """Open a regular file for reading its bytes; anything else, such as a pipe that blocks for ever, is an OSError."""
    if why := irregular(path):
        raise OSError(errno.EINVAL, why, str(path))
    return open(path, "rb")


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically and flush it to disk."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with room_for(path):
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write a value as JSON; nan and infinity raise `ValueError`."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path):
    """Read a JSON file; NaN and infinities, which JSON has not, are a ValueError as other damage is."""

    def refuse(constant: str):
        raise ValueError(f"{constant} is no number")

    try:
        with open_regular(path) as file:
            return json.loads(file.read().decode("utf-8"), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_yaml(path: Path):
    """Read a YAML file with the safe loader."""
    return yaml.load(
        path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )  # some builds of PyYAML lack libyaml, which is six times as fast


def sha(content: str | bytes) -> str:
    """Compute the SHA-256 of a text or of bytes, in hexadecimal."""
    return hashlib.sha256(content.encode("utf-8") if isinstance(content, str) else content).hexdigest()


def digest_of(value) -> str:
    """A digest of anything JSON can hold, whatever the order of its keys."""
    return sha(json.dumps(value, sort_keys=True, ensure_ascii=False))
