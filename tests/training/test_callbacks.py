"""The moments of trainer.py and the callbacks of callbacks.py: when they are told, what they do."""

import json
import math
import mmap
import os
import signal

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DataError, GradientError, SettingError
from tinytorch.training import (
    Alerts,
    EarlyStopping,
    HistoryFile,
    MemoryWatch,
    OptimizedTrainer,
    Trainer,
    TrainingConfig,
    train_epoch,
)  # fmt: skip
from tinytorch.training.callbacks import resident_bytes
from tinytorch.training.history import PlainLines, Silent
from tinytorch.training.trainer import MOMENTS, Callback

X = np.eye(4, dtype=np.float32)
Y = np.arange(4)
BATCHES = [(X, Y)] * 3


class Telling(Callback):
    """Notes the name of every moment."""

    def __init__(self):
        self.heard: list[str] = []


for _name in MOMENTS:  # each moment notes itself
    setattr(Telling, _name, lambda self, trainer, *what, name=_name: self.heard.append(name))


def build(*callbacks: Callback, lr: float = 0.5, **settings) -> Trainer:
    tt.manual_seed(0)
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(nn.Linear(4, 4), tt.optim.SGD(lr=lr), callbacks=callbacks, **settings)


def test_there_are_at_most_twelve_moments():
    """Ground truth: the number asked for."""
    assert len(MOMENTS) == 12


def test_moments_come_in_their_order(tmp_path):
    """Ground truth: written by hand: two batches to a window, of three batches."""
    telling = Telling()
    build(telling, accumulate=2).train(BATCHES, 1, validation=BATCHES[:1], checkpoint=tmp_path)
    assert telling.heard == [
        "begin_training", "begin_epoch", "before_batch", "after_batch", "before_batch",
        "after_update", "after_batch", "before_batch", "after_batch", "after_update",
        "begin_validation", "end_validation", "end_epoch", "saved", "end_training",
    ]  # fmt: skip


def test_interruption_and_failure_are_told():
    """Ground truth: written by hand."""

    class Pressing(Callback):
        def after_batch(self, trainer, values):
            os.kill(os.getpid(), signal.SIGINT)

    telling = Telling()
    build(Pressing(), telling).train(BATCHES, 1)
    assert telling.heard[-2:] == ["interrupted", "end_training"]
    telling = Telling()
    with pytest.raises(GradientError), np.errstate(all="ignore"):
        build(telling, lr=1e38).train([(X * 1e30, Y)] * 9, 1)
    assert telling.heard[-1] == "failed"


def test_a_callback_can_end_the_run():
    """Ground truth: the batch is finished, the epoch is not; the reason is kept and shown."""

    class Enough(Callback):
        def after_batch(self, trainer, values):
            if trainer.steps == 4:
                trainer.stop("seen enough")

    trainer = build(Enough())
    history = trainer.train(BATCHES, 5)
    assert trainer.steps == 4 and len(history) == 1 and history.reason == "seen enough"


class Scripted(Callback):
    """Puts given numbers into the history."""

    def __init__(self, *values: float):
        self.values = values

    def end_epoch(self, trainer, row):
        row["measured"] = self.values[int(row["epoch"]) - 1]


@pytest.mark.parametrize(
    ("values", "settings", "epochs", "best"),
    [
        ((3.0, 2.0, 2.5, 2.2, 1.0, 0.5), {"patience": 2}, 4, 2),
        ((3.0, 2.0, 2.5, 1.9, 2.0, 2.0), {"patience": 2}, 6, 4),
        ((1.0, 2.0, 1.5, 1.7, 9.0, 9.0), {"patience": 2, "mode": "max"}, 4, 2),
        ((3.0, 2.95, 2.9, 2.85, 2.8, 2.7), {"patience": 3, "min_delta": 0.2}, 4, 1),
        ((math.nan, 2.0, math.nan, math.nan, 1.0, 1.0), {"patience": 2}, 4, 2),
    ],
)
def test_early_stopping(values, settings, epochs, best):
    """Ground truth: followed by hand; the weights are those of the best epoch."""
    kept = {}

    class Keeping(Callback):
        def end_epoch(self, trainer, row):
            kept[int(row["epoch"])] = trainer.model.weight.detach().numpy().copy()

    stopping = EarlyStopping("measured", **settings)
    trainer = build(Scripted(*values), Keeping(), stopping)
    history = trainer.train(BATCHES, 6)
    assert len(history) == epochs and stopping.best_epoch == best
    assert bool(history.reason) is (epochs < 6 or stopping.waited >= settings["patience"])
    assert np.array_equal(trainer.model.weight.detach().numpy(), kept[best])


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_newest_weights_stay_where_the_best_are_not_asked_for(restore_best):
    """Ground truth: the weights of the last step: after Ctrl-C, from which a resume goes on, and
    without `restore_best`."""

    class Pressing(Callback):
        def begin_epoch(self, trainer):
            if restore_best and trainer.run.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    stopping = EarlyStopping("measured", restore_best=restore_best)
    trainer = build(Scripted(1.0, 2.0, 3.0), Pressing(), stopping)
    history = trainer.train(BATCHES, 3)
    plain = build()
    for x, y in (BATCHES * 3)[: trainer.steps]:
        plain.train([(x, y)], 1)
    assert history.stopped is restore_best and stopping.best_epoch == 1
    assert bool(stopping.weights) is restore_best
    assert np.array_equal(trainer.model.weight.numpy(), plain.model.weight.numpy())


