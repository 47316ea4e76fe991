"""Files of weights, read without running anything in them, and loaded so that every key is accounted for."""

import pickle
import re
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pneumo_utils.common.errors import StudyError

NOT_WEIGHTS = {
    b"<": "a web page, perhaps of an error",
    b"version https://git-lfs": "a pointer of Git LFS, not what it points to",
}
NUMBERS = "float32", "float64", "float16", "bfloat16"
WHOLE_NUMBERS = "int64", "int32"
MAX_NESTING = 4  # tables within tables; one that holds itself has no end
ZIP = b"PK\x03\x04"
WRITTEN = ZIP, b"\x80"  # by torch: a zip archive, or before version 1.6 a pickle
# where trainers put the weights among other things; fastai says "model"
WRAPPED = "state_dict", "model_state_dict", "model"
PREFIXES = "module.", "model.", "_orig_mod."  # of DataParallel, Lightning, torch.compile
COUNTER = "num_batches_tracked"  # torch's own count, which older files lack and no result depends on
# torchvision's file still writes norm.1 for norm1
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))(\d)")


def read(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file by their keys, as they are."""
    start = _start(path)
    if path.suffix == ".safetensors":
        try:
            found = load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise StudyError(
                f"{path} is not a whole safetensors file ({error}). It was cut short or damaged: "
                f"download or copy it again."
            ) from error
        return _tensors(path, found)
    if not start.startswith(WRITTEN):
        raise StudyError(
            f"{path} is not a whole torch checkpoint (it begins with {start[:8]!r}). It was cut short "
            f"or damaged, or is something else: "
            "download or copy it again."
        )
    try:
        if start.startswith(ZIP):
            _check_sums(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(
            f"{path} holds more than tensors: it is a pickle that would run code when read, and is not "
            f"read. Where you made it, "
            "load it and save its state_dict with safetensors."
        ) from error
    except Exception as error:  # a damaged pickle can end in any of them
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"{path} is not a whole torch checkpoint ({reason}). It was cut short or damaged: download "
            f"or copy it again."
        ) from error
    return _tensors(path, found)


def load(network: nn.Module, tensors: dict[str, torch.Tensor], where: Path, left_out: tuple[str, ...] = ()) -> None:
    """Give a network the tensors of its own keys, none missing and none too many; those under `left_out` may be
    there and are not taken.
    """
    wanted = network.state_dict()
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(left_out)}
    missing = [key for key in wanted if key not in tensors and not key.endswith(COUNTER)]
    unexpected = [key for key in tensors if key not in wanted]
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    if missing or unexpected or shapes:
        raise Mismatch(where, missing, unexpected, shapes)
    if bad := [
        key for key, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]:
        raise StudyError(
            f"{where} holds numbers that are not finite, in {_few(bad)}. It is damaged, or was trained "
            f"until it diverged: "
            "take another file."
        )
    network.load_state_dict(tensors, strict=False)


class Mismatch(StudyError):
    """Keys that do not fit a network: which, and how."""

    def __init__(self, where: Path, missing: list[str], unexpected: list[str], shapes: list[str], why: str = ""):
        self.where, self.missing, self.unexpected, self.shapes = where, missing, unexpected, shapes
        faults = {"missing": missing, "not of this network": unexpected, "of another shape": shapes}
        said = "; ".join(f"{len(keys)} {fault}: {_few(keys)}" for fault, keys in faults.items() if keys)
        super().__init__(f"{where} does not fit. {said}.{' ' if why else ''}{why}")

    def because(self, why: str) -> "Mismatch":
        """Return a copy of this mismatch with a reason."""
        return Mismatch(self.where, self.missing, self.unexpected, self.shapes, why)


def own_keys(published: dict[str, torch.Tensor], blocks: dict[str, nn.Module]) -> dict[str, str]:
    """The publisher's key of every tensor and the key of the same tensor in the blocks; what is in none belongs to
    the classifier.
    """
    own = {
        id(tensor): f"{name}.{key}"
        for name, block in blocks.items()
        for key, tensor in block.state_dict(keep_vars=True).items()
    }
    keys = {key: own.get(id(tensor), f"top.{key}") for key, tensor in published.items()}
    return keys | {OLD_DENSENET.sub(r"\1.\2", key): own for key, own in keys.items()}


def _check_sums(path: Path) -> None:
    """Raise `BadZipFile` unless every part of an archive has its checksum, which torch does not look at."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} does not have its checksum")


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise StudyError(f"There is no file of weights at {path}.")
    with open(path, "rb") as file:
        start = file.read(32)
    for sign, what in NOT_WEIGHTS.items():
        if start.startswith(sign):
            raise StudyError(f"{path} is {what}. Download it again.")
    return start


def _tensors(path: Path, found) -> dict[str, torch.Tensor]:
    """The table of weights in what a file holds: by name, in numbers that a network can take."""
    for _ in range(MAX_NESTING):
        if not isinstance(found, dict):
            break
        inner = next((name for name in WRAPPED if isinstance(found.get(name), dict)), None)
        if not inner:
            break
        found = found[inner]
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in found.items())
    ):
        raise StudyError(f"{path} holds no table of weights by name. Save the network's state_dict.")
    found = {key: _plain(path, key, tensor) for key, tensor in found.items()}
    while prefix := next((each for each in PREFIXES if all(key.startswith(each) for key in found)), None):
        found = {key.removeprefix(prefix): tensor for key, tensor in found.items()}
    return found


def _plain(path: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, if it is dense, in memory and of a type that weights have."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_quantized or tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_nested:
        fault = "it is quantised, sparse, nested or without values"
    elif key.endswith(COUNTER):
        fault = "" if kind in WHOLE_NUMBERS else f"it counts batches and is {kind}"
    elif kind not in NUMBERS:
        fault = f"it is {kind}"
    elif key.endswith("running_var") and (tensor < 0).any():
        fault = "a variance cannot be negative"
    else:
        fault = ""
    if fault:
        raise StudyError(
            f"{path} holds {key} as no network can take it: {fault}. "
            f"Weights are dense tensors of {', '.join(NUMBERS)}: save the network's state_dict as it was trained."
        )
    return tensor


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
