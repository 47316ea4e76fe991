"""Where data that the package makes is kept: `data/` beside the runs, or the folder that PNEUMO_DATA names."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

from pneumo_utils.common import places
from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import FULL


def home() -> Path:
    """Return the folder of the data that the package makes."""
    return Path(os.environ.get("PNEUMO_DATA") or places.runs() / "data")


@contextmanager
def room(what: str):
    """Turn a full disk, and a folder that takes no files, into a message with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StudyError(
                f"There is no room left to write {what}: {error.strerror}. Free some space, or set "
                f"PNEUMO_DATA to a folder on a larger "
                "disk; what was finished before is kept."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise StudyError(
                f"{what} cannot be written: {error.strerror} ({error.filename}). Set PNEUMO_DATA to a folder that "
                f"takes files."
            ) from error
        raise
