"""Learners: the same seed gives the same weights, an interrupted fit continues, and errors are explained."""

import contextlib
import copy
import functools
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.tracker import EarlyStoppingCallback
from fastai.data.transforms import Normalize
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.data import ImageDataLoaders
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pneumo_utils.common.errors import StudyError
from pneumo_utils.data.cohort import TABLE_COLUMNS, Cohort
from pneumo_utils.data.pixel_cache import ImageFiles
from pneumo_utils.models import heads
from pneumo_utils.models.blocks import with_head
from pneumo_utils.models.create import trunk
from pneumo_utils.models.freezing import set_trainable
from pneumo_utils.training.callbacks import KeepBest, StopAtNaN
from pneumo_utils.training.feature_cache import feature_cache
from pneumo_utils.training.feature_store import FEATURE_STORE
from pneumo_utils.training.learner import Phase, compute_features, fit_phases, fitting, is_live, learner
from pneumo_utils.training.losses import (
    binary_cross_entropy,
    categorical_cross_entropy,
    cross_entropy,
    weighted_cross_entropy,
)
from pneumo_utils.training.metrics import Accuracy
from pneumo_utils.training.optimizers import StepDecay, adam, sgd
from pneumo_utils.training.predict import predict

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("home")
SIDE = 16


def cohort_in(root: Path, classes=("well", "ill"), count=40) -> Cohort:
    """Noise, and on its left half a brightness that the class tells; 20 images to train on, 10 to validate, 10 to
    test.
    """
    rng, rows, stamps = np.random.default_rng(0), [], []
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = rng.integers(0, 120, (SIDE, SIDE))
        pixels[:, : SIDE // 2] += 30 * (index % len(classes))
        Image.fromarray(pixels.astype(np.uint8)).save(path := root / f"{index}.png")
        rows.append(
            {
                "image": path.name,
                "patient": f"p{index}",
                "age": 5.0,
                "sex": "F",
                "view": "AP",
                "site": "",
                "labels": classes[index % len(classes)],
                "split": ["train", "train", "valid", "test"][index // 2 % 4],
                "width": SIDE,
                "height": SIDE,
                "mode": "L",
                "bytes": 1,
                "source": "made",
            }
        )
        stamps.append((path.name, path.stat().st_size, 1))
    return Cohort(
        "made",
        pd.DataFrame(rows)[TABLE_COLUMNS],
        ImageFiles(tuple(str(root / row["image"]) for row in rows), tuple(stamps)),
        list(classes),
    )


@pytest.fixture(scope="module")
def cohort(home):
    return cohort_in(home / "images")


pocket = functools.cache(lambda name: trunk(name, size="pocket", seed=0))


def network(what="all", name="resnet18", classes=2, dropout=0.5, head=heads.linear):
    body = copy.deepcopy(pocket(name))
    return set_trainable(with_head(body, head(body.about.channels, classes, dropout=dropout, seed=1)), what)


def loaders(cohort, chain, batch_size=4, **more):
    return cohort.dataloaders(size=SIDE, batch_size=batch_size, stats=chain.about.stats, device="cpu", **more)


def trained(
    cohort,
    epochs=2,
    what="conv5_x + head",
    folder=None,
    flip=False,
    rate=None,
    one_cycle=False,
    stop_at=None,
    optimizer=None,
    seed=3,
    cache="off",
    views=0,
    then=None,
    **more,
):
    """The learner after some training; `stop_at` counts steps until it breaks off."""
    chain = network(what)
    given = {"precision": "float32", "callbacks": [StopAt(stop_at)] if stop_at else ()} | more
    learn = learner(loaders(cohort, chain, flip=flip), chain, optimizer=optimizer or adam(1e-3), folder=folder, **given)
    with contextlib.suppress(Broken), fitting(learn, seed, cache, views):
        (learn.fit_one_cycle if one_cycle else learn.fit)(epochs, rate)
        if then:
            then(learn)
    return learn


def fit(learn, epochs=1, rate=None, **how):
    """Fit in the context that the chapters fit in."""
    with fitting(learn, **how):
        learn.fit(epochs, rate)
    return learn


class Broken(Exception):
    pass


class StopAt(Callback):
    """Breaks a training off in the middle of an epoch."""

    order = -100

    def __init__(self, step):
        self.at, self.steps_taken = [step], 0  # in a list it is no setting that a resumed run would have to share

    def before_step(self):
        if self.steps_taken in self.at:
            raise Broken("the power went")

    def after_step(self):
        self.steps_taken += 1


def weights(learn):
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def difference(first, second):
    return max((value - second[name]).abs().max().item() for name, value in first.items() if value.is_floating_point())


# the way of a chapter


def test_train_and_predict_in_a_few_calls(cohort, capsys):
    chain = network("conv5_x + head")
    loss = weighted_cross_entropy(cohort.part("train").weights("ratio"))
    learn = learner(
        loaders(cohort, chain), chain, loss=loss, optimizer=adam(1e-3), metrics=Accuracy(), train_metrics=True
    )
    learn.fit(3)
    assert list(learn.recorder.history) == [
        "epoch",
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "valid_accuracy",
        "lr",
        "seconds",
    ]
    assert (
        learn.recorder.history["epoch"].tolist() == [1, 2, 3]
        and learn.recorder.history["train_loss"].iloc[-1] < learn.recorder.history["train_loss"].iloc[0]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == [
        "epoch 1 of 3",
        "epoch 2 of 3",
        "epoch 3 of 3",
    ]
    predictions = predict(
        learn, cohort.part("test").loader(size=SIDE, batch_size=4, stats=chain.about.stats, device="cpu")
    )
    assert (
        predictions.images.tolist() == cohort.part("test").table["image"].tolist() and predictions.patients[0] == "p6"
    )
    assert predictions.truth.tolist() == cohort.part("test").targets().tolist() and predictions.classes == [
        "well",
        "ill",
    ]
    with learn.no_logging():
        learn.fit(1)
    assert not capsys.readouterr().out and len(learn.recorder.history) == 4


def test_predict_returns_the_softmax_of_the_network(cohort):
    learn = trained(cohort, epochs=1)
    test = cohort.part("test")
    mean, deviation = (np.float32(stats).reshape(3, 1, 1) for stats in learn.model.about.stats)
    images = torch.from_numpy((test.pixels(SIDE)[:][:, None] / np.float32(255) - mean) / deviation)
    expected = learn.model.eval()(images).softmax(dim=1).detach().numpy()
    predictions = predict(learn, test.loader(size=SIDE, batch_size=3, stats=learn.model.about.stats, device="cpu"))
    assert np.allclose(predictions.probabilities, expected, atol=1e-5)
    fastais, _ = learn.get_preds(dl=test.loader(size=SIDE, batch_size=3, stats=learn.model.about.stats, device="cpu"))
    assert np.allclose(fastais, expected, atol=1e-5)
    before = weights(learn)
    predict(learn, test.loader(size=SIDE, batch_size=3, stats=learn.model.about.stats, device="cpu"))
    assert same(before, weights(learn))


def test_data_loaders_of_fastai_train_but_know_no_patients(cohort, tmp_path):
    for row, label in enumerate(cohort.table["labels"]):
        folder = tmp_path / ("valid" if row % 4 == 0 else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cohort.pixels(SIDE)[[row]][0]).save(folder / f"{row}.png")
    dls = ImageDataLoaders.from_folder(tmp_path, bs=8, num_workers=0, device="cpu", batch_tfms=[Normalize()])
    learn = learner(dls, network("head"))
    with fitting(learn):
        learn.fit(1)
    assert len(learn.recorder.history) == 1
    with pytest.raises(StudyError, match="no image names and patients.*get_preds"):
        predict(learn, dls.valid)


def test_predict_turns_one_output_into_two_columns(cohort):
    body = pocket("mobilenetv2")
    chain = set_trainable(with_head(body, heads.single_output(body.about.channels, units=16, seed=1)), "head")
    learn = learner(
        loaders(cohort, chain),
        chain,
        loss=binary_cross_entropy(cohort.weights()),
        optimizer=sgd(1e-2, 0.9, nesterov=True, decay=1e-6),
        metrics=Accuracy(),
    )
    learn.fit(1)
    predictions = predict(
        learn, cohort.part("test").loader(size=SIDE, batch_size=4, stats=chain.about.stats, device="cpu")
    ).probabilities
    assert (
        predictions.shape == (10, 2)
        and np.allclose(predictions.sum(axis=1), 1)
        and np.isfinite(learn.recorder.history.to_numpy(dtype=float)).all()
    )


@pytest.mark.parametrize("loss, sums_to_one", [(None, False), (categorical_cross_entropy(), True)])
def test_train_with_several_labels_per_image(cohort, loss, sums_to_one):
    table = cohort.table.assign(
        labels=[
            "well|ill" if index % 3 == 0 else "ill" if index % 3 == 1 else "No Finding" for index in range(len(cohort))
        ]
    )
    several, chain = cohort.replace(table=table, multilabel=True), network("head")
    learn = learner(loaders(several, chain), chain, loss=loss, metrics=Accuracy())
    learn.fit(1)
    predictions = predict(
        learn, several.part("test").loader(size=SIDE, batch_size=4, stats=chain.about.stats, device="cpu")
    )
    assert predictions.multilabel and predictions.truth.tolist() == several.part("test").indicators().tolist()
    assert np.allclose(predictions.probabilities.sum(axis=1), 1) == sums_to_one


def test_accuracy_metric_equals_share_of_correct_predictions(cohort):
    learn = trained(cohort, epochs=1, metrics=Accuracy())
    valid = predict(
        learn, cohort.part("valid").loader(size=SIDE, batch_size=3, stats=learn.model.about.stats, device="cpu")
    )
    assert learn.recorder.history["accuracy"].iloc[-1] == pytest.approx(
        (valid.probabilities.argmax(axis=1) == valid.truth).mean()
    )
    assert learn.recorder.history["valid_loss"].iloc[-1] == pytest.approx(
        -np.log(valid.probabilities[range(10), valid.truth]).mean(), rel=1e-4
    )


def test_learner_equals_a_bare_torch_loop(cohort):
    """The same batches, by hand: fastai and all callbacks must come to the same weights."""
    learn, chain = trained(cohort, epochs=2, what="all", optimizer=sgd(0.01, 0.9)), network("all", dropout=0.5)
    chain.to(memory_format=torch.channels_last)
    optimizer, dls = torch.optim.SGD(chain.parameters(), 0.01, momentum=0.9), loaders(cohort, chain)
    dls.train.rng.seed(3)
    torch.manual_seed(3)
    for _ in range(2):
        for part in dls.loaders:
            chain.train(part is dls.train)
            for images, truth in part:
                if part is dls.train:
                    optimizer.zero_grad()
                    images, truth = images.as_subclass(torch.Tensor), truth.as_subclass(torch.Tensor)
                    F.cross_entropy(chain(images.contiguous(memory_format=torch.channels_last)), truth).backward()
                    optimizer.step()
    assert difference(weights(learn), chain.state_dict()) < 1e-5


# the same seed, the same weights


def test_same_seed_gives_same_weights(cohort):
    first, again, other = (weights(trained(cohort, flip=True, seed=seed)) for seed in (3, 3, 4))
    assert same(first, again) and not same(first, other)


def test_number_of_workers_does_not_change_weights(cohort):
    chains = [network("conv5_x + head") for _ in range(2)]
    for chain, workers in zip(chains, (0, 2)):
        dls = loaders(cohort, chain, flip=True)
        dls.train.fake_l.num_workers = workers
        fit(learner(dls, chain), cache="off", seed=3)
    assert same(chains[0].state_dict(), chains[1].state_dict())


@pytest.mark.parametrize("flip, cache", [(True, "off"), (False, "on")])
def test_training_restores_the_global_random_state(cohort, flip, cache):
    def state():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
            dls.train.rng.getstate(),
        )

    chain = network("conv5_x + head")
    dls = loaders(cohort, chain, flip=flip)
    before = state()
    fit(learner(dls, chain), cache=cache)
    assert before == state()


def test_loaders_can_be_reused(cohort):
    chains = [network("conv5_x + head") for _ in range(2)]
    dls = loaders(cohort, chains[0], flip=True)
    for chain in chains:
        fit(learner(dls, chain), cache="off", seed=3)
    assert same(chains[0].state_dict(), chains[1].state_dict())


def test_two_fits_equal_one_long_fit(cohort):
    from pneumo_utils.training.random_state import RandomState

    random_state = RandomState(3)
    whole, parts = trained(cohort, epochs=3, flip=True), trained(cohort, epochs=1, flip=True, seed=random_state)
    parts.validate()
    fit(parts, 2, seed=random_state, cache="off")
    assert (
        same(weights(whole), weights(parts))
        and whole.recorder.history["train_loss"].tolist() == parts.recorder.history["train_loss"].tolist()
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("what", ["head", "conv5_x + head", "conv5_x"])
def test_cached_features_give_the_same_weights(cohort, what, precision):
    """The frozen layers are computed in the number format of the training, so what follows rounds as it would have."""
    plain, quick = (
        trained(cohort, what=what, cache=cache, precision=precision, optimizer=sgd(0.01, 0.9, nesterov=True))
        for cache in ("off", "on")
    )
    assert difference(weights(plain), weights(quick)) < 1e-5 and not same(weights(plain), network(what).state_dict())


def test_learner_finds_features_computed_before(cohort, capsys):
    FEATURE_STORE.held.clear()
    chain = network("conv5_x + head")
    compute_features(loaders(cohort, chain), chain, precision="float32")
    assert "computed once" in capsys.readouterr().out
    inside = []
    quick = trained(cohort, cache="auto", then=lambda learn: inside.append(learn.model))
    plain = trained(cohort, cache="off")
    assert "computed once" not in capsys.readouterr().out and inside[0] is not quick.model
    assert difference(weights(plain), weights(quick)) < 1e-5


@pytest.mark.parametrize("what", ["head", "conv5_x + head", "all but batch norm"])
def test_frozen_weights_do_not_change(cohort, what):
    learn, start = trained(cohort, what=what), network(what)
    learning = {name for name, weight in start.named_parameters() if weight.requires_grad}
    changed = {name for name, value in start.state_dict().items() if not torch.equal(value, weights(learn)[name])}
    statistics = {name for name in changed if "running" in name or "batches" in name}
    assert learning <= changed and all(name.startswith("conv5_x") for name in statistics if what == "conv5_x + head")
    assert changed - learning == statistics and (statistics == set()) == (what != "conv5_x + head")


def test_fastai_unfreeze_does_not_unfreeze_frozen_blocks(cohort):
    learn = trained(cohort, epochs=0, what="head")
    learn.create_opt()
    learn.unfreeze()
    learn.fit(1)
    start = network("head").state_dict()
    assert {name.split(".")[0] for name, value in weights(learn).items() if not torch.equal(value, start[name])} == {
        "head"
    }


def test_bfloat16_training_keeps_weights_in_float32(cohort):
    learn, plain = (trained(cohort, what="all", precision=precision) for precision in ("bfloat16", "float32"))
    assert {value.dtype for value in learn.model.parameters()} == {torch.float32}
    assert (
        0 < difference(weights(learn), weights(plain))
        and abs(learn.recorder.history["train_loss"] - plain.recorder.history["train_loss"]).max() < 0.1
    )


# optimisers and schedules in the loop


def test_default_weight_decay_is_zero(cohort):
    for learn in (
        trained(cohort, epochs=1),
        trained(cohort, epochs=1, one_cycle=True, rate=1e-3),
        trained(cohort, epochs=1, optimizer=sgd(1e-3)),
    ):
        assert {hyper["wd"] for hyper in learn.opt.hypers} == {0}


def test_slice_of_rates_spreads_over_blocks(cohort):
    learn = trained(cohort, epochs=1, what="conv4_x + conv5_x + head", rate=slice(1e-5, 1e-3))
    assert [hyper["lr"] for hyper in learn.opt.hypers] == pytest.approx([1e-5, 1e-4, 1e-3])
    assert len(learn.opt.param_lists[2]) == 2, "weight and bias of the head"


def test_step_decay_lowers_the_rate(cohort):
    learn = trained(
        cohort, epochs=5, what="head", cache="on", callbacks=[StepDecay(every=2, factor=0.1)], rate=slice(1e-2)
    )
    assert learn.recorder.history["lr"].tolist() == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4])
    later = trained(
        cohort, epochs=2, what="head", cache="on", callbacks=[StepDecay(every=2, factor=0.1, before=3)], rate=1e-2
    )
    assert later.recorder.history["lr"].tolist() == pytest.approx([1e-3, 1e-4])


def test_one_cycle_rate_rises_and_falls(cohort):
    rates = trained(cohort, epochs=2, what="head", cache="on", one_cycle=True, rate=1e-2).recorder.lrs
    assert max(rates) == pytest.approx(1e-2, rel=0.1) and rates[0] == pytest.approx(1e-2 / 25) and rates[-1] < 1e-3


def test_lr_find_does_not_train(cohort, tmp_path):
    learn = trained(cohort, epochs=1, folder=tmp_path, max_steps=100)
    before, rows = weights(learn), len(learn.recorder.history)
    with learn.no_logging():
        learn.lr_find(num_it=12, end_lr=1e3, show_plot=False)
    assert same(before, weights(learn)) and len(learn.recorder.history) == rows == learn.checkpoint.fits == 1


# when it ends, and with which weights


class Told(Callback):
    """Says what the validation loss was."""

    order = 54

    def __init__(self, *values):
        self.values = list(values)

    def after_epoch(self):
        value, column = self.values[self.epoch], list(self.recorder.metric_names[1:]).index("valid_loss")
        self.recorder.rows[self.epoch]["valid_loss"] = self.recorder.values[-1][column] = value


@pytest.mark.parametrize(
    "losses, patience, epochs",
    [
        ([0.5, 0.4, 0.3995, 0.2], 1, 3),
        ([0.5, 0.4, 0.398, 0.39], 1, 4),
        ([0.5, 0.6, 0.4999, 0.4], 2, 3),
        ([0.5, 0.6, 0.4, 0.5], 2, 4),
        ([0.5, 0.499, 0.4, 0.3], 1, 2),
    ],
)
def test_early_stopping_counts_epochs_as_keras_does(cohort, losses, patience, epochs, capsys):
    callbacks = [Told(*losses), EarlyStoppingCallback(min_delta=1e-3, patience=patience)]
    learn = trained(cohort, epochs=4, what="head", cache="on", callbacks=callbacks)
    assert len(learn.recorder.history) == epochs and ("early stopping" in capsys.readouterr().out) == (epochs < 4)


def test_keep_best_restores_weights_of_the_best_epoch(cohort, tmp_path):
    from safetensors.torch import load_file

    callback = Told(0.5, 0.3, 0.4, 0.6)
    learn, best = (
        trained(cohort, epochs=epochs, callbacks=[callback, KeepBest()], folder=folder)
        for epochs, folder in ((4, tmp_path), (2, None))
    )
    last = trained(cohort, epochs=4)
    assert same(weights(learn), weights(best)) and not same(weights(learn), weights(last))
    assert same(load_file(tmp_path / "best.safetensors"), weights(best))


def test_max_steps_limits_training(cohort, capsys):
    learn = trained(cohort, epochs=5, what="head", max_steps=7)
    history = learn.recorder.history
    assert learn.max_steps.steps == 7 and len(history) == 2 and history.notna().all(axis=None)
    assert "stopped after 7 steps (max_steps)" in capsys.readouterr().out
    learn.fit(1)
    assert learn.max_steps.steps == 7 and len(learn.recorder.history) == 2
    assert len(learn.get_preds()[0]) == 10, "predictions are of all images"


def test_epoch_length_can_be_set_in_steps(cohort):
    chain = network("head")
    learn = fit(learner(loaders(cohort, chain), chain, steps_per_epoch=12), 2, seed=3, cache="on")
    assert learn.train_iter == 24 and len(learn.recorder.history) == 2


# going on after a stop


@pytest.mark.parametrize("one_cycle", [False, True])
@pytest.mark.parametrize("cache", ["off", "on"])
def test_resumed_run_gives_the_same_weights(cohort, tmp_path, one_cycle, cache):
    given = {"epochs": 3, "one_cycle": one_cycle, "rate": 1e-3, "cache": cache, "callbacks": ()}
    whole = trained(cohort, **given)
    given |= {"folder": tmp_path}
    stopped = trained(cohort, **given | {"callbacks": [StopAt(12)]})
    assert len(stopped.recorder.history) == 2 and not same(weights(stopped), weights(whole))
    given |= {"callbacks": [StopAt(None)]}
    resumed = trained(cohort, **given)
    assert same(weights(resumed), weights(whole)) and resumed.train_iter == whole.train_iter == 15
    columns = ["epoch", "train_loss", "valid_loss", "lr"]
    pd.testing.assert_frame_equal(resumed.recorder.history[columns], whole.recorder.history[columns])
    again = trained(cohort, **given)
    assert same(weights(again), weights(whole)) and len(again.recorder.lrs) == 0, (
        "a finished fit is found and not done again"
    )


def test_resume_restores_flips_dropout_best_weights_and_patience(cohort, tmp_path):
    def run(stop, folder):
        return trained(
            cohort,
            epochs=5,
            what="all",
            flip=True,
            folder=folder,
            optimizer=sgd(1e-2, 0.9, nesterov=True, decay=0.01),
            callbacks=[
                Told(0.5, 0.3, 0.4, 0.6, 0.7),
                EarlyStoppingCallback(min_delta=1e-3, patience=2),
                KeepBest(),
                StopAt(stop),
            ],
        )

    whole = run(None, None)
    run(17, tmp_path)
    resumed = run(None, tmp_path)
    assert same(weights(whole), weights(resumed)) and len(whole.recorder.history) == len(resumed.recorder.history) == 4


def test_resume_continues_several_fits_in_order(cohort, tmp_path):
    def run(stop, folder):
        callbacks = [StopAt(stop)]
        return trained(cohort, epochs=1, folder=folder, callbacks=callbacks, then=lambda learn: learn.fit(2, 1e-4))

    whole = run(None, None)
    run(12, tmp_path)
    resumed = run(None, tmp_path)
    assert same(weights(whole), weights(resumed)) and resumed.recorder.history["epoch"].tolist() == [1, 2, 3]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_learner import StopAt, cohort_in, trained
def kill(self):
    if self.steps_taken in self.at:
        os.kill(os.getpid(), signal.SIGKILL)
StopAt.before_step = kill
trained(cohort_in(Path({images!r})), epochs=3, folder={folder!r}, stop_at=13)
"""


def test_resume_after_a_killed_process(cohort, home, tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), images=str(home / "images"), folder=str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert json.loads((tmp_path / "fit-1.json").read_text())["epochs"] == 2
    whole, resumed = trained(cohort, epochs=3), trained(cohort, epochs=3, folder=tmp_path, callbacks=[StopAt(None)])
    assert same(weights(whole), weights(resumed)) and len(resumed.recorder.lrs) == 5


@pytest.mark.parametrize(
    "other, named",
    [
        ({"optimizer": adam(1e-2)}, "optimizer"),
        ({"what": "head"}, "trainable weights"),
        ({"epochs": 4}, "epochs"),
        ({"seed": 9}, "seed"),
        ({"flip": True}, "data"),
        ({"loss": weighted_cross_entropy([1, 2])}, "loss"),
        ({"rate": 5e-4}, "optimizer"),
        ({"memory_format": "contiguous"}, "device and precision"),
        ({"callbacks": [StepDecay(2)]}, "schedule and callbacks"),
        ({"one_cycle": True}, "schedule and callbacks"),
        ({"max_steps": 3}, "steps"),
    ],
)
def test_resume_refuses_other_settings(cohort, tmp_path, other, named):
    given = {"epochs": 1, "folder": tmp_path}
    trained(cohort, **given)
    with pytest.raises(StudyError, match=f"holds a training with other settings .*{named}.*Choose another folder"):
        trained(cohort, **given | other)


def test_weights_inside_of_fastais_loss_are_a_setting(cohort, tmp_path):
    trained(cohort, epochs=1, folder=tmp_path, loss=CrossEntropyLossFlat(weight=torch.tensor([1.0, 2.0])))
    with pytest.raises(StudyError, match=r"other settings \(loss\)"):
        trained(cohort, epochs=1, folder=tmp_path, loss=CrossEntropyLossFlat(weight=torch.tensor([1.0, 3.0])))


def test_resume_refuses_other_images(cohort, tmp_path):
    trained(cohort, epochs=1, folder=tmp_path)
    with pytest.raises(StudyError, match=r"other settings \(data\)"):
        trained(cohort.without(["1.png"]), epochs=1, folder=tmp_path)


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone", "page"])
def test_damaged_checkpoint_starts_over(cohort, tmp_path, harm, capsys):
    whole = trained(cohort, epochs=2, folder=tmp_path)
    assert "is damaged" not in capsys.readouterr().out
    state, page = next(tmp_path.glob("*.pt")), tmp_path / "fit-1.json"
    content = state.read_bytes()
    if harm == "gone":
        state.unlink()
    elif harm == "page":
        page.write_text("{")
    else:
        state.write_bytes(
            content[:-100] if harm == "cut" else content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        )
    again = trained(cohort, epochs=2, folder=tmp_path)
    assert "is damaged on disk; beginning again" in capsys.readouterr().out
    assert same(weights(whole), weights(again)) and len(again.recorder.lrs) == 10


def test_checkpoint_holds_no_pickled_code(cohort, tmp_path):
    trained(cohort, epochs=2, folder=tmp_path, one_cycle=True, rate=1e-3, callbacks=[KeepBest()])
    states = list(tmp_path.glob("*.pt"))
    assert [path.name for path in states] == ["fit-1-epoch-2.pt"], "older states are removed"
    assert set(torch.load(states[0], weights_only=True)) == {"weights", "optimizer", "random", "callbacks"}


def test_checkpoint_holds_trainable_tensors_only(cohort, tmp_path):
    trained(cohort, epochs=1, what="head", folder=tmp_path)
    assert set(torch.load(tmp_path / "fit-1-epoch-1.pt", weights_only=True)["weights"]) == {
        "head.answer.weight",
        "head.answer.bias",
    }


# phases


def test_phases_unfreeze_the_trunk(cohort, tmp_path):
    plan = [
        Phase("head", epochs=2, optimizer=adam(1e-3)),
        Phase("conv5_x + head", epochs=2, optimizer=adam(1e-4), callbacks=[KeepBest()]),
    ]
    chain = network("none")
    course = fit_phases(loaders(cohort, chain), chain, plan, loss=cross_entropy(), seed=2, folder=tmp_path)
    assert (
        course.released == [2]
        and course.history["epoch"].tolist() == [1, 2, 3, 4]
        and course.history["phase"].tolist() == [1, 1, 2, 2]
    )
    assert course.history["lr"].tolist() == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4]) and course.learn.model is chain
    start, end = network("none").state_dict(), chain.state_dict()
    assert {name.split(".")[0] for name, value in start.items() if not torch.equal(value, end[name])} == {
        "conv5_x",
        "head",
    }
    again = network("none")
    result = fit_phases(loaders(cohort, again), again, plan, loss=cross_entropy(), seed=2, folder=tmp_path)
    assert (
        same(end, again.state_dict()) and result.history["train_loss"].tolist() == course.history["train_loss"].tolist()
    )


def test_phases_give_same_weights_with_and_without_feature_cache(cohort):
    ends = []
    for cache in ("off", "on"):
        chain = network("none", dropout=0.5)
        fit_phases(
            loaders(cohort, chain),
            chain,
            [Phase("head", 1, sgd(0.01), cache=cache), Phase("conv5_x + head", 1, sgd(0.01), cache=cache)],
            precision="float32",
            seed=2,
        )
        ends.append(chain.state_dict())
    assert difference(*ends) < 1e-5


# fastai's own ways


def test_full_model_is_restored_after_an_error(cohort):
    chain = network("head")
    dls = loaders(cohort, chain)
    learn = learner(dls, chain, precision="bfloat16", callbacks=[StopAt(2)])
    assert type(learn) is Learner
    with pytest.raises(Broken), fitting(learn, cache="on"):
        assert learn.model is not chain and learn.dls is not dls
        learn.fit(1)
    assert learn.model is chain and learn.dls is dls and "full_model" not in vars(learn)
    assert not any(module._forward_hooks for module in chain.modules()), "nothing of the number format is left"


def test_callbacks_work_on_a_hand_made_learner(cohort):
    """fastai's Learner with its own loss, metric and callbacks, on a cached prefix and without one."""
    from fastai.metrics import accuracy
    from fastai.optimizer import Adam

    from pneumo_utils.training.random_state import seeded

    ends = []
    for cache in (False, True):
        chain = network("head")
        learn = Learner(
            loaders(cohort, chain), chain, loss_func=CrossEntropyLossFlat(), opt_func=Adam, lr=1e-3, metrics=accuracy
        )
        with learn.no_logging(), learn.no_bar():
            with feature_cache(learn) if cache else contextlib.nullcontext(), seeded(3, learn.dls.train):
                learn.fit(2)
        ends.append(chain.state_dict())
    assert difference(*ends) < 1e-5 and not same(ends[0], network("head").state_dict())


def test_fastai_tools_work_on_the_learner(cohort, tmp_path, monkeypatch, closed_figures):
    import matplotlib.pyplot as plt
    from fastai.vision.all import Interpretation

    monkeypatch.chdir(tmp_path)
    learn = trained(cohort, epochs=1, what="conv5_x + head", metrics=Accuracy())
    with learn.no_logging(), learn.no_bar():
        suggested = learn.lr_find(num_it=12, show_plot=False)
        learn.fine_tune(1, freeze_epochs=1)
        learn.fit_one_cycle(1, 1e-3)
        learn.show_results(max_n=2)
        interpretation = Interpretation.from_learner(learn)
        losses, rows = interpretation.top_losses(3)
        with plt.rc_context({"axes.titlelocation": "center"}):
            interpretation.plot_top_losses(3)
    assert [axes.get_title().split(" / ")[1] for axes in plt.gcf().axes[:3]] == [
        f"{float(loss):.2f}" for loss in losses
    ]
    assert suggested.valley > 0 and len(losses) == 3 and losses[0] >= losses[2] and len(learn.recorder.history) == 4
    learn.save("kept")
    before = weights(learn)
    learn.fit(1, 0.1)
    learn.load("kept", weights_only=True)
    assert same(before, weights(learn))


def test_second_feature_cache_is_refused(cohort):
    chain = network("head")
    learn = learner(loaders(cohort, chain), chain)
    with pytest.raises(StudyError, match="cached already"), feature_cache(learn), feature_cache(learn):
        pass
    assert learn.model is chain


def test_checkpoint_without_recorder_is_refused(cohort, tmp_path):
    from pneumo_utils.training.checkpoint import Checkpoint

    chain = network("head")
    learn = Learner(loaders(cohort, chain), chain, loss_func=cross_entropy(), cbs=Checkpoint(tmp_path))
    with pytest.raises(StudyError, match="Checkpoint needs the callbacks Recorder and Precision"):
        learn.fit(1)


def test_unsupported_fastai_version_is_refused(cohort, monkeypatch):
    from importlib import metadata

    chain = network("head")
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.0")
    with pytest.raises(StudyError, match="fastai 2.9.0 is installed, and this package is tested with fastai 2.8.x"):
        learner(loaders(cohort, chain), chain)


# what goes wrong


def test_learner_without_trainable_weights_is_refused(cohort):
    chain = network("none")
    with pytest.raises(StudyError, match="All weights of resnet18 are frozen, so there is nothing to train"):
        learner(loaders(cohort, chain), chain)


def test_every_class_false_allows_missing_classes(cohort):
    chain, fewer = (
        network("head"),
        cohort.where((cohort.table["labels"] == "well") | (cohort.table["split"] != "train")),
    )
    learn = learner(loaders(fewer, chain), chain, every_class=False)
    with learn.no_logging():
        learn.fit(1)
    assert np.isfinite(learn.recorder.history["train_loss"]).all()


def test_class_without_training_images_is_refused(cohort):
    chain, fewer = (
        network("head"),
        cohort.where((cohort.table["labels"] == "well") | (cohort.table["split"] != "train")),
    )
    with pytest.raises(StudyError, match="no image of the class 'ill': it cannot be learned"):
        learner(loaders(fewer, chain), chain)
    absent_elsewhere = cohort.where((cohort.table["labels"] == "well") | (cohort.table["split"] == "train"))
    fit(learner(loaders(absent_elsewhere, chain), chain, metrics=Accuracy()))


def test_label_without_positive_training_image_is_refused(cohort):
    chain, several = network("head"), cohort.replace(table=cohort.table.assign(labels="ill"), multilabel=True)
    with pytest.warns(UserWarning, match="No training image has well"):
        learner(loaders(several, chain), chain)


def test_class_weights_of_other_classes_are_refused(cohort):
    chain = network("head")
    with pytest.raises(StudyError, match="weights for ill, well, and the images have the classes well, ill"):
        learner(loaders(cohort, chain), chain, loss=weighted_cross_entropy({"ill": 1, "well": 2}))


def test_head_of_wrong_width_is_refused(cohort):
    chain = network("head", classes=3)
    with pytest.raises(StudyError, match=r"^CrossEntropy cannot compare outputs of shape \(4, 3\)"):
        fit(learner(loaders(cohort, chain), chain, loss=weighted_cross_entropy([1, 2])))


def test_unknown_cache_option_is_refused(cohort):
    chain = network("head")
    with pytest.raises(StudyError, match='cache is "auto", "on" or "off", not \'yes\''):
        fit(learner(loaders(cohort, chain), chain), cache="yes")


def test_cache_on_with_augmentation_is_refused(cohort):
    chain = network("head")
    with pytest.raises(StudyError):
        fit(learner(loaders(cohort, chain, flip=True), chain), cache="on")
    learn = learner(loaders(cohort, chain, flip=True), chain)
    with fitting(learn):
        assert learn.model is chain, "left to itself it goes the plain way"


def explodes_at(step):
    """A loss that is infinite from one step on."""

    class Explodes(Callback):
        order = 44

        def after_loss(self):
            if self.training and self.learn.train_iter >= step:
                self.learn.loss_grad = self.learn.loss_grad * float("nan")
                self.learn.loss = self.learn.loss_grad.clone()

    return Explodes()


@pytest.mark.parametrize(
    "step, epoch, kept", [(1, 1, "the weights it began with"), (7, 2, "the weights it had after epoch 1")]
)
def test_nan_loss_stops_training(cohort, step, epoch, kept):
    chain = network("conv5_x + head")
    learn = learner(loaders(cohort, chain), chain, precision="float32", callbacks=[explodes_at(step)])
    with pytest.raises(
        StudyError,
        match=rf"^The loss was NaN or infinite in epoch {epoch}, step {step % 5 + 1} of "
        rf"the training, though no pixel was"
        rf".*The images were \d+.png, \d+.png, \d+.png, \d+.png. Lower the learning "
        rf"rate, now 0.001. .*{kept}",
    ):
        fit(learn, 3, cache="off", seed=3)
    assert same(weights(learn), weights(trained(cohort, epochs=epoch - 1)) if epoch > 1 else network().state_dict())
    learn.remove_cb(learn.explodes)
    learn.fit(1, 1e-4)
    assert np.isfinite(learn.recorder.history["train_loss"]).all()


def test_diverging_training_is_stopped(cohort):
    with pytest.raises(StudyError, match="The loss was NaN or infinite"):
        trained(cohort, epochs=20, what="all", optimizer=sgd(1e25))


def test_nan_pixels_are_reported(cohort):
    from fastai.data.transforms import Transform
    from fastai.torch_core import TensorImage

    class Breaks(Transform):
        order, split_idx = 5, 0

        def encodes(self, x: TensorImage):
            seen.append(x.shape)
            return x.index_fill(0, torch.tensor([2]), float("nan")) if len(seen) == 3 else x

    chain, seen = network("conv5_x + head"), []
    dls = loaders(cohort, chain, batch_tfms=[Breaks()])
    learn = learner(dls, chain)
    seen.clear()  # fastai has drawn a batch to learn its shape
    with pytest.raises(
        StudyError, match="pixels that are NaN or infinite in epoch 1, step 3 of the training, in "
    ) as error:
        fit(learn, cache="off", seed=3)
    order = random.Random(3)
    row = random.Random(order.randint(0, 2**32 - 1)).sample(range(20), 20)[10]  # the third of the third batch of four
    assert f"in {cohort.part('train').table['image'].iloc[row]}. Look" in str(error.value)
    assert same(weights(learn), network().state_dict())


def test_nan_validation_loss_is_reported(cohort):
    class Spoils(Callback):
        order = 44

        def after_loss(self):
            if not self.training:
                self.learn.loss = self.learn.loss * float("nan")

    with pytest.raises(
        StudyError,
        match=r"in epoch 1, step 1 of the validation.*images were 4.png, 5.png, 12.png, "
        r"13.png",
    ):
        trained(cohort, epochs=1, what="head", callbacks=[Spoils()])


def test_batch_of_one_with_batch_norm_is_refused(cohort):
    body = nn.Sequential  # a head with batch norm behind the pool sees one value a channel
    chain = network("head", dropout=0)
    chain.head.append(nn.BatchNorm1d(2))
    set_trainable(chain, "head")
    with pytest.raises(
        StudyError, match="Batch norm cannot learn from a batch of 1 x 3 x 16 x 16.*Raise batch_size to 2"
    ):
        fit(learner(loaders(cohort, chain, batch_size=1), chain), cache="off")
    fit(learner(loaders(cohort, chain, batch_size=1), chain := network("all"), max_steps=2), cache="off")
    assert isinstance(chain, body), "where maps have several positions a batch of one is enough"


def test_too_small_images_are_refused(cohort):
    chain = network("head", name="vgg16")
    with pytest.raises(StudyError, match="Images of 4 pixels are too small for pocket vgg16"):
        learner(cohort.dataloaders(size=4, batch_size=4, stats=chain.about.stats, device="cpu"), chain)
    learn = learner(loaders(cohort, chain), chain)
    with pytest.raises(StudyError, match="Images of 4 x 4 pixels are too small for this trunk"):
        predict(learn, cohort.part("test").loader(size=4, batch_size=4, stats=chain.about.stats, device="cpu"))


class Greedy(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        if self.error:
            raise self.error
        return x + torch.empty(10**15)


@pytest.mark.parametrize(
    "error", [None, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
)
def test_out_of_memory_error_names_a_remedy(cohort, error):
    chain = network("head", head=lambda *given, **more: nn.Sequential(Greedy(error), heads.linear(*given, **more)))
    with pytest.raises(
        StudyError, match="Memory ran out at a batch of 4 x 3 x 16 x 16. Lower batch_size or image_size"
    ):
        fit(learner(loaders(cohort, chain), chain), cache="off")


def test_other_errors_are_raised_unchanged(cohort):
    chain = network(
        "head", head=lambda *given, **more: nn.Sequential(Greedy(ValueError("mine")), heads.linear(*given, **more))
    )
    with pytest.raises(ValueError, match="^mine$"):
        fit(learner(loaders(cohort, chain), chain), cache="off")


# who looks on


class Kernel:
    def __init__(self, asks):
        self.kernel = type("Kernel", (), {"_allow_stdin": asks})()


@pytest.mark.parametrize("asks, ours, live", [(True, False, True), (False, False, False), (True, True, False)])
def test_progress_bar_is_shown_in_a_live_notebook(cohort, monkeypatch, capsys, asks, ours, live):
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", lambda: Kernel(asks))
    monkeypatch.delenv("PNEUMO_RUN", raising=False)
    if ours:
        monkeypatch.setenv("PNEUMO_RUN", "here")
    assert is_live() == live
    chain = network("head")
    learn = fit(learner(loaders(cohort, chain), chain), cache="off")
    assert hasattr(learn, "progress") == live and ("epoch 1 of 1" in capsys.readouterr().out) != live


def test_progress_bar_is_not_shown_in_a_terminal(cohort):
    assert not is_live() and not hasattr(trained(cohort, epochs=0), "progress")


class NaNLoss(Callback):
    """Make the loss of one training step NaN."""

    order = 40

    def __init__(self, step):
        self.step = step

    def after_loss(self):
        if self.training and self.train_iter == self.step:
            self.learn.loss_grad = self.learn.loss_grad * float("nan")
            self.learn.loss = self.learn.loss_grad.clone()


def test_stop_at_nan_restores_weights_in_a_learner_of_fastai(cohort):
    chain = network("head")
    learn = Learner(
        loaders(cohort, chain), chain, loss_func=CrossEntropyLossFlat(), lr=1e-3, cbs=[StopAtNaN(), NaNLoss(7)]
    )
    with pytest.raises(StudyError, match="in epoch 2, step 3 of the training.*weights it had after epoch 1"):
        with fitting(learn), learn.no_bar(), learn.no_logging():
            learn.fit(3)
    assert all(weight.isfinite().all() for weight in chain.parameters())


def test_keep_best_remembers_its_epoch_through_a_validation(cohort):
    chain = network("head")
    learn = learner(loaders(cohort, chain), chain, callbacks=[KeepBest()])
    with fitting(learn), learn.no_bar():
        learn.fit(2)
    best, before = learn.keep_best.best_epoch, weights(learn)
    learn.validate()
    assert learn.keep_best.best_epoch == best > 0 and same(weights(learn), before)


def test_an_error_before_the_first_batch_stays_what_it_is(cohort):
    chain = network("head")
    learn = learner(loaders(cohort, chain), chain)
    with pytest.raises(ValueError, match="of the caller"), fitting(learn, cache="off"):
        raise ValueError("of the caller")
    with pytest.raises(StudyError, match="Memory ran out at a batch of this size"), fitting(learn, cache="off"):
        raise MemoryError


def test_a_phase_without_epochs_is_refused():
    with pytest.raises(StudyError, match="A phase of 0 epochs trains nothing"):
        Phase("head", epochs=0)
