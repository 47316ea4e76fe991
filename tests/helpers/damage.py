"""Ways to damage files: bytes, names, tables, DICOM elements, arrays and archives, each drawn from a `random.Random`.

Every function changes what lies in a folder and returns a `Damage`. Files are replaced, never written into, because the
folders are hard links to one undamaged release.
"""

import csv
import gzip
import io
import os
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

PICTURES = {".jpeg", ".jpg", ".png", ".dcm"}
NO_SUM = {
    ".jpeg": "JPEG has no checksum over its picture",
    ".jpg": "JPEG has no checksum over its picture",
    ".dcm": "DICOM has no checksum over its elements and pixels",
    ".csv": "a table has no checksum over its values",
    ".txt": "a list of names has no checksum",
    ".tar": "tar has no checksum over its files, and JPEG none over its picture",
    ".safetensors": "safetensors has no checksum over its numbers",
    ".weights": "darknet's files have no checksum",
    ".pickle": "a torch file of before version 1.6 has no checksum",
    ".yml": "a parameters file has no checksum",
    ".json": "JSON has no checksum over its values",
}
BY_NAME = "a file is known by its name and folder alone"
NO_LIST = "nothing lists the files that a folder should hold"


@dataclass(frozen=True)
class Damage:
    """What was done, why a changed result may go unnoticed (empty where the format shows it), and to which files.

    `files` holds their names without endings; None stands for all.
    """

    text: str
    excuse: str = ""
    files: frozenset[str] | None = None


def replace(path: Path, data: bytes) -> None:
    """Put other bytes at a path, without touching what else is linked to the file that was there."""
    if path.exists() or path.is_symlink():
        path.unlink()
    path.write_bytes(data)


def files_of(root: Path, endings: set[str] | None = None) -> list[Path]:
    """List the data files under a folder, in a fixed order."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file() and "truth" not in path.parts)
    return [path for path in paths if endings is None or path.suffix.lower() in endings]


def damaged(path: Path, text: str, excuse: str | None = None) -> Damage:
    """Describe damage to one file, excused by its format unless an excuse is given."""
    everything = path.suffix.lower() not in PICTURES
    return Damage(
        f"{path.name}: {text}",
        NO_SUM.get(path.suffix.lower(), "") if excuse is None else excuse,
        None if everything else frozenset({path.stem}),
    )


# bytes


def cut(data: bytes, random: Random) -> bytes:
    """Cut the end off, often only a little."""
    return data[: len(data) - min(len(data), random.choice([1, 2, 8, random.randint(1, max(1, len(data)))]))]


def flip(data: bytes, random: Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_start(data: bytes, random: Random) -> bytes:
    """Flip bits among the first bytes, where headers are."""
    return flip(data[:300], random) + data[300:]


def flip_end(data: bytes, random: Random) -> bytes:
    """Flip bits among the last bytes, where directories and trailers are."""
    return data[:-200] + flip(data[-200:], random)


def zeros(data: bytes, random: Random) -> bytes:
    """Write zeros over a run of bytes."""
    position, length = random.randrange(max(1, len(data))), random.choice([1, 4, 16, 512])
    gone = data[position : position + length]
    return data[:position] + bytes(len(gone)) + data[position + len(gone) :]


def insert(data: bytes, random: Random) -> bytes:
    """Insert random bytes."""
    position = random.randrange(len(data) + 1)
    return data[:position] + random.randbytes(random.choice([1, 4, 100])) + data[position:]


def leave_out(data: bytes, random: Random) -> bytes:
    """Leave a run of bytes out."""
    position = random.randrange(max(1, len(data)))
    return data[:position] + data[position + random.choice([1, 4, 100]) :]


def append(data: bytes, random: Random) -> bytes:
    """Append random bytes, or the whole file again."""
    return data + random.choice([random.randbytes(50), bytes(1000), data])


def nothing(data: bytes, random: Random) -> bytes:
    """Leave no byte."""
    return b""


def other(data: bytes, random: Random) -> bytes:
    """Put something else there: a web page, noise, a pointer of Git LFS, a picture's first bytes."""
    return random.choice(
        [
            b"<!DOCTYPE html><html><body>404</body></html>",
            random.randbytes(2000),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
            b"\x89PNG\r\n\x1a\n",
            b"PK\x03\x04",
            b"PK\x05\x06" + bytes(18),
        ]
    )


