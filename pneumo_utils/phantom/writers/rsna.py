"""The RSNA challenge: DICOM holding JPEG, a row a box in both tables, an age or two that nobody reaches."""

import uuid

import numpy as np
from scipy import ndimage

from pneumo_utils.phantom.writers.writer import Desk, jpeg

FRAME = 1024  # the boxes count pixels of images this wide, whatever the size of these
SMALLEST = 0.004  # of the image: a shadow of less gets no box
TOO_OLD = 148  # years, and up to 155
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def write(desk: Desk) -> None:
    """Write the RSNA challenge release: DICOM files and both tables."""
    population = desk.population("adults")
    table = population.table(range(desk.images))
    ids = {index: str(uuid.UUID(bytes=desk.random.bytes(16), version=4)) for index in table.index}
    too_old = set(desk.random.choice(table.index, max(1, desk.images // 5000), replace=False))
    labels, details = ["patientId,x,y,width,height,Target"], ["patientId,class"]
    for index, pixels, masks, _ in desk.shoot(population, ids, "rsna"):
        row = table.loc[index]
        boxes = _boxes(masks.get("Pneumonia"), FRAME / desk.size) if "Pneumonia" in row["findings"].split("|") else []
        kind = (
            "Lung Opacity" if boxes else "Normal" if row["findings"] == "No Finding" else "No Lung Opacity / Not Normal"
        )
        labels += [f"{ids[index]},{x}.0,{y}.0,{w}.0,{h}.0,1" for x, y, w, h in boxes] or [f"{ids[index]},,,,,0"]
        details += [f"{ids[index]},{kind}"] * max(1, len(boxes))
        age = TOO_OLD + int(desk.random.integers(8)) if index in too_old else int(row["age"])
        _dicom(desk.place(f"stage_2_train_images/{ids[index]}.dcm"), pixels, ids[index], age, row["sex"], row["view"])
    desk.text("stage_2_train_labels.csv", labels)
    desk.text("stage_2_detailed_class_info.csv", details)


def _boxes(mask: np.ndarray | None, scale: float) -> list[tuple[int, int, int, int]]:
    """One box round each shadow, in whole pixels of the frame."""
    if mask is None:
        return []
    parts, _ = ndimage.label(mask)
    areas = np.bincount(parts.ravel())
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        if areas[number] >= SMALLEST * mask.size:
            x, y = round(columns.start * scale), round(rows.start * scale)
            found.append((x, y, round(columns.stop * scale) - x, round(rows.stop * scale) - y))
    return found


def _dicom(path, pixels: np.ndarray, name: str, age: int, sex: str, view: str) -> None:
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
    found = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    found.SOPClassUID, found.SOPInstanceUID = SECONDARY_CAPTURE, f"2.25.{number}"
    found.StudyInstanceUID, found.SeriesInstanceUID = f"2.25.{number + 1}", f"2.25.{number + 2}"
    found.Modality, found.ConversionType, found.BodyPartExamined, found.ViewPosition = "CR", "WSD", "CHEST", view
    found.SeriesDescription, found.PatientName, found.PatientID, found.PatientSex = f"view: {view}", name, name, sex
    found.add(DataElement("PatientAge", "AS", str(age), validation_mode=IGNORE))  # without its unit, as published
    found.SamplesPerPixel, found.PhotometricInterpretation, found.Rows, found.Columns = 1, "MONOCHROME2", *pixels.shape
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 8, 8, 7, 0
    found.LossyImageCompression, found.LossyImageCompressionMethod = "01", "ISO_10918_1"
    found.PixelData = encapsulate([jpeg(pixels)])
    found["PixelData"].is_undefined_length = True
    found.save_as(path, enforce_file_format=True)
