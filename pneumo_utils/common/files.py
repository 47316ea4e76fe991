"""Read and write files safely: writes are atomic, and only regular files are read."""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from pneumo_utils.common.errors import DISK_FULL, StudyError

# The folder that holds the package: the repository with the notebooks and the book, or where pip installed it.
ROOT = Path(__file__).resolve().parents[2]

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

# The largest ratio of unpacked to packed size that is accepted. Images are compressed already and hardly shrink; the
# arrays of ChestMNIST, 5.6 GB at 224 pixels, shrink to two thirds. A file with a larger ratio is a decompression bomb.
MAX_EXPANSION = 50
ALWAYS_ALLOWED_BYTES = 50_000_000  # this much may always be unpacked, since tables and drawings do shrink a lot


@contextmanager
def explain_write_errors(what: object):
    """Turn the errors of a full disk or a read-only folder into a `StudyError` that says what to do.

    what: the name of what is written, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise StudyError(DISK_FULL.format(what=what, error=error.strerror)) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}:
            raise StudyError(
                f"{what} cannot be written: {error.strerror} ({error.filename}). Choose another folder with --out."
            ) from error
        raise


def max_unpacked_size(packed_size: int) -> int:
    """Return the largest accepted size in bytes of an unpacked file.

    packed_size: its packed size in bytes.
    """
    return max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * packed_size)


def irregular_reason(path: str | Path) -> str:
    """Return why a path is not a regular file, or an empty string if it is one.

    path: a path of any kind, such as a broken link, a pipe or a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            return "a link to a file that does not exist"
        return f"cannot be opened: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "no regular file (a pipe, a device or a folder)"


def open_regular_file(path: str | Path):
    """Open a regular file for reading bytes; raise OSError for anything else, such as a pipe that blocks for ever.

    path: the file; if there is none, the error is a `FileNotFoundError`.
    """
    if os.path.lexists(path) and (reason := irregular_reason(path)):
        raise OSError(errno.EINVAL, reason, str(path))
    return open(path, "rb")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically and flush it to disk; raise `StudyError` if the disk is full.

    path: the file.
    content: its content; a text is encoded as UTF-8.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with explain_write_errors(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def write_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder` if the block ends without an error, so that none is incomplete.

    The caller holds the lock of the folder, since all processes use the same temporary name. Raises OSError if there
    is a folder already that is not empty.

    folder: the folder to write.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, atomically; NaN and infinity raise `ValueError`.

    path: the file.
    value: anything that JSON can hold.
    """
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path):
    """Read a JSON file; raise `ValueError` if it is damaged or holds NaN or infinity, which are not JSON.

    path: the file.
    """

    def refuse(constant: str):
        raise ValueError(f"{constant} is no number")

    try:
        with open_regular_file(path) as file:
            return json.loads(file.read().decode("utf-8"), parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_yaml(path: Path):
    """Read a YAML file with the safe loader.

    path: the file.
    """
    return yaml.load(
        path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )  # some builds of PyYAML lack libyaml, which is six times as fast


def sha256_hex(content: str | bytes) -> str:
    """Compute the SHA-256 in hexadecimal.

    content: bytes, or a text, which is encoded as UTF-8.
    """
    return hashlib.sha256(content.encode("utf-8") if isinstance(content, str) else content).hexdigest()


def json_digest(value: object) -> str:
    """Compute the SHA-256 of a value as JSON with sorted keys, in hexadecimal.

    value: anything that JSON can hold.
    """
    return sha256_hex(json.dumps(value, sort_keys=True, ensure_ascii=False))