BYTES = (cut, flip, flip_start, flip_end, zeros, insert, leave_out, append, nothing, other)


def of_bytes(change, endings: set[str] | None = None):
    """Make a mutation of a folder from a change of bytes: one of its files is chosen."""

    def mutation(root: Path, random: Random) -> Damage:
        path = random.choice(files_of(root, endings))
        replace(path, change(path.read_bytes(), random))
        return damaged(path, change.__name__)

    return mutation


# names, folders, and what is no file


def swap_endings(root: Path, random: Random) -> Damage:
    """Give a file the ending of another format."""
    path = random.choice(files_of(root))
    wanted = random.choice([".png", ".jpeg", ".dcm", ".tif", ".bmp", ".PNG", ".csv", ".npz", ".zip", ".tar.gz", ".txt"])
    path.rename(path.with_suffix(wanted))
    return Damage(f"{path.name} is called {wanted}", BY_NAME)


def swap_files(root: Path, random: Random) -> Damage:
    """Let two files change places."""
    paths = files_of(root)
    one, two = random.sample(paths, 2) if len(paths) > 1 else (paths[0], paths[0])
    first, second = one.read_bytes(), two.read_bytes()
    replace(one, second)
    replace(two, first)
    return Damage(f"{one.name} and {two.name} have changed places", BY_NAME)


def remove_file(root: Path, random: Random) -> Damage:
    """Remove a file."""
    path = random.choice(files_of(root))
    path.unlink()
    return damaged(path, "removed", NO_LIST)


def copy_file(root: Path, random: Random) -> Damage:
    """Put a copy of a file into another folder, under its own name or another."""
    path = random.choice(files_of(root))
    folder = random.choice([place.parent for place in files_of(root)])
    target = folder / random.choice([path.name, f"copy of {path.name}", path.name.upper(), "ünïcode \n name.png"])
    if not target.exists():
        replace(target, path.read_bytes())
    return Damage(f"{path.name} copied to {target.name!r}", BY_NAME)


def _folder(root: Path, random: Random) -> Path | None:
    folders = sorted(path for path in root.rglob("*") if path.is_dir() and path.name != "truth")
    return random.choice([path for path in folders if "truth" not in path.parts] or [None])


def rename_folder(root: Path, random: Random) -> Damage:
    """Rename a folder, to another class or to nothing known."""
    folder = _folder(root, random)
    if folder:
        wanted = random.choice(["holidays", "NORMAL", "normal ", "G1", "test", "__MACOSX", ".hidden", "images_001"])
        if not (folder.parent / wanted).exists():
            folder.rename(folder.parent / wanted)
    return Damage("a folder renamed", BY_NAME)


def empty_folder(root: Path, random: Random) -> Damage:
    """Remove all files of a folder."""
    folder = _folder(root, random) or root
    for path in files_of(folder):
        path.unlink()
    return Damage(f"{folder.name} emptied", NO_LIST)


def symlink(root: Path, random: Random) -> Damage:
    """Put a link where a file was: to nothing, to itself, to a folder, to another file."""
    path = random.choice(files_of(root))
    target = random.choice(["nowhere", path.name, "..", str(random.choice(files_of(root))), "/dev/zero", "/dev/null"])
    path.unlink()
    path.symlink_to(target)
    return Damage(f"{path.name} is a link to {target}", BY_NAME)


