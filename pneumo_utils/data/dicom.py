"""Read DICOM radiographs: the header, and the pixels as 8-bit grey with bone bright.

The display window of the header is not used, so a wrong window does no harm.
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

from pneumo_utils.common.errors import UnreadableImage, check_pixel_count
from pneumo_utils.common.files import open_regular_file

HEADER_ELEMENTS = [
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
# bytes: twice the largest image that is read, 100 million pixels of three colours with 16 bits
LARGEST_FILE = 1_200_000_000
SYNTAX_BYTES = 1 << 16  # bytes at the start of a file that contain the transfer syntax
DEFLATED = b"UI" + len(DeflatedExplicitVRLittleEndian).to_bytes(2, "little") + DeflatedExplicitVRLittleEndian.encode()
YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1, "": 1}


def read_dicom_header(path: str | Path) -> pydicom.Dataset:
    """Read the header without the pixels; raise `UnreadableImage` if the file cannot hold a complete image.

    path: the DICOM file.
    """
    with open_regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise UnreadableImage("empty file (0 bytes)")
        dataset = _parse(file, stop_before_pixels=True, specific_tags=HEADER_ELEMENTS)
        remaining = size - file.tell()
        file.seek(-min(size, len(END_OF_FRAMES)), os.SEEK_END)
        closed = file.read() == END_OF_FRAMES
    if remaining < 12 or "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableImage("DICOM without pixels")
    _check_header(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    expected = _pixel_bytes(dataset)
    if not syntax.is_compressed and remaining < expected:
        raise UnreadableImage(f"truncated: {_describe(dataset)} need {expected:,} bytes and {remaining:,} are there")
    if syntax.is_compressed and not _has_decoder(syntax):
        raise UnreadableImage(_missing_decoder(syntax))
    if syntax.is_compressed and not closed:
        read_dicom_pixels(path)  # other data may follow the image; only decoding shows whether the image is complete
    return dataset


def _parse(file, **settings) -> pydicom.Dataset:
    """Parse a DICOM file, unless it could need more memory than an image does."""
    if (size := os.fstat(file.fileno()).st_size) > LARGEST_FILE:
        raise UnreadableImage(f"has {size:,} bytes, more than any radiograph")
    start = file.read(SYNTAX_BYTES)
    file.seek(0)
    if DEFLATED in start:  # pydicom inflates it without a limit on the size
        raise UnreadableImage(
            f"written as {DeflatedExplicitVRLittleEndian.name}, which is not read; rewrite it unpacked"
        )
    try:
        return pydicom.dcmread(file, **settings)
    except InvalidDicomError as error:
        raise UnreadableImage("not DICOM: the preamble is missing") from error
    except Exception as error:  # pydicom raises many built-in exceptions on a broken header
        raise UnreadableImage(f"its DICOM header is damaged: {error}") from error


def _has_decoder(syntax) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _missing_decoder(syntax) -> str:
    return f"compressed as {syntax.name}, for which no decoder is installed; `pip install pylibjpeg[all]` brings most"


def _check_header(dataset: pydicom.Dataset) -> None:
    """Raise `UnreadableImage` if an element on which the pixels depend is missing or makes no sense."""
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        raise UnreadableImage("DICOM without a transfer syntax: nothing says how its pixels are written")
    if not isinstance(dataset.get("PhotometricInterpretation"), str):
        raise UnreadableImage("its header does not say once what its pixels mean (PhotometricInterpretation)")
    rows, columns = (_number(dataset, name) for name in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise UnreadableImage(f"announces {columns:g} x {rows:g} pixels")
    check_pixel_count(int(columns), int(rows))
    _check_bits(dataset)
    samples = _number(dataset, "SamplesPerPixel", 1)
    if samples not in {1, 3}:
        raise UnreadableImage(f"has {samples:g} values a pixel, and grey has 1 and colour 3")
    signed = _number(dataset, "PixelRepresentation", 0)
    if signed not in {0, 1}:
        raise UnreadableImage(f"its PixelRepresentation is {signed:g}, and only 0 and 1 have a meaning")
    if (frames := _number(dataset, "NumberOfFrames", 1)) != 1:
        raise UnreadableImage(f"holds {frames:g} frames, not one radiograph")
    slope, intercept = _rescale(dataset)
    low, high = (slope * limit + intercept for limit in _stored_limits(dataset))
    if not math.isfinite(high - low) or high == low:
        raise UnreadableImage(
            f"its rescale slope {slope:g} and intercept {intercept:g} make no greys of its {dataset.BitsStored} bits"
        )


def _rescale(dataset: pydicom.Dataset) -> tuple[float, float]:
    """Return the rescale slope and intercept; 1 and 0 if they are absent or empty."""
    return _number(dataset, "RescaleSlope", 1), _number(dataset, "RescaleIntercept", 0)


def _number(dataset: pydicom.Dataset, name: str, default: float | None = None) -> float:
    """Return an element as a finite number, or `default` if it is absent or empty."""
    try:
        value = dataset.get(name)
        if value is None or value == "":
            value = default
        if isinstance(value, MultiValue | list | tuple):
            raise UnreadableImage(f"its {name} has {len(value)} values, and one belongs there")
        value = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableImage(f"its {name} is no number") from error
    if not math.isfinite(value):
        raise UnreadableImage(f"its {name} is {value:g}, not a finite number")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _check_bits(dataset: pydicom.Dataset) -> None:
    """Raise `UnreadableImage` if the numbers of bits contradict each other."""
    allocated, stored = _number(dataset, "BitsAllocated", 0), _number(dataset, "BitsStored", 0)
    highest = _number(dataset, "HighBit", stored - 1)
    if allocated not in {8, 16} or not 1 <= stored <= allocated or highest != stored - 1:
        raise UnreadableImage(f"its bits make no image: {stored} stored of {allocated} allocated, highest {highest}")


def read_dicom_pixels(path: str | Path) -> np.ndarray:
    """Decode the pixels as uint8, height x width; raise `UnreadableImage` if that fails.

    path: the DICOM file.

    The rescale slope and intercept are applied, the range of the stored bits is scaled to 0..255, and MONOCHROME1 is
    inverted.
    """
    with open_regular_file(path) as file:
        dataset = _parse(file)
    if "PixelData" not in dataset:
        raise UnreadableImage("DICOM without pixels")
    _check_header(dataset)
    _check_length(dataset)
    try:
        stored = dataset.pixel_array
    except Exception as error:
        if not _has_decoder(dataset.file_meta.TransferSyntaxUID):
            raise UnreadableImage(_missing_decoder(dataset.file_meta.TransferSyntaxUID)) from error
        raise UnreadableImage(f"its pixels cannot be decoded: {error}") from error
    colour = _number(dataset, "SamplesPerPixel", 1) == 3
    low, high = _stored_limits(dataset)
    values = stored @ np.array([0.299, 0.587, 0.114]) if colour else _without_stray_bits(stored, dataset)
    values, ends = (_rescale_values(numbers, dataset) for numbers in (values, np.array([low, high])))
    if not np.isfinite(values).all() or not np.isfinite(ends).all() or ends[0] == ends[1]:
        raise UnreadableImage("its table of greys (ModalityLUTSequence) makes no greys of its pixels")
    scaled = (values - ends.min()) * (255 / (ends.max() - ends.min()))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        scaled = 255 - scaled
    return np.round(scaled.clip(0, 255)).astype(np.uint8)


def _rescale_values(numbers: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Apply the header's modality lookup table, or its slope and intercept, to stored values."""
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(numbers, dataset).astype(np.float64)
    slope, intercept = _rescale(dataset)
    return numbers.astype(np.float64) * slope + intercept


