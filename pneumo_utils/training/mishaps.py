"""What goes wrong inside torch, in a reader's words."""

import re
from collections.abc import Callable
from contextlib import contextmanager

import torch

from pneumo_utils.common.errors import StudyError

WRAPPED = re.compile(
    r"^(Exception occured in `[^`]*` when calling event "
    r"`[^`]*`:\n\t)+"
)  # what fastai puts before a callback's own words
ONE_VALUE = re.compile(r"Expected more than 1 value per channel when training")
TOO_SMALL = re.compile(r"Kernel size can't be greater than actual input size|[Oo]utput size is too small")
NO_MEMORY = re.compile(r"not enough memory|can't allocate memory|out of memory", re.IGNORECASE)


@contextmanager
def understood(batch: Callable[[], torch.Tensor | None]):
    """Errors of torch that a reader can mend come out as a StudyError, which tells of the batch that was in hand."""
    try:
        yield
    except StudyError as error:
        raise StudyError(WRAPPED.sub("", str(error))) from error
    except (RuntimeError, ValueError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if told := _told(error, tuple(getattr(batch(), "shape", ()))):
            raise StudyError(told) from error
        raise


def _told(error: Exception, shape: tuple[int, ...]) -> str | None:
    said, size = str(error), " x ".join(map(str, shape)) or "this size"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or NO_MEMORY.search(said):
        return (
            f"Memory ran out at a batch of {size}. Lower batch_size or image_size, let less of the network "
            f"learn, take a pocket trunk, "
            "or close other programs."
        )
    if ONE_VALUE.search(said):
        return (
            f"Batch norm cannot learn from a batch of {size}: it would see one value a channel. Raise batch_size "
            f"to 2 or more, or freeze the "
            'statistics: learns(chain, ..., batch_norm="frozen") with no batch norm among what learns.'
        )
    if TOO_SMALL.search(said):
        pixels = " x ".join(map(str, shape[2:])) or "this number of"
        return f"Images of {pixels} pixels are too small for this trunk: its maps shrink to nothing. Raise image_size."
    return None
