"""A product of matrices in numbered versions, from three loops of Python to the shipped kernel.

Knows float32 matrices of N x N, in C order. Versions 2 to 6 are kernels over the builder, each a
small change of the one before; `tinytorch/kernels/gemm.py` is what became of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import tinytorch as tt
from benchmarks.laboratory.versions import Native, Version
from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.codegen.kernel import Kernel, Pointers, build
from tinytorch.codegen.target import Target
from tinytorch.core.matmul import matmul_naive, matmul_optimized_v3, matmul_vectorized

N = 1344  # 7 MiB: more than a second cache; divides by every tile below, and by DEPTH
SMALL = 96  # of Python's loops, which would take minutes
DEPTH = 224  # of a block: 224 x 32 numbers are 28 KiB, which stay in the first cache
NAMES = ("a", "b", "c")


def at(f: Function, pointer: Value, row: Value, column: Value, n: int) -> Value:
    """Where element (row, column) of an n x n matrix lies."""
    return f.at(pointer, f.add(f.mul(row, f.index(n)), column), "float")


def three_loops(n: int) -> Kernel:
    """For each row, column: a sum over k, one number at a time. A tile is a row."""

    def body(f: Function, p: Pointers) -> None:
        with f.loop("j", 0, n) as j:
            with f.loop("k", 0, n, carry=[f.const("float", 0.0)]) as k:
                x = f.load(at(f, p["a"], f.tile, k.index, n), "float")
                y = f.load(at(f, p["b"], k.index, j.index, n), "float")
                k.next(f.add(k.carried[0], f.mul(x, y)))
            f.store(k.results[0], at(f, p["c"], f.tile, j.index, n))

    return build("three_loops", NAMES, body, tiles=n)


def rows_in_order(n: int, lanes: int) -> Kernel:
    """k outside of j: c[i, :] += a[i, k] * b[k, :]; everything is read in the order it lies."""
    type = vector(lanes, "float")

    def body(f: Function, p: Pointers) -> None:
        with f.loop("j", 0, n, lanes) as j:
            f.store(f.const(type, 0.0), at(f, p["c"], f.tile, j.index, n))
        with f.loop("k", 0, n) as k:
            x = f.splat(f.load(at(f, p["a"], f.tile, k.index, n), "float"), lanes)
            with f.loop("j", 0, n, lanes) as j:
                place = at(f, p["c"], f.tile, j.index, n)
                y = f.load(at(f, p["b"], k.index, j.index, n), type)
                f.store(f.fma(x, y, f.load(place, type)), place)

    return build(f"rows_in_order_{lanes}", NAMES, body, tiles=n)


def tile_of(target: Target) -> tuple[int, int]:
    """Rows and vectors of sums that fit in the registers beside two vectors of b and one of a."""
    return (14, 2) if target.registers == 32 else (6, 2)


def multiply(
    f: Function, target: Target, rows: Sequence[Value], column: Value, stride: int, depth: int,
    sums: Sequence[Value],
) -> list[Value]:  # fmt: skip
    """Add products to a tile of sums that stays in registers: 2 loads of b for each 28 products.

    Args:
        rows: where each row of a begins.
        column: where the first vectors of b begin.
        stride: numbers from one row of b to the next.
        depth: how many products each sum gets.
        sums: row by row, two vectors each.
    """
    lanes = target.lanes(float32)
    type = vector(lanes, "float")
    with f.loop("k", 0, depth, carry=sums) as k:
        start = f.at(column, f.mul(k.index, f.index(stride)), "float")
        y = [f.load(f.at(start, f.index(v * lanes), "float"), type) for v in (0, 1)]
        new: list[Value] = []
        for i, row in enumerate(rows):
            x = f.splat(f.load(f.at(row, k.index, "float"), "float"), lanes)
            new += [f.fma(x, y[v], k.carried[2 * i + v]) for v in (0, 1)]
        k.next(*new)
    return list(k.results)


def sums_in_registers(n: int, target: Target) -> Kernel:
    """A tile of 14 x 32 numbers of c at a time; a tile of the kernel is such a band of rows."""
    height, _ = tile_of(target)
    lanes = target.lanes(float32)

    def body(f: Function, p: Pointers) -> None:
        first = f.mul(f.tile, f.index(height))
        with f.loop("j", 0, n, 2 * lanes) as j:
            numbers = [f.add(first, f.index(i)) for i in range(height)]
            rows = [at(f, p["a"], i, f.index(0), n) for i in numbers]
            column = f.at(p["b"], j.index, "float")
            zeros = [f.const(vector(lanes, "float"), 0.0)] * (2 * height)
            sums = multiply(f, target, rows, column, n, n, zeros)
            for i, total in enumerate(sums):
                right = f.add(j.index, f.index(i % 2 * lanes))
                f.store(total, at(f, p["c"], numbers[i // 2], right, n))

    return build("sums_in_registers", NAMES, body, tiles=n // height)


def pack(n: int, target: Target) -> Kernel:
    """b in panels of 2 vectors, each in one piece: packed[panel][k][column]; c is set to 0."""
    lanes = target.lanes(float32)
    type, width = vector(lanes, "float"), 2 * lanes

    def body(f: Function, p: Pointers) -> None:
        panel = f.mul(f.tile, f.index(n * width))
        left = f.mul(f.tile, f.index(width))
        with f.loop("k", 0, n) as k:
            for v in (0, 1):
                column = f.add(left, f.index(v * lanes))
                to = f.add(panel, f.add(f.mul(k.index, f.index(width)), f.index(v * lanes)))
                y = f.load(at(f, p["b"], k.index, column, n), type)
                f.store(y, f.at(p["packed"], to, "float"))
                f.store(f.const(type, 0.0), at(f, p["c"], k.index, column, n))

    return build("pack", ("b", "packed", "c"), body, tiles=n // width)


def packed_blocks(n: int, target: Target) -> Kernel:
    """Panels in blocks of DEPTH, which stay in the first cache while all rows of a go by."""
    height, _ = tile_of(target)
    lanes, depth = target.lanes(float32), min(DEPTH, n)
    type, width = vector(lanes, "float"), 2 * lanes

    def body(f: Function, p: Pointers) -> None:
        left = f.mul(f.tile, f.index(width))
        with f.loop("block", 0, n, depth) as block, f.loop("i", 0, n, height) as i:
            numbers = [f.add(i.index, f.index(r)) for r in range(height)]
            places = [
                at(f, p["c"], row, f.add(left, f.index(v * lanes)), n)
                for row in numbers
                for v in (0, 1)
            ]
            rows = [at(f, p["a"], row, block.index, n) for row in numbers]
            deep = f.add(f.mul(f.tile, f.index(n)), block.index)
            column = f.at(p["packed"], f.mul(deep, f.index(width)), "float")
            sums = [f.load(place, type) for place in places]
            sums = multiply(f, target, rows, column, width, depth, sums)
            for total, place in zip(sums, places, strict=True):
                f.store(total, place)

    return build("packed_blocks", ("a", "packed", "c"), body, tiles=n // width)


def operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of normal numbers."""
    draw = np.random.default_rng(n).standard_normal
    return draw((n, n)).astype(np.float32), draw((n, n)).astype(np.float32)


