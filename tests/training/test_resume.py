"""run.py, checkpoint.py, Trainer.state_dict: a resumed run ends as one not stopped.

Killing at random moments is in test_kill.py; here each part of the state is looked at by itself.
"""

import os
import signal

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.training import Checkpoints, Trainer
from tinytorch.training.history import Silent
from tinytorch.training.trainer import Callback

RNG = np.random.default_rng(0)
X = RNG.standard_normal((36, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
SETTINGS = {
    "plain": {},
    "accumulate": {"accumulate": 3},
    "ema": {"ema": 0.9},
    "clip": {"clip_norm": 0.5, "clip_value": 0.1},
    "all": {"accumulate": 2, "ema": 0.9, "clip_norm": 0.5},
}


def loader(shuffle: bool = True) -> DataLoader:
    return DataLoader(ArrayDataset(X, Y), 8, shuffle=shuffle, seed=3)


def build(seed: int = 0, width: int = 16, scheduled: bool = False, **settings) -> Trainer:
    tt.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 3))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.02)
    if scheduled:
        settings |= {"schedule": tt.optim.StepLR(optimizer, 2, 0.5), "schedule_every": "step"}
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(model, optimizer, **settings)


def numbers(trainer: Trainer) -> dict[str, np.ndarray]:
    found = {**trainer.model.state_dict(), **trainer.optimizer.state_dict()}
    if trainer.ema is not None:
        found |= trainer.ema.state_dict()
    return {name: np.array(tensor.numpy()) for name, tensor in found.items()}


class StopAt(Callback):
    """Ctrl-C after a certain step."""

    def __init__(self, step: int):
        self.step = step

    def after_batch(self, trainer, values):
        if trainer.steps == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def rows(history) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("step", [1, 4, 5, 8])
def test_stopped_anywhere_and_resumed_is_as_if_nothing_had_happened(tmp_path, name, step):
    """Ground truth: the run that was not stopped, to the last bit: weights, averages, history.

    Five batches an epoch, the last smaller; step 5 is the last of an epoch before it is over.
    """
    settings = {**SETTINGS[name], "scheduled": True}
    whole = build(callbacks=[StopAt(-1)], **settings)
    expected = whole.train(loader(), 3, validation=loader(False))
    first = build(callbacks=[StopAt(step)], **settings)
    stopped = first.train(loader(), 3, validation=loader(False), checkpoint=tmp_path / "run")
    assert stopped.stopped and first.steps == step
    second = build(seed=9, callbacks=[StopAt(-1)], **settings)
    found = second.train(
        loader(), 3, validation=loader(False), checkpoint=tmp_path / "run", resume=True
    )
    assert rows(found) == rows(expected) and not found.stopped
    ours, theirs = numbers(second), numbers(whole)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[n], theirs[n]) for n in ours)


def test_a_loader_that_keeps_no_place_is_gone_through_again(tmp_path):
    """Ground truth: the run that was not stopped; batches in a list have one order."""
    batches = [(X[i : i + 9], Y[i : i + 9]) for i in range(0, 36, 9)]
    whole = build()
    whole.train(batches, 2)
    build(callbacks=[StopAt(6)]).train(batches, 2, checkpoint=tmp_path)
    second = build(callbacks=[StopAt(-1)], seed=4)
    second.train(batches, 2, checkpoint=tmp_path, resume=True)
    assert all(np.array_equal(a, numbers(second)[n]) for n, a in numbers(whole).items())


def test_compiled_and_eager_batches_are_the_same_after_a_resume(tmp_path):
    """Ground truth: the compiled run that was not stopped; its last batches of 4 ran eagerly.

    Stopped before such a batch, a trainer that had forgotten the larger ones would compile it.
    """
    whole = build(compile=True)
    whole.train(loader(), 2)
    build(compile=True, callbacks=[StopAt(4)]).train(loader(), 2, checkpoint=tmp_path)
    second = build(compile=True, callbacks=[StopAt(-1)], seed=4)
    second.train(loader(), 2, checkpoint=tmp_path, resume=True)
    assert all(np.array_equal(a, numbers(second)[n]) for n, a in numbers(whole).items())


def test_more_epochs_go_on_where_the_run_ended(tmp_path):
    """Ground truth: 3 epochs at once; a third of an optimizer that was built again."""
    whole = build()
    whole.train(loader(), 3)
    build().train(loader(), 2, checkpoint=tmp_path)
    second = build(seed=2)
    history = second.train(loader(), 3, checkpoint=tmp_path, resume=True)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert all(np.array_equal(a, numbers(second)[n]) for n, a in numbers(whole).items())


def test_saved_within_an_epoch_when_checkpoints_say_so(tmp_path):
    """Ground truth: steps 2, 4 and, of two epochs of 5, each end."""
    kept = Checkpoints(tmp_path, keep=9, every_steps=2)
    build(accumulate=3).train(loader(), 2, checkpoint=kept)
    assert kept.steps() == [2, 4, 5, 6, 8, 10]


def test_resume_without_a_checkpoint_begins(tmp_path):
    """Ground truth: one command that can be repeated starts a run and goes on with it."""
    assert len(build().train(loader(), 1, checkpoint=tmp_path, resume=True)) == 1


def test_a_run_is_not_overwritten(tmp_path):
    """Ground truth: the rule: a folder with checkpoints needs resume=True."""
    build().train(loader(), 1, checkpoint=tmp_path)
    with pytest.raises(SettingError, match="this folder holds a run already"):
        build().train(loader(), 1, checkpoint=tmp_path)
    with pytest.raises(SettingError, match="nothing says where to resume from"):
        build().train(loader(), 1, resume=True)


def test_another_architecture_changes_nothing(tmp_path):
    """Ground truth: the weights before; the message names the shapes."""
    build().train(loader(), 1, checkpoint=tmp_path)
    other = build(width=7, seed=5)
    before = numbers(other)
    with pytest.raises(ShapeError, match="has another shape"):
        other.train(loader(), 2, checkpoint=tmp_path, resume=True)
    assert all(np.array_equal(a, before[n]) for n, a in numbers(other).items())


def test_other_settings_are_named_and_change_nothing(tmp_path):
    """Ground truth: a state with an average for a trainer without one."""
    build(ema=0.9).train(loader(), 1, checkpoint=tmp_path)
    other = build(seed=5)
    before = numbers(other)
    with pytest.raises(SettingError, match="ema"):
        other.train(loader(), 2, checkpoint=tmp_path, resume=True)
    assert all(np.array_equal(a, before[n]) for n, a in numbers(other).items())


def test_state_can_be_carried_by_hand():
    """Ground truth: the run in one piece: 2 epochs, one trainer."""
    whole = build()
    whole.train(loader(), 2)
    first, data = build(), loader()
    first.train(data, 1)
    state = first.state_dict()
    second = build(seed=8)
    second.load_state_dict(state)
    assert len(second.train(loader(), 2)) == 2
    assert all(np.array_equal(a, numbers(second)[n]) for n, a in numbers(whole).items())


class AtTheEnd(Callback):
    """Ctrl-C when the last epoch is over but for its row."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def end_epoch(self, trainer, row):
        if row["epoch"] == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("epoch", "stopped"), [(1, True), (2, False)])
def test_a_run_interrupted_when_all_is_done_was_not_stopped(epoch, stopped):
    """Ground truth: the epochs asked for are there, or one is missing."""
    history = build(callbacks=[AtTheEnd(epoch)]).train(loader(), 2)
    assert history.stopped is stopped and len(history["loss"]) == epoch
