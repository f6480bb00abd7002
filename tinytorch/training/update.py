"""Update: the way from the gradients of one or several batches to moved weights.

Knows gradients, never how they came about: scaling the loss, adding up, unscaling, clipping,
moving, averaging the weights. All of it is made of Tensor operations, so a compiled step contains
it. At the end: does the optimizer move this model's weights at all, and a schedule this optimizer's
rate? What does not belong together trains without an error and without an effect: the loss never
moves.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from tinytorch.base.arguments import number, whole
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import SettingError, short
from tinytorch.base.settings import STRUCTURE
from tinytorch.nn.module import Module
from tinytorch.optim.norms import all_finite, clip_grad_norm_
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.elementwise import where
from tinytorch.tensor.interpreter import current, no_grad
from tinytorch.tensor.memory import held
from tinytorch.tensor.tensor import RowGradient, Tensor


class LossScaler:
    """Multiplies the loss before backward and divides the gradients after it.

    A step whose gradients are not all finite is left out and the factor is multiplied by `backoff`;
    after `interval` good steps in a row it is multiplied by `growth`. The factor is a Tensor, so a
    compiled step reads and writes it in place.

    Args:
        scale: first factor, in (0, inf); default 2**16, as in PyTorch.
        growth: in [1, inf); default 2.
        backoff: in (0, 1); default 0.5.
        interval: good steps before it grows, at least 1; default 2000.

    Source: Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2; defaults are
    those of torch.amp.GradScaler.

    Example:
        >>> import tinytorch as tt
        >>> scaler = LossScaler(scale=8.0)
        >>> scaler.scaled(tt.Tensor(0.5)).item()
        4.0
        >>> scaler.update(tt.Tensor(False))             # an overflow
        >>> scaler.scale.item()
        4.0
    """

    def __init__(
        self, scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5,
        interval: int = 2000,
    ):  # fmt: skip
        first = number("LossScaler", "scale", scale, "(0, inf)")
        self.growth = number("LossScaler", "growth", growth, "[1, inf)")
        self.backoff = number("LossScaler", "backoff", backoff, "(0, 1)")
        self.interval = whole("LossScaler", "interval", interval, at_least=1)
        self.scale = full((), first)
        self.good = full((), 0.0)  # good steps since the factor last changed

    def scaled(self, loss: Tensor) -> Tensor:
        """loss * scale; call backward() on it."""
        return loss * self.scale.detach().astype(loss.dtype)

    def unscale(self, parameters: Iterable[Tensor]) -> Tensor:
        """Divide the gradients by the factor.

        Args:
            parameters: those without a gradient are passed over.

        Returns:
            0-d bool: whether all gradients are finite.
        """
        with no_grad():
            inverse, held = 1.0 / self.scale, [p for p in parameters if p.grad is not None]
            for parameter in held:
                gradient = cast(Tensor, parameter.grad)
                parameter.grad = gradient * inverse.astype(gradient.dtype)
            return all_finite([cast(Tensor, parameter.grad) for parameter in held])

    def update(self, ok: Tensor) -> None:
        """Change the factor after a step that was good or not."""
        with no_grad():
            good = self.good + 1.0
            grows = good >= float(self.interval)
            grown = where(grows, self.scale * self.growth, self.scale)
            self.good.assign_(where(ok, where(grows, 0.0, good), 0.0))
            self.scale.assign_(where(ok, grown, self.scale * self.backoff))

    def state_dict(self) -> dict[str, Tensor]:
        """The factor and how long it has been good."""
        return {"scale": self.scale.detach(), "good": self.good.detach()}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy what `state_dict` gave."""
        copy_named({"scale": self.scale, "good": self.good}, state, owner="LossScaler")


