"""What a cached feature depends on, as digests: the frozen weights and code, and the way from an image to what the
network is given.
"""

import inspect
import math
from hashlib import sha256
from importlib import metadata

import numpy as np
import torch
from fastai.torch_core import TensorImage, no_random, to_device
from fastai.vision.augment import RandTransform
from torch import nn

from pneumo_utils.common.files import digest_of, sha
from pneumo_utils.data.loaders import Loader
from pneumo_utils.models.chain import Chain, units

PLAIN = (bool, int, float, str, type(None))
LIBRARIES = ("torch", "torchvision", "timm")


def of_weights(chain: Chain, cut: int) -> list[str]:
    """For each number of units, up to the cut, a digest of all that those first ones are: their code, settings,
    weights and statistics.
    """
    running, digests = sha256(repr([metadata.version(name) for name in LIBRARIES]).encode()), []
    for _, unit in [(None, nn.Identity()), *units(chain)[:cut]]:
        for path, module in unit.named_modules():
            running.update(repr((path, *_told(module))).encode())
        for name, tensor in [*unit.named_parameters(), *unit.named_buffers()]:
            running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor))
        digests.append(running.hexdigest()[:16])
    return digests


def _told(thing) -> tuple:
    """What a module or a transform is, its tensors aside: its class, its settings that can be written down, and the
    code that it runs.
    """
    settings = {name: value for name, value in sorted(vars(thing).items()) if name != "training" and _plain(value)}
    code = getattr(inspect.unwrap(getattr(type(thing), "forward", None) or type(thing).__call__), "__code__", None)
    runs = (
        sha(code.co_code).encode() + repr((code.co_names, [each for each in code.co_consts if _plain(each)])).encode()
        if code
        else b""
    )
    return type(thing).__module__, type(thing).__qualname__, settings, runs


def _plain(value) -> bool:
    return isinstance(value, PLAIN) or (isinstance(value, (tuple, list)) and all(_plain(each) for each in value))


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def channels_last(tensors) -> bool:
    """Whether any of these lies in memory with its channels last."""
    return any(
        each.dim() == 4 and each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
        for each in tensors
    )


def of_inputs(loader: Loader, views: int, seed: int) -> str:
    """A digest of what a loader makes of an image; where it draws at random, of its images, batches and seed too."""
    facts = [
        loader.dataset.origin,
        [_told(each)[:3] for each in loader.after_batch.fs],
        sha(_bytes(_pattern(loader, 0)[:1])),
        loader.device.type,
    ]
    if views:
        facts += [views, seed, loader.bs, sha(np.asarray(loader.dataset.pixels.rows).tobytes())]
    return digest_of(facts)


def at_random(loader: Loader) -> bool:
    """Whether an image comes out of a loader's transforms otherwise each time."""
    ours = loader.dataset.split_idx == 0
    if ours and any(each.split_idx == 0 or isinstance(each, RandTransform) for each in loader.after_batch.fs):
        return True
    return not torch.equal(_pattern(loader, 0), _pattern(loader, 1))


def _pattern(loader: Loader, seed: int) -> torch.Tensor:
    """What the transforms make of a made-up image, many times over."""
    shape, many = loader.dataset.pixels.shape[1:], min(16, len(loader.dataset))
    image = (torch.arange(math.prod(shape)) * 7919 % 256).to(torch.uint8).expand(many, -1).reshape(many, *shape)
    _, answers = loader.dataset.batch(list(range(many)))
    with no_random(seed, reproducible=False):
        return inputs(loader, (TensorImage(image), answers))


def inputs(loader: Loader, batch: tuple) -> torch.Tensor:
    """What a network is given of a batch, without a step of the loader's own random order."""
    loader.before_iter()
    return loader.after_batch(to_device(batch, loader.device))[0].as_subclass(torch.Tensor)