def test_early_stopping_goes_on_waiting_after_a_resume(tmp_path):
    """Ground truth: the run in one piece."""
    values = (3.0, 2.0, 2.5, 2.4, 2.3, 2.2)
    whole = build(Scripted(*values), EarlyStopping("measured", patience=3))
    whole.train(BATCHES, 6)
    build(Scripted(*values), EarlyStopping("measured", patience=3)).train(
        BATCHES, 3, checkpoint=tmp_path
    )
    second = build(Scripted(*values), EarlyStopping("measured", patience=3))
    history = second.train(BATCHES, 6, checkpoint=tmp_path, resume=True)
    assert len(history) == len(whole.run.history) == 5
    assert np.array_equal(second.model.weight.numpy(), whole.model.weight.numpy())
    third = build(Scripted(*values), EarlyStopping("measured", patience=3))
    assert len(third.train(BATCHES, 9, checkpoint=tmp_path, resume=True)) == 5


def test_early_stopping_names_a_missing_column():
    """Ground truth: the columns there are."""
    with pytest.raises(SettingError, match="no such column"):
        build(EarlyStopping()).train(BATCHES, 1)
    for settings in ({"patience": 0}, {"min_delta": -1.0}, {"mode": "high"}):
        with pytest.raises(SettingError, match=next(iter(settings))):
            EarlyStopping(**settings)