class EMA:
    """The exponential moving average of a model's parameters and saved buffers.

    After update number t = 0, 1, 2, ...

        d = min(decay, (1 + t) / (10 + t))       young averages follow quickly
        average = d * average + (1 - d) * weight

    Whole-number buffers are copied.

    Args:
        model: whose weights are averaged; the average begins at their present values.
        decay: how much of the past stays, in [0, 1); default 0.999.

    Cost: one extra array for each weight; 2 reads and 1 write a weight and step.

    Source: Polyak & Juditsky 1992; the warm-up (1 + t) / (10 + t) is that of TensorFlow's
    `tf.train.ExponentialMovingAverage(num_updates)`.

    Example:
        >>> import tinytorch as tt
        >>> model = tt.nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.detach()
        >>> with tt.no_grad():
        ...     _ = model.weight.fill_(0.0)
        >>> ema = EMA(model, decay=0.9)
        >>> with tt.no_grad():
        ...     _ = model.weight.fill_(1.0)
        >>> ema.update()                        # d = 1 / 10
        >>> ema.averages["weight"].item().__round__(3)
        0.9
    """

    def __init__(self, model: Module, decay: float = 0.999):
        self.decay = number("EMA", "decay", decay, "[0, 1)")
        self.updates = full((), 0.0, dtype=float64)
        saved = model.state_dict().keys()  # tables that are not saved are not state either
        named = (*model.named_parameters(), *model.named_buffers())
        self._live = {name: tensor for name, tensor in named if name in saved}
        self.averages = {name: Tensor(tensor.detach()) for name, tensor in self._live.items()}

    def update(self) -> None:
        """Take the present weights in."""
        with no_grad():
            t = self.updates
            keep = ((t + 1.0) / (t + 10.0)).minimum(self.decay)
            for name, live in self._live.items():
                average, new = self.averages[name], live.detach()
                if new.dtype.is_float:
                    d = keep.astype(new.dtype)
                    new = average * d + new * (1.0 - d)
                average.assign_(new)
            self.updates.assign_(t + 1.0)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averages; afterwards its own weights again."""
        own = {name: Tensor(tensor.detach()) for name, tensor in self._live.items()}
        self._give(self.averages)
        try:
            yield
        finally:
            self._give(own)

    def _give(self, values: Mapping[str, Tensor]) -> None:
        with no_grad():
            for name, live in self._live.items():
                live.assign_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, and "updates"."""
        averages = {f"average.{name}": t.detach() for name, t in self.averages.items()}
        return {"updates": self.updates.detach(), **averages}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy what `state_dict` of the same model's average gave."""
        own = {f"average.{name}": t for name, t in self.averages.items()}
        copy_named({"updates": self.updates, **own}, state, owner="EMA")


