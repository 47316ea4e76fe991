"""Why features cannot be kept, in words with what to do instead; an empty text where they can."""

import shutil

from fastai.data.core import DataLoaders

from pneumo_utils.data.home import home
from pneumo_utils.data.loaders import Loader, Rows
from pneumo_utils.models.chain import Chain, units
from pneumo_utils.models.pieces import within
from pneumo_utils.models.state import first, what_moves
from pneumo_utils.training.key import at_random
from pneumo_utils.training.loaders import FeatureRows
from pneumo_utils.training.store import GIB


def of_loaders(dls: DataLoaders) -> str:
    """Explain why the features of these loaders cannot be cached; return an empty text if they can."""
    if any(isinstance(each.dataset, FeatureRows) for each in dls.loaders):
        return (
            "These loaders hand out cached features already: cache the whole chain with the loaders of images "
            "that they were made of."
        )
    if not all(isinstance(each, Loader) and isinstance(each.dataset, Rows) for each in dls.loaders):
        return (
            "Features can be kept for the loaders that cohort.dataloaders(...) makes, whose images are known; "
            "train these without a cached prefix."
        )
    return ""


def of_chain(chain: Chain) -> str:
    """What stands before the first layer that learns must be there, and one fixed function."""
    path, unit = units(chain)[cut := first(chain)]
    moving = [norm for norm in what_moves(chain) if within(norm, path)]
    if moving and not any(weight.requires_grad for weight in unit.parameters()):
        return (
            f"The batch norm {moving[0]} of {chain.about.name} is frozen, but its statistics move with each "
            f'batch (batch_norm="moving"), '
            "so what the frozen layers make of an image is another at each step. Say learns(..., "
            'batch_norm="frozen"), or train without a '
            "cached prefix."
        )
    return (
        ""
        if cut
        else f"{path}, the first layer of {chain.about.name}, learns, so nothing stands before it that "
        f"could be computed once."
    )


def of_augmentation(dls: DataLoaders, views: int) -> str:
    """Explain why random augmentation prevents caching; return an empty text if it does not."""
    if views > 0 or not (drawn := [each for each in dls.loaders if at_random(each)]):
        return ""
    names = (
        ", ".join(type(each).__name__ for each in drawn[0].after_batch.fs if each.split_idx == 0)
        or "a transform of the batch"
    )
    return (
        f"The training images are augmented ({names}), so each epoch shows other ones. Take views=4 to draw four "
        f"fixed views of each image "
        "and say so on the page, leave the augmentation out, or train without a cached prefix."
    )


def of_disk(size: int) -> str:
    """Explain that the disk lacks space for `size` bytes; return an empty text if there is enough."""
    there = next(each for each in [home(), *home().absolute().parents] if each.exists())
    if size <= (free := shutil.disk_usage(there).free):
        return ""
    return (
        f"The features would take {size / GIB:.1f} GiB, and {home()} has {free / GIB:.1f} GiB left: take "
        f"dtype=torch.float16, fewer or smaller "
        "images, set PNEUMO_DATA to a larger disk, or train without a cached prefix."
    )
