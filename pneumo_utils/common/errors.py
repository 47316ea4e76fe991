"""Errors that end a command with one message, and the error of an unreadable image."""


class StudyError(Exception):
    """An error that the user can correct; the message says what is wrong, where, and what to do.

    >>> try:
    ...     pu.trunk("resnet81")
    ... except pu.StudyError as error:
    ...     print(error)
    There is no trunk 'resnet81'; did you mean ...
    """


class ParameterError(StudyError, ValueError):
    """An unknown parameter of a chapter, or a value that it does not accept."""


class MissingWeights(StudyError):
    """Official weights that are not on this machine; the message says where to get them."""


class ChapterFailed(StudyError):
    """A chapter stopped with an error in one of its cells."""


DISK_FULL = (
    "There is no room left to write {what}: {error}. Free some space, or choose another folder with --out; "
    "what was finished before is kept."
)


# pixels; the largest radiographs have a quarter of this, so a larger image is taken for a decompression bomb
MAX_PIXELS = 100_000_000


class UnreadableImage(Exception):
    """A file that cannot be read as an image; the message is the reason."""


def check_pixel_count(width: int, height: int) -> None:
    """Raise `UnreadableImage` if an image has more pixels than any radiograph.

    width: in pixels.
    height: in pixels.
    """
    if width * height > MAX_PIXELS:
        raise UnreadableImage(
            f"announces {width} x {height} pixels, more than any radiograph has (a decompression bomb)"
        )
