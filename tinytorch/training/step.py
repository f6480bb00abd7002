"""Passes: what is done with one batch, as functions compiled for the sizes that come again.

Knows the order forward, loss, backward, update, measure, and shapes; never epochs or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bool_
from tinytorch.base.errors import DataError, LengthError
from tinytorch.base.lengths import dim
from tinytorch.nn.losses import losses_noted
from tinytorch.nn.module import Module
from tinytorch.tensor.creation import asarray, full
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import current, no_grad, precision
from tinytorch.tensor.memory import held
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.loss import (
    each_tensor,
    is_a_sum,
    is_trusted,
    noted_weight,
    scored_by,
    setting,
    warn_of_softmax,
)
from tinytorch.training.update import Update

Shapes = tuple[tuple[int, ...], ...]
TRIED = 64  # samples on which an unknown loss is tried


class Step:
    """`fn(*batch)` on Tensors, through the compiler where that pays.

    Note [the last batch]
        The last batch of an epoch is often smaller. One program serves all numbers of samples up to
        the largest so far (`tt.dim`), if every array of the batch has one axis of samples in front,
        and there are two or more. Where Python decides by their number, each is a program of its
        own. Compiling one for one batch in a thousand costs more than it saves, so a batch with
        fewer samples than a compiled one then runs eagerly, unless the batch before it had the same
        shape. A run that is resumed must decide alike: `seen` is part of its state.

    Args:
        fn: function of Tensors.
        compile: whether to compile at all.
        guards: what `fn` depends on besides, as `tt.compile` takes it.
    """

    def __init__(self, fn: Callable, compile: bool, guards: Iterable[Callable] = ()):
        self.fn, self.guards = fn, guards
        self.compiled = _compiled(fn, guards, 0, 0) if compile else None  # what was called last
        self.fixed = self.compiled  # the programs of one number of samples each
        self.programs: dict[Shapes, Callable | None] = {}  # those of any; None: Python decides
        self.largest: dict[Shapes, int] = {}  # samples compiled, by everything but their number
        self.previous: Shapes = ()

    def __call__(self, *batch):
        """`fn(*batch)`; NumPy arrays become Tensors first."""
        tensors = tuple(asarray(x) for x in batch)
        shapes = tuple(x.shape for x in tensors)
        again, self.previous = shapes == self.previous, shapes
        if self.fixed is None:
            return self.fn(*tensors)
        rest = tuple(s[1:] for s in shapes)
        samples = shapes[0][0] if shapes and shapes[0] else 1
        if samples > 1 and all(s[:1] == (samples,) for s in shapes):
            found = self._program(rest, samples, len(shapes))
            if found is not None:
                try:
                    self.compiled = found
                    return found(*tensors)
                except LengthError:
                    self.programs[rest] = None
        if samples < self.largest.get(rest, 0) and not again:
            return self.fn(*tensors)
        self.largest[rest] = max(samples, self.largest.get(rest, 0))
        self.compiled = self.fixed
        return self.fixed(*tensors)

    def _program(self, rest: Shapes, samples: int, arrays: int) -> Callable | None:
        """The program for so many samples, and fewer; None if Python decides by their number."""
        if rest in self.programs:
            found = self.programs[rest]
            if found is None or samples <= self.largest[rest]:
                return found
        bound = self.largest[rest] = max(samples, self.largest.get(rest, 0))
        made = self.programs[rest] = _compiled(self.fn, self.guards, arrays, bound)
        return made

    def seen(self) -> list:
        """What decides which batches are compiled, as lists that JSON can hold."""
        return [[list(map(list, r)), n] for r, n in self.largest.items()] + [
            [list(map(list, self.previous)), None]
        ]

    def remember(self, seen: list) -> None:
        """Take what `seen` gave."""
        shapes = [(tuple(map(tuple, rest)), samples) for rest, samples in seen]
        self.largest = {rest: n for rest, n in shapes if n is not None}
        self.previous = next(rest for rest, n in shapes if n is None)
        self.programs = {}


def _compiled(fn: Callable, guards: Iterable[Callable], arrays: int, bound: int) -> Callable:
    """The compiled function, whose `arrays` arguments have up to `bound` samples each; 0: fixed."""
    # Imported here: eager training needs no LLVM.
    from tinytorch.compiler.compile import compile

    if not arrays:
        return compile(fn, guards=guards)

    def on_batch(*batch: Tensor) -> Any:
        return fn(*batch)

    samples = dim("samples", bound, min=2)
    return compile(on_batch, guards=guards, dynamic_shapes={"batch": ((samples,),) * arrays})


class Passes:
    """A training, an evaluating and a predicting pass over one batch.

    Args:
        model: what the batch goes through.
        loss: function of (output, target).
        metrics: name -> function of (output, target).
        update: moves the weights.
        precision: of contractions.
        compile: whether each pass is one program.
    """

    def __init__(
        self, model: Module, loss: Callable, metrics: dict[str, Callable], update: Update,
        precision: str, compile: bool,
    ):  # fmt: skip
        self.model, self.loss, self.metrics = model, loss, metrics
        self.scored = scored_by(model, loss)
        self.update, self.precision = update, precision
        self.counts_samples = setting(loss, "weight") is None  # a loss's weight is a number of them
        training = self._training if update.accumulate == 1 else self._gathering
        given = [loss, *metrics.values()]  # functools.partial: its settings can change in place
        guards = [partial(_settings, f) for f in given if isinstance(f, partial)]
        self.steps = {
            "train": Step(training, compile, guards),
            "evaluate": Step(self._evaluation, compile, guards),
            "predict": Step(self._prediction, compile),
        }
        self._move = Step(update.apply_window, compile)
        self.sound = True  # whether the last gradients were finite, or are nobody's business
        self._softmax_said = False
        # Batches on which an unknown loss is still to be tried: see loss.py. So many may
        # tell nothing (a loss of 0) until it is let be.
        self._untried = update.accumulate if update.accumulate > 1 and not is_trusted(loss) else 0
        self._silent = 10 * self._untried

    def train(self, batch: tuple) -> tuple[dict[str, float], float, float]:
        """Learn from a batch; gives its loss and metrics, and how much each of them counts."""
        if self._untried:
            self._try_loss(batch)
        values, weight, samples, *sound = self._counted(self.steps["train"], batch)
        self.sound = bool(sound[0])
        self.update.count(values["loss"], weight, self.sound)
        return values, weight, samples

    def evaluate(self, batch: tuple) -> tuple[dict[str, float], float, float]:
        """Loss and metrics of a batch, and how much each of them counts."""
        values, weight, samples, *_ = self._counted(self.steps["evaluate"], batch)
        return values, weight, samples

    def predict(self, *inputs: Any) -> Tensor:
        """The model's output."""
        return self.steps["predict"](*inputs)

    def move_if_due(self, at_the_end: bool = False) -> bool:
        """Close the window if it is full, or if the epoch ends; gives whether the weights moved.

        Without accumulation they have moved in the training pass itself.
        """
        update = self.update
        if update.waiting < (1 if at_the_end else update.accumulate):
            return False
        if update.accumulate > 1:
            self.sound = bool(self._move(*update.window()).item())
        update.begin_window()
        return True

    # --- the functions that are compiled ---

    def _training(self, *batch: Tensor) -> tuple[Tensor, ...]:
        buffers = self._buffers()
        output, loss, weight = self._forward(batch)
        finite, sound = loss.detach().isfinite(), full((), True, dtype="bool")
        if current() is not None or finite.item():
            with precision(self.precision):
                self.update.backward(loss)
            sound = self.update.apply(finite)
        else:
            self.update.leave_out()
        _give_back(buffers, finite & sound)
        return (*self._measured(output, batch[-1], loss, weight), sound)

    def _gathering(self, *batch: Tensor) -> tuple[Tensor, ...]:
        buffers = self._buffers()
        output, loss, weight = self._forward(batch)
        with precision(self.precision):
            self.update.backward(loss)
        sound = self.update.gather(weight)
        _give_back(buffers, loss.detach().isfinite() & sound)
        return (*self._measured(output, batch[-1], loss, weight), sound)

    def _evaluation(self, *batch: Tensor) -> tuple[Tensor, ...]:
        with no_grad():
            output, loss, weight = self._forward(batch)
            return self._measured(output, batch[-1], loss, weight)

    def _prediction(self, *inputs: Tensor) -> Tensor:
        with no_grad(), precision(self.precision):
            return self.model(*inputs)

    def _forward(self, batch: tuple[Tensor, ...]) -> tuple[Any, Tensor, Tensor | float]:
        with precision(self.precision), losses_noted() as noted:
            output = self.scored(*batch[:-1])
            loss = self.loss(output, batch[-1])
        for logits in noted.logits:
            self._softmax_said = self._softmax_said or warn_of_softmax(logits)
        with no_grad():
            return output, loss, noted_weight(self.loss, batch[-1], noted)

    def _try_loss(self, batch: tuple) -> None:
        """See Note [what a loss was divided by]: eager, in evaluation mode, nothing changes."""
        _check(batch)
        tensors = tuple([asarray(x) for x in batch])
        if len({x.shape[:1] for x in tensors}) == 1:
            tensors = tuple([x[:TRIED] for x in tensors])
        training = self.model.training
        self.model.eval()
        try:
            with no_grad(), precision(self.precision):
                output = self.scored(*tensors[:-1])
                adds_up = is_a_sum(self.loss, output, tensors[-1])
        finally:
            self.model.train(training)
        if adds_up is not None:
            self.update.adds_up, self._untried = adds_up, self._untried - 1
        else:
            self._silent -= 1
            self._untried = self._untried if self._silent else 0

    def _buffers(self) -> list[tuple[Tensor, Tensor]]:
        """Running statistics with the values they have before a batch moves them."""
        return [(buffer, held(buffer)) for buffer in self.model.buffers()]

    def _measured(
        self, output: Any, target: Tensor, loss: Tensor, weight: Tensor | float
    ) -> tuple[Tensor, ...]:
        output = each_tensor(output, Tensor.detach)
        with no_grad():
            measured = [metric(output, target) for metric in self.metrics.values()]
        return (loss.detach(), *measured, *([weight] if isinstance(weight, Tensor) else []))

    def _counted(self, step: Step, batch: Any) -> tuple:
        """Values by name, what the loss was divided by, samples, and what else the step gave."""
        _check(batch)
        found, samples = step(*batch), float(np.size(batch[-1]))
        names = ("loss", *self.metrics)
        values, rest = [x.item() for x in found[: len(names)]], list(found[len(names) :])
        weighed = bool(rest) and rest[0].dtype is not bool_
        weight = rest.pop(0).item() if weighed else samples
        samples = weight if self.counts_samples else samples
        return dict(zip(names, values, strict=True)), weight, samples, *[x.item() for x in rest]

    # --- state ---

    def state_dict(self) -> dict[str, str]:
        """Which sizes run compiled: after a resume the same must, to the last bit."""
        return {name: json.dumps(step.seen()) for name, step in self.steps.items()}

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Take what `state_dict` gave."""
        for name, step in self.steps.items():
            step.remember(json.loads(state[name]))


def _give_back(buffers: list[tuple[Tensor, Tensor]], finite: Tensor) -> None:
    """Undo what a batch without a finite loss did (see update.py, a step that is left out)."""
    if current() is None and finite.item():
        return
    with no_grad():
        for buffer, before in buffers:
            if current() is None or buffer.handle() is not before.handle():  # it was assigned to
                buffer.assign_(where(finite, buffer.detach(), before))


def _settings(function: partial) -> tuple:
    """What a partial function gives its function."""
    return (function.func, *function.args, *function.keywords.items())


def _check(batch: Any) -> None:
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not len(batch[-1]):
        got = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            got = f"{got} of {len(batch)}"
            if len(batch) > 1:
                got += " with 0 samples"
        raise DataError(
            "this is not a batch to learn from",
            got=f"a {got}",
            rule="(input, ..., target), arrays with at least one sample each",
            fix="a loader that gives (x, y); where the input is the target, (x, x)",
        )
