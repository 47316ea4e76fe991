"""Fetch a real release where there is a network, check what came, and say what may be done with it; else say how to
get it by hand.
"""

import importlib.util
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import bar, room
from pneumo_utils.data.quality_report import WRONG, check
from pneumo_utils.data.readers import release as module_of

WAIT = 30  # seconds for an answer
CHUNK = 1 << 20


def get(name: str, folder: str | Path, say=print) -> Path:
    """Download a release into a new folder and check it; raise `StudyError` if that fails."""
    module, folder = module_of(name), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(
            f"{folder} is there already and not empty. `pneumo data check {folder}` says what it is; "
            f"name a new folder to fetch into."
        )
    say(f"{module.TITLE}. Licence: {module.LICENCE}")
    try:
        with room(str(folder)):
            if hasattr(module, "FILES"):
                _download(module.FILES, folder, say)
            else:
                _from_kaggle(module, folder, say)
    except (OSError, urllib.error.URLError) as error:
        raise StudyError(
            f"{module.TITLE} cannot be fetched from here: {getattr(error, 'reason', error)}. {by_hand(module, folder)}"
        ) from error
    wrong = [finding for finding in check(folder) if finding.level == WRONG]
    for finding in wrong:
        say(f"  {finding.about}: {finding.text}")
    return folder


def by_hand(module, folder: Path) -> str:
    """Describe how to download a release by hand."""
    return (
        f"By hand: {module.SOURCE}. Put what comes into {folder}, archives as they are or unpacked, and run "
        f"`pneumo data check {folder}`."
    )


def _download(files: dict[str, str], folder: Path, say) -> None:
    """Each file is written beside its place and moved in when it has the length that was announced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, address in files.items():
        say(f"fetching {address}")
        beside = folder / f".{name}.part"
        try:
            with urllib.request.urlopen(address, timeout=WAIT) as answer, open(beside, "wb") as file:
                announced = int(answer.headers.get("Content-Length") or 0)
                for _ in bar(
                    iter(lambda: file.write(answer.read(CHUNK)), 0), name, total=announced // CHUNK or None, unit=" MB"
                ):
                    pass
            if announced and beside.stat().st_size != announced:
                raise OSError(f"{name} broke off after {beside.stat().st_size:,} of {announced:,} bytes")
            os.replace(beside, folder / name)
        finally:
            beside.unlink(missing_ok=True)


def _from_kaggle(module, folder: Path, say) -> None:
    if not importlib.util.find_spec("kagglehub"):
        raise StudyError(
            f"{module.TITLE} is fetched with kagglehub, which is not installed: `pip install "
            f"kagglehub`, and ask again. "
            f"{by_hand(module, folder)}"
        )
    import kagglehub

    try:
        if hasattr(module, "KAGGLE_COMPETITION"):
            found = kagglehub.competition_download(module.KAGGLE_COMPETITION)
        else:
            found = kagglehub.dataset_download(module.KAGGLE)
    except Exception as error:  # kagglehub lets through whatever its HTTP library raises
        raise OSError(str(error)) from error
    say(f"moving it from {found} to {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rmdir()
    shutil.move(found, folder)
