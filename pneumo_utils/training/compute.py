"""How a network is computed where it is: number format, memory format and threads, whatever is fastest there unless
told otherwise.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import cores

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
FORMATS = ("channels_last", "contiguous")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")  # without them a CPU makes do with float32 and is slower for it


@dataclass(frozen=True)
class Compute:
    """Weights stay float32; with "bfloat16" the layers that bear it are computed in it, in training alone."""

    device: torch.device
    precision: str
    memory_format: str

    def place(self, network: nn.Module) -> nn.Module:
        """The network's own weights, moved and laid out in place."""
        return network.to(device=self.device, memory_format=self._format)

    def taken(self, batch: Tensor) -> Tensor:
        """A batch as a plain tensor in the network's layout: fastai's own kinds of tensor make every operation
        dearer.
        """
        plain = batch.as_subclass(Tensor) if isinstance(batch, Tensor) else batch
        return plain.contiguous(memory_format=self._format) if getattr(plain, "ndim", 0) == 4 else plain

    def autocast(self) -> AbstractContextManager:
        """Return the autocast context for the training precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def dtype(self) -> torch.dtype:
        """Return the torch data type of the precision."""
        return getattr(torch, self.precision)

    @property
    def _format(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format


def compute(device, precision: str = AUTO, memory_format: str = AUTO) -> Compute:
    """ "auto" is bfloat16 where the hardware has it, and channels_last, which is at least as fast on CUDA and on a
    CPU.
    """
    device = torch.device(device or "cpu")
    for name, given, known in (("precision", precision, PRECISIONS), ("memory_format", memory_format, FORMATS)):
        if given not in (AUTO, *known):
            raise StudyError(f'{name} is "auto", {" or ".join(map(repr, known))}, not {given!r}.')
    if precision == AUTO:
        precision = "bfloat16" if has_bfloat16(device) else "float32"
    if memory_format == AUTO:
        memory_format = "channels_last" if device.type in ("cpu", "cuda") else "contiguous"
    return Compute(device, precision, memory_format)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(flag in _flags() for flag in BFLOAT16_FLAGS)


def _flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:
            return set(next((line for line in told if line.startswith("flags")), "").split())
    except OSError:  # only Linux tells
        return set()


def share_cores(processes: int = 1) -> int:
    """Give this process its share of the cores when so many train at once, and say how many threads that is: more
    than cores are far slower.
    """
    asked = int(os.environ.get("OMP_NUM_THREADS") or cores())
    threads = max(1, min(asked, cores() // max(1, processes)))
    torch.set_num_threads(threads)
    return threads
