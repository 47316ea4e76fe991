"""DICOM radiographs: what the header says, and the pixels as 8-bit grey with bone bright.

The window that a header proposes for the eye is not used, so nonsense in it does no harm.
"""

import math
import os
import re
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pneumo_utils.common.errors import Unreadable, check_extent
from pneumo_utils.common.files import open_regular

HEADER = [
    "PatientAge",
    "PatientSex",
    "PatientID",
    "ViewPosition",
    "Modality",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsStored",
    "BitsAllocated",
    "HighBit",
    "SamplesPerPixel",
    "PixelRepresentation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "InstitutionName",
]
END_OF_FRAMES = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
# bytes; 100 million pixels of three colours and 16 bits, the largest image that is read, and as much again
LARGEST_FILE = 1_200_000_000
BEGIN = 1 << 16  # bytes in which the transfer syntax stands
DEFLATED = b"UI" + len(DeflatedExplicitVRLittleEndian).to_bytes(2, "little") + DeflatedExplicitVRLittleEndian.encode()
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1, "": 1}


def header(path: str | Path) -> pydicom.Dataset:
    """The header without the pixels; a file that cannot hold a whole image says why."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise Unreadable("empty file (0 bytes)")
        found = _parsed(file, stop_before_pixels=True, specific_tags=HEADER)
        left = size - file.tell()
        file.seek(-min(size, len(END_OF_FRAMES)), os.SEEK_END)
        closed = file.read() == END_OF_FRAMES
    if left < 12 or "Rows" not in found or "Columns" not in found:
        raise Unreadable("DICOM without pixels")
    _check(found)
    syntax = found.file_meta.TransferSyntaxUID
    expected = _bytes(found)
    if not syntax.is_compressed and left < expected:
        raise Unreadable(f"truncated: {_told(found)} need {expected:,} bytes and {left:,} are there")
    if syntax.is_compressed and not _decoder(syntax):
        raise Unreadable(_no_decoder(syntax))
    if syntax.is_compressed and not closed:
        pixels(path)  # something may follow the image; only decoding tells whether it is whole
    return found


def _parsed(file, **how) -> pydicom.Dataset:
    """What pydicom reads, of a file that asks for no more memory than an image needs."""
    if (size := os.fstat(file.fileno()).st_size) > LARGEST_FILE:
        raise Unreadable(f"has {size:,} bytes, more than any radiograph")
    begin = file.read(BEGIN)
    file.seek(0)
    if DEFLATED in begin:  # pydicom inflates it whole, to whatever size
        raise Unreadable(f"written as {DeflatedExplicitVRLittleEndian.name}, which is not read; rewrite it unpacked")
    try:
        return pydicom.dcmread(file, **how)
    except InvalidDicomError as error:
        raise Unreadable("not DICOM: the preamble is missing") from error
    except Exception as error:  # pydicom meets a broken header with whatever its parser stumbles over
        raise Unreadable(f"its DICOM header is damaged: {error}") from error


def _decoder(syntax) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _no_decoder(syntax) -> str:
    return f"compressed as {syntax.name}, for which no decoder is installed; `pip install pylibjpeg[all]` brings most"


def _check(found: pydicom.Dataset) -> None:
    """Every number on which the pixels depend is one, and makes sense."""
    if found.file_meta.get("TransferSyntaxUID") is None:
        raise Unreadable("DICOM without a transfer syntax: nothing says how its pixels are written")
    if not isinstance(found.get("PhotometricInterpretation"), str):
        raise Unreadable("its header does not say once what its pixels mean (PhotometricInterpretation)")
    rows, columns = (_number(found, name) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise Unreadable(f"announces {columns:g} x {rows:g} pixels")
    check_extent(int(columns), int(rows))
    _check_bits(found)
    samples = _number(found, "SamplesPerPixel", 1)
    if samples not in {1, 3}:
        raise Unreadable(f"has {samples:g} values a pixel, and grey has 1 and colour 3")
    signed = _number(found, "PixelRepresentation", 0)
    if signed not in {0, 1}:
        raise Unreadable(f"its PixelRepresentation is {signed:g}, and only 0 and 1 have a meaning")
    if (frames := _number(found, "NumberOfFrames", 1)) != 1:
        raise Unreadable(f"holds {frames:g} frames, not one radiograph")
    slope, intercept = _rescale(found)
    low, high = (slope * end + intercept for end in _limits(found))
    if not math.isfinite(high - low) or high == low:
        raise Unreadable(
            f"its rescale slope {slope:g} and intercept {intercept:g} make no greys of its {found.BitsStored} bits"
        )


def _rescale(found: pydicom.Dataset) -> tuple[float, float]:
    """The slope and the intercept; 1 and 0 where they are absent or empty."""
    return _number(found, "RescaleSlope", 1), _number(found, "RescaleIntercept", 0)


def _number(found: pydicom.Dataset, name: str, default: float | None = None) -> float:
    """One finite number of the header; `default` where the element is absent or empty."""
    try:
        value = found.get(name)
        if value is None or value == "":
            value = default
        if isinstance(value, MultiValue | list | tuple):
            raise Unreadable(f"its {name} has {len(value)} values, and one belongs there")
        value = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"its {name} is no number") from error
    if not math.isfinite(value):
        raise Unreadable(f"its {name} is {value:g}, not a finite number")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _check_bits(found: pydicom.Dataset) -> None:
    allocated, stored = _number(found, "BitsAllocated", 0), _number(found, "BitsStored", 0)
    highest = _number(found, "HighBit", stored - 1)
    if allocated not in {8, 16} or not 1 <= stored <= allocated or highest != stored - 1:
        raise Unreadable(f"its bits make no image: {stored} stored of {allocated} allocated, highest {highest}")


def pixels(path: str | Path) -> np.ndarray:
    """uint8, scaled by the bits that are stored, after the rescale slope and intercept, with MONOCHROME1 turned
    round.
    """
    with open_regular(path) as file:
        found = _parsed(file)
    if "PixelData" not in found:
        raise Unreadable("DICOM without pixels")
    _check(found)
    _check_length(found)
    try:
        stored = found.pixel_array
    except Exception as error:
        if not _decoder(found.file_meta.TransferSyntaxUID):
            raise Unreadable(_no_decoder(found.file_meta.TransferSyntaxUID)) from error
        raise Unreadable(f"its pixels cannot be decoded: {error}") from error
    colour = _number(found, "SamplesPerPixel", 1) == 3
    low, high = _limits(found)
    values = stored @ np.array([0.299, 0.587, 0.114]) if colour else _without_stray_bits(stored, found)
    values, ends = (_through_table(numbers, found) for numbers in (values, np.array([low, high])))
    if not np.isfinite(values).all() or not np.isfinite(ends).all() or ends[0] == ends[1]:
        raise Unreadable("its table of greys (ModalityLUTSequence) makes no greys of its pixels")
    scaled = (values - ends.min()) * (255 / (ends.max() - ends.min()))
    if found.PhotometricInterpretation == "MONOCHROME1":
        scaled = 255 - scaled
    return np.round(scaled.clip(0, 255)).astype(np.uint8)


def _through_table(numbers: np.ndarray, found: pydicom.Dataset) -> np.ndarray:
    """The numbers as the header's table of greys, or its slope and intercept, turns them."""
    if found.get("ModalityLUTSequence"):
        return apply_modality_lut(numbers, found).astype(np.float64)
    slope, intercept = _rescale(found)
    return numbers.astype(np.float64) * slope + intercept