def fifo(root: Path, random: Random) -> Damage:
    """Put a pipe where a file was: whoever opens it waits for ever."""
    path = random.choice(files_of(root))
    path.unlink()
    os.mkfifo(path)
    return damaged(path, "is a pipe", "")


def folder_for_file(root: Path, random: Random) -> Damage:
    """Put a folder where a file was."""
    path = random.choice(files_of(root))
    path.unlink()
    path.mkdir()
    return damaged(path, "is a folder", NO_LIST)


NAMES = (
    swap_endings,
    swap_files,
    remove_file,
    copy_file,
    rename_folder,
    empty_folder,
    symlink,
    fifo,
    folder_for_file,
)

# tables


def _table(root: Path, random: Random) -> tuple[Path, list[list[str]]]:
    path = random.choice(files_of(root, {".csv"}))
    return path, list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def _write(path: Path, rows: list[list[str]], text: str, excuse: str = "", **how) -> Damage:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n", **how).writerows(rows)
    replace(path, buffer.getvalue().encode("utf-8"))
    return damaged(path, text, excuse)


def drop_column(root: Path, random: Random) -> Damage:
    """Drop a column with its name."""
    path, rows = _table(root, random)
    column = random.randrange(len(rows[0]))
    return _write(path, [row[:column] + row[column + 1 :] for row in rows], f"without column {rows[0][column]}")


def repeat_column(root: Path, random: Random) -> Damage:
    """Put a second column of the same name in front, with its values in another order."""
    path, rows = _table(root, random)
    column = random.randrange(len(rows[0]))
    values = [row[column] for row in rows[1:]]
    random.shuffle(values)
    return _write(
        path, [[value, *row] for value, row in zip([rows[0][column], *values], rows)], f"column {rows[0][column]} twice"
    )


def rename_column(root: Path, random: Random) -> Damage:
    """Rename a column."""
    path, rows = _table(root, random)
    column = random.randrange(len(rows[0]))
    old, rows[0][column] = (
        rows[0][column],
        random.choice(["", "x1", "Unnamed: 0", rows[0][column][:-1], "\ufeff" + rows[0][column]]),
    )
    return _write(path, rows, f"column {old} is called {rows[0][column]!r}")


def separators(root: Path, random: Random) -> Damage:
    """Separate the columns by something else than commas."""
    path, rows = _table(root, random)
    mark = random.choice(";\t| ")
    return _write(path, rows, f"separated by {mark!r}", delimiter=mark)


def line_ends(root: Path, random: Random) -> Damage:
    """End lines as other systems do, or begin with a byte-order mark, or leave the last end out."""
    path, _ = _table(root, random)
    data = path.read_bytes()
    replace(
        path,
        random.choice(
            [
                data.replace(b"\n", b"\r"),
                data.replace(b"\n", b"\r\n"),
                data.replace(b"\n", b"\n\n"),
                b"\xef\xbb\xbf" + data,
                data.decode("utf-8").encode("utf-16"),
                data.rstrip(b"\n"),
            ]
        ),
    )
    return damaged(path, "other line ends or encoding", "")


def nul_bytes(root: Path, random: Random) -> Damage:
    """Put NUL bytes somewhere, or in place of the end, as a disk that filled up does."""
    path, _ = _table(root, random)
    data = path.read_bytes()
    position = random.randrange(len(data))
    replace(
        path,
        data[:position] + b"\0" + data[position:]
        if random.random() < 0.5
        else data[:position] + bytes(len(data) - position),
    )
    return damaged(path, "NUL bytes", "")


def odd_value(root: Path, random: Random) -> Damage:
    """Put into one field what no field should hold."""
    path, rows = _table(root, random)
    row, column = random.randrange(1, len(rows)), random.randrange(len(rows[0]))
    if column < len(rows[row]):
        rows[row][column] = random.choice(
            [
                "nan",
                "NaN",
                "inf",
                "-1",
                "1e400",
                "99999999999999999999",
                "-5.5",
                "",
                " ",
                "None",
                '"',
                "é",
                "\n",
                "0x1f",
            ]
            + ["9" * 5000, "A" * 200_000, "1,5", "058Y", "=1+1", "../../x", "a|b||c", "٣"]
        )
    return _write(path, rows, f"line {row + 1}, column {column + 1} is odd", NO_SUM[".csv"])


