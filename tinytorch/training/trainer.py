"""Trainer: the loop that turns batches into a trained model, and the moments at which it calls.

Knows the order of things (epochs, batches, validation, saving) and the names of the moments, never
how any of them is done, nor what callbacks do at them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import DataError, GradientError, SettingError, printable
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.module import Module
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.interpreter import precision as check_precision
from tinytorch.tensor.random import default_generator
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.checkpoint import (
    Checkpoints,
    checkpoints_of_run,
    gather,
    load_into,
    restore,
)
from tinytorch.training.history import History, Progress, Silent, best_for_output
from tinytorch.training.loss import adds_up
from tinytorch.training.metrics import Averages, named_metrics
from tinytorch.training.run import (
    Batches,
    Interruption,
    Run,
    check_loader,
    keeps_its_place,
    no_batches,
)
from tinytorch.training.step import Passes
from tinytorch.training.update import EMA, LossScaler, Update, check_parameters, check_schedule


class Callback:
    """Something that happens during training: subclass it and define the moments you need.

    A moment that is not defined costs nothing. Every moment is given the Trainer: its `run.epoch`,
    `steps`, `model` and `optimizer` can be looked at, `trainer.stop(reason)` ends the run after the
    present batch or epoch.

    Example:
        >>> class Counting(Callback):
        ...     batches = 0
        ...     def after_batch(self, trainer, values):
        ...         self.batches += 1
        >>> len(Callbacks([Counting()]).moments["after_batch"]), len(MOMENTS)
        (1, 12)
    """

    def begin_training(self, trainer: Trainer) -> None:
        """The run begins, or goes on after a resume."""

    def begin_epoch(self, trainer: Trainer) -> None:
        """An epoch begins, or goes on."""

    def before_batch(self, trainer: Trainer, batch: tuple) -> None:
        """This batch comes next."""

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """A batch is done; `values` are its loss and metrics."""

    def after_update(self, trainer: Trainer) -> None:
        """The weights have moved."""

    def begin_validation(self, trainer: Trainer) -> None:
        """The validation data come next."""

    def end_validation(self, trainer: Trainer, values: dict[str, float]) -> None:
        """They are done; `values` are their loss and metrics."""

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """An epoch is over; what is added to `row` is kept in the history."""

    def saved(self, trainer: Trainer, place: Path) -> None:
        """A checkpoint lies in `place`."""

    def interrupted(self, trainer: Trainer) -> None:
        """The user pressed Ctrl-C; nothing is saved yet."""

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """An error ends the run; it is raised afterwards."""

    def end_training(self, trainer: Trainer, history: History) -> None:
        """The run has ended, early or not."""

    def state_dict(self) -> dict[str, Any]:
        """What has to be saved for going on exactly; nothing by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""


MOMENTS = tuple(
    name
    for name, value in vars(Callback).items()
    if callable(value) and not name.startswith("_") and not name.endswith("state_dict")
)


