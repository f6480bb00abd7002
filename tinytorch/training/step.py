"""Steps: a function of a batch, compiled for the sizes that come again and eager for a remainder.

Knows shapes, never what the function does.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch.tensor.creation import asarray


class Step:
    """`fn(*batch)` on Tensors, through the compiler where that pays.

    Note [the last batch]
        Each shape is a program of its own, and the last batch of an epoch is often smaller.
        Compiling a program for one batch in a thousand costs more than it saves, so a batch with
        fewer samples than a compiled one runs eagerly, unless the batch before it had the same
        shape.

    Args:
        fn: function of Tensors.
        compile: whether to compile at all.
    """

    def __init__(self, fn: Callable, compile: bool):
        self.fn = fn
        self.compiled = _compiled(fn) if compile else None
        self.largest: dict[
            tuple, int
        ] = {}  # samples that were compiled, by everything but their number
        self.previous: tuple = ()

    def __call__(self, *batch):
        """`fn(*batch)`; NumPy arrays become Tensors first."""
        tensors = tuple(asarray(x) for x in batch)
        shapes = tuple(x.shape for x in tensors)
        again, self.previous = shapes == self.previous, shapes
        if self.compiled is None:
            return self.fn(*tensors)
        rest, samples = tuple(s[1:] for s in shapes), shapes[0][0] if shapes[0] else 1
        if samples < self.largest.get(rest, 0) and not again:
            return self.fn(*tensors)
        self.largest[rest] = max(samples, self.largest.get(rest, 0))
        return self.compiled(*tensors)


def _compiled(fn: Callable) -> Callable:
    # Imported here: eager training needs no LLVM.
    from tinytorch.compiler.compile import compile

    return compile(fn)
