"""List the files of a release in a folder, without hidden and system files; archives are unpacked first."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import irregular_reason
from pneumo_utils.data.image_reader import IMAGE_SUFFIXES
from pneumo_utils.data.readers import archives

# `truth` holds the lesion masks of a phantom release
IGNORED_FOLDERS = {"__macosx", "truth", ".git", ".ipynb_checkpoints"}
HELP = "`pneumo data get RELEASE {0}` fetches a release, `pneumo data make RELEASE {0}` writes a phantom one."
NOT_TEXT = "is not text in UTF-8"
TABLE_SUFFIXES = (".csv", ".csv.gz", ".txt", ".npz")


@dataclass(frozen=True)
class FileTree:
    """The files of a release, by name."""

    root: Path
    files: dict[str, Path]  # path by name below the root; the path of an unpacked file is elsewhere
    unusable: dict[str, str] = field(default_factory=dict)  # files that cannot be read, with the reason

    @classmethod
    def open(cls, root: str | Path) -> Self:
        """List the files of a folder or an archive, and unpack archives; raise `StudyError` if there are none.

        root: a folder, an archive, or a .npz file.
        """
        root = Path(root)
        if not _is_text(str(root)):
            raise StudyError(f"The name of {_escape_bytes(str(root))} {NOT_TEXT}. Rename the folder or the file.")
        if root.is_file() and archives.is_archive(root):
            return cls(root, *_list_files(archives.unpack_archives([root])))
        if root.is_file() and root.suffix == ".npz":
            return cls(root, {root.name: root})
        if root.is_file():
            raise StudyError(
                f"{root} is a file. Name the folder of a release, or the archive it came in (.zip, .tar, .tar.gz)."
            )
        if not root.is_dir():
            if os.path.lexists(root):
                raise StudyError(f"{root} is {irregular_reason(root)}. Name the folder of a release, or its archive.")
            raise StudyError(f"There is no folder {root}. {HELP.format(root)}")
        files, unusable = _list_files(root)
        if not files and unusable:
            name, reason = next(iter(unusable.items()))
            raise StudyError(f"{root} holds no file that can be read: {name}: {reason}. {HELP.format(root)}")
        if not files:
            raise StudyError(f"{root} is empty. {HELP.format(root)}")
        names = {path.name for path in files.values()}
        # an archive whose first image is among the files has been unpacked already
        if packed := [
            path
            for path in files.values()
            if archives.is_archive(path) and archives.first_image_name(path) not in names
        ]:
            unpacked_files, unpacked_unusable = _list_files(archives.unpack_archives(packed))
            files, unusable = files | unpacked_files, unusable | unpacked_unusable
        return cls(root, files, unusable)

    def image_files(self) -> dict[str, Path]:
        """Return the image files, by name."""
        return {name: path for name, path in self.files.items() if path.suffix.lower() in IMAGE_SUFFIXES}

    def find_table(self, *names: str) -> Path | None:
        """Find a table by its file name, ignoring case, also as .gz; return None if there is none.

        names: file names in order of preference. Of several files with one name, the least deep is returned.
        """
        for wanted in names:
            hits = [
                name
                for name in self.files
                if name.lower().rpartition("/")[2] in {wanted.lower(), f"{wanted.lower()}.gz"}
            ]
            if hits:
                return self.files[min(hits, key=lambda name: (name.count("/"), name))]
        return None

    def describe(self) -> str:
        """Describe the files in a few words: the number of images, tables and folders."""
        n_images = len(self.image_files())
        tables = sorted(name for name in self.files if name.lower().endswith(TABLE_SUFFIXES))[:4]
        folders = sorted({name.split("/")[0] for name in self.files if "/" in name})[:5]
        return ", ".join(
            [f"{n_images:,} images"]
            + ([f"tables {', '.join(tables)}"] if tables else ["no table"])
            + ([f"folders {', '.join(folders)}"] if folders else [])
        )


def _list_files(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """List the regular files below a folder by name, and everything else there with the reason it is unusable."""
    files, unusable = {}, {}

    def record_closed(error: OSError) -> None:
        unusable[_escape_bytes(Path(error.filename).relative_to(root).as_posix())] = (
            f"cannot be opened: {error.strerror}"
        )

    for folder, folders, names in os.walk(root, onerror=record_closed):
        folders[:] = sorted(name for name in folders if name.lower() not in IGNORED_FOLDERS)
        relative = Path(folder).relative_to(root)
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in {"thumbs.db", "desktop.ini"}:
                path, name = Path(folder) / name, (relative / name).as_posix()
                if not _is_text(name):
                    unusable[_escape_bytes(name)] = f"its name {NOT_TEXT}"
                elif reason := irregular_reason(path):
                    unusable[name] = reason
                else:
                    files[name] = path
    return files, unusable


def _is_text(name: str) -> bool:
    """Tell whether a name is valid text; file systems allow any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escape_bytes(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
