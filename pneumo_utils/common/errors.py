"""Errors that end a command with one clear message."""


class StudyError(Exception):
    """Something a user can mend; the message says what was wrong, where, and what to do."""


class ParameterError(StudyError, ValueError):
    """A parameter that the chapter has not, or a value that it cannot take."""


class ChapterFailed(StudyError):
    """A chapter that stopped in a cell."""


NO_ROOM = (
    "There is no room left to write {what}: {error}. Free some space, or choose another folder with --out; "
    "what was finished before is kept."
)


# pixels; the largest radiographs have a quarter of this, so what announces more is a decompression bomb
LARGEST = 100_000_000


class Unreadable(Exception):
    """An image file without an image; the text is the reason, in a reader's words."""


def check_extent(width: int, height: int) -> None:
    """Raise `Unreadable` if an image has more pixels than any radiograph."""
    if width * height > LARGEST:
        raise Unreadable(f"announces {width} x {height} pixels, more than any radiograph has (a decompression bomb)")
