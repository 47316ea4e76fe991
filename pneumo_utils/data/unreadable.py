"""What makes an image file no image, whatever its format."""

# pixels; the largest radiographs have a quarter of this, so what announces more is a decompression bomb
LARGEST = 100_000_000


class Unreadable(Exception):
    """An image file without an image; the text is the reason, in a reader's words."""


def check_extent(width: int, height: int) -> None:
    """Raise `Unreadable` if an image has more pixels than any radiograph."""
    if width * height > LARGEST:
        raise Unreadable(f"announces {width} x {height} pixels, more than any radiograph has (a decompression bomb)")
