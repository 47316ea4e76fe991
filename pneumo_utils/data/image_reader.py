"""Read an image file of any format as upright 8-bit grey pixels, or raise an error with the reason."""

import math
import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from pneumo_utils.common.errors import UnreadableImage, check_pixel_count
from pneumo_utils.common.files import max_unpacked_size, open_regular_file

IMAGE_SUFFIXES = {
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
ARRAY_MARK = ".npz::"  # marks the path of an array's row, as in pneumoniamnist.npz::train_images::17


def read_grey(path: str | Path, size: int = 0) -> np.ndarray:
    """Read an image as uint8 grey pixels, height x width, with 0 as black; raise `UnreadableImage` if it fails.

    path: an image file, or a row of an array as in "pneumoniamnist.npz::train_images::17".
    size: height and width in pixels to which the whole image is resized, without keeping its aspect ratio; 0 keeps
    the stored size.
    """
    path = str(path)
    if ARRAY_MARK in path:
        image = Image.fromarray(_array_row(path))
    elif path.lower().endswith((".dcm", ".dicom")):
        image = _dicom(path)
    else:
        image = _pillow_image(path, size)
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _dicom(path: str) -> Image.Image:
    from pneumo_utils.data.dicom import (
        read_dicom_pixels,  # imported here since pydicom is slow to import and seldom needed
    )

    try:
        return Image.fromarray(read_dicom_pixels(path))
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom parses elements late and raises many exceptions
        raise UnreadableImage(explain_read_error(error, Path(path))) from error


def _pillow_image(path: str, size: int) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # other code may have turned it on; incomplete images are refused here
    try:
        with open_regular_file(path) as file, Image.open(file) as image:
            check_pixel_count(*image.size)
            if image.format == "PNG":
                with Image.open(path) as unverified:
                    unverified.verify()  # checks the checksums, which Pillow ignores when it decodes
            if size:
                # a JPEG is decoded at a fraction of its size, four times as fast
                image.draft("L", (2 * size, 2 * size))
            image.load()
            return to_grey(ImageOps.exif_transpose(image))
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow raises nearly every built-in exception on a broken file
        raise UnreadableImage(explain_read_error(error, Path(path))) from error


def explain_read_error(error: Exception, path: Path) -> str:
    """Explain in plain words why an image could not be read.

    error: the exception of Pillow or pydicom.
    path: the image file.
    """
    if isinstance(error, OSError) and error.errno:
        return f"cannot be opened: {error.strerror}"
    if path.stat().st_size == 0:
        return "empty file (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"not an image, though its name ends in {path.suffix}"
    if isinstance(error, Image.DecompressionBombError) or "Decompressed data too large" in str(error):
        return "announces more pixels or text than any radiograph has (a decompression bomb)"
    if any(word in str(error).lower() for word in ("truncated", "unexpected end", "broken data stream", "eof")):
        return "truncated: the file ends before the image does"
    return f"damaged: {error}" if str(error) else f"damaged: {type(error).__name__}"


def to_grey(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit grey.

    image: 16-bit values are scaled, transparency is put on black, and colours are weighted by luminance.
    """
    if image.mode == "L":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_eight_bits(np.asarray(image)))
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale grey values to 8 bits; raise `UnreadableImage` if they are not between 0 and 65535.

    values: the pixels. The depth is taken as the smallest of 8, 12 and 16 bits that holds all of them.
    """
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise UnreadableImage(
            f"holds values from {values.min():g} to {values.max():g}, which are not the greys of an "
            f"image of up to 16 bits"
        )
    depth = next(bits for bits in (8, 12, 16) if values.max() < 2**bits)
    return np.round(values * (255 / (2**depth - 1))).astype(np.uint8)


def _array_row(locator: str) -> np.ndarray:
    """Read one image of an array in a .npz file as grey pixels."""
    archive, name, row = locator.rsplit("::", 2)
    try:
        image = read_array(archive, name)[int(row)]
        if image.ndim == 3 and image.shape[2] == 1:
            return image[..., 0]
        if image.ndim == 3:  # colour is stored last
            image = np.asarray(Image.fromarray(image).convert("L"))
        return image
    except (IndexError, KeyError, TypeError, ValueError) as error:  # the file has changed since it was listed
        raise UnreadableImage(f"{archive} holds no image {name} {row} any more: {error}") from error


def read_array(path: str, name: str) -> np.ndarray:
    """Return an array of a .npz file, from memory if the file has not changed since it was last read.

    path: the .npz file.
    name: the name of the array.

    Raises KeyError if there is no such array, and `UnreadableImage` if it cannot be read.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise UnreadableImage(f"cannot be opened: {error.strerror}") from error
    return _read_stack(path, name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=3)
def _read_stack(path: str, name: str, size: int, modified: int) -> np.ndarray:
    """Read an array of a .npz file, after its header has been checked; size and date are the key of the cache.

    Object arrays, which would be unpickled, are refused.
    """
    try:
        with open_regular_file(path) as file, zipfile.ZipFile(file) as arrays:
            entry = arrays.getinfo(f"{name}.npy")
            packed = min(entry.compress_size, os.fstat(file.fileno()).st_size)
            if entry.file_size > max_unpacked_size(packed):
                raise UnreadableImage(
                    f"{name} announces {entry.file_size:,} bytes in {packed:,} packed ones, more than images ever "
                    f"shrink; it is made to fill a memory"
                )
            with arrays.open(entry) as member:
                _check_header(name, member, entry.file_size)
            with arrays.open(
                entry
            ) as member:  # opened again, since a compressed stream can only be read from its start
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # reading to the end also verifies the checksum
                    raise UnreadableImage(f"{name} goes on after its last value")
                return array
    except (KeyError, UnreadableImage):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly every built-in exception on a broken file
        raise UnreadableImage(str(error).partition("\n")[0] or type(error).__name__) from error


def _check_header(name: str, member, size: int) -> None:
    """Raise `UnreadableImage` if an array's header promises more or less data than follows."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, _, kind = readers[np.lib.format.read_magic(member)](
            member
        )  # version (3, 0) is only for non-ASCII field names
    except Exception as error:  # it is parsed as Python
        raise UnreadableImage(f"the header of {name} is damaged: {error}") from error
    if kind.hasobject:
        return  # NumPy raises its own error
    needed, present = math.prod(shape) * kind.itemsize, size - member.tell()
    if any(length < 0 for length in shape) or needed != present:
        raise UnreadableImage(
            f"{name} announces {needed:,} bytes of shape {shape}, and {max(0, present):,} bytes follow"
        )
