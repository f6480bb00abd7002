"""What a module consists of: output shapes, parameters, operations and memory, layer by layer.

Knows the tree and who is charged with what; counting is `shapes_only`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.nn.hooks import Hooks, Watcher, watching
from tinytorch.nn.shapes_only import ShapesOnly
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.interpreter import interpreting
from tinytorch.tensor.modes import enable_grad
from tinytorch.tensor.tensor import Tensor


@dataclass(frozen=True)
class SummaryRow:
    """One module of the tree, without what its parts do: the columns add up.

    Args:
        name: dotted path; "" is the whole.
        kind: its class.
        output: shapes of what it gave at its last call; empty if it was not called.
        calls: how often it was called.
        parameters: numbers in weights of its own that no row above has.
        trainable: those of them that ask for a gradient.
        flops: arithmetic operations of its own, a multiplication and an addition being two.
        activation_bytes: memory of its own results that backward needs.
    """

    name: str
    kind: str
    output: tuple[tuple[int, ...], ...]
    calls: int
    parameters: int
    trainable: int
    flops: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """A module's rows and their sums; `print` shows a table.

    Args:
        rows: one for each module of the tree, in its order.
        parameter_bytes: memory of all weights.
    """

    rows: tuple[SummaryRow, ...]
    parameter_bytes: int

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Those that ask for a gradient."""
        return sum(row.trainable for row in self.rows)

    @property
    def flops(self) -> int:
        """Arithmetic operations of one forward pass."""
        return sum(row.flops for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Memory that one forward pass keeps for backward, in eager mode; compiled it is less."""
        return sum(row.activation_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "output", "parameters", "FLOPs", "activations")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [_joined(line, widths) for line in lines]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        frozen = self.parameters - self.trainable
        return "\n".join(
            [text[0], rule, *text[1:], rule,
             f"parameters   {self.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else "")
             + f", {_bytes(self.parameter_bytes)}",
             f"forward      {_scaled(self.flops)}FLOP",
             f"activations  {_bytes(self.activation_bytes)} kept for backward"]
        )  # fmt: skip

    __repr__ = __str__


def _cells(row: SummaryRow) -> tuple[str, ...]:
    depth = row.name.count(".") + 1 if row.name else 0
    last = row.name.rpartition(".")[2]
    name = "  " * depth + (f"{last}: {row.kind}" if last else row.kind)
    shapes = " ".join(str(shape).replace(",)", ")") for shape in row.output)
    times = f" x{row.calls}" if row.calls > 1 else ""
    return (
        name,
        shapes + times or "-",
        f"{row.parameters:,}" if row.parameters else "",
        _scaled(row.flops).rstrip() if row.flops else "",
        _bytes(row.activation_bytes) if row.activation_bytes else "",
    )


def _joined(line: tuple[str, ...], widths: list[int]) -> str:
    left = (cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True))
    right = (cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True))
    return "  ".join((*left, *right)).rstrip()


def _scaled(n: int) -> str:
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.1f} {letter}"
    return f"{n} "


def _bytes(n: int) -> str:
    for size, letter in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if n >= size:
            return f"{n / size:.1f} {letter}"
    return f"{n} B"


class _Charged(Watcher):
    """Charges a module with every operation outside its parts."""

    def __init__(self, counter: ShapesOnly, own: Hooks | None):
        super().__init__(own)
        self.counter, self.calls, self.output = counter, 0, ()

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """The output, its shapes noted."""
        above, self.counter.owner = self.counter.owner, id(module)
        try:
            output = call()
        finally:
            self.counter.owner = above
        self.calls += 1
        self.output = tuple(tuple(t.shape) for t in tensors_in(output))
        return output


def tensors_in(tree: Any) -> list[Tensor]:
    """The Tensors that a module gave: one, or those in tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [t for x in tree for t in tensors_in(x)] if isinstance(tree, (list, tuple)) else []


def summarise(module: Any, inputs: tuple, named: dict) -> Summary:
    """Run `module` without numbers and say what it consists of; see `Module.summary`."""
    counter = ShapesOnly()
    given = (
        zeros(*x) if _is_shape(x) else Tensor(x) if isinstance(x, np.ndarray) else x for x in inputs
    )
    stand_ins = tuple(counter.input(x) if isinstance(x, Tensor) else x for x in given)
    try:
        with (
            watching(module, lambda own: _Charged(counter, own)) as watched,
            interpreting(counter),
            enable_grad(),
        ):
            output = module(*stand_ins, **named)
            kept = counter.kept(tensors_in(output))
    finally:
        counter.restore()
    return _gathered(module, counter, watched, kept)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def _gathered(module: Any, counter: ShapesOnly, watched: dict, kept: dict) -> Summary:
    rows, seen, nbytes = [], set(), 0
    for name, part in module.named_modules():
        own = [p for _, p in part._own_parameters() if id(p) not in seen]
        seen.update(id(p) for p in own)
        nbytes += sum(p.spec.nbytes for p in own)
        note = watched[id(part)]
        rows.append(
            SummaryRow(
                name, type(part).__name__, note.output, note.calls,
                sum(p.size for p in own), sum(p.size for p in own if p.requires_grad),
                counter.flops.get(id(part), 0), kept.get(id(part), 0),
            )
        )  # fmt: skip
    return Summary(tuple(rows), nbytes)
