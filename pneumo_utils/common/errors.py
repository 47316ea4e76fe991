"""Errors that end a command with one message, and the error of an unreadable image."""


class StudyError(Exception):
    """An error that the user can correct; the message says what is wrong, where, and what to do."""


class ParameterError(StudyError, ValueError):
    """An unknown parameter of a chapter, or a value that it does not accept."""


class ChapterFailed(StudyError):
    """A chapter stopped with an error in one of its cells."""


NO_ROOM = (
    "There is no room left to write {what}: {error}. Free some space, or choose another folder with --out; "
    "what was finished before is kept."
)


# pixels; the largest radiographs have a quarter of this, so a larger image is taken for a decompression bomb
LARGEST = 100_000_000


class Unreadable(Exception):
    """A file that cannot be read as an image; the message is the reason."""


def check_extent(width: int, height: int) -> None:
    """Raise `Unreadable` if an image has more pixels than any radiograph.

    width: in pixels.
    height: in pixels.
    """
    if width * height > LARGEST:
        raise Unreadable(f"announces {width} x {height} pixels, more than any radiograph has (a decompression bomb)")
