"""Operations along one axis: loops over all lines of arrays, positions of extremes, running sums.

Knows pointers, strides and lines, never graphs. A line is the elements along the axis at one place
of the other axes; neighbouring lines lie in the lanes of a vector. Tiles are blocks of lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tinytorch.codegen.builder import FLOATS, Function, Value, element, vector
from tinytorch.codegen.kernel import (
    Kernel,
    Operand,
    Pointers,
    Shares,
    address,
    ceil_div,
    lane_width,
    named_kernel,
    register_bytes,
    register_type,
)
from tinytorch.codegen.target import Target


@dataclass(frozen=True, eq=False)
class Line:
    """Where the lines of this turn begin: `width` of them side by side, cut off by `mask`."""

    f: Function
    starts: Mapping[str, Value]
    operands: Mapping[str, Operand]
    width: int
    mask: Value | None

    def at(self, name: str, offset: Value) -> Value:
        """The address `offset` elements further."""
        return self.f.at(self.starts[name], offset, self.operands[name].dtype.llvm)

    def load(self, name: str, offset: Value) -> Value:
        """An element of each line, in its register form: narrow floats as float32."""
        f, o = self.f, self.operands[name]
        if self.width > 1 and not o.strides[-1]:
            x = f.splat(f.load(self.at(name, offset), o.dtype.llvm), self.width)
        else:
            type = vector(self.width, o.dtype.llvm)
            x = f.load(self.at(name, offset), type, mask=self.mask)
        return f.convert(x, register_type(o))

    def store(self, value: Value, name: str, offset: Value) -> None:
        """Write an element of each line."""
        value = self.f.convert(value, self.operands[name].dtype.llvm)
        self.f.store(value, self.at(name, offset), mask=self.mask)

    def zero(self, name: str) -> Value:
        """0 in the register form of the operand."""
        return self.f.const(vector(self.width, register_type(self.operands[name])), 0)


def over_lines(
    kind: str, target: Target, beside: Sequence[int], operands: Mapping[str, Operand], body:
    Callable[[Line], None], *, elements: int, written: Sequence[str], given: Mapping[str, Operand] |
    None = None, vectors: bool = True, scratch: int = 0, flops: int = 0, bytes: int = 0,
) -> Kernel:  # fmt: skip
    """A kernel that runs `body` for every line.

    Args:
        beside: sizes of the axes beside the line's.
        operands: strides over `beside`, by buffer name.
        body: emits one turn.
        elements: looked at in one line, for the size of tiles.
        written: the buffers that are written.
        given: buffers that all lines read from their beginning.
        vectors: whether the body can work on several lines at once.
        scratch: bytes the body uses.
    """
    moved, sizes = _innermost(operands, beside, written)
    shared = dict(given or {})
    width = lane_width(target, register_bytes(*moved.values()), sizes[-1]) if vectors else 1
    blocks = ceil_div(sizes[-1], width)
    shares = Shares.of(prod(sizes[:-1]) * blocks, elements * width)

    def emit(f: Function, p: Pointers) -> None:
        with shares.loop(f, "line") as line:
            rest = line.index
            first = (
                f.mul(f.rem(rest, f.index(blocks)), f.index(width)) if blocks > 1 else f.index(0)
            )
            rest = f.div(rest, f.index(blocks))
            index = [first]
            for n in reversed(sizes[:-1]):
                index.insert(0, f.rem(rest, f.index(n)) if n > 1 else f.index(0))
                rest = f.div(rest, f.index(n))
            starts = {n: address(f, p[n], o, index) for n, o in moved.items()}
            for name, o in shared.items():
                starts[name] = f.at(p[name], f.index(o.offset), o.dtype.llvm)
            left = f.sub(f.index(sizes[-1]), first)
            mask = f.mask_below(width, left) if sizes[-1] % width else None
            body(Line(f, starts, moved | shared, width, mask))

    return named_kernel(
        kind, (*moved, *shared), emit, tiles=shares.tiles, scratch=scratch, flops=flops,
        bytes=bytes, label=kind,
    )  # fmt: skip


def _innermost(
    operands: Mapping[str, Operand], sizes: Sequence[int], written: Sequence[str]
) -> tuple[dict[str, Operand], list[int]]:
    """Operands and sizes with the longest axis along which lines lie side by side last.

    Where there is none, a new axis of size 1 is last.
    """
    best = None
    for d, n in enumerate(sizes):
        side_by_side = all(
            o.strides[d] in ((1,) if name in written else (0, 1)) for name, o in operands.items()
        )
        if n > 1 and side_by_side and (best is None or n > sizes[best]):
            best = d
    if best is None:
        return {k: replace(o, strides=(*o.strides, 0)) for k, o in operands.items()}, [*sizes, 1]
    order = [*(d for d in range(len(sizes)) if d != best), best]
    moved = {k: replace(o, strides=tuple(o.strides[d] for d in order)) for k, o in operands.items()}
    return moved, [sizes[d] for d in order]


def better(f: Function, x: Value, best: Value, signed: bool, largest: bool = True) -> Value:
    """x is larger (or smaller), or the first NaN."""
    if element(x.type) not in FLOATS:
        return f.compare("gt" if largest else "lt", x, best, signed)
    number = f.compare("eq", best, best, stem="number")
    no_better = f.compare("le" if largest else "ge", x, best)
    return f.op("and", f.op("xor", no_better, f.const(number.type, 1)), number)


def extreme_position(
    target: Target, beside: Sequence[int], n: int, x: Operand, step: int, out: Operand, largest:
    bool,
) -> Kernel:  # fmt: skip
    """The place of the first largest (or smallest) of n, the first NaN before all; "x", "out".

    Args:
        beside: sizes of the other axes; x, out (int64): strides over them.
        n: length of the axis; step: its stride in x.
    """
    signed = x.dtype.kind == "i"

    def body(line: Line) -> None:
        f = line.f
        first = line.load("x", f.index(0))
        place = f.const(vector(line.width, "i64"), 0)
        with f.loop("k", 1, n, carry=[first, place]) as k:
            value = line.load("x", f.mul(k.index, f.index(step)))
            wins = better(f, value, k.carried[0], signed, largest)
            here = f.splat(k.index, line.width)
            k.next(f.select(wins, value, k.carried[0]), f.select(wins, here, k.carried[1]))
        line.store(k.results[1], "out", f.index(0))

    count = prod(beside)
    return over_lines(
        "argmax" if largest else "argmin", target, beside, {"x": x, "out": out}, body, elements=n,
        written=("out",), flops=count * n, bytes=count * (n * x.dtype.itemsize + 8),
    )  # fmt: skip


def running_sum(
    target: Target, beside: Sequence[int], n: int, x: Operand, step: int, out: Operand, out_step:
    int,
) -> Kernel:  # fmt: skip
    """out[i] = x[0] + ... + x[i]; buffers "x", "out"."""

    def body(line: Line) -> None:
        f = line.f
        first = line.load("x", f.index(0))
        line.store(first, "out", f.index(0))
        with f.loop("k", 1, n, carry=[first]) as k:
            total = f.add(k.carried[0], line.load("x", f.mul(k.index, f.index(step))))
            line.store(total, "out", f.mul(k.index, f.index(out_step)))
            k.next(total)

    count = prod(beside) * n
    return over_lines(
        "cumsum", target, beside, {"x": x, "out": out}, body, elements=2 * n, written=("out",),
        flops=count, bytes=2 * count * x.dtype.itemsize,
    )  # fmt: skip
