"""What a detector says of all images of a loader."""

from torch import Tensor

from pneumo_utils.models.chain import Chain
from pneumo_utils.training.predict import outputs


def answers(chain: Chain, loader) -> Tensor:
    """Its own numbers, an image a row; what is truly there is asked of the cohort."""
    return outputs(chain, loader)[0]