class Callbacks:
    """Several callbacks, told and saved together.

    Args:
        callbacks: in the order they are told.

    Raises:
        SettingError: something else is among them.
    """

    def __init__(self, callbacks: Iterable[Callback]):
        self.all = list(callbacks)
        self.moments: dict[str, list[Callable]] = {name: [] for name in MOMENTS}
        for callback in self.all:
            if not isinstance(callback, Callback):
                raise SettingError(
                    "Trainer: this is not a callback",
                    got=repr(callback),
                    rule="objects of subclasses of Callback",
                    fix="class Mine(Callback): ..., then callbacks=[Mine()]",
                )
            for name, methods in self.moments.items():
                if getattr(type(callback), name) is not getattr(Callback, name):
                    methods.append(getattr(callback, name))

    def state_dict(self) -> dict[str, Any]:
        """The states of all, each name with the place of its callback before it."""
        return {
            f"{place}.{name}": value
            for place, callback in enumerate(self.all)
            for name, value in callback.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand out what `state_dict` of the same callbacks gathered."""
        saved = {name.partition(".")[0] for name in state}
        own = {name.partition(".")[0] for name in self.state_dict()}
        if own != saved:
            raise SettingError(
                "the callbacks are not those that were saved",
                got=f"state of callbacks number {printable(', '.join(sorted(saved))) or '(none)'}",
                rule=f"state of callbacks number {', '.join(sorted(own)) or '(none)'}",
                fix="build the Trainer with the callbacks it had, in the same order",
            )
        for place, callback in enumerate(self.all):
            begins = f"{place}."
            names = [name for name in state if name.startswith(begins)]
            if names:
                callback.load_state_dict({n.removeprefix(begins): state[n] for n in names})


LEAST_SCALE = 2.0**-10  # float16 spans 2**40: a loss scaled further down has no gradient at all


class Trainer:
    """Trains, measures and asks a model; each step is one compiled program.

    Args:
        model: what is trained.
        optimizer: how its weights move; one without parameters is given the model's. It moves the
            model's weights: a warning names those that it leaves and that are not frozen.
        loss: function of (output, target) that gives one number; default cross-entropy.
        metrics: name -> function of (output, target) that gives one number; default accuracy with
            cross-entropy, else none.
        schedule: moves this optimizer's learning rate (see `optim`); its `step()` is called.
        schedule_every: "epoch" or "step" (each time the weights have moved).
        accumulate: batches whose gradients are put together before the weights move, at least 1;
            exact for sums, and for means over batches of any sizes (update.py, loss.py).
        clip_norm: longest common gradient, in (0, inf), or None.
        clip_value: largest number in a gradient, in (0, inf), or None.
        ema: decay of an average of the weights, in [0, 1), or None; `evaluate` and `predict` then
            use the average.
        precision: "float32", "bf16" (see `tt.precision`), or "float16" with loss scaling.
        compile: False runs NumPy, line by line, for looking inside.
        callbacks: what else happens at the moments of training, see `Callback`.
        progress: who shows it; default a live line on a terminal, plain lines elsewhere.

    Raises:
        SettingError: a setting outside its range; another model's optimizer, another optimizer's
            schedule.

    Cost: about 20 us of Python a step more than a loop by hand (benchmarks/cases/trainer.py).

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training import Trainer
        >>> from tinytorch.training.history import Silent
        >>> model = tt.nn.Linear(2, 2)
        >>> data = [(np.eye(2, dtype=np.float32), np.array([0, 1]))]
        >>> trainer = Trainer(model, tt.optim.SGD(lr=1.0), compile=False, progress=Silent())
        >>> trainer.train(data, epochs=20).last["accuracy"]
        1.0
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Callable = cross_entropy, *,
        metrics: Mapping[str, Callable] | None = None, schedule: Any = None,
        schedule_every: str = "epoch", accumulate: int = 1, clip_norm: float | None = None,
        clip_value: float | None = None, ema: float | None = None, precision: str = "float32",
        compile: bool = True, callbacks: Iterable[Callback] = (), progress: Progress | None = None,
    ):  # fmt: skip
        if schedule_every not in ("epoch", "step"):
            raise SettingError(
                "Trainer: when does the schedule move on?",
                got=f"schedule_every={schedule_every!r}",
                rule='"epoch" or "step"',
                fix='Trainer(..., schedule_every="epoch")',
            )
        check_parameters("Trainer", model, optimizer, loss)
        self._checked = list(map(id, model.parameters()))
        check_schedule(schedule, optimizer)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics = named_metrics(metrics, loss)
        self.schedule, self.schedule_every = schedule, schedule_every
        self.callbacks, self.progress = Callbacks(callbacks), progress
        self.ema = None if ema is None else EMA(model, ema)
        precision = check_precision(precision).name
        self.scaler = LossScaler() if precision == "float16" else None
        update = Update(
            optimizer, accumulate=whole("Trainer", "accumulate", accumulate, at_least=1),
            clip_norm=clip_norm, clip_value=clip_value, scaler=self.scaler, ema=self.ema,
            adds_up=adds_up(loss),
        )  # fmt: skip
        self.passes = Passes(model, loss, self.metrics, update, precision, compile)
        self.run = Run(averages=Averages(self.metrics))
        self.loader: Any = None
        self._given: Mapping[str, Any] | None = None
        self._batches = Batches(())
        self.shown: Progress = Silent()
        self.reason = ""
        self._interruption = Interruption()
        self._checkpoints: Checkpoints | None = None

    # --- the loop ---

    def train(
        self, loader: Iterable, epochs: int, *, validation: Iterable | None = None,
        checkpoint: str | Path | Checkpoints | None = None, resume: bool = False,
    ) -> History:  # fmt: skip
        """Go through the data `epochs` times; Ctrl-C stops between two steps.

        Args:
            loader: gives batches, each (input, ..., target) of NumPy arrays or Tensors; gone
                through once an epoch.
            epochs: at least 0; with `resume` counted from the beginning of the run.
            validation: gives batches to measure after each epoch.
            checkpoint: folder (or `Checkpoints`) in which the state of the run is saved after each
                epoch and on Ctrl-C.
            resume: go on from the newest whole checkpoint, if there is one: to the last bit as if
                the run had never stopped.

        Returns:
            a row for each whole epoch; `.stopped` is True after Ctrl-C.

        Raises:
            DataError: the loader gives no batch, or something that is none.
            GradientError: the loss or a gradient is no longer a number; weights, averages and
                running statistics are those before that step.
            SettingError: there are checkpoints already and resume is False; or, with `accumulate`,
                the loss over several batches is not that of its parts (loss.py).
        """
        epochs = whole("train", "epochs", epochs, at_least=0)
        with self._running(loader, checkpoint, resume):
            while self.run.epoch < epochs and not self.stopping:
                self._begin_epoch(epochs)
                for batch in self._batches.remaining(self.run.batch):
                    self.tell("before_batch", batch)
                    values = self._learn(batch)
                    self._move_if_due()
                    self.tell("after_batch", values)
                    if self._checkpoints is not None and self._checkpoints.due(self.steps):
                        self._save()
                    if self.stopping:
                        break
                else:
                    self._move_if_due(at_the_end=True)
                    self._end_epoch(validation)
                    self._save(self.run.history.last)  # its numbers say which one is best
            self._save_the_rest(epochs)
        return self.run.history

    fit = train

    def stop(self, reason: str) -> None:
        """End the run after the present batch, or the epoch if it is over; for callbacks.

        Args:
            reason: shown, and kept as `history.reason`.
        """
        self.reason = reason

    @property
    def steps(self) -> int:
        """Batches learned from so far."""
        return self.run.steps

    @property
    def stopping(self) -> bool:
        """Whether the run ends at the next opportunity: Ctrl-C, or `stop()`."""
        return bool(self.reason) or self._interruption.requested

    @property
    def interrupted(self) -> bool:
        """Whether the user pressed Ctrl-C during this run."""
        return self._interruption.requested

    @contextlib.contextmanager
    def _running(self, loader: Any, checkpoint: Any, resume: bool) -> Iterator[None]:
        """Around the loop: restores before it, reports errors in it, tidies up after it."""
        self._take_up(loader)
        self.reason, self._interruption = "", Interruption()
        self.shown = self.progress or best_for_output()
        try:
            self._begin_saving(checkpoint, resume)
            self.optimizer.zero_grad()
            with self._interruption:
                self.tell("begin_training")
                yield
            self.tell("end_training", self.run.history)
        except BaseException as error:
            self.tell("failed", error)
            raise
        finally:
            self.shown.close()

    def _take_up(self, loader: Any) -> None:
        """A new run, or what `load_state_dict` or a stop within an epoch left to be done."""
        given, self._given = self._given, None
        if (now := list(map(id, self.model.parameters()))) != self._checked:  # a part was replaced
            check_parameters("train", self.model, self.optimizer, self.loss)
            self._checked = now
        if given is None:
            self.run = self.run.again(same_loader=loader is self.loader)
            if not self.run.batch:
                self.passes.update.clear()
        elif keeps_its_place(loader) and given.get("loader") is not None:
            load_into("the loader", loader, given["loader"])
        if given is None and self.run.batch and keeps_its_place(loader):
            loader.load_state_dict(self._batches.state_dict())  # of the epoch that was left
        self.loader, self._batches = loader, Batches(loader)

    def resumed(self) -> None:
        """The state that was loaded is being used."""
        self._given = None

    # --- saving ---

    def _begin_saving(self, checkpoint: str | Path | Checkpoints | None, resume: bool) -> None:
        self._checkpoints, state = checkpoints_of_run(checkpoint, resume)
        if state is not None:
            self.load_state_dict(state)
            self.resumed()
            self.shown.message(f"going on after step {self.steps}, epoch {self.run.epoch + 1}")
        if self._checkpoints is not None:
            self._checkpoints.prepare()

    def _save(self, row: Mapping[str, float] | None = None) -> None:
        if self._checkpoints is not None:
            self.tell("saved", self._checkpoints.save(self.state_dict(), self.steps, row))

    def _save_the_rest(self, epochs: int) -> None:
        """Save what a stop left unsaved, and say how to go on."""
        run, history = self.run, self.run.history
        history.stopped, history.reason = self.interrupted and run.epoch < epochs, self.reason
        if history.stopped:
            self.tell("interrupted")
        if run.batch:
            self._save()
        if history.stopped:
            self.shown.message(self._how_to_go_on(epochs))
        elif history.reason:
            self.shown.message(f"stopped after epoch {run.epoch}: {history.reason}")

    def _how_to_go_on(self, epochs: int) -> str:
        begins = f"stopped after step {self.steps}"
        if self._checkpoints is None:
            return f"{begins}. To go on: trainer.train(loader, epochs={epochs - self.run.epoch})"
        folder = str(self._checkpoints.folder)
        return (
            f"{begins}; saved in {folder}. To go on: trainer.train(loader, epochs={epochs}, "
            f"checkpoint={folder!r}, resume=True)"
        )

    # --- one epoch ---

    def _begin_epoch(self, epochs: int) -> None:
        self._began = time.perf_counter() - self.run.seconds
        batches = len(self.loader) if hasattr(self.loader, "__len__") else None
        self.shown.begin_epoch(self.run.epoch + 1, epochs, batches)
        self.model.train()
        self.tell("begin_epoch")

    def _learn(self, batch: Any) -> dict[str, float]:
        run = self.run
        values, weight, samples = self.passes.train(batch)
        run.steps += 1
        run.batch += 1
        run.seconds = time.perf_counter() - self._began
        if weight and self._check_finite(values["loss"]):
            self._check_gradients()
            run.averages.take(values, weight, samples)
        self.shown.batch(run.batch, run.averages)
        return values

    def _move_if_due(self, at_the_end: bool = False) -> None:
        if not self.passes.move_if_due(at_the_end):
            return
        self._check_gradients()
        self.run.updates += 1
        if self.schedule is not None and self.schedule_every == "step":
            self.schedule.step()
        self.tell("after_update")

    def _end_epoch(self, validation: Iterable | None) -> None:
        run = self.run
        found = _some(run.averages) if run.averages.sums or not run.batch else {"loss": math.nan}
        row = {"epoch": run.epoch + 1, **found}
        if validation is not None:
            self.tell("begin_validation")
            found = self.evaluate(validation)
            row |= {f"val_{name}": value for name, value in found.items()}
            self.tell("end_validation", found)
        if self.schedule is not None:
            row["lr"] = self.optimizer.lr
            self._advance_schedule(row)
        row["seconds"] = time.perf_counter() - self._began
        self.tell("end_epoch", row)
        run.end_epoch(row)
        self.shown.end_epoch(row)

    def _advance_schedule(self, row: dict[str, float]) -> None:
        if self.schedule_every != "epoch":
            return
        if not getattr(self.schedule, "needs_metric", False):
            self.schedule.step()
            return
        falls = getattr(self.schedule, "mode", "min") == "min"
        name = "loss" if falls else next(iter(self.metrics), "loss")
        self.schedule.step(row.get(f"val_{name}", row[name]))

    def tell(self, moment: str, *what: Any) -> None:
        """Call every callback that defines this moment."""
        for listener in self.callbacks.moments[moment]:
            listener(self, *what)

    def _check_finite(self, loss: float) -> bool:
        """Whether the loss is a number; without loss scaling it has to be."""
        scale = None if self.scaler is None else self.scaler.scale.item()
        if math.isfinite(loss) and (scale is None or scale >= LEAST_SCALE):
            return True
        if scale is not None and scale >= LEAST_SCALE:
            return False  # an overflow of float16: this step was left out, the next is scaled less
        self._refuse(f"loss is {loss}" if scale is None else f"the loss scale fell to {scale:g}")

    def _check_gradients(self) -> None:
        """Without loss scaling gradients have to be numbers, as losses have."""
        if not self.passes.sound:
            self._refuse("a gradient is infinite or NaN, though the loss is finite,")

    def _refuse(self, what: str) -> NoReturn:
        lr = self.optimizer.lr
        raise GradientError(
            f"{what} since step {self.steps}",
            got=f"learning rate {lr:g}; the weights are those before this step",
            rule="inputs, targets, loss and gradients are finite numbers",
            fix=f"look for NaN in the data; or lr={lr / 10:g}; or a small clip_norm",
        )

    # --- measuring and asking ---

    def averaged(self) -> contextlib.AbstractContextManager:
        """Within the block the model has the averaged weights, if `ema` was asked for."""
        return contextlib.nullcontext() if self.ema is None else self.ema.applied()

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with self.averaged():
                yield
        finally:
            self.model.train(training)

    def evaluate(self, loader: Iterable) -> dict[str, float]:
        """Loss and metrics over all batches, each sample counted equally; the model stays as it is.

        Args:
            loader: gives batches, each (input, ..., target).

        Returns:
            "loss" and each metric by name.

        Raises:
            DataError: the loader gives no batch.
        """
        check_loader("evaluate", loader)
        averages = Averages(self.metrics)
        with self._evaluating():
            for batch in loader:
                averages.take(*self.passes.evaluate(batch))
        return _some(averages)

    def predict(self, inputs: Any, batch_size: int = 256) -> Any:
        """The model's outputs in evaluation mode.

        Args:
            inputs: one array or Tensor (N, ...), or a tuple of them if the model takes several.
            batch_size: samples that go through the model together; at least 1.

        Returns:
            (N, ...), the outputs in order; a tuple of them if the model gives several.
        """
        size = whole("predict", "batch_size", batch_size, at_least=1)
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        arrays = [x.numpy() if isinstance(x, Tensor) else np.asarray(x) for x in given]
        if any(x.dtype == object or not x.ndim for x in arrays):
            raise DataError(
                "predict: the inputs are no arrays of samples",
                got=", ".join(type(x).__name__ for x in given),
                rule="one array or Tensor (N, ...), or a tuple of them: all samples at once",
                fix="predict(inputs), or [predict(batch[0]) for batch in loader]",
            )
        with self._evaluating():
            starts = range(0, max(len(arrays[0]), 1), size)
            parts = [self.passes.predict(*(x[i : i + size] for x in arrays)) for i in starts]
        if isinstance(parts[0], Tensor):
            return _joined(parts)
        return tuple(_joined(several) for several in zip(*parts, strict=True))

    # --- state ---

    def state_dict(self) -> dict[str, dict]:
        """Everything needed to go on to the last bit: one flat dictionary for each part.

        Model, optimizer, schedule, averages, loss scale, random generator, place in the data,
        history, gradients under way, and what callbacks keep. Its Tensors are those of the run and
        go on with it, as in PyTorch: `copy.deepcopy` keeps a moment.
        """
        return gather(self._parts())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state_dict` was taken; on an error everything stays as it was.

        The next `train` goes on from there.

        Raises:
            SettingError: parts are missing or unknown: the trainer was built with other settings.
            ShapeError: the model has another architecture.
        """
        parts = self._parts()
        if parts["loader"] is None:  # there is none yet: train() will bring it
            del parts["loader"]
        restore(parts, state)
        self._given = state

    def _parts(self) -> dict[str, Any]:
        """Everything that has state, the model first: it is the likeliest not to fit."""
        return {
            "model": self.model, "optimizer": self.optimizer, "schedule": self.schedule,
            "ema": self.ema, "scaler": self.scaler, "callbacks": self.callbacks, "run": self.run,
            "gradients": self.passes.update, "passes": self.passes, "random": default_generator,
            "loader": self._batches if keeps_its_place(self.loader) else None,
        }  # fmt: skip


def _joined(parts: Iterable[Tensor]) -> Tensor:
    return Tensor(np.concatenate([part.numpy() for part in parts]))


def _some(averages: Averages) -> dict[str, float]:
    found = averages.means()
    if not found:
        raise no_batches(
            "at least one batch with at least one sample in an epoch",
            "a smaller batch_size, drop_last=False, or a new iterator for each epoch",
        )
    return found
