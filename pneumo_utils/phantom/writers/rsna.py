"""Write a release like the RSNA challenge: DICOM files with JPEG data, and two tables with one row per box.

A few patients have impossible ages, as in the real release.
"""

import uuid

import numpy as np
from scipy import ndimage

from pneumo_utils.data.readers.nih import NO_FINDING
from pneumo_utils.data.readers.rsna import NORMAL, NOT_NORMAL, OPACITY
from pneumo_utils.phantom.writers.writer import ReleaseWriter, jpeg

RSNA_FRAME = 1024  # boxes are in pixels of images of this width, whatever the width of the phantoms
MIN_BOX_AREA = 0.004  # fraction of the image; smaller opacities get no box
IMPOSSIBLE_AGE = 148  # years; impossible ages are up to 155
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def write(writer: ReleaseWriter) -> None:
    """Write the release.

    writer: the writer of the release.
    """
    population = writer.population("adults")
    table = population.table(range(writer.images))
    ids = {index: str(uuid.UUID(bytes=writer.random.bytes(16), version=4)) for index in table.index}
    too_old = set(writer.random.choice(table.index, max(1, writer.images // 5000), replace=False))
    labels, details = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for index, pixels, masks, _ in writer.render_images(population, ids, "rsna"):
        row = table.loc[index]
        boxes = (
            _boxes(masks.get("Pneumonia"), RSNA_FRAME / writer.size)
            if "Pneumonia" in row["findings"].split("|")
            else []
        )
        kind = OPACITY if boxes else NORMAL if row["findings"] == NO_FINDING else NOT_NORMAL
        labels += [f"{ids[index]},{x}.0,{y}.0,{w}.0,{h}.0,1" for x, y, w, h in boxes] or [f"{ids[index]},,,,,0"]
        details += [f"{ids[index]},{kind}"] * max(1, len(boxes))
        age = IMPOSSIBLE_AGE + int(writer.random.integers(8)) if index in too_old else int(row["age"])
        _save_dicom(
            writer.place(f"stage_2_train_images/{ids[index]}.dcm"), pixels, ids[index], age, row["sex"], row["view"]
        )
    writer.text("stage_2_train_labels.csv", labels)
    writer.text("stage_2_detailed_class_info.csv", details)


def _boxes(mask: np.ndarray | None, scale: float) -> list[tuple[int, int, int, int]]:
    """Compute the bounding box of each connected opacity, in whole pixels of the frame."""
    if mask is None:
        return []
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    boxes = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        if areas[number] >= MIN_BOX_AREA * mask.size:
            x, y = round(columns.start * scale), round(rows.start * scale)
            boxes.append((x, y, round(columns.stop * scale) - x, round(rows.stop * scale) - y))
    return boxes


def _save_dicom(path, pixels: np.ndarray, name: str, age: int, sex: str, view: str) -> None:
    """Save an image as a DICOM file with JPEG data, like those of the challenge."""
    from pydicom.config import IGNORE
    from pydicom.dataelem import DataElement
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    number = int(uuid.UUID(name))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        SECONDARY_CAPTURE,
        f"2.25.{number}",
        JPEGBaseline8Bit,
    )
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = SECONDARY_CAPTURE, f"2.25.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"2.25.{number + 1}", f"2.25.{number + 2}"
    dataset.Modality, dataset.ConversionType, dataset.BodyPartExamined = "CR", "WSD", "CHEST"
    dataset.ViewPosition, dataset.SeriesDescription = view, f"view: {view}"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = name, name, sex
    dataset.add(DataElement("PatientAge", "AS", str(age), validation_mode=IGNORE))  # without its unit, as published
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", "ISO_10918_1"
    dataset.PixelData = encapsulate([jpeg(pixels)])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
