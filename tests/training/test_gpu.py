"""Training on a GPU: nothing waits for it, and it finds what the CPU finds. What needs a GPU is skipped elsewhere."""

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from torch.overrides import TorchFunctionMode

from pneumo_utils.data.readers import kermany
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.phantom.writers.writer import cached_release
from pneumo_utils.training.learner import fitting, learner
from pneumo_utils.training.metrics import Accuracy
from pneumo_utils.training.optimizers import adam
from pneumo_utils.training.predict import predict

pytestmark = pytest.mark.usefixtures("home")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")
SIDE, BATCH = 32, 8


@pytest.fixture(scope="module")
def cohort(home):
    root = cached_release("kermany", images=60, size=SIDE)
    return kermany.read(root, say=None).split(by="patient", test=0.2, valid=0.2)


def built(cohort, device, trainable="conv5_x + head", flip=True, **settings):
    body = trunk("resnet18", weights="pocket")
    model = set_trainable(with_head(body, heads.linear(body.about.channels, 2, seed=0)), trainable)
    dls = cohort.dataloaders(SIDE, BATCH, stats=body.about.stats, flip=flip, device=device)
    return learner(dls, model, optimizer=adam(1e-3), metrics=Accuracy(), **settings)


class InsideOfSteps(Callback):
    """Calls `begin` where a training step begins and `end` before the next batch is loaded."""

    order = -1000

    def __init__(self, begin, end):
        self.begin, self.end = begin, end

    def before_batch(self):
        if self.training and self.iter:  # the first step chooses kernels and creates the optimiser's state
            self.begin()

    def after_cancel_batch(self):
        self.end()

    def after_batch(self):
        self.end()


class CountWaits(TorchFunctionMode):
    """Counts the calls that bring a number from the device to Python."""

    WAITING = "item", "cpu", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__"

    def __init__(self):
        super().__init__()
        self.counting, self.counts = False, {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if self.counting and name in self.WAITING:
            self.counts[name] = self.counts.get(name, 0) + 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("cache", ["off", "on"])
def test_a_step_brings_no_number_to_python(cohort, cache):
    waits = CountWaits()
    inside = InsideOfSteps(lambda: setattr(waits, "counting", True), lambda: setattr(waits, "counting", False))
    learn = built(cohort, "cpu", flip=cache == "off", callbacks=[inside])
    with fitting(learn, cache=cache), waits:
        learn.fit(2)
    steps = 2 * (len(learn.dls.train) - 1)
    assert steps > 2 and waits.counts == {
        "__bool__": steps
    }  # StopAtNaN tests the loss; on CUDA it does so a step later


def test_the_counter_of_waits_sees_them():
    with CountWaits() as waits:
        waits.counting = True
        one = torch.ones(3).sum()
        _ = one.item(), float(one), bool(one), one.cpu()
    assert waits.counts == {"item": 1, "__float__": 1, "__bool__": 1, "cpu": 1}


@needs_gpu
@pytest.mark.parametrize("cache", ["off", "on"])
def test_no_step_waits_for_the_gpu(cohort, cache):
    inside = InsideOfSteps(
        lambda: torch.cuda.set_sync_debug_mode("error"), lambda: torch.cuda.set_sync_debug_mode("default")
    )
    learn = built(cohort, "cuda", flip=cache == "off", callbacks=[inside])
    try:
        with fitting(learn, cache=cache):
            learn.fit(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(learn.recorder.history) == 2


@needs_gpu
def test_batches_are_made_on_the_gpu_without_waiting(cohort):
    train = built(cohort, "cuda").dls.train
    images, targets = next(iter(train))
    assert images.is_cuda and targets.is_cuda and images.dtype is torch.float32
    torch.cuda.set_sync_debug_mode("error")
    try:
        sent = train.create_batch(list(range(BATCH)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(part.is_cuda for part in sent) and np.array_equal(sent[0].cpu(), train.dataset.batch(range(BATCH))[0])


@needs_gpu
def test_gpu_and_cpu_predict_the_same(cohort):
    test, probabilities = cohort.part("test"), []
    for device in ("cpu", "cuda"):
        learn = built(cohort, device, precision="float32")
        probabilities.append(
            predict(learn, test.loader(SIDE, BATCH, stats=learn.model.about.stats, device=device)).probabilities
        )
    assert np.allclose(*probabilities, atol=1e-3)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_seed_gives_the_same_weights_on_a_gpu(cohort, precision):
    weights = []
    for _ in range(2):
        learn = built(cohort, "cuda", "all", precision=precision)
        with fitting(learn, seed=1, cache="off"):
            learn.fit(1)
        weights.append([weight.clone() for weight in learn.model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights))