def open_quote(root: Path, random: Random) -> Damage:
    """Open a quotation that nothing closes."""
    path, _ = _table(root, random)
    data = path.read_bytes()
    position = data.index(b"\n", random.randrange(len(data) - 1)) + 1 if random.random() < 0.5 else data.index(b",") + 1
    replace(path, data[:position] + b'"' + data[position:])
    return damaged(path, "an open quotation", NO_SUM[".csv"])


def ragged(root: Path, random: Random) -> Damage:
    """Give a line a field too many or too few."""
    path, rows = _table(root, random)
    row = random.randrange(1, len(rows))
    rows[row] = rows[row][:-1] if random.random() < 0.5 else [*rows[row], "more"]
    return _write(path, rows, f"line {row + 1} is of another length", NO_SUM[".csv"])


def repeat_lines(root: Path, random: Random) -> Damage:
    """Repeat a line, drop one, or put the lines into another order."""
    path, rows = _table(root, random)
    header, body = rows[0], rows[1:]
    position = random.randrange(len(body))
    body = random.choice(
        [[*body, body[position]], body[:position] + body[position + 1 :], random.sample(body, len(body)), []]
    )
    return _write(path, [header, *body], "other lines", NO_SUM[".csv"])


def gzipped(root: Path, random: Random) -> Damage:
    """Pack a table with gzip, and damage what comes out."""
    path, _ = _table(root, random)
    data = gzip.compress(path.read_bytes())
    path.unlink()
    change = random.choice([cut, flip, flip_start, flip_end, zeros, append])
    path.with_name(path.name + ".gz").write_bytes(change(data, random))
    return damaged(path, f"gzipped, then {change.__name__}", "")


TABLES = (
    drop_column,
    repeat_column,
    rename_column,
    separators,
    line_ends,
    nul_bytes,
    odd_value,
    open_quote,
    ragged,
    repeat_lines,
    gzipped,
)

# DICOM

NEEDED = "Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation"
NONSENSE = {
    "Rows": [0, 1, 31, 33, 65535],
    "Columns": [0, 1, 31, 33, 65535],
    "BitsStored": [0, 1, 7, 12, 16, 65535],
    "BitsAllocated": [0, 1, 16, 32, 64],
    "HighBit": [0, 15, 65535],
    "PixelRepresentation": [1, 2],
    "SamplesPerPixel": [0, 2, 3, 65535],
    "PhotometricInterpretation": ["", "MONOCHROME1", "RGB", "PALETTE COLOR", "YBR_FULL", "NOTHING"],
    "RescaleSlope": ["0", "-1", "1e308", "1e-320", "2"],
    "RescaleIntercept": ["1e308", "-1024", "7"],
    "NumberOfFrames": ["0", "2", "-1", "99999999"],
    "PlanarConfiguration": [0, 1, 9],
    "PatientAge": ["", "999Y", "abc", "-01Y"],
    "PatientSex": ["", "X", "M"],
}
OTHER_PIXELS = "an element says in another valid way how stored numbers are to be read"


