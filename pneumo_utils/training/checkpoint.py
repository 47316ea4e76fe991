"""Go on with a training that was interrupted."""

import inspect
import io
import random
from contextlib import contextmanager
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import TrainEvalCallback
from fastai.callback.progress import ProgressCallback
from torch import nn

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import digest_of, read_json, room_for, sha, write, write_json
from pneumo_utils.training.history import Recorder
from pneumo_utils.training.stopping import Watch, changing, restore, snapshot

ALWAYS_THERE = (TrainEvalCallback, Recorder, ProgressCallback, Watch)  # a bar or none, it is the same training
MOMENTS = (0.0, 0.25, 0.5, 0.75, 0.999)
PLAIN = (bool, int, float, str, type(None))


def facts(learn) -> dict:
    """Of the fit that is about to begin, each under the name by which a message tells of it."""
    compute = learn.compute
    return {
        "network": [learn.whole.about.name, learn.whole.about.size, learn.whole.about.weights],
        "weights": digest_of_weights(learn.whole),
        "what learns": sha("\n".join(sorted(changing(learn.whole))))[:16],
        "data": [_of_loader(each) for each in learn.plain.loaders],
        "loss": repr(learn.loss_func),
        "optimizer": [
            repr(learn.opt_func),
            *({name: _plain(value) for name, value in hyper.items()} for hyper in learn.opt.hypers),
        ],
        "schedule and callbacks": [_of_callback(each) for each in learn.cbs if not isinstance(each, ALWAYS_THERE)],
        "metrics": list(learn.recorder.metric_names),
        "epochs": learn.n_epoch,
        "steps": [learn.steps_per_epoch, learn.max_steps],
        "seed": sha(learn.chance.states["torch"].numpy().tobytes() + repr(learn.chance.states["order"]).encode())[:16],
        "computed": [compute.device.type, compute.precision, compute.memory_format, learn.model is learn.whole],
        "versions": [metadata.version("torch"), metadata.version("fastai")],
    }


def digest_of_weights(network: nn.Module) -> str:
    """Compute a digest of all weights and buffers of a network."""
    running = sha256()
    for name, weight in network.state_dict().items():
        running.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        running.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return running.hexdigest()[:16]


def _of_loader(loader) -> str:
    data, transforms = loader.dataset, getattr(getattr(loader, "after_batch", None), "fs", [])
    return digest_of(
        [
            len(data),
            getattr(loader, "bs", None),
            loader.drop_last,
            _plain(getattr(data, "origin", None)),
            _plain(getattr(getattr(data, "pixels", None), "rows", None)),
            _plain(getattr(data, "targets", None)),
            [
                [type(each).__qualname__, {name: _plain(value) for name, value in vars(each).items()}]
                for each in transforms
            ],
        ]
    )[:16]


def _of_callback(callback) -> list:
    """Its kind and settings; of a schedule, what it says at five moments."""
    given = [
        name
        for name in inspect.signature(type(callback).__init__).parameters
        if isinstance(vars(callback).get(name, callback), PLAIN)
    ]
    settings = {name: repr(vars(callback)[name]) for name in given}
    schedules = {name: [_plain(told(at)) for at in MOMENTS] for name, told in vars(callback).get("scheds", {}).items()}
    return [type(callback).__qualname__, settings, schedules]


def _plain(value):
    """A value as JSON has it; what cannot be written down counts by its kind."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.size > 64:
        return sha(np.ascontiguousarray(value).tobytes())[:16]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if isinstance(value, PLAIN) else type(value).__qualname__


class Chance:
    """States of all generators, begun from one seed: taken up for the length of a fit, and put away after it for the
    next fit to go on from.
    """

    def __init__(self, seed: int):
        self.states = {
            "torch": torch.Generator().manual_seed(seed).get_state(),
            "cuda": [],
            "seed": seed,
            "numpy": np.random.RandomState(seed % 2**32).get_state(),
            "python": random.Random(seed).getstate(),
            "order": random.Random(seed).getstate(),
        }

    @contextmanager
    def thrown(self, loader):
        """Inside, chance is this training's own; outside, all generators are as they were found."""
        found = current(loader)
        set_to(self.states, loader)
        try:
            yield
        finally:
            self.states = current(loader)
            set_to(found, loader)


