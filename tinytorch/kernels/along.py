"""Operations along one axis: positions of extremes, running sums, picking and adding at indices.

Knows lines, strides and indices, never graphs. Indices were checked before; negative ones count
from the end. Sums of float16 and bfloat16 are kept in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.codegen.target import Target
from tinytorch.kernels.lines import Line, better, over_lines, register


def extreme_position(
    target: Target,
    beside: Sequence[int],
    n: int,
    x: Operand,
    step: int,
    out: Operand,
    largest: bool,
) -> Kernel:
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
    target: Target,
    beside: Sequence[int],
    n: int,
    x: Operand,
    step: int,
    out: Operand,
    out_step: int,
) -> Kernel:
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


def wrapped(f: Function, i: Value, operand: Operand, size: int) -> Value:
    """A loaded index as i64, negative ones counted from the end."""
    i = f.convert(i, "i64", signed=operand.dtype.kind == "i")
    return f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(size)), i)


def take_along(
    target: Target, beside: Sequence[int], count: int, size: int, x: Operand, index: Operand,
    out: Operand, steps: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    """out[k] = x[index[k]] in every line; buffers "x", "index", "out".

    Args:
        count: indices in a line; size: of the axis in x.
        steps: the axis's strides in x, index and out.
    """

    def body(line: Line) -> None:
        f = line.f
        with f.loop("k", 0, count) as k:
            i = line.load("index", f.mul(k.index, f.index(steps[1])))
            i = wrapped(f, i, index, size)
            type = x.dtype.llvm
            value = f.load(line.at("x", f.mul(i, f.index(steps[0]))), type)
            f.store(value, line.at("out", f.mul(k.index, f.index(steps[2]))))

    total = prod(beside) * count
    return over_lines(
        "take_along", target, beside, {"x": x, "index": index, "out": out}, body,
        elements=4 * count, written=("out",), vectors=False,
        bytes=total * (2 * x.dtype.itemsize + index.dtype.itemsize),
    )  # fmt: skip


def scatter_along(
    target: Target, beside: Sequence[int], count: int, size: int, g: Operand, index: Operand,
    out: Operand, steps: tuple[int, int, int],
) -> Kernel:  # fmt: skip
    """out[index[k]] += g[k] from zero in every line; buffers "g", "index", "out".

    Args:
        count: indices in a line; size: of the axis in out.
        steps: the axis's strides in g, index and out.
    """
    wide = register(g)
    narrow = wide != g.dtype.llvm

    def body(line: Line) -> None:
        f = line.f
        sums, step = (line.scratch, 1) if narrow else (line.starts["out"], steps[2])

        def place(i: Value) -> Value:
            return f.at(sums, f.mul(i, f.index(step)), wide)

        with f.loop("zero", 0, size) as z:
            f.store(f.const(wide, 0), place(z.index))
        with f.loop("k", 0, count) as k:
            i = line.load("index", f.mul(k.index, f.index(steps[1])))
            to = place(wrapped(f, i, index, size))
            value = line.load("g", f.mul(k.index, f.index(steps[0])))
            f.store(f.add(f.load(to, wide), value), to)
        if narrow:
            with f.loop("i", 0, size) as i:
                line.store(f.load(place(i.index), wide), "out", f.mul(i.index, f.index(steps[2])))

    total = prod(beside)
    return over_lines(
        "scatter_along", target, beside, {"g": g, "index": index, "out": out}, body,
        elements=4 * count + size, written=("out",), vectors=False,
        scratch=4 * size if narrow else 0,
        flops=total * count,
        bytes=total * (count * (g.dtype.itemsize + index.dtype.itemsize) + size * g.dtype.itemsize),
    )  # fmt: skip


def place_at(
    target: Target, beside: Sequence[int], sizes: Sequence[int], length: int, y: Operand,
    out: Operand, steps: tuple[int, int], strides: Sequence[int], start: Operand,
) -> Kernel:  # fmt: skip
    """Write y into out from a position known at run time; buffers "y", "out", "start".

    Args:
        beside: sizes of all axes of y but the one of the lines; y, out: strides over them.
        sizes: of out.
        length: of a line of y; steps: its axis's strides in y and out.
        strides: of out over all its axes; start: the position, int64, stride over it.
    """

    def body(line: Line) -> None:
        f = line.f
        shift = f.index(0)
        for axis, (n, stride) in enumerate(zip(sizes, strides, strict=True)):
            if n > 1:
                i = f.load(line.at("start", f.index(axis * start.strides[0])), "i64")
                i = f.select(f.compare("lt", i, f.index(0)), f.add(i, f.index(n)), i)
                shift = f.add(shift, f.mul(i, f.index(stride)))
        with f.loop("k", 0, length) as k:
            value = f.load(
                line.at("y", f.mul(k.index, f.index(steps[0]))), vector(line.width, y.dtype.llvm),
                mask=line.mask,
            )  # fmt: skip
            to = line.at("out", f.add(shift, f.mul(k.index, f.index(steps[1]))))
            f.store(value, to, mask=line.mask)

    total = prod(beside) * length
    return over_lines(
        "slice_update", target, beside, {"y": y, "out": out}, body, elements=length,
        written=("y", "out"), given={"start": start},
        bytes=2 * total * y.dtype.itemsize,
    )  # fmt: skip


def integer_product(
    target: Target, beside: Sequence[int], k: int, a: Operand, b: Operand, out: Operand,
    steps: tuple[int, int],
) -> Kernel:  # fmt: skip
    """out = the sum over k of a * b, wrapping; buffers "a", "b", "out".

    Args:
        beside: (*batch, m, n); a, b, out: strides over them, 0 where an operand repeats.
        k: length of the sums; steps: its strides in a and b.
    """

    def body(line: Line) -> None:
        f = line.f
        with f.loop("k", 0, k, carry=[line.zero("out")]) as i:
            pair = (
                line.load(name, f.mul(i.index, f.index(step)))
                for name, step in zip("ab", steps, strict=True)
            )
            left, right = (f.convert(x, out.dtype.llvm, a.dtype.kind == "i") for x in pair)
            i.next(f.add(i.carried[0], f.mul(left, right)))
        line.store(i.results[0], "out", f.index(0))

    count = prod(beside)
    return over_lines(
        "integer_matmul", target, beside, {"a": a, "b": b, "out": out}, body, elements=2 * k,
        written=("out",), flops=2 * count * k, bytes=count * out.dtype.itemsize,
    )  # fmt: skip
