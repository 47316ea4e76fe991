"""The trunks beside one another: parameters, multiply-adds, blocks, maps."""

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from pneumo_utils.models.catalogue import names
from pneumo_utils.models.chain import Chain
from pneumo_utils.models.shapes import PIXELS, hollow, maps
from pneumo_utils.models.trunk import trunk


def table(size: str = "full", px: int | None = None) -> pd.DataFrame:
    """One row a trunk, without its classifier, for images of `px` by `px` pixels."""
    px = px or PIXELS[size]
    with torch.device("meta"):
        return pd.DataFrame([_row(trunk(name, size=size), px) for name in names()]).set_index("trunk")


def multiply_adds(chain: Chain, px: int) -> int:
    """Of convolutions and linear layers for one image, as papers count them: half of the floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        outcome = hollow(chain, px)
    return counter.get_total_flops() // (2 * len(outcome))


def _row(chain: Chain, px: int) -> dict:
    channels, height, width = maps(chain, px)
    return {
        "trunk": chain.about.name,
        "pixels": px,
        "parameters": sum(each.numel() for each in chain.parameters()),
        "multiply-adds": multiply_adds(chain, px),
        "blocks": " ".join(chain.blocks),
        "channels": channels,
        "maps": f"{height} x {width}",
        "Grad-CAM": chain.about.cam,
    }