def dicom_elements(root: Path, random: Random) -> Damage:
    """Write a DICOM with raw pixels, of which one element is missing or nonsense."""
    from dicoms import dicom

    path = random.choice(files_of(root, {".dcm"}))
    path.unlink()
    stored = np.random.default_rng(random.randrange(1 << 30)).integers(0, 250, (32, 32)).astype(np.uint8)
    if random.random() < 0.4:
        gone = random.choice([*NEEDED.split(), "PixelData"])
        dicom(path, stored, drop=(gone,))
        return damaged(path, f"without {gone}", OTHER_PIXELS)
    name = random.choice(list(NONSENSE))
    value = random.choice(NONSENSE[name])
    more = {"RescaleIntercept": "0"} if name == "RescaleSlope" else {}
    more |= {"RescaleSlope": "1"} if name == "RescaleIntercept" else {}
    try:
        dicom(path, stored, **more, **{name: value})
    except Exception:  # pydicom refuses to write some nonsense
        path.write_bytes(b"")
    return damaged(path, f"{name} is {value!r}", OTHER_PIXELS)


# arrays of .npz


def _members(root: Path, random: Random) -> tuple[Path, dict[str, bytes], str]:
    path = random.choice(files_of(root, {".npz"}))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return path, members, random.choice(list(members))


def _pack(path: Path, members: dict[str, bytes], text: str, excuse: str = "") -> Damage:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random_method(path)) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    replace(path, buffer.getvalue())
    return Damage(f"{path.name}: {text}", excuse)


def random_method(path: Path) -> int:
    """Choose whether members are packed, by the size of the file, so that both occur."""
    return zipfile.ZIP_DEFLATED if path.stat().st_size % 2 else zipfile.ZIP_STORED


def npz_member(root: Path, random: Random) -> Damage:
    """Remove or rename an array."""
    path, members, name = _members(root, random)
    data = members.pop(name)
    if random.random() < 0.5:
        members[random.choice(["train.npy", name.upper(), name.removesuffix(".npy"), "../" + name])] = data
    return _pack(path, members, f"{name} removed or renamed")


def npz_array(root: Path, random: Random) -> Damage:
    """Put an array of another type or shape in place of one."""
    path, members, name = _members(root, random)
    array = np.load(io.BytesIO(members[name]))
    changed = random.choice(
        [
            array.astype(np.float32),
            array.astype(np.int64),
            array.astype(bool),
            array.astype("U3"),
            array[:-1],
            array[:0],
            array.ravel(),
            array[..., None],
            array[None],
            np.array(3),
            array.astype(np.complex64),
            np.array([{}], dtype=object),
            np.full_like(array, 255),
            array.astype("datetime64[s]"),
        ]
    )
    buffer = io.BytesIO()
    np.save(buffer, changed, allow_pickle=True)
    members[name] = buffer.getvalue()
    return _pack(
        path, members, f"{name} is {changed.dtype} of {changed.shape}", "the type of labels carries no meaning"
    )


def npz_header(root: Path, random: Random) -> Damage:
    """Let the header of an array lie; the checksum of the archive is right."""
    path, members, name = _members(root, random)
    data = members[name]
    shape = data[: data.index(b"\n")].split(b"'shape': ")[-1].split(b"}")[0]
    change = random.choice(["shape", "huge", "negative", "version", "length", "order", "bytes"])
    if change == "shape":
        data = data.replace(shape, shape.replace(b"2", b"3", 1))
    elif change == "huge":
        data = data.replace(shape, b"(99999999999, 9999, 9999), ")
    elif change == "negative":
        data = data.replace(shape, b"(-1, 32, 32), ")
    elif change == "version":
        data = data[:6] + bytes([random.choice([0, 2, 3, 9])]) + data[7:]
    elif change == "length":
        data = data[:8] + random.randbytes(2) + data[10:]
    elif change == "order":
        data = data.replace(b"False", b"True ")
    else:
        data = flip(data[:128], random) + data[128:]
    members[name] = data
    return _pack(path, members, f"the header of {name} lies ({change})", "a header that lies with a right checksum")


ARRAYS = (npz_member, npz_array, npz_header)

# archives


