"""Group: parameters that share a learning rate and settings, and all that a rule is given of them.

A rule moves one Part of a Group at a time: parameters that have moved equally often, their
gradients, the states kept for them (slots) and the numbers of the step (scalars). Knows which
Tensors belong together, never how a weight moves.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import number
from tinytorch.base.dtypes import DType, bfloat16, float16, float64
from tinytorch.base.errors import SettingError
from tinytorch.base.settings import STRUCTURE
from tinytorch.tensor.creation import full, zeros
from tinytorch.tensor.indexing import put_rows, take
from tinytorch.tensor.interpreter import STATE, RecordAgain, current, interpreting, no_grad
from tinytorch.tensor.memory import Buffer, from_buffer, writable
from tinytorch.tensor.tensor import RowGradient, Tensor


class Part:
    """Parameters of a group that have moved equally often: what a rule moves at once.

    Note [a step count for each parameter]
        Rules that correct young averages (Adam) need to know how old those of each parameter are:
        a weight whose first gradient comes late, or that was frozen, begins at 1 when the others
        stand at 2,000. Nearly always all of them agree, and then a group has one part, one count
        and one set of corrections, whatever its size. When some have a gradient and some have not
        the part is divided; it never grows together again, for the counts differ from then on.

    `steps` is a 0-d float64 Tensor that a compiled step reads and writes.

    Args:
        group: whose parameters they are.
        places: their numbers in `group.parameters`.
        steps: how often they have moved.
    """

    __slots__ = ("_found", "_recording", "group", "places", "steps")

    def __init__(self, group: Group, places: list[int], steps: float = 0.0):
        self.group, self.places = group, places
        self.steps: Tensor = _count(steps)
        self._found: list[Tensor | None] | None = None  # gradients that `idle` read
        self._recording: Any = None  # a weak reference to that in which it was raised last

    @property
    def lr(self) -> Tensor:
        """The group's learning rate, a 0-d float64 Tensor."""
        return self.group.lr

    @property
    def settings(self) -> dict[str, Any]:
        """The group's other settings by name."""
        return self.group.settings

    @property
    def parameters(self) -> list[Tensor]:
        """Those that have moved equally often."""
        return [self.group.parameters[i] for i in self.places]

    def live(self, whole: bool = False) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Each parameter that has a gradient, with it and with its state by name.

        Args:
            whole: a rule that mixes rows sees whole tables; other rules see, of a table whose
                gradient is a RowGradient, the rows that were read and nothing else.
        """
        group, found = self.group, self._found
        self._found = None
        if found is None:
            found = [group.parameters[i].grad for i in self.places]
        for i, gradient in zip(self.places, found, strict=True):
            if gradient is not None:
                parameter = group.parameters[i]
                slots = {name: tensors[i] for name, tensors in group.slots.items()}
                if isinstance(gradient, RowGradient):
                    if not whole:
                        yield from touched_rows(parameter, gradient, slots)
                        continue
                    gradient = gradient.dense()
                yield parameter, gradient, slots

    def blocks(self, scalars: Callable[[Any, Any, DType], tuple]) -> Iterator[tuple]:
        """What `live` gives, in pieces that stay in the cache, and the numbers of the step.

        An update rule is a dozen passes over arrays. Where NumPy may write (`in_blocks`), a rule is
        given pieces of arrays, one parameter after the other, and NumPy's numbers: the same
        arithmetic, a tenth of the time (90 us a step). Elsewhere it is given the Tensors.

        Note [scalars in float64]
            1 - beta2**t loses 3 digits in float32 (beta2 = 0.999), so what is one number for a
            whole group is computed in float64, once, and rounded at the end.

        Args:
            scalars: (steps, lr, dtype) -> numbers in float64, of NumPy's numbers or 0-d Tensors.

        Returns:
            tuples of p, g, the slots as `slot_names` orders them, and the scalars in p's number
            type. The rule writes to p and the slots, never to g.
        """
        exact: dict[DType, tuple] = {}  # as Tensors, and as NumPy's numbers
        plain: dict[DType, tuple] = {}
        for p, g, named in self.live():
            slots, dtype = tuple(named.values()), p.dtype
            pieces = in_blocks((p, *slots), g)
            if pieces is None:
                if dtype not in exact:
                    found = scalars(self.steps, self.lr, dtype)
                    exact[dtype] = tuple([_rounded(x, dtype) for x in found])
                yield p, g, slots, exact[dtype]
                continue
            if dtype not in plain:
                found = scalars(self.steps.numpy()[()], self.lr.numpy()[()], dtype)
                plain[dtype] = tuple([dtype.storage.type(x) for x in found])
            for piece, *states, gradient in pieces:
                yield piece, gradient, states, plain[dtype]

    def idle(self) -> list[int]:
        """The places of those without a gradient; the gradients are kept for `live`."""
        parameters = self.group.parameters
        self._found = found = [parameters[i].grad for i in self.places]
        return [i for i, g in zip(self.places, found, strict=True) if g is None]

    def raise_steps(self) -> None:
        """Count one more step."""
        if STATE.interpreter is not None:
            self._recording = weakref.ref(STATE.interpreter)
        self.steps.assign_(self.steps + 1.0)

    def divided(self, places: list[int]) -> Part:
        """Give these parameters a part of their own, with the count they have now.

        While a program is recorded that has raised the count already, what it did for all of them
        is not what its later runs must do: it is recorded once more, with the parts as they are
        now. Its own count then begins with the number from before the recording.
        """
        other = Part(self.group, places, float(self.steps._buffer.array))
        self.places = [i for i in self.places if i not in places]
        self._found = None
        recording = STATE.interpreter
        if recording is not None and self._recording is not None:
            if self._recording() is recording:
                self.group.parts.append(other)
                raise RecordAgain
        return other


class Group:
    """Parameters that share settings; `group["lr"]` reads and sets them by name, as in PyTorch.

    `lr` and `initial_lr` (what schedules multiply) are 0-d float64 Tensors: a compiled step reads
    them at every call. The other settings are part of what is compiled, so changing one compiles
    the step again.

    Args:
        owner: name of the rule, for messages.
        parameters: the Tensors that are updated.
        lr: learning rate, in [0, inf).
        settings: the other settings by name.
        check: settings -> the same, validated; raises SettingError.
        slot_names: settings -> names of the states kept for each parameter.
    """

    def __init__(
        self, owner: str, parameters: list[Tensor], lr: float, settings: dict,
        check: Callable[[dict], dict], slot_names: Callable[[dict], tuple[str, ...]],
    ):  # fmt: skip
        self.owner, self.parameters = owner, parameters
        self._check, self._slot_names = check, slot_names
        rate = number(owner, "lr", lr, "[0, inf)")
        self.lr = full((), rate, dtype=float64)
        self.initial_lr = full((), rate, dtype=float64)
        self.is_scheduled = False  # then a rate set by name leaves initial_lr, as in PyTorch
        self.parts: list[Part] = [Part(self, list(range(len(parameters))))]
        self.settings: dict[str, Any] = check(settings)
        self.slots: dict[str, list[Tensor]] = {}  # "exp_avg" -> one Tensor for each parameter
        self._aligned = -1  # what STRUCTURE was when number types were last looked at
        self._make_slots()

    def _make_slots(self) -> None:
        for name in self._slot_names(self.settings):
            if len(self.slots.get(name, ())) != len(self.parameters) or name not in self.slots:
                self.slots[name] = [zeros(p.shape, dtype=p.dtype) for p in self.parameters]

    def adopt(self, parameters: list[Tensor]) -> None:
        """Take these parameters in place of none."""
        self.parameters = parameters
        self.parts = [Part(self, list(range(len(parameters))))]
        self._make_slots()
        STRUCTURE.bump()

    def align(self) -> None:
        """See that in each part either all parameters have a gradient or none, and that states have
        the number types of their parameters, which `Module.to` may have changed."""
        if self._aligned != STRUCTURE.value:
            for tensors in self.slots.values():
                for slot, parameter in zip(tensors, self.parameters, strict=True):
                    if slot.dtype is not parameter.dtype:
                        with interpreting(None):  # a state of the program, not a part of it
                            slot._retype(parameter.dtype)
            self._aligned = STRUCTURE.value
        for part in list(self.parts):
            idle = part.idle()
            if idle and len(idle) < len(part.places):
                STRUCTURE.bump()  # programs that were recorded before raise one count for all
                self.parts.append(part.divided(idle))

    def moving(self) -> list[Part]:
        """The parts that have gradients, after `align`."""
        return [p for p in self.parts if p.places and self.parameters[p.places[0]].grad is not None]

    @property
    def steps(self) -> Tensor:
        """How often those of its parameters have moved that have moved most often, 0-d float64."""
        return max(self.parts, key=lambda part: float(part.steps._buffer.array)).steps

    def live(self, whole: bool = False) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Each parameter that has a gradient, part by part: see `Part.live`.

        Args:
            whole: as there.
        """
        for part in self.parts:
            yield from part.live(whole)

    # --- step counts by parameter, as a state dictionary holds them ---

    def counts(self) -> list[Tensor]:
        """How often each parameter has moved, as 0-d float64 Tensors of their own."""
        found = {i: part.steps for part in self.parts for i in part.places}
        return [found[i].detach().clone() for i in range(len(self.parameters))]

    def set_counts(self, counts: Sequence[float]) -> None:
        """Let each parameter have moved so often; what a part shares stays shared if it can."""
        for part in list(self.parts):
            while len({counts[i] for i in part.places}) > 1:
                first = counts[part.places[0]]
                self.parts.append(part.divided([i for i in part.places if counts[i] == first]))
                STRUCTURE.bump()
        with no_grad():
            for part in self.parts:
                if part.places:
                    part.steps.fill_(float(counts[part.places[0]]))

    def set_rate(self, rate: float, *, initial: bool = False) -> None:
        """Hold another learning rate, which a compiled step sees; `initial`: schedules too."""
        new = full((), number(self.owner, "lr", rate, "[0, inf)"), dtype=float64)
        with no_grad():
            self.lr.assign_(new)
            if initial:
                self.initial_lr.assign_(new)

    # --- as PyTorch's dictionaries ---

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self.parameters
        if name in ("lr", "initial_lr"):
            return float(getattr(self, name).item())
        self._known(name)
        return self.settings[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr":
            self.set_rate(value, initial=not self.is_scheduled)
            return
        self._known(name)
        self.settings = self._check({**self.settings, name: value})
        self._make_slots()
        STRUCTURE.bump()

    def __contains__(self, name: object) -> bool:
        return name in ("params", "lr", "initial_lr") or name in self.settings

    def _known(self, name: str) -> None:
        if name not in self.settings:
            refuse_unknown(self.owner, [name], self.settings)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that changes from step to step but the step counts, by name."""
        yield from (("lr", self.lr), ("initial_lr", self.initial_lr))
        for name, tensors in self.slots.items():
            yield from ((f"{name}.{i}", tensor) for i, tensor in enumerate(tensors))


def _count(steps: float) -> Tensor:
    """A 0-d float64 Tensor that is no part of a recording under way."""
    return from_buffer(Buffer(np.array(steps, np.float64), float64))


def refuse_unknown(owner: str, names: list[str], settings: Mapping) -> None:
    """Raise a SettingError if there are names that are no setting."""
    if names:
        raise SettingError(
            f"{owner}: a group has a setting that this rule does not know",
            got=", ".join(names),
            rule="one of " + ", ".join(["lr", *settings]),
            fix='{"params": ..., "lr": 0.01}',
        )


# --- the numbers of a step that are the same for every weight ---

# Below it float16 has no 1e-8: a divisor of sqrt(0) + 0 would make the step of a weight without
# a gradient 0 / 0. Source: IEEE 754, the smallest normal number of binary16.
SMALLEST = 2.0**-14


def divisor(eps: float, dtype: DType, factor: Any = 1.0) -> Any:
    """`eps` of a rule times `factor`: in float16, unless eps is 0, at least its smallest normal
    number.

    >>> from tinytorch.base.dtypes import bfloat16
    >>> divisor(1e-8, float16), divisor(1e-8, bfloat16), divisor(0.0, float16)
    (6.103515625e-05, 1e-08, 0.0)
    """
    small = eps * factor
    if not eps or dtype is not float16:
        return small
    return small.maximum(SMALLEST) if isinstance(small, Tensor) else max(small, SMALLEST)


def _rounded(x: Any, dtype: DType) -> Any:
    return x.astype(dtype) if isinstance(x, Tensor) else x


# What `Part.blocks` gives is Tensors or NumPy's numbers.


def sqrt(x: Any) -> Any:
    """The square root of a Tensor or of NumPy's numbers."""
    return x.sqrt() if isinstance(x, Tensor) else np.sqrt(x)


def sign(x: Any) -> Any:
    """The sign of a Tensor or of NumPy's numbers."""
    return x.sign() if isinstance(x, Tensor) else np.sign(x)


def checked_betas(owner: str, betas: object) -> tuple[float, float]:
    """`betas` as two floats if each lies in [0, 1), else a SettingError.

    >>> checked_betas("Adam", [0.9, 0.999])
    (0.9, 0.999)
    """
    if not isinstance(betas, (list, tuple)) or len(betas) != 2:
        raise SettingError(
            f"{owner}: betas are two numbers",
            got=f"betas={betas!r}",
            rule="(beta1, beta2), each in [0, 1)",
            fix=f"{owner}(..., betas=(0.9, 0.999))",
        )
    first, second = (number(owner, f"betas[{i}]", b, "[0, 1)") for i, b in enumerate(betas))
    return first, second


# --- which memory is gone through ---

# Elements: five arrays of them in float32 are 1.3 MB, less than a second-level cache of 2 MB.
BLOCK = 1 << 16


def in_blocks(written: tuple[Tensor, ...], read: Tensor) -> list[tuple[np.ndarray, ...]] | None:
    """Views of pieces of all these Tensors, those in `written` to be written.

    Args:
        written: of one shape and dtype.
        read: of the same.

    Returns:
        Tuples of 1-d arrays, pieces of `written` and then of `read`; None where NumPy may not write
        there: during a capture, or memory that is not dense, or for bfloat16.
    """
    if STATE.interpreter is not None or STATE.journal is not None:
        return None
    dtype = read.dtype
    if dtype is bfloat16:
        return None
    for tensor in written:
        if tensor.dtype is not dtype or not tensor._buffer.array.flags.c_contiguous:
            return None
    arrays = [writable(tensor).reshape(-1) for tensor in written]
    arrays.append(read._buffer.array.reshape(-1))  # a copy, if it lies otherwise
    starts = range(0, max(arrays[0].size, 1), BLOCK)
    return [tuple([array[i : i + BLOCK] for array in arrays]) for i in starts]


def touched_rows(
    table: Tensor, gradient: RowGradient, slots: dict[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """What a rule sees in place of a table: parts that it assigns to, written back afterwards.

    Note [rows that were not read stay]
        Averages, momentum and weight decay of a row move only in steps in which it was read, as in
        PyTorch's SparseAdam: a rule applied to the whole table would move all of it, for its
        averages go on without a gradient.

    Eager, equal rows are joined first. In a compiled function, where it is not known how many there
    are, each mention of a row computes the same new numbers and the last is kept; the program then
    writes those rows of the table in place.

    Args:
        table: the parameter (V, ...).
        gradient: of it.
        slots: the rule's state for it, each of its shape, by name.
    """
    captured = current() is not None
    once = gradient if captured else gradient.joined()
    parts = {name: take(slot, once.index, 0) for name, slot in slots.items()}
    part = take(table.detach(), once.index, 0)
    yield part, once.totals() if captured else once.values, parts
    for whole, new in ((table, part), *((slots[name], parts[name]) for name in slots)):
        if captured:
            whole.assign_(put_rows(whole, once.index, new))
        else:
            whole[once.index] = new
