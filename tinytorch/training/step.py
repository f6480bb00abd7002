"""Steps: a function of a batch, compiled for the sizes that come again and eager for a remainder.

Knows shapes, never what the function does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinytorch.tensor.creation import asarray

Shapes = tuple[tuple[int, ...], ...]


class Step:
    """`fn(*batch)` on Tensors, through the compiler where that pays.

    Note [the last batch]
        Each shape is a program of its own, and the last batch of an epoch is often smaller.
        Compiling a program for one batch in a thousand costs more than it saves, so a batch with
        fewer samples than a compiled one runs eagerly, unless the batch before it had the same
        shape. A run that is resumed must decide alike: `seen` is part of its state.

    Args:
        fn: function of Tensors.
        compile: whether to compile at all.
        guards: what `fn` depends on besides, as `tt.compile` takes it.
    """

    def __init__(self, fn: Callable, compile: bool, guards: Iterable[Callable] = ()):
        self.fn = fn
        self.compiled = _compiled(fn, guards) if compile else None
        self.largest: dict[Shapes, int] = {}  # samples compiled, by everything but their number
        self.previous: Shapes = ()

    def __call__(self, *batch):
        """`fn(*batch)`; NumPy arrays become Tensors first."""
        tensors = tuple(asarray(x) for x in batch)
        shapes = tuple(x.shape for x in tensors)
        again, self.previous = shapes == self.previous, shapes
        if self.compiled is None:
            return self.fn(*tensors)
        rest = tuple(s[1:] for s in shapes)
        samples = shapes[0][0] if shapes and shapes[0] else 1
        if samples < self.largest.get(rest, 0) and not again:
            return self.fn(*tensors)
        self.largest[rest] = max(samples, self.largest.get(rest, 0))
        return self.compiled(*tensors)

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


def _compiled(fn: Callable, guards: Iterable[Callable]) -> Callable:
    # Imported here: eager training needs no LLVM.
    from tinytorch.compiler.compile import compile

    return compile(fn, guards=guards)