def packed(root: Path, random: Random, kinds: tuple[str, ...] = (".zip", ".tar", ".tar.gz")) -> Path:
    """Pack a folder and leave only the archive in it."""
    members = [(path.relative_to(root).as_posix(), path.read_bytes()) for path in files_of(root)]
    shutil.rmtree(root)
    root.mkdir()
    path = root / f"release{random.choice(kinds)}"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
            for name, data in members:
                archive.writestr(zipfile.ZipInfo(name), data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, data in members:
                _to_tar(archive, name, data)
    return path


def _to_tar(archive: tarfile.TarFile, name: str, data: bytes, **more) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


def of_archive(change):
    """Make a mutation that packs a folder and changes the bytes of the archive."""

    def mutation(root: Path, random: Random) -> Damage:
        path = packed(root, random)
        replace(path, change(path.read_bytes(), random))
        return Damage(f"{path.name}: {change.__name__}", NO_SUM.get(path.suffix, ""))

    return mutation


def zip_directory(root: Path, random: Random) -> Damage:
    """Change a size, checksum, method or name in the directory of a zip."""
    path = packed(root, random, (".zip",))
    data = bytearray(path.read_bytes())
    places = [
        position for position in range(len(data) - 4) if data[position : position + 4] in (b"PK\x01\x02", b"PK\x03\x04")
    ]
    position = random.choice(places)
    for _ in range(random.choice([1, 4])):
        data[position + 4 + random.randrange(42)] = random.randrange(256)
    replace(path, bytes(data))
    return Damage(f"{path.name}: a directory entry changed", BY_NAME)


def hostile_member(root: Path, random: Random) -> Damage:
    """Add an entry that would be written elsewhere, a link, a device, or a name that is there already."""
    path = packed(root, random)
    outside = str(root.parent.absolute() / "outside.jpeg")
    names = [outside, "../outside.jpeg", "a/../../outside.jpeg", "..\\outside.jpeg", "C:\\outside.jpeg", "x" * 300]
    names += [
        "NORMAL/a\0b.jpeg",
        "train/NORMAL",
        "train",
        "",
        ".",
        "NORMAL/\udc80.jpeg",
        "train/NORMAL/../../../o.jpeg",
    ]
    name, data = random.choice(names), b"outside"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a") as archive:
            info = zipfile.ZipInfo("x")
            info.filename = name.encode("utf-8", "replace").decode("utf-8")
            if random.random() < 0.3:
                info.filename, info.external_attr, data = "NORMAL/link.jpeg", 0o120777 << 16, outside.encode()
            elif random.random() < 0.2:
                info.filename = archive.namelist()[0]
            archive.writestr(info, data)
    else:
        buffer = io.BytesIO()
        kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.REGTYPE, tarfile.DIRTYPE]
        with tarfile.open(path) as old, tarfile.open(fileobj=buffer, mode="w") as archive:
            for member in old:
                _to_tar(archive, member.name, old.extractfile(member).read())
            kind = random.choice(kinds)
            _to_tar(archive, name, data if kind == tarfile.REGTYPE else b"", type=kind, linkname=outside)
            if random.random() < 0.2:
                _to_tar(archive, old.getnames()[0], data)
        whole = buffer.getvalue()
        replace(path, gzip.compress(whole) if path.suffix == ".gz" else whole)
    return Damage(f"{path.name}: an entry {name[:40]!r}", BY_NAME)


def bomb(root: Path, random: Random) -> Damage:
    """Add an entry of many zeros, honest about its size or not."""
    path = packed(root, random, (".zip", ".tar.gz"))
    data = bytes(random.choice([1_000_000, 80_000_000]))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("NORMAL/zeros.jpeg", data)
        if random.random() < 0.5:
            whole = bytearray(path.read_bytes())
            position = whole.rindex(b"PK\x01\x02")
            whole[position + 24 : position + 28] = (1000).to_bytes(4, "little")
            replace(path, bytes(whole))
    else:
        replace(path, path.read_bytes() + gzip.compress(data))
    return Damage(f"{path.name}: {len(data):,} zeros", "")


ARCHIVES = (zip_directory, hostile_member, bomb)
