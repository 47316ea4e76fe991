"""The files under a folder, without the droppings of operating systems; archives that lie there are unpacked first."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import irregular
from pneumo_utils.data.image_reader import FILES
from pneumo_utils.data.readers import archives

# `truth` is where a written release keeps its true masks
NOT_DATA = {"__macosx", "truth", ".git", ".ipynb_checkpoints"}
HOW = "`pneumo data get RELEASE {0}` fetches a release, `pneumo data make RELEASE {0}` writes a phantom one."
NOT_TEXT = "is not text in UTF-8"
TABLES = (".csv", ".csv.gz", ".txt", ".npz")


@dataclass(frozen=True)
class Tree:
    """The files under a folder, by name."""

    root: Path
    files: dict[str, Path]  # name below the root, where it really lies
    unusable: dict[str, str] = field(default_factory=dict)  # what lies there and cannot be read, and why

    @classmethod
    def open(cls, root: str | Path) -> "Tree":
        """List the files of a folder or an archive, and unpack archives; raise `StudyError` if there are none."""
        root = Path(root)
        if not _printable(str(root)):
            raise StudyError(f"The name of {_shown(str(root))} {NOT_TEXT}. Rename the folder or the file.")
        if root.is_file() and archives.is_one(root):
            return cls(root, *_under(archives.unpacked([root])))
        if root.is_file() and root.suffix == ".npz":
            return cls(root, {root.name: root})
        if root.is_file():
            raise StudyError(
                f"{root} is a file. Name the folder of a release, or the archive it came in (.zip, .tar, .tar.gz)."
            )
        if not root.is_dir():
            if os.path.lexists(root):
                raise StudyError(f"{root} is {irregular(root)}. Name the folder of a release, or its archive.")
            raise StudyError(f"There is no folder {root}. {HOW.format(root)}")
        files, unusable = _under(root)
        if not files and unusable:
            name, why = next(iter(unusable.items()))
            raise StudyError(f"{root} holds no file that can be read: {name}: {why}. {HOW.format(root)}")
        if not files:
            raise StudyError(f"{root} is empty. {HOW.format(root)}")
        loose = {path.name for path in files.values()}
        if packed := [
            path for path in files.values() if archives.is_one(path) and archives.first_picture(path) not in loose
        ]:  # else it is unpacked already
            more, more_unusable = _under(archives.unpacked(packed))
            files, unusable = files | more, unusable | more_unusable
        return cls(root, files, unusable)

    def pictures(self) -> dict[str, Path]:
        """Return the image files, by name."""
        return {name: path for name, path in self.files.items() if path.suffix.lower() in FILES}

    def table(self, *stems: str) -> Path | None:
        """The first table of one of these names, in any case, plain or gzipped; the shortest path where there are
        several.
        """
        for stem in stems:
            hits = [
                name for name in self.files if name.lower().rpartition("/")[2] in {stem.lower(), f"{stem.lower()}.gz"}
            ]
            if hits:
                return self.files[min(hits, key=lambda name: (name.count("/"), name))]
        return None

    def told(self) -> str:
        """What lies there, in a few words."""
        pictures = len(self.pictures())
        tables = sorted(name for name in self.files if name.lower().endswith(TABLES))[:4]
        folders = sorted({name.split("/")[0] for name in self.files if "/" in name})[:5]
        return ", ".join(
            [f"{pictures:,} images"]
            + ([f"tables {', '.join(tables)}"] if tables else ["no table"])
            + ([f"folders {', '.join(folders)}"] if folders else [])
        )


def _under(root: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The regular files below a folder, and what else lies there, with the reason why it is left alone."""
    found, unusable = {}, {}

    def closed(error: OSError) -> None:
        unusable[_shown(Path(error.filename).relative_to(root).as_posix())] = f"cannot be opened: {error.strerror}"

    for folder, folders, names in os.walk(root, onerror=closed):
        folders[:] = sorted(name for name in folders if name.lower() not in NOT_DATA)
        below = Path(folder).relative_to(root)
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in {"thumbs.db", "desktop.ini"}:
                path, name = Path(folder) / name, (below / name).as_posix()
                if not _printable(name):
                    unusable[_shown(name)] = f"its name {NOT_TEXT}"
                elif why := irregular(path):
                    unusable[name] = why
                else:
                    found[name] = path
    return found, unusable


def _printable(name: str) -> bool:
    """Whether a name can be shown and kept as text; a file system takes any bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