def _check_length(found: pydicom.Dataset) -> None:
    """Pixels stored as they are must fill the rows and columns that the header names, no less and no more."""
    if found.file_meta.TransferSyntaxUID.is_compressed:
        return
    expected = _bytes(found)
    if not expected <= len(found.PixelData) <= expected + 1:  # one byte makes an odd length even
        raise Unreadable(f"{_told(found)} need {expected:,} bytes and {len(found.PixelData):,} are there")


def _bytes(found: pydicom.Dataset) -> int:
    return found.Rows * found.Columns * _number(found, "SamplesPerPixel", 1) * found.BitsAllocated // 8


def _told(found: pydicom.Dataset) -> str:
    return f"{found.Columns} x {found.Rows} pixels of {found.BitsAllocated} bits"


def _limits(found: pydicom.Dataset) -> tuple[int, int]:
    if _number(found, "PixelRepresentation", 0):
        return -(2 ** (found.BitsStored - 1)), 2 ** (found.BitsStored - 1) - 1
    return 0, 2**found.BitsStored - 1


def _without_stray_bits(stored: np.ndarray, found: pydicom.Dataset) -> np.ndarray:
    """Old machines kept overlays in the bits above those that are stored."""
    if _number(found, "PixelRepresentation", 0) or found.BitsStored == found.BitsAllocated:
        return stored
    return stored & (2**found.BitsStored - 1)


def years(age) -> float:
    """An age in years from what tables and headers hold: 45, "45", "058Y", "007M"; nothing readable is NaN."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([DWMY]?)\s*", str(age).upper())
    return float(match[1]) * YEARS[match[2]] if match else float("nan")