class Update:
    """Moves the weights once for each window of `accumulate` batches.

    Note [exact accumulation]
        Each batch's gradient is that of a mean over its weight w (see loss.py). Kept are
        G = sum of w * g and W = sum of w; G / W is the gradient of the mean over the whole window,
        whatever the sizes of its batches, and also when an epoch ends before the window is full.
        Layers that look at a whole batch (batch norm) still see the parts.

    Note [a step that is left out]
        If the loss or a gradient is not finite, weights and optimizer stay as they were. Eager code
        asks and returns; a compiled program cannot ask, so every new value is `where(ok, new,
        old)`; the kernel that computes it stores through the condition as a mask (Note [a
        guarded state] in compiler/loops/expression.py). No weight may move before all gradients
        are known. So the gradients themselves are led through the condition: otherwise the
        compiler would compute new weights together with their gradients and keep them until then,
        twice the memory traffic
        (measured: 50 % of a step of a small MLP; this way 1 to 5 %, 1 % of a CNN).

    Args:
        optimizer: whose parameters move.
        accumulate: batches in a window, at least 1.
        clip_norm: longest common gradient, or None.
        clip_value: largest number in a gradient, or None.
        scaler: multiplies losses, or None.
        ema: averages the weights, or None.
        adds_up: the loss is a sum, so gradients are added, not averaged.
    """

    def __init__(
        self, optimizer: Optimizer, *, accumulate: int = 1, clip_norm: float | None = None,
        clip_value: float | None = None, scaler: LossScaler | None = None, ema: EMA | None = None,
        adds_up: bool = False,
    ):  # fmt: skip
        self.optimizer, self.accumulate, self.adds_up = optimizer, accumulate, adds_up
        self.clip_norm = _limit("clip_norm", clip_norm)
        self.clip_value = _limit("clip_value", clip_value)
        self.scaler, self.ema = scaler, ema
        self.parameters = list(optimizer.parameters())
        self.sums = [zeros(p.shape, dtype=p.dtype) for p in self.parameters if accumulate > 1]
        self.waiting = 0  # batches of the window so far
        self.weight = 0.0  # W
        self.finite = True  # whether all their losses were
        self.reached: set[int] = set()  # parameters that had a gradient

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, scaled if there is a scaler."""
        (loss if self.scaler is None else self.scaler.scaled(loss)).backward()

    def gather(self, weight: Tensor | float) -> Tensor:
        """Add the gradients of one batch to the window's, and forget them.

        Returns:
            0-d bool: whether they are finite; True if losses are scaled: the window will say.
        """
        with no_grad():
            sound = full((), True, dtype="bool")
            if self.scaler is None:
                sound = all_finite(self._gradients())
            for i, (parameter, total) in enumerate(zip(self.parameters, self.sums, strict=True)):
                if (gradient := parameter.grad) is None:
                    continue
                if i not in self.reached:
                    self.reached.add(i)
                    STRUCTURE.bump()  # the program of apply_window() must know it
                if self.adds_up:
                    more = gradient
                elif isinstance(weight, Tensor):  # a mean of nothing has no gradient
                    more = where(weight > 0.0, gradient * weight.astype(gradient.dtype), 0.0)
                else:
                    more = gradient * weight
                total.assign_(total + more)
        self.optimizer.zero_grad()
        return sound

    def count(self, loss: float, weight: float, sound: bool) -> None:
        """Take note of a batch that was gathered, or that has moved the weights.

        Args:
            loss: of the batch.
            weight: what it was divided by.
            sound: whether its gradients are finite.
        """
        self.waiting += 1
        self.weight += weight
        self.finite = self.finite and ((math.isfinite(loss) and sound) or weight == 0.0)

    def window(self) -> tuple[np.float64, np.bool_]:
        """What the window's gradients are divided by, and whether they can be used."""
        usable = self.finite and self.weight > 0.0
        return np.float64(1.0 if self.adds_up else self.weight), np.bool_(usable)

    def apply_window(self, weight: Tensor, ok: Tensor) -> Tensor:
        """Move the weights by the window's gradient, and begin another; gives what `apply` does."""
        with no_grad():
            for i, (parameter, total) in enumerate(zip(self.parameters, self.sums, strict=True)):
                if i in self.reached:
                    parameter.grad = total / weight.astype(total.dtype)
            sound = self.apply(ok)
            for total in self.sums:
                total.zero_()
        return sound

    def begin_window(self) -> None:
        """Count from nothing."""
        self.waiting, self.weight, self.finite = 0, 0.0, True

    def clear(self) -> None:
        """Forget the window."""
        self.begin_window()
        with no_grad():
            for total in self.sums:
                total.zero_()

    def apply(self, ok: Tensor) -> Tensor:
        """Move the weights by their gradients, if `ok` and if all of them are finite.

        Returns:
            0-d bool: whether the gradients are finite. True if losses are scaled, where an overflow
            is no error, and if not `ok`, where the reason is known.
        """
        sound, known = full((), True, dtype="bool"), ok.logical_not()
        if self.scaler is not None:
            ok = ok & self.scaler.unscale(self.parameters)
            self.scaler.update(ok)
        elif self.clip_norm is None or self.clip_value is not None:
            sound = all_finite(self._gradients())
        if self.clip_value is not None:
            _clip_values(self.parameters, self.clip_value)
        if self.clip_norm is not None:
            length = clip_grad_norm_(self.parameters, self.clip_norm)
            sound = sound if self.scaler is not None else sound & length.isfinite()
        ok = ok & sound
        self._lead_through(ok)
        self._guarded(ok, self._move)
        # Forgotten here, not before the next step: gradients that do not outlive the step stay in
        # the program's scratch memory.
        self.optimizer.zero_grad()
        return sound | known

    def _gradients(self) -> list[Tensor]:
        return [g for parameter in self.parameters if (g := parameter.grad) is not None]

    def _lead_through(self, ok: Tensor) -> None:
        """See Note [a step that is left out]."""
        if current() is None:
            return
        with no_grad():
            for parameter in self.parameters:
                gradient = parameter.grad
                if gradient is not None and not isinstance(gradient, RowGradient):
                    parameter.grad = where(ok, gradient, 0.0)

    def leave_out(self) -> None:
        """Note a step whose loss was not finite."""
        if self.scaler is not None:
            self.scaler.update(full((), False, dtype="bool"))

    def _move(self) -> None:
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update()

    def _guarded(self, ok: Tensor, move: Callable[[], None]) -> None:
        """See Note [a step that is left out]."""
        if current() is None:
            if ok.item():
                move()
            return
        with no_grad():
            self.optimizer.align()
            states = [*self.parameters, *self._kept()]
            before = [held(tensor) for tensor in states]
            move()
            for tensor, old in zip(states, before, strict=True):
                tensor.assign_(where(ok, tensor.detach(), old))

    def _kept(self) -> Iterator[Tensor]:
        """What optimizer and average keep beside the weights."""
        yield from self.optimizer.counts()
        for group in self.optimizer.groups:
            for tensors in group.slots.values():
                yield from tensors
        if self.ema is not None:
            yield self.ema.updates
            yield from self.ema.averages.values()

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """The window under way: what was counted, and its sums by number of the parameter."""
        counted = {"waiting": self.waiting, "weight": self.weight, "finite": int(self.finite)}
        counted["adds_up"] = int(self.adds_up)
        if not self.waiting:
            return counted
        return {**counted, **{f"sum.{i}": self.sums[i].detach() for i in self._gathered()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the middle of a window."""
        self.clear()
        given = {name: value for name, value in state.items() if name.startswith("sum.")}
        places = {int(name.removeprefix("sum.")) for name in given}
        copy_named({f"sum.{i}": self.sums[i] for i in places}, given, owner="gradients")
        self.waiting, self.weight = int(state["waiting"]), float(state["weight"])
        self.finite = bool(state["finite"])
        self.adds_up = bool(state.get("adds_up", self.adds_up))  # older versions: as the loss says
        if places - self.reached:
            self.reached |= places
            STRUCTURE.bump()

    def _gathered(self) -> list[int]:
        return sorted(self.reached) if self.sums else []


def _limit(name: str, value: float | None) -> float | None:
    return None if value is None else number("Trainer", name, value, "(0, inf)")


def _clip_values(parameters: list[Tensor], limit: float) -> None:
    with no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.minimum(limit).maximum(-limit)


# --- what belongs together ---


def check_parameters(owner: str, model: Module, optimizer: Optimizer, loss: Callable) -> None:
    """See that the optimizer moves the model: bind it if it has no parameters yet.

    Args:
        owner: who asks, for messages.
        model: what is trained.
        optimizer: may have parameters of other modules too.
        loss: its parameters, if it is a Module, may be the only ones.

    Raises:
        SettingError: it is no Optimizer, or moves none of the model's weights (nor the loss's); the
            model is no Module, the loss cannot be called.

    Warns:
        UserWarning: it moves some of them alone; it names the others. Weights that are frozen
            (`requires_grad=False`) are left out on purpose.

    Example:
        >>> import tinytorch as tt
        >>> model, other = tt.nn.Linear(2, 1), tt.nn.Linear(2, 1)
        >>> check_parameters("Trainer", model, tt.optim.SGD(model.parameters()), print)
        >>> try:
        ...     check_parameters("Trainer", model, tt.optim.SGD(other.parameters()), print)
        ... except SettingError as error:
        ...     print(str(error).splitlines()[0])
        Trainer: this optimizer moves another model's weights
    """
    if not isinstance(model, Module):
        raise SettingError(
            f"{owner}: this is not a model",
            got=f"model={short(model)}",
            rule="a Module",
            fix=f"{owner}(nn.Sequential(...), optimizer, ...)",
        )
    if not callable(loss):
        raise SettingError(
            f"{owner}: this is not a loss",
            got=f"loss={short(loss)}",
            rule="a function of output and target, or a Module; losses have no names as text",
            fix=f"{owner}(model, optimizer, loss=nn.MSELoss())",
        )
    if not isinstance(optimizer, Optimizer):
        raise SettingError(
            f"{owner}: this is not an optimizer",
            got=f"optimizer={short(optimizer)}",
            rule="an Optimizer of the model's parameters, or one without",
            fix=f"{owner}(model, tt.optim.AdamW(lr=1e-3), ...)",
        )
    if not optimizer.is_bound:
        optimizer.bind(model.parameters())
        return
    moved = {id(p) for p in optimizer.parameters()}
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    others = list(loss.parameters()) if isinstance(loss, Module) else []
    left = [name for name, p in named if id(p) not in moved]
    if named and len(left) == len(named) and not any(id(p) in moved for p in others):
        raise SettingError(
            f"{owner}: this optimizer moves another model's weights",
            got=f"{len(moved)} tensors, none of the {len(named)} of {type(model).__name__}",
            rule="an optimizer of the model's parameters, or one without: it is given them",
            fix=f"{optimizer.name}(model.parameters(), lr=...), or {optimizer.name}(lr=...)",
        )
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        warnings.warn(
            f"{owner}: the optimizer leaves weights of the model where they are; got: no "
            f"{', '.join(left[:5])}{more}; rule: what is not trained is frozen, so that this is "
            "known to be on purpose; fix: optimizer.add_param_group({'params': ...}), or "
            "part.requires_grad_(False)",
            stacklevel=3,
        )


def check_schedule(schedule: Any, optimizer: Optimizer) -> None:
    """See that a schedule moves the learning rate of this optimizer, or of one it is made of.

    Raises:
        SettingError: it is another optimizer's; or it is no object with a method `step`.
    """
    if schedule is None:
        return
    if isinstance(schedule, type) or not callable(getattr(schedule, "step", None)):
        raise SettingError(
            "Trainer: this is not a schedule",
            got=f"schedule={short(schedule)}",
            rule="a Schedule of the Trainer's optimizer, or an object with a method step()",
            fix="schedule=tt.optim.StepLR(optimizer, step_size=10)",
        )
    moved = getattr(schedule, "optimizer", optimizer)
    groups = {id(group) for group in optimizer.groups}
    if isinstance(moved, Optimizer) and not all(id(group) in groups for group in moved.groups):
        name = type(schedule).__name__
        raise SettingError(
            "Trainer: the schedule moves another optimizer's learning rate",
            got=f"{name} of {moved!r}",
            rule="schedule.optimizer is the Trainer's optimizer",
            fix=f"{name}(optimizer, ...) with the optimizer that the Trainer is given",
        )