def versions(target: Target, threads: int, n: int = N, small: int = SMALL) -> list[Version]:
    """All of them, the slowest first; `bytes` are those that the inner loop loads and stores."""
    a, b = operands(n)
    c, packed = np.zeros((n, n), np.float32), np.zeros(n * n, np.float32)
    lanes, (height, _) = target.lanes(float32), tile_of(target)
    flops = 2 * n**3
    tile = 4 * (2 * lanes + height) / (4 * lanes * height)  # bytes loaded for each operation

    def native(
        name: str, limit: str, each: float, *steps: tuple[Kernel, tuple[np.ndarray, ...]]
    ) -> Version:
        run = Native(target, steps)

        def call() -> np.ndarray:
            run()
            return c

        return Version(name, call, flops, round(each * flops), limit, run.assembly)

    few = operands(small)
    blocks = (pack(n, target), (b, packed, c)), (packed_blocks(n, target), (a, packed, c))
    alone, shared = (tt.compile(lambda x, y: x @ y, target=target, threads=t) for t in (1, threads))
    x, y = tt.Tensor(a), tt.Tensor(b)
    return [
        Version(
            f"three loops in Python, {small} x {small}", lambda: matmul_naive(*few), 2 * small**3,
            0, "the interpreter: some 30 ns a product",
        ),
        native(
            "three loops, native", "a sum waits 3 to 5 cycles for itself; b is read down a column",
            4, (three_loops(n), (a, b, c)),
        ),
        native(
            "the same, k outside of j", "a load and a store of c for each product", 6,
            (rows_in_order(n, 1), (a, b, c)),
        ),
        native(
            "vectors", "two loads and a store for each multiply-add", 6,
            (rows_in_order(n, lanes), (a, b, c)),
        ),
        native(
            f"{height} x {2 * lanes} sums in registers",
            "each row of b is another page, and comes from the last cache or memory", tile,
            (sums_in_registers(n, target), (a, b, c)),
        ),
        native(
            "b packed, in blocks", "multiply-adds; c is read and written for each block", tile,
            *blocks,
        ),
        Version(
            "the shipped kernel", lambda: alone(x, y).numpy(), flops, round(tile * flops),
            "multiply-adds", compiled_assembly(alone, x, y),
        ),
        Version(
            f"the same on {threads} threads", lambda: shared(x, y).numpy(), flops,
            round(tile * flops), "multiply-adds", threads=threads,
        ),
        Version(
            "course: matmul_vectorized", lambda: matmul_vectorized(a, b), flops, 0,
            "a row at a time: b is read for each", reference=True,
        ),
        Version(
            "course: matmul_optimized_v3", lambda: matmul_optimized_v3(a, b), flops, 0,
            "NumPy's BLAS, block by block", reference=True,
        ),
        Version("NumPy", lambda: a @ b, flops, 0, "its BLAS", reference=True),
    ]  # fmt: skip


def compiled_assembly(compiled, *arguments) -> str:
    """The assembly of a compiled function's kernels."""
    compiled(*arguments)
    return compiled.asm()


def expected(version: Version, n: int = N, small: int = SMALL) -> np.ndarray:
    """The product in float64."""
    a, b = operands(small if "Python" in version.name else n)
    return a.astype(np.float64) @ b.astype(np.float64)
