"""Read weight files without running code from them, and load them so that every key is accounted for."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pneumo_utils.common.errors import StudyError

FOREIGN_SIGNATURES = {
    b"<": "a web page, perhaps of an error",
    b"version https://git-lfs": "a pointer of Git LFS, not what it points to",
}
FLOAT_DTYPES = "float32", "float64", "float16", "bfloat16"
INTEGER_DTYPES = "int64", "int32"
MAX_NESTING = 4  # dictionaries within dictionaries; one that contains itself would have no end
ZIP_SIGNATURE = b"PK\x03\x04"
TORCH_SIGNATURES = ZIP_SIGNATURE, b"\x80"  # torch writes a zip archive, before version 1.6 a pickle
# keys under which training scripts store the weights; fastai's is "model"
WRAPPER_KEYS = "state_dict", "model_state_dict", "model"
WRAPPER_PREFIXES = "module.", "model.", "_orig_mod."  # of DataParallel, Lightning, torch.compile
BATCH_COUNTER = "num_batches_tracked"  # batch norm's counter, which older files lack and no result depends on
# torchvision's file still writes norm.1 for norm1
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))(\d)")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors or torch file, by key; raise `StudyError` if it is damaged or unsafe.

    path: the file.
    """
    start = _first_bytes(path)
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise StudyError(
                f"{path} is not a whole safetensors file ({error}). It was cut short or damaged: "
                f"download or copy it again."
            ) from error
        return _state_dict(path, content)
    if not start.startswith(TORCH_SIGNATURES):
        raise StudyError(
            f"{path} is not a whole torch checkpoint (it begins with {start[:8]!r}). It was cut short "
            f"or damaged, or is something else: "
            "download or copy it again."
        )
    try:
        if start.startswith(ZIP_SIGNATURE):
            _check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(
            f"{path} holds more than tensors: it is a pickle that would run code when read, and is not "
            f"read. Where you made it, "
            "load it and save its state_dict with safetensors."
        ) from error
    except Exception as error:  # a damaged pickle can raise any exception
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"{path} is not a whole torch checkpoint ({reason}). It was cut short or damaged: download "
            f"or copy it again."
        ) from error
    return _state_dict(path, content)


def load_weights(
    network: nn.Module, tensors: dict[str, torch.Tensor], path: Path, ignored_prefixes: tuple[str, ...] = ()
) -> None:
    """Load tensors into a network; raise `WeightsMismatch` if keys are missing, unexpected or of another shape.

    network: the module that is filled in place.
    tensors: the tensors by the network's keys.
    path: the file they were read from, for messages.
    ignored_prefixes: tensors whose key begins with one of these are skipped.
    """
    expected = network.state_dict()
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(ignored_prefixes)}
    missing = [key for key in expected if key not in tensors and not key.endswith(BATCH_COUNTER)]
    unexpected = [key for key in tensors if key not in expected]
    shapes = [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        raise WeightsMismatch(path, missing, unexpected, shapes)
    if not_finite := [
        key for key, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]:
        raise StudyError(
            f"{path} holds numbers that are not finite, in {_first_three(not_finite)}. It is damaged, or was trained "
            f"until it diverged: take another file."
        )
    network.load_state_dict(tensors, strict=False)


class WeightsMismatch(StudyError):
    """Report the keys of a weights file that do not fit a network.

    path: the file.
    missing: keys of the network that the file lacks.
    unexpected: keys of the file that the network lacks.
    shapes: a text for each tensor of another shape.
    reason: the likely cause, as a sentence.
    """

    def __init__(self, path: Path, missing: list[str], unexpected: list[str], shapes: list[str], reason: str = ""):
        self.path, self.missing, self.unexpected, self.shapes = path, missing, unexpected, shapes
        faults = {"missing": missing, "not of this network": unexpected, "of another shape": shapes}
        listed = "; ".join(f"{len(keys)} {fault}: {_first_three(keys)}" for fault, keys in faults.items() if keys)
        super().__init__(f"{path} does not fit. {listed}.{' ' if reason else ''}{reason}")

    def with_reason(self, reason: str) -> "WeightsMismatch":
        """Return a copy of this error with a reason, a sentence."""
        return WeightsMismatch(self.path, self.missing, self.unexpected, self.shapes, reason)


def map_published_keys(published: dict[str, torch.Tensor], blocks: dict[str, nn.Module]) -> dict[str, str]:
    """Map the publisher's key of each tensor to its key in the blocks.

    A tensor that is in no block belongs to the classifier: its new key begins with "top.".

    published: the published network's own tensors (not copies) by key.
    blocks: the blocks that the network was taken apart into.
    """
    block_keys = {
        id(tensor): f"{name}.{key}"
        for name, block in blocks.items()
        for key, tensor in block.state_dict(keep_vars=True).items()
    }
    keys = {key: block_keys.get(id(tensor), f"top.{key}") for key, tensor in published.items()}
    return keys | {OLD_DENSENET_KEY.sub(r"\1.\2", key): block_key for key, block_key in keys.items()}


def _check_zip(path: Path) -> None:
    """Raise `BadZipFile` unless every part of an archive has its checksum, which torch does not check."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} does not have its checksum")


def _first_bytes(path: Path) -> bytes:
    """Return the first 32 bytes of a file; raise `StudyError` if they show that it holds no weights."""
    if not path.is_file():
        raise StudyError(f"There is no file of weights at {path}.")
    with open(path, "rb") as file:
        start = file.read(32)
    for signature, description in FOREIGN_SIGNATURES.items():
        if start.startswith(signature):
            raise StudyError(f"{path} is {description}. Download it again.")
    return start


def _state_dict(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors by key from a file's content, without wrapping dictionaries and key prefixes."""
    for _ in range(MAX_NESTING):
        if not isinstance(content, dict):
            break
        inner = next((name for name in WRAPPER_KEYS if isinstance(content.get(name), dict)), None)
        if not inner:
            break
        content = content[inner]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in content.items())
    ):
        raise StudyError(f"{path} holds no table of weights by name. Save the network's state_dict.")
    tensors = {key: _check_tensor(path, key, tensor) for key, tensor in content.items()}
    while prefix := next(
        (prefix for prefix in WRAPPER_PREFIXES if all(key.startswith(prefix) for key in tensors)), None
    ):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _check_tensor(path: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor; raise `StudyError` unless it is dense, in memory and of a number format of weights."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_quantized or tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_nested:
        fault = "it is quantised, sparse, nested or without values"
    elif key.endswith(BATCH_COUNTER):
        fault = "" if dtype in INTEGER_DTYPES else f"it counts batches and is {dtype}"
    elif dtype not in FLOAT_DTYPES:
        fault = f"it is {dtype}"
    elif key.endswith("running_var") and (tensor < 0).any():
        fault = "a variance cannot be negative"
    else:
        fault = ""
    if fault:
        raise StudyError(
            f"{path} holds {key} as no network can take it: {fault}. "
            f"Weights are dense tensors of {', '.join(FLOAT_DTYPES)}: save the network's state_dict as it was trained."
        )
    return tensor


def _first_three(keys: list[str]) -> str:
    """Join the first three keys by commas."""
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