def _check_length(dataset: pydicom.Dataset) -> None:
    """Raise `UnreadableImage` if uncompressed pixels are fewer or more than the header says."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return
    expected = _pixel_bytes(dataset)
    if not expected <= len(dataset.PixelData) <= expected + 1:  # one byte makes an odd length even
        raise UnreadableImage(f"{_describe(dataset)} need {expected:,} bytes and {len(dataset.PixelData):,} are there")


def _pixel_bytes(dataset: pydicom.Dataset) -> int:
    """Compute the size of the uncompressed pixels in bytes."""
    return dataset.Rows * dataset.Columns * _number(dataset, "SamplesPerPixel", 1) * dataset.BitsAllocated // 8


def _describe(dataset: pydicom.Dataset) -> str:
    return f"{dataset.Columns} x {dataset.Rows} pixels of {dataset.BitsAllocated} bits"


def _stored_limits(dataset: pydicom.Dataset) -> tuple[int, int]:
    """Return the smallest and the largest value that the stored bits can hold."""
    if _number(dataset, "PixelRepresentation", 0):
        return -(2 ** (dataset.BitsStored - 1)), 2 ** (dataset.BitsStored - 1) - 1
    return 0, 2**dataset.BitsStored - 1


def _without_stray_bits(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Clear the bits above the stored ones, in which old machines kept overlays."""
    if _number(dataset, "PixelRepresentation", 0) or dataset.BitsStored == dataset.BitsAllocated:
        return stored
    return stored & (2**dataset.BitsStored - 1)


def age_in_years(age: object) -> float:
    """Convert an age to years: 45, "45", "058Y" or "007M"; anything else is NaN.

    age: a number, or a text of a table or a DICOM header.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([DWMY]?)\s*", str(age).upper())
    return float(match[1]) * YEARS_PER_UNIT[match[2]] if match else float("nan")
