"""A look at the first and last bytes of every image file: what it is, how large, and whether it is whole, without
decoding it.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import Image

from pneumo_utils.common.files import open_regular
from pneumo_utils.data.bar import bar
from pneumo_utils.data.decode import grey, reason
from pneumo_utils.data.unreadable import Unreadable, check_extent

ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL = 64
AT_ONCE = 8  # the files are waited for more than worked on


def glance(paths: list[Path], more=None) -> pd.DataFrame:
    """One row a file: width, height, mode, bytes, modified, reason (empty where the file is whole), and what
    `more(header)` reads off a DICOM.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(bar(pool.map(lambda path: _look(path, more), paths), "looking at the files", total=len(paths)))
    return pd.DataFrame(
        rows, columns=["width", "height", "mode", "bytes", "modified", "reason", *(more.columns if more else [])]
    )


def _look(path: Path, more) -> dict:
    try:
        stat = path.stat()
    except OSError as error:
        return {
            "width": 0,
            "height": 0,
            "mode": "",
            "bytes": 0,
            "modified": 0,
            "reason": f"cannot be opened: {error.strerror}",
        }
    row = {"width": 0, "height": 0, "mode": "", "bytes": stat.st_size, "modified": stat.st_mtime_ns, "reason": ""}
    try:
        if stat.st_size == 0:
            raise Unreadable("empty file (0 bytes)")
        if path.suffix.lower() in {".dcm", ".dicom"}:
            from pneumo_utils.data.dicom import header

            found = header(path)
            return (
                row
                | {"width": found.Columns, "height": found.Rows, "mode": found.PhotometricInterpretation}
                | (more(found) if more else {})
            )
        with open_regular(path) as file, Image.open(file) as image:
            check_extent(*image.size)
            row |= {"width": image.size[0], "height": image.size[1], "mode": image.mode}
            end = ENDS.get(image.format)
        if end and not _ends_with(path, stat.st_size, end):
            grey(path)  # something may follow the image; only decoding tells whether it is whole
        return row
    except Unreadable as error:
        return row | {"reason": str(error)}
    except Exception as error:  # Pillow raises nearly every built-in exception on a broken file
        return row | {"reason": reason(error, path)}


def _ends_with(path: Path, size: int, end: bytes) -> bool:
    with open_regular(path) as file:
        file.seek(max(0, size - TAIL))
        return end in file.read()
