"""Small DICOM files, written as a scanner would or with the faults that a test asks for."""

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def dicom(path, stored, drop=(), syntax=ExplicitVRLittleEndian, **changes):
    """An image of these numbers at `path`, with other elements where `changes` name them, and without those to
    `drop`.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        "1.2.840.10008.5.1.4.1.1.7",
        "2.25.1",
        syntax,
    )
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * stored.dtype.itemsize
    elements = {
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes(),
    } | changes
    for name, value in elements.items():
        if name not in drop:
            setattr(dataset, name, value)
    if syntax.is_compressed:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path
