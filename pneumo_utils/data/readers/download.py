"""Download a release, print its licence and check it; if that fails, describe how to get it by hand."""

import importlib.util
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import explain_data_write_errors, progress_bar
from pneumo_utils.data.quality_report import WRONG, check_release
from pneumo_utils.data.readers import reader_module

TIMEOUT = 30  # seconds without an answer from the server
CHUNK = 1 << 20


def download_release(name: str, folder: str | Path, say=print) -> Path:
    """Download a release into a new folder and check it; raise `StudyError` if that fails.

    name: one of `RELEASE_NAMES`.
    folder: where the files are put; it must be empty or not exist.
    say: prints the licence, the progress and what the check found wrong.
    """
    module, folder = reader_module(name), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(
            f"{folder} is there already and not empty. `pneumo data check {folder}` says what it is; "
            f"name a new folder to fetch into."
        )
    say(f"{module.TITLE}. Licence: {module.LICENCE}")
    try:
        with explain_data_write_errors(str(folder)):
            if hasattr(module, "FILES"):
                _download(module.FILES, folder, say)
            else:
                _download_from_kaggle(module, folder, say)
    except (OSError, urllib.error.URLError) as error:
        raise StudyError(
            f"{module.TITLE} cannot be fetched from here: {getattr(error, 'reason', error)}. "
            f"{manual_download(module, folder)}"
        ) from error
    wrong = [finding for finding in check_release(folder) if finding.level == WRONG]
    for finding in wrong:
        say(f"  {finding.about}: {finding.text}")
    return folder


def manual_download(module: ModuleType, folder: Path) -> str:
    """Describe in one or two sentences how to download a release by hand.

    module: the reader of the release.
    folder: where its files are to be put.
    """
    return (
        f"By hand: {module.SOURCE}. Put what comes into {folder}, archives as they are or unpacked, and run "
        f"`pneumo data check {folder}`."
    )


def _download(files: dict[str, str], folder: Path, say) -> None:
    """Download files; each gets its final name only after its length has been checked."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, address in files.items():
        say(f"fetching {address}")
        temporary = folder / f".{name}.part"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, open(temporary, "wb") as file:
                expected = int(answer.headers.get("Content-Length") or 0)
                for _ in progress_bar(
                    iter(lambda: file.write(answer.read(CHUNK)), 0), name, total=expected // CHUNK or None, unit=" MB"
                ):
                    pass
            if expected and temporary.stat().st_size != expected:
                raise OSError(f"{name} broke off after {temporary.stat().st_size:,} of {expected:,} bytes")
            os.replace(temporary, folder / name)
        finally:
            temporary.unlink(missing_ok=True)


def _download_from_kaggle(module: ModuleType, folder: Path, say) -> None:
    """Download a release with kagglehub."""
    if not importlib.util.find_spec("kagglehub"):
        raise StudyError(
            f"{module.TITLE} is fetched with kagglehub, which is not installed: `pip install "
            f"kagglehub`, and ask again. "
            f"{manual_download(module, folder)}"
        )
    import kagglehub

    try:
        if hasattr(module, "KAGGLE_COMPETITION"):
            source = kagglehub.competition_download(module.KAGGLE_COMPETITION)
        else:
            source = kagglehub.dataset_download(module.KAGGLE)
    except Exception as error:  # kagglehub passes on any error of its HTTP library
        raise OSError(str(error)) from error
    say(f"moving it from {source} to {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rmdir()
    shutil.move(source, folder)
