"""One image file as grey pixels, 8 bit and upright, whatever it was stored as; a file that cannot be read says why."""

import math
import os
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from pneumo_utils.common.errors import Unreadable, check_extent
from pneumo_utils.common.files import most_unpacked, open_regular

FILES = {
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
IN_AN_ARCHIVE = ".npz::"  # pneumoniamnist.npz::train_images::17


def grey(path: str | Path, size: int = 0) -> np.ndarray:
    """The pixels as uint8, black is 0 and air is dark; at `size` x `size`, the whole image squeezed into the square,
    if a size is given.
    """
    path = str(path)
    if IN_AN_ARCHIVE in path:
        image = Image.fromarray(_member(path))
    elif path.lower().endswith((".dcm", ".dicom")):
        image = _dicom(path)
    else:
        image = _picture(path, size)
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _dicom(path: str) -> Image.Image:
    from pneumo_utils.data.dicom import pixels  # pydicom is slow to import, and most images are none of its

    try:
        return Image.fromarray(pixels(path))
    except Unreadable:
        raise
    except Exception as error:  # pydicom reads an element when it is used, and raises whatever it stumbles over
        raise Unreadable(reason(error, Path(path))) from error


def _picture(path: str, size: int) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # whoever turned it on: half an image is no image
    try:
        with open_regular(path) as file, Image.open(file) as image:
            check_extent(*image.size)
            if image.format == "PNG":
                with Image.open(path) as again:
                    again.verify()  # the checksums, which Pillow passes over where it decodes
            if size:
                # a JPEG is decoded at a fraction of its size, four times as fast
                image.draft("L", (2 * size, 2 * size))
            image.load()
            return to_grey(ImageOps.exif_transpose(image))
    except Unreadable:
        raise
    except Exception as error:  # Pillow raises nearly every built-in exception on a broken file
        raise Unreadable(reason(error, Path(path))) from error


def reason(error: Exception, path: Path) -> str:
    """What Pillow's error means."""
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
    """8-bit grey of any mode: 16 bit is scaled, transparency lies on black, colours are weighed as the eye does."""
    if image.mode == "L":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_eight_bits(np.asarray(image)))
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Deep grey scaled to 8 bits by its depth: 16 bits, or 12 where nothing in the image lies above them, or 8."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise Unreadable(
            f"holds values from {values.min():g} to {values.max():g}, which are not the greys of an "
            f"image of up to 16 bits"
        )
    depth = next(bits for bits in (8, 12, 16) if values.max() < 2**bits)
    return np.round(values * (255 / (2**depth - 1))).astype(np.uint8)


def _member(locator: str) -> np.ndarray:
    archive, name, row = locator.rsplit("::", 2)
    try:
        image = stack(archive, name)[int(row)]
        if image.ndim == 3 and image.shape[2] == 1:
            return image[..., 0]
        if image.ndim == 3:  # colour is stored last
            image = np.asarray(Image.fromarray(image).convert("L"))
        return image
    except (IndexError, KeyError, TypeError, ValueError) as error:  # the file was another when it was listed
        raise Unreadable(f"{archive} holds no image {name} {row} any more: {error}") from error


def stack(path: str, name: str) -> np.ndarray:
    """Return an array of a .npz, read again where the file has changed since; see `_stack` for what it raises."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    return _stack(path, name, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=3)
def _stack(path: str, name: str, size: int, modified: int) -> np.ndarray:
    """Read an array of a .npz, after its header has shown that it is one and as large as the file can hold.

    Object arrays, which would be unpickled, are refused. Raises KeyError where there is no such array, and Unreadable
    where it cannot be read.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as arrays:
            entry = arrays.getinfo(f"{name}.npy")
            packed = min(entry.compress_size, os.fstat(file.fileno()).st_size)
            if entry.file_size > most_unpacked(packed):
                raise Unreadable(
                    f"{name} announces {entry.file_size:,} bytes in {packed:,} packed ones, more than images ever "
                    f"shrink; it is made to fill a memory"
                )
            with arrays.open(entry) as member:
                _check_header(name, member, entry.file_size)
            with arrays.open(entry) as member:  # once more: what is packed can be told no place but its start
                array = np.lib.format.read_array(member, allow_pickle=False)
                if member.read(1):  # reading to the end compares the sum, too
                    raise Unreadable(f"{name} goes on after its last value")
                return array
    except (KeyError, Unreadable):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly every built-in exception on a broken file
        raise Unreadable(str(error).partition("\n")[0] or type(error).__name__) from error


def _check_header(name: str, member, size: int) -> None:
    """The values that an array's header announces are those that follow it, so that no more memory is asked for."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, _, kind = readers[np.lib.format.read_magic(member)](member)  # (3, 0) is for the names of columns
    except Exception as error:  # it is parsed as Python
        raise Unreadable(f"the header of {name} is damaged: {error}") from error
    if kind.hasobject:
        return  # NumPy refuses it in its own words
    needed, there = math.prod(shape) * kind.itemsize, size - member.tell()
    if any(length < 0 for length in shape) or needed != there:
        raise Unreadable(f"{name} announces {needed:,} bytes of shape {shape}, and {max(0, there):,} bytes follow")
