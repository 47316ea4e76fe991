"""A fit that was stopped goes on after its last finished epoch, to the same weights as if it had not been.

After each epoch a folder holds two files of the fit: the state, in tensors and numbers that torch reads without running
code, and a page of JSON that names it, with its checksum, the history and the facts. The page is written last, so that
it always tells of a whole state.
"""

import io
from pathlib import Path

import numpy as np
import torch

from pneumo_utils.common.errors import StudyError
from pneumo_utils.common.files import read_json, room_for, sha, write, write_json
from pneumo_utils.training import chance
from pneumo_utils.training.facts import facts
from pneumo_utils.training.weights import changing, restore, snapshot


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
        chance.set_to(chance.read(state["chance"]), learn.dls.train)
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
                    "chance": chance.written(chance.current(learn.dls.train)),
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
