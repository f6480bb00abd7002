"""Trainer: the loop that turns batches into a trained model.

Knows the order of things (forward, loss, backward, update, measure), never how any of them is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch.base.checks import whole
from tinytorch.base.errors import DataError, GradientError
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.loss import CrossEntropyLoss
from tinytorch.nn.module import Module
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.modes import no_grad, precision
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.history import History
from tinytorch.training.interruption import Interruption
from tinytorch.training.metrics import Averages, accuracy
from tinytorch.training.progress import Progress, best_for_output
from tinytorch.training.step import Step
from tinytorch.training.weights import save_weights


class Trainer:
    """Trains, measures and asks a model; each step is one compiled program.

    Args:
        model: what is trained.
        optimizer: how its weights move.
        loss: function of (output, target) that gives one number; default cross-entropy.
        metrics: name -> function of (output, target) that gives one number; default accuracy with
            cross-entropy, else none.
        compile: False runs NumPy, line by line, for looking inside.
        precision: "float32" or "bf16" (see `tt.precision`).
        progress: who shows it; default a live line on a terminal, plain lines elsewhere.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training import Trainer
        >>> from tinytorch.training.progress import Silent
        >>> model = tt.nn.Linear(2, 2)
        >>> data = [(np.eye(2, dtype=np.float32), np.array([0, 1]))]
        >>> sgd = tt.optim.SGD(model.parameters(), lr=1.0)
        >>> trainer = Trainer(model, sgd, compile=False, progress=Silent())
        >>> trainer.train(data, epochs=20).last["accuracy"]
        1.0
    """

    def __init__(
        self, model: Module, optimizer: Optimizer, loss: Callable = cross_entropy, *,
        metrics: dict[str, Callable] | None = None, compile: bool = True,
        precision: str = "float32", progress: Progress | None = None,
    ):  # fmt: skip
        classifies = loss is cross_entropy or isinstance(loss, CrossEntropyLoss)
        default = {"accuracy": accuracy} if classifies else {}
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.metrics = default if metrics is None else dict(metrics)
        self.precision, self.progress = precision, progress
        self.steps = 0  # training steps done
        self._train_step = Step(self._training, compile)
        self._evaluate_step = Step(self._evaluation, compile)
        self._predict_step = Step(self._prediction, compile)

    # --- the functions that are compiled ---

    def _training(self, *batch: Tensor) -> tuple[Tensor, ...]:
        with precision(self.precision):
            output = self.model(*batch[:-1])
            loss = self.loss(output, batch[-1])
            loss.backward()
        self.optimizer.step()
        # Forgotten here, not before the next step: gradients that do not outlive the step stay in
        # the program's scratch memory.
        self.optimizer.zero_grad()
        return self._measured(output, batch[-1], loss)

    def _evaluation(self, *batch: Tensor) -> tuple[Tensor, ...]:
        with no_grad(), precision(self.precision):
            output = self.model(*batch[:-1])
            return self._measured(output, batch[-1], self.loss(output, batch[-1]))

    def _prediction(self, *inputs: Tensor) -> Tensor:
        with no_grad(), precision(self.precision):
            return self.model(*inputs)

    def _measured(self, output: Tensor, target: Tensor, loss: Tensor) -> tuple[Tensor, ...]:
        output = output.detach()
        return (loss.detach(), *(metric(output, target) for metric in self.metrics.values()))

    # --- what a user calls ---

    def train(
        self, loader: Iterable, epochs: int, *,
        validation: Iterable | None = None, save: str | Path | None = None,
    ) -> History:  # fmt: skip
        """Go through the data `epochs` times; Ctrl-C stops between two steps.

        Args:
            loader: gives batches, each (input, ..., target) of NumPy arrays or Tensors; gone
                through once an epoch.
            epochs: at least 0.
            validation: gives batches to measure after each epoch.
            save: file for the weights, written when the run ends or is stopped.

        Returns:
            a row for each whole epoch; `.stopped` is True after Ctrl-C.

        Raises:
            DataError: the loader gives no batch.
            GradientError: the loss is no longer a number.
        """
        history, shown = History(), self.progress or best_for_output()
        epochs = whole("train", "epochs", epochs, at_least=0)
        self.optimizer.zero_grad()
        try:
            with Interruption() as stop:
                for epoch in range(1, epochs + 1):
                    began = time.perf_counter()
                    shown.begin_epoch(epoch, epochs, _length(loader))
                    row = {"epoch": epoch, **self._epoch(loader, shown, stop)}
                    if stop.requested:
                        break
                    if validation is not None:
                        row |= {f"val_{k}": v for k, v in self.evaluate(validation).items()}
                    row["seconds"] = time.perf_counter() - began
                    history.add(row)
                    shown.end_epoch(row)
                history.stopped = stop.requested
                if save is not None:
                    save_weights(self.model, save)
            if history.stopped:
                shown.message(_how_to_go_on(self.steps, epochs - len(history), save))
        finally:
            shown.close()
        return history

    fit = train

    def _epoch(self, loader: Iterable, shown: Progress, stop: Interruption) -> dict[str, float]:
        averages = Averages()
        self.model.train()
        for index, batch in enumerate(loader, 1):
            values = self._named(self._train_step(*batch))
            self.steps += 1
            _check_finite(values["loss"], self.steps, self.optimizer)
            averages.add(values, len(batch[-1]))
            shown.batch(index, averages.means())
            if stop.requested:
                break
        return _some(averages)

    def evaluate(self, loader: Iterable) -> dict[str, float]:
        """Loss and metrics over all batches, each sample counted equally; the model stays as it is.

        Args:
            loader: gives batches, each (input, ..., target).

        Returns:
            "loss" and each metric by name.

        Raises:
            DataError: the loader gives no batch.
        """
        averages, training = Averages(), self.model.training
        self.model.eval()
        try:
            for batch in loader:
                averages.add(self._named(self._evaluate_step(*batch)), len(batch[-1]))
        finally:
            self.model.train(training)
        return _some(averages)

    def predict(self, inputs, batch_size: int = 256) -> Tensor:
        """The model's outputs in evaluation mode.

        Args:
            inputs: one array or Tensor (N, ...).
            batch_size: samples that go through the model together; at least 1.

        Returns:
            (N, ...), the outputs in order.
        """
        size = whole("predict", "batch_size", batch_size, at_least=1)
        x, training = (
            inputs.numpy() if isinstance(inputs, Tensor) else np.asarray(inputs),
            self.model.training,
        )
        self.model.eval()
        try:
            parts = [
                self._predict_step(x[i : i + size]).numpy() for i in range(0, max(len(x), 1), size)
            ]
        finally:
            self.model.train(training)
        return Tensor(np.concatenate(parts))

    def _named(self, values: tuple[Tensor, ...]) -> dict[str, float]:
        return {name: v.item() for name, v in zip(("loss", *self.metrics), values, strict=True)}


def _length(loader: Any) -> int | None:
    return len(loader) if hasattr(loader, "__len__") else None


def _some(averages: Averages) -> dict[str, float]:
    if averages.samples == 0:
        raise DataError(
            "there is nothing to go through",
            got="a loader that gave no batch",
            rule="at least one batch with at least one sample in an epoch",
            fix="a smaller batch_size, drop_last=False, or a new iterator for each epoch",
        )
    return averages.means()


def _check_finite(loss: float, step: int, optimizer: Optimizer) -> None:
    if not math.isfinite(loss):
        lr = optimizer.lr
        raise GradientError(
            f"loss is {loss} since step {step}",
            got=f"learning rate {lr:g}",
            rule="the loss is a finite number",
            fix=f"a lower learning rate, for example {lr / 10:g}, or clip_grad_norm_ before step()",
        )


def _how_to_go_on(steps: int, left: int, save: str | Path | None) -> str:
    kept = f"; weights in {save}" if save is not None else ""
    return f"stopped after step {steps}{kept}. To go on: trainer.train(loader, epochs={left})"