def test_callbacks_of_another_run_are_refused(tmp_path):
    """Ground truth: the state of a callback has nowhere to go."""
    build(Scripted(1, 2), EarlyStopping("measured")).train(BATCHES, 1, checkpoint=tmp_path)
    with pytest.raises(SettingError, match="the callbacks are not those"):
        build(Scripted(1, 2)).train(BATCHES, 2, checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_divergence_is_reported_at_its_step(factor):
    """Ground truth: a loss of which the step is known: falling, then 20 at step 31."""
    said = []
    alerts = Alerts(factor=factor, tell=said.append)
    losses = [*np.linspace(2.0, 1.0, 30), 20.0, 21.0, 1.0, 50.0]
    for step, loss in enumerate(losses, 1):
        alerts.look(step, loss)
    assert [text.split(":")[0] for text in said] == ["alert at step 31", "alert at step 34"]


def test_a_stall_is_reported_when_patience_ends():
    """Ground truth: the smallest running loss is that of step 10, patience 25."""
    said = []
    alerts = Alerts(patience=25, tell=said.append)
    for step in range(1, 60):
        alerts.look(step, max(1.0, 11.0 - step) if step <= 10 else 40.0 / 3)
    stalls = [text for text in said if "stalls" in text]
    assert len(stalls) == 1 and stalls[0].startswith("alert at step 35:")


def test_a_loss_that_is_no_number_is_reported_within_a_step(capsys):
    """Ground truth: the step at which it appears."""
    data = [*BATCHES, (X * np.float32(np.nan), Y), *BATCHES]
    with pytest.raises(GradientError):
        build(Alerts(), progress=PlainLines()).train(data, 1)
    assert "alert at step 4: GradientError: loss is nan since step 4" in capsys.readouterr().out
    said = []
    Alerts(tell=said.append).look(7, math.nan)
    assert said == ["alert at step 7: the loss is nan"]


def test_a_planted_leak_is_found_and_its_absence_too():
    """Ground truth: a callback that keeps 1 MB (touched, so that it is resident) every step.

    Asked of the system itself: what NumPy is given may be memory that the process freed before.
    """

    class Leaking(Callback):
        kept: list = []

        def after_batch(self, trainer, values):
            self.kept.append(mmap.mmap(-1, 2**20))
            self.kept[-1].write(b"x" * 2**20)

    found = {}
    for leaking in (False, True):
        said: list[str] = []
        watch = MemoryWatch(every=5, looks=4, growth_mb=12, tell=said.append)
        others = [Leaking()] if leaking else []
        history = build(*others, watch).train([(X, Y)] * 60, 1)
        found[leaking] = said
        assert (10 * history.last["memory_mb"]) % 1 == pytest.approx(0, abs=1e-6)  # in tenths
        assert history.last["memory_mb"] == pytest.approx(resident_bytes() / 2**20, rel=0.5)
    Leaking.kept.clear()
    build(watch := MemoryWatch(every=1)).train([(X, Y)], 1)
    assert watch.tell is not None and watch.seen
    assert found[False] == []
    assert len(found[True]) == 1 and "memory grew by" in found[True][0]


def test_the_history_file_grows_with_the_run(tmp_path):
    """Ground truth: the history; a resumed run has every epoch once."""
    path = tmp_path / "out" / "history.jsonl"
    seen = []

    class Reading(Callback):
        def end_epoch(self, trainer, row):
            seen.append(len(path.read_text().splitlines()))

    build(HistoryFile(path), Reading()).train(BATCHES, 2, checkpoint=tmp_path / "run")
    with path.open("a") as file:  # an epoch that no checkpoint knows of
        file.write('{"epoch": 3, "loss": 0.1}\n')
    history = build(HistoryFile(path), Reading()).train(
        BATCHES, 3, checkpoint=tmp_path / "run", resume=True
    )
    assert seen == [1, 2, 3]
    assert [json.loads(line) for line in path.read_text().splitlines()] == history.rows


@pytest.mark.parametrize(
    "switch",
    [{}, {"profile_memory": True}, {"accumulate": 3}, {"precision": "bf16"}, {"checkpoint_dir": 1}],
)
def test_each_switch_of_the_optimized_trainer(switch, tmp_path):
    """Ground truth: what each is for: memory in the history, fewer updates, rounded sums, files."""
    if "checkpoint_dir" in switch:
        switch = {"checkpoint_dir": tmp_path / "run"}
    tt.manual_seed(0)
    config = TrainingConfig(epochs=2, compile=False, **switch)
    optimized = OptimizedTrainer(nn.Linear(4, 4), config)
    history = optimized.train(BATCHES)
    assert ("memory_mb" in history.last) is ("profile_memory" in switch)
    assert optimized.trainer.run.updates == (2 if "accumulate" in switch else 6)
    assert (optimized.trainer.passes.precision == "bf16") is ("precision" in switch)
    assert (tmp_path / "run").is_dir() is ("checkpoint_dir" in switch)
    if "checkpoint_dir" in switch:
        longer = TrainingConfig(epochs=3, compile=False, **switch)
        again = OptimizedTrainer(nn.Linear(4, 4), longer)
        assert len(again.train(BATCHES)) == 3 and again.trainer.steps == 9


@pytest.mark.parametrize("compile", [False, True])
def test_train_epoch_is_the_loop_of_the_document(compile):
    """Ground truth: the loop written by hand; the model gives the loss of a batch."""

    class Fit(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(4, 4)

        def forward(self, x, y):
            return nn.functional.cross_entropy(self.layer(x), y)

    found, by_hand = [], []
    tt.manual_seed(0)
    model = Fit()
    found.append(train_epoch(model, BATCHES, tt.optim.SGD(lr=0.3), compile=compile))
    tt.manual_seed(0)
    other = Fit()
    sgd = tt.optim.SGD(other.parameters(), lr=0.3)
    for x, y in BATCHES:
        loss = other(tt.Tensor(x), tt.Tensor(y))
        by_hand.append(loss.item())
        loss.backward()
        sgd.step()
        sgd.zero_grad()
    assert found[0] == pytest.approx(np.mean(by_hand), rel=1e-6)
    np.testing.assert_allclose(
        model.layer.weight.detach().numpy(), other.layer.weight.detach().numpy(), rtol=1e-5
    )


def test_train_epoch_wants_a_batch():
    """Ground truth: at least one."""
    with pytest.raises(DataError, match="nothing to go through"):
        train_epoch(nn.Linear(2, 1), [], tt.optim.SGD())
