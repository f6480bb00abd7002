"""Checkpointing: forget what a block computed, and compute it again when its gradient is asked for.

Knows the tape and what assignments happened inside. Memory falls from all values of a block to its
inputs; time rises by one more forward pass of it.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost",
https://arxiv.org/abs/1604.06174, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinytorch.base.errors import GradientError
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import Node, Port
from tinytorch.tensor.base import TensorBase, from_handle, held
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.modes import enable_grad, no_grad, precision


class _Journal:
    """What each Tensor that a block assigned to (random state, running means) held before."""

    def __init__(self, outer: _Journal | None):
        self.outer = outer
        self.before: dict[int, tuple[Any, Any]] = {}

    def note(self, tensor: Any) -> None:
        """Called before a Tensor is assigned to."""
        self.before.setdefault(id(tensor), (tensor, tensor.handle()))
        if self.outer is not None:
            self.outer.note(tensor)

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Everything as it was when the block ran first; afterwards as it is now."""
        now = [(tensor, tensor.handle()) for tensor, _ in self.before.values()]
        outer, STATE.journal = STATE.journal, None
        try:
            _assign(reversed(self.before.values()))  # what was written last is put back first
            yield
        finally:
            _assign(now)
            STATE.journal = outer


def _assign(pairs: Any) -> None:
    with no_grad():
        for tensor, handle in pairs:
            tensor.assign_(from_handle(handle))


def _outside(outs: tuple, start: int) -> dict[Any, Any]:
    """Places older than the block that its results depend on, each with what was read there."""
    found: dict[Any, Any] = {}
    stack = [(out._node, out.handle()) for out in outs if out._node is not None]
    seen: set[Any] = set()
    while stack:
        place, handle = stack.pop()
        if autograd.sequence_of(place) < start:
            found.setdefault(place, handle)
            continue
        node = place.node if type(place) is Port else place
        if node in seen or type(node) is not Node:
            continue
        seen.add(node)
        for parent, read in zip(node.parents, node.inputs, strict=True):
            if parent is not None:
                stack.append((parent, read))
    return found


class _Block:
    """Stands in the tape for a block that can be run again."""

    asks_needs, asks_final = False, True

    def __init__(self, run: Callable, places: tuple, journal: _Journal):
        self.run, self.places, self.journal = run, places, journal
        self.precision = STATE.precision

    def vjp(self, g: Any, out: Any, *read: Any, final: bool = False) -> tuple:
        """Run again, recorded, and go back through what was recorded."""
        start = autograd.next_sequence()
        with self.journal.repeated(), enable_grad(), precision(self.precision):
            outs = tensors_of(self.run())
        now = _outside(outs, start)
        for place, x in zip(self.places, read, strict=True):
            if STATE.interpreter is None and now.get(place) is not x.handle():
                raise GradientError(
                    "a tensor was changed in place after it was used",
                    got=f"a tensor {x.shape} that a checkpointed block read is another one now",
                    rule="the block runs again in backward(), on what it read the first time",
                    fix="call backward() before the step that writes",
                )
        cotangents = g if isinstance(g, tuple) else (g,)
        pairs = zip(outs, cotangents, strict=True)
        roots = [(o._node, c) for o, c in pairs if c is not None and o._node is not None]
        found = autograd.propagate(roots, self.places, keep=STATE.recording, final=final)
        return tuple([found.get(place) for place in self.places])

    def __repr__(self) -> str:
        return "checkpoint"


def tensors_of(result: Any) -> tuple:
    """The Tensors in what a block gave: one, or a tuple among whose entries they are."""
    parts = result if isinstance(result, tuple) else (result,)
    return tuple([x for x in parts if isinstance(x, TensorBase)])


def checkpoint(function: Callable) -> Callable:
    """`function`, which keeps nothing for backward but what it read: backward runs it again.

    Args:
        function: of anything, to a Tensor or a tuple; a layer, or a block of them. Gradients reach
            its Tensor arguments and everything it closes over. Random numbers are the same again,
            and what it assigns to (running means) is assigned once.
            In a module's forward: `x = tt.checkpoint(self.block)(x)`.

    Returns:
        A function of the same arguments.

    Raises:
        GradientError: in backward, if a Tensor that the block read was assigned to in between.

    Cost: the memory of one block at a time in place of all of them; one more forward pass. In a
        compiled function nothing: there the compiler decides what is kept (docs/decisions/006).

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([1.0, 2.0], requires_grad=True)
        >>> block = tt.checkpoint(lambda x: (x * x).exp())
        >>> block(x).sum().backward()
        >>> x.grad.round()
        Tensor([  5., 218.])
    """

    def wrapped(*args: Any, **named: Any) -> Any:
        if not STATE.recording:
            return function(*args, **named)
        start = autograd.next_sequence()
        args = tuple(map(_kept, args))
        named = {name: _kept(x) for name, x in named.items()}

        def run() -> Any:
            return function(*args, **named)

        outer, journal = STATE.journal, _Journal(STATE.journal)
        STATE.journal = journal
        try:
            result = run()
        finally:
            STATE.journal = outer
        return _forgotten(result, run, journal, start)

    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = getattr(function, "__name__", type(function).__name__)
    return wrapped


def _kept(x: Any) -> Any:
    """An argument as it is now, whatever is assigned to it later."""
    return held(x) if isinstance(x, TensorBase) else x


def _forgotten(result: Any, run: Callable, journal: _Journal, start: int) -> Any:
    """The result without what was recorded on the way to it."""
    outs = tensors_of(result)
    outside = _outside(outs, start)
    if not outside:
        return result
    places = tuple(outside)
    read = [from_handle(outside[place], place) for place in places]
    fresh = tuple([out.detach() for out in outs])
    if isinstance(result, tuple):
        autograd.record(_Block(run, places, journal), read, {}, fresh)
        given = iter(fresh)
        return tuple([next(given) if isinstance(x, TensorBase) else x for x in result])
    return autograd.record(_Block(run, places, journal), read, {}, fresh[0])
