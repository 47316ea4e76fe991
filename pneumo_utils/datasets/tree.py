"""The files under a folder, without the droppings of operating systems; archives that lie there are unpacked first."""

import os
from dataclasses import dataclass
from pathlib import Path

from pneumo_utils.cohort.decode import FILES
from pneumo_utils.datasets import archives
from pneumo_utils.ground.errors import StudyError

# `truth` is where a written release keeps its true masks
NOT_DATA = {"__macosx", "truth", ".git", ".ipynb_checkpoints"}
HOW = "`pneumo data get RELEASE {0}` fetches a release, `pneumo data make RELEASE {0}` writes a phantom one."
TABLES = (".csv", ".csv.gz", ".txt", ".npz")


@dataclass(frozen=True)
class Tree:
    """The files under a folder, by name."""

    root: Path
    files: dict[str, Path]  # name below the root, where it really lies

    @classmethod
    def open(cls, root: str | Path) -> "Tree":
        """List the files of a folder or an archive, and unpack archives; raise `StudyError` if there are none."""
        root = Path(root)
        if root.is_file() and archives.is_one(root):
            return cls(root, _under(archives.unpacked([root])))
        if root.is_file() and root.suffix == ".npz":
            return cls(root, {root.name: root})
        if root.is_file():
            raise StudyError(
                f"{root} is a file. Name the folder of a release, or the archive it came in (.zip, .tar, .tar.gz)."
            )
        if not root.is_dir():
            raise StudyError(f"There is no folder {root}. {HOW.format(root)}")
        files = _under(root)
        if not files:
            raise StudyError(f"{root} is empty. {HOW.format(root)}")
        loose = {path.name for path in files.values()}
        if packed := [
            path for path in files.values() if archives.is_one(path) and archives.first_picture(path) not in loose
        ]:  # else it is unpacked already
            files = files | _under(archives.unpacked(packed))
        return cls(root, files)

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


def _under(root: Path) -> dict[str, Path]:
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name.lower() not in NOT_DATA)
        below = Path(folder).relative_to(root)
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in {"thumbs.db", "desktop.ini"}:
                found[(below / name).as_posix()] = Path(folder) / name
    return found
