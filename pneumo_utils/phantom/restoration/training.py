"""`trained(...)`: a treatment learned from phantoms, in a form in which it can be kept."""

import random

import fastai.callback.schedule  # noqa: F401, brings fit_one_cycle
from fastai.callback.core import TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.torch_core import default_device, no_random
from torch import Tensor
from torch.nn import functional as F

from pneumo_utils.data.loaders import Loader
from pneumo_utils.phantom.restoration.network import UNet
from pneumo_utils.phantom.restoration.pairs import TO_LEARN_FROM, Pairs, draw
from pneumo_utils.phantom.restoration.quality import scores
from pneumo_utils.phantom.restoration.treatment import Treatment
from pneumo_utils.training.devices import compute
from pneumo_utils.training.history import Recorder
from pneumo_utils.training.loop import Learner
from pneumo_utils.training.optimizers import adam

BATCH, RATE = 32, 4e-3


def trained(target: str, size: int = 64, images: int = 2000, epochs: int = 8, seed: int = 0) -> dict:
    """What `Treatment(**trained("lungs"))` is made of: weights, and scores on other phantoms beside those of trivial
    treatments.
    """
    device = default_device()
    phantoms = draw(target, images, size, TO_LEARN_FROM + seed, device)
    with no_random(seed, reproducible=False):
        network = UNet(corrects=target != "lungs")
        learn = learner(network, Pairs(target, phantoms), seed, device)
        with learn.no_logging():
            learn.fit_one_cycle(epochs)
    weights = {name: each.cpu().contiguous().numpy() for name, each in network.state_dict().items()}
    found = scores(Treatment(target, size, weights), phantoms, seed)
    return {"target": target, "size": size, "weights": weights, "scores": found}


def learner(network: UNet, pairs: Pairs, seed: int, device) -> Learner:
    """fastai's Learner, with random numbers of its own and bfloat16 where the hardware has it; nothing is chosen by
    validation, so there is none.
    """
    loader = Loader(pairs, bs=BATCH, shuffle=True, num_workers=0, device=device)
    loader.rng = random.Random(seed)
    none = Loader(Pairs(pairs.target, pairs.phantoms.rows(slice(0))), bs=BATCH, num_workers=0, device=device)
    dls, how = DataLoaders(loader, none, device=device), compute(device)
    return Learner(
        dls,
        how.place(network),
        plain=dls,
        whole=network,
        compute=how,
        seed=seed,
        folder=None,
        max_steps=0,
        steps_per_epoch=0,
        loss_func=off if network.corrects else missed,
        opt_func=adam(RATE),
        lr=RATE,
        default_cbs=False,
        cbs=[TrainEvalCallback(), Recorder()],
    )


def off(told: Tensor, wanted: Tensor) -> Tensor:
    """By how much greys are wrong: the absolute error leaves edges sharper than the squared one."""
    return F.l1_loss(told, wanted)


def missed(told: Tensor, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy between logits and a mask."""
    return F.binary_cross_entropy_with_logits(told, mask)
