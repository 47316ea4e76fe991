"""DICOM radiographs: what the header says, and the pixels as 8-bit grey with bone bright."""

import os
import re
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, get_decoder

from pneumo_utils.cohort.unreadable import Unreadable, check_extent

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
    "InstitutionName",
]
END_OF_FRAMES = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1, "": 1}


def header(path: str | Path) -> pydicom.Dataset:
    """The header without the pixels; a file that cannot hold a whole image says why."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise Unreadable("empty file (0 bytes)")
        try:
            found = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=HEADER)
            left = size - file.tell()
            file.seek(-min(size, len(END_OF_FRAMES)), os.SEEK_END)
            closed = file.read() == END_OF_FRAMES
        except InvalidDicomError as error:
            raise Unreadable("not DICOM: the preamble is missing") from error
        except Exception as error:  # pydicom meets a broken header with whatever its parser stumbles over
            raise Unreadable(f"its DICOM header is damaged: {error}") from error
    if left < 12 or "Rows" not in found or "Columns" not in found:
        raise Unreadable("DICOM without pixels")
    check_extent(found.Columns, found.Rows)
    _check_bits(found)
    syntax = found.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise Unreadable("DICOM without a transfer syntax: nothing says how its pixels are written")
    expected = _bytes(found)
    if not syntax.is_compressed and left < expected:
        raise Unreadable(f"truncated: {_told(found)} need {expected:,} bytes and {left:,} are there")
    if syntax.is_compressed and not _decoder(syntax):
        raise Unreadable(_no_decoder(syntax))
    if syntax.is_compressed and not closed:
        pixels(path)  # something may follow the image; only decoding tells whether it is whole
    return found


def _decoder(syntax) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _no_decoder(syntax) -> str:
    return f"compressed as {syntax.name}, for which no decoder is installed; `pip install pylibjpeg[all]` brings most"


def _check_bits(found: pydicom.Dataset) -> None:
    allocated, stored = found.get("BitsAllocated"), found.get("BitsStored")
    if (
        allocated not in {8, 16}
        or not stored
        or not 1 <= stored <= allocated
        or found.get("HighBit", stored - 1) != stored - 1
    ):
        raise Unreadable(
            f"its bits make no image: {stored} stored of {allocated} allocated, highest {found.get('HighBit')}"
        )


def pixels(path: str | Path) -> np.ndarray:
    """uint8, scaled by the bits that are stored, after the rescale slope and intercept, with MONOCHROME1 turned
    round.
    """
    try:
        found = pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise Unreadable("not DICOM: the preamble is missing") from error
    except Exception as error:
        raise Unreadable(f"its DICOM header is damaged: {error}") from error
    if "PixelData" not in found:
        raise Unreadable("DICOM without pixels")
    check_extent(found.Columns, found.Rows)
    _check_bits(found)
    _check_length(found)
    try:
        stored = found.pixel_array
    except Exception as error:
        if not _decoder(found.file_meta.TransferSyntaxUID):
            raise Unreadable(_no_decoder(found.file_meta.TransferSyntaxUID)) from error
        raise Unreadable(f"its pixels cannot be decoded: {error}") from error
    if found.get("NumberOfFrames", 1) not in (1, None):
        raise Unreadable(f"holds {found.NumberOfFrames} frames, not one radiograph")
    colour = found.get("SamplesPerPixel", 1) == 3
    low, high = _limits(found)
    values = stored @ np.array([0.299, 0.587, 0.114]) if colour else _without_stray_bits(stored, found)
    values = apply_modality_lut(values, found).astype(np.float64)
    ends = apply_modality_lut(np.array([low, high]), found).astype(np.float64)
    scaled = (values - ends.min()) * (255 / (ends.max() - ends.min()))
    if found.PhotometricInterpretation == "MONOCHROME1":
        scaled = 255 - scaled
    return np.round(scaled.clip(0, 255)).astype(np.uint8)


def _check_length(found: pydicom.Dataset) -> None:
    """Pixels stored as they are must fill the rows and columns that the header names, no less and no more."""
    if found.file_meta.TransferSyntaxUID.is_compressed:
        return
    expected = _bytes(found)
    if not expected <= len(found.PixelData) <= expected + 1:  # one byte makes an odd length even
        raise Unreadable(f"{_told(found)} need {expected:,} bytes and {len(found.PixelData):,} are there")


def _bytes(found: pydicom.Dataset) -> int:
    return (
        found.Rows
        * found.Columns
        * found.get("SamplesPerPixel", 1)
        * found.BitsAllocated
        // 8
        * int(found.get("NumberOfFrames") or 1)
    )


def _told(found: pydicom.Dataset) -> str:
    return f"{found.Columns} x {found.Rows} pixels of {found.BitsAllocated} bits"


def _limits(found: pydicom.Dataset) -> tuple[int, int]:
    if found.get("PixelRepresentation", 0):
        return -(2 ** (found.BitsStored - 1)), 2 ** (found.BitsStored - 1) - 1
    return 0, 2**found.BitsStored - 1


def _without_stray_bits(stored: np.ndarray, found: pydicom.Dataset) -> np.ndarray:
    """Old machines kept overlays in the bits above those that are stored."""
    if found.get("PixelRepresentation", 0) or found.BitsStored == found.BitsAllocated:
        return stored
    return stored & (2**found.BitsStored - 1)


def years(age) -> float:
    """An age in years from what tables and headers hold: 45, "45", "058Y", "007M"; nothing readable is NaN."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([DWMY]?)\s*", str(age).upper())
    return float(match[1]) * YEARS[match[2]] if match else float("nan")