def current(loader) -> dict:
    """The states of all generators, the loader's own included."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": np.random.get_state(),
        "python": random.getstate(),
        "order": loader.rng.getstate() if hasattr(loader, "rng") else None,
    }


def set_to(states: dict, loader) -> None:
    """Restore the random states of torch, NumPy, Python and the loader."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"]) if states["cuda"] else torch.cuda.manual_seed_all(states["seed"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
    if hasattr(loader, "rng"):  # fastai's loaders have it, torch's draw from torch
        loader.rng.setstate(states["order"])


def written(states: dict) -> dict:
    """The states in kinds of value that `torch.load(weights_only=True)` reads."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": [name, torch.from_numpy(key.astype(np.int64)), *rest]}


def read(states: dict) -> dict:
    """Convert the NumPy random state from tensors, as loaded from a file, back to arrays."""
    name, key, *rest = states["numpy"]
    return states | {"numpy": (name, key.numpy().astype(np.uint32), *rest)}


class Saved:
    """The state of one fit of a learner, on disk."""

    def __init__(self, learn):
        self.learn, self.folder, self.name = learn, Path(learn.folder), f"fit-{learn.fits}"
        self.facts = facts(learn)
        with room_for(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def take_up(self) -> int:
        """Put the learner back to where the fit was left, and say how many epochs were finished then."""
        page = self._page()
        if page is None:
            return 0
        if different := [name for name in self.facts if page["facts"].get(name) != self.facts[name]]:
            raise StudyError(
                f"{self.folder} holds a training with other settings ({', '.join(different)}). Choose "
                f"another folder, or remove this "
                "one to begin again."
            )
        state = self._state(page)
        if state is None:
            return 0
        learn = self.learn
        restore(learn.whole, state["weights"])
        learn.opt.load_state_dict(state["optimizer"])
        set_to(read(state["chance"]), learn.dls.train)
        for callback in _with_state(learn):
            callback.load_state_dict(state["callbacks"][callback.name])
        learn.rows[:], learn.train_iter, learn.steps, learn.enough = (
            page["history"],
            page["steps"],
            page["all steps"],
            page["enough"],
        )
        going_on = "; going on from there" if page["epochs"] < learn.n_epoch and not learn.enough else ""
        learn.say(f"epoch {page['epochs']} of {learn.n_epoch} was finished before{going_on}")
        return page["epochs"]

    def write(self, epochs: int) -> None:
        """Save the state of the fit after an epoch and remove the older state."""
        learn, buffer = self.learn, io.BytesIO()
        torch.save(
            _bare(
                {
                    "weights": snapshot(changing(learn.whole)),
                    "optimizer": learn.opt.state_dict(),
                    "chance": written(current(learn.dls.train)),
                    "callbacks": {callback.name: callback.state_dict() for callback in _with_state(learn)},
                }
            ),
            buffer,
        )
        state = self.folder / f"{self.name}-epoch-{epochs}.pt"
        write(state, buffer.getvalue())
        write_json(
            self.folder / f"{self.name}.json",
            {
                "epochs": epochs,
                "state": state.name,
                "sha256": sha(buffer.getvalue()),
                "steps": learn.train_iter,
                "all steps": learn.steps,
                "enough": learn.enough,
                "history": learn.rows,
                "facts": self.facts,
            },
        )
        for older in self.folder.glob(f"{self.name}-epoch-*.pt"):
            if older != state:
                older.unlink(missing_ok=True)

    def _page(self) -> dict | None:
        try:
            page = read_json(self.folder / f"{self.name}.json")
            return (
                page
                if {"epochs", "state", "sha256", "steps", "all steps", "enough", "history", "facts"} <= set(page)
                else self._damaged()
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            return self._damaged()

    def _state(self, page: dict) -> dict | None:
        try:
            content = (self.folder / page["state"]).read_bytes()
        except OSError:
            return self._damaged()
        if sha(content) != page["sha256"]:
            return self._damaged()
        return torch.load(io.BytesIO(content), map_location=self.learn.compute.device, weights_only=True)

    def _damaged(self) -> dict | None:
        self.learn.say(f"{self.folder / self.name} is damaged on disk; beginning again")
        return None


def _with_state(learn) -> list:
    return [callback for callback in learn.cbs if hasattr(type(callback), "load_state_dict")]


def _bare(value):
    """Without NumPy's numbers, which a `weights_only` file does not hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _bare(each) for key, each in value.items()}
    return type(value)(map(_bare, value)) if isinstance(value, (list, tuple)) else value
