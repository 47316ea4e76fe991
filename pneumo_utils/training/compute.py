"""Choose precision, memory format and number of threads for a device, by default the fastest."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.pixel_cache import available_cores

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
MEMORY_FORMATS = ("channels_last", "contiguous")
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")  # a CPU without them emulates bfloat16, slower than float32


@dataclass(frozen=True)
class ComputeSettings:
    """Hold device, precision and memory format of a training.

    Weights are always float32. With "bfloat16" autocast computes suitable layers in it, only in training.
    """

    device: torch.device
    precision: str  # "float32" or "bfloat16"
    memory_format: str  # "channels_last" or "contiguous"

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device and into the memory format, in place; return it."""
        return network.to(device=self.device, memory_format=self._format)

    def prepare_batch(self, batch: Tensor) -> Tensor:
        """Convert a batch to a plain tensor in the network's memory format.

        fastai's subclasses of tensors make every operation slower.
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


def choose_compute(
    device: torch.device | str | None, precision: str = AUTO, memory_format: str = AUTO
) -> ComputeSettings:
    """Choose precision and memory format for a device; raise `StudyError` if a requested one is unknown.

    device: a torch device or its name; None is the CPU.
    precision: "float32", "bfloat16" or "auto", which is bfloat16 if the hardware supports it.
    memory_format: "channels_last", "contiguous" or "auto", which is channels_last on CUDA and on a CPU, where it is
        at least as fast.
    """
    torch_device = torch.device(device or "cpu")
    for name, value, known in (("precision", precision, PRECISIONS), ("memory_format", memory_format, MEMORY_FORMATS)):
        if value not in (AUTO, *known):
            raise StudyError(f'{name} is "auto", {" or ".join(map(repr, known))}, not {value!r}.')
    if precision == AUTO:
        precision = "bfloat16" if has_bfloat16(torch_device) else "float32"
    if memory_format == AUTO:
        memory_format = "channels_last" if torch_device.type in ("cpu", "cuda") else "contiguous"
    return ComputeSettings(torch_device, precision, memory_format)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the hardware computes in bfloat16 without emulation.

    device: the device.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not have it
    return device.type == "cpu" and any(capabilities.get(name) for name in BFLOAT16_INSTRUCTIONS)


def share_cores(processes: int = 1) -> int:
    """Limit torch's threads to this process's share of the cores; return the number of threads.

    Together the processes then use at most one thread per core; more are much slower. OMP_NUM_THREADS limits further.

    processes: number of processes that train at the same time.
    """
    requested = int(os.environ.get("OMP_NUM_THREADS") or available_cores())
    threads = max(1, min(requested, available_cores() // max(1, processes)))
    torch.set_num_threads(threads)
    return threads
