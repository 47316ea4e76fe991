"""Drawn bytes as a trunk is given them."""

import torch

from pneumo_utils.models.chain import About

GAIN, OFFSET, GAMMA = (0.75, 1.25), (-0.1, 0.1), (0.7, 1.4)


def jittered(images: torch.Tensor, luck: torch.Generator) -> torch.Tensor:
    """Bytes as floats from 0 to 1, each image with a gain, an offset and a gamma of its own."""
    gain, offset, gamma = (
        (low + (high - low) * torch.rand(len(images), 1, 1, generator=luck)).to(images.device)
        for low, high in (GAIN, OFFSET, GAMMA)
    )
    return (images.float() / 255 * gain + offset).clamp(0, 1) ** gamma


def as_input(images: torch.Tensor, about: About) -> torch.Tensor:
    """Grey from 0 to 1 as three equal channels in the trunk's own range."""
    mean, deviation = (torch.tensor(each, device=images.device).view(1, -1, 1, 1) for each in about.stats)
    return ((images[:, None] - mean) / deviation).contiguous(memory_format=torch.channels_last)
