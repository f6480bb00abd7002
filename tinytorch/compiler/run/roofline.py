"""The machine's measured limits: how fast it multiplies and how fast it reads.

Knows three native loops and a clock, never programs. Peaks from data sheets are not used: virtual
machines, clock limits and neighbours decide what can be had. Measured once for each process, target
and number of threads; about 0.2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from time import perf_counter

import numpy as np

from tinytorch.base.dtypes import float32
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import StageTable, Team, aligned_bytes

# independent sums: more than latency (4 to 5 cycles) x units (2), fewer than registers
_CHAINS = 12
_ROUNDS = 100_000
_TILES = 16
_READ_BYTES = 64 << 20  # of each pass; several times the last cache one core can claim
_REPEATS = 5  # the best counts: neighbours only ever slow a loop down


@dataclass(frozen=True)
class Roofline:
    """What the machine can do with all threads of a program.

    Args:
        flops: float32 operations a second (a fused multiply-add is two).
        bf16_flops: bfloat16 operations a second, 0 if the target has no instruction for them.
        bandwidth: bytes a second read from memory.
    """

    flops: float
    bf16_flops: float
    bandwidth: float

    def seconds(self, flops: int, nbytes: int, bf16: bool = False) -> float:
        """The least time for this many operations and bytes from memory."""
        peak = self.bf16_flops if bf16 and self.bf16_flops else self.flops
        return max(flops / peak, nbytes / self.bandwidth)

    def __str__(self) -> str:
        bf16 = f", {self.bf16_flops / 1e9:.0f} GFLOP/s bf16" if self.bf16_flops else ""
        return f"{self.flops / 1e9:.0f} GFLOP/s fp32{bf16}, {self.bandwidth / 1e9:.1f} GB/s read"


@lru_cache
def measure(target: Target, threads: int) -> Roofline:
    """The limits of this machine for code of `target` on `threads` threads."""
    memory = aligned_bytes(_READ_BYTES)
    kernels = [_multiply(target), _read(target)]
    if target.has_amx or target.has_bf16_dot:
        kernels.append(_multiply_tiles() if target.has_amx else _multiply_bf16())
    library = engine.load(
        [engine.compile_text(engine.module_text(kernels), target)], [k.name for k in kernels]
    )
    seconds = [_best(library[k.name], k, memory, target, threads) for k in kernels]
    rates = [k.flops / s for k, s in zip(kernels, seconds, strict=True)]
    return Roofline(rates[0], rates[2] if len(rates) > 2 else 0.0, _READ_BYTES / seconds[1])


def _best(address: int, kernel: Kernel, memory: np.ndarray, target: Target, threads: int) -> float:
    stage = address, kernel.tiles, [memory.ctypes.data]
    table = StageTable([stage], kernel.scratch, tiles_config=target.has_amx)
    team, best = Team(), inf
    for _ in range(_REPEATS):
        start = perf_counter()
        team.run(table, threads)
        best = min(best, perf_counter() - start)
    return best


def _multiply(target: Target) -> Kernel:
    """Fused multiply-adds on numbers that stay in registers."""
    n = target.lanes(float32)
    return _chains(
        "roofline_multiply", n, 2 * n,
        lambda f, _: f.const(f"<{n} x float>", 0.999), lambda f, s, a: f.fma(s, a, a),
    )  # fmt: skip


def _multiply_bf16() -> Kernel:
    """Dot products of pairs of bfloat16: 32 products into 16 sums."""
    dot = "llvm.x86.avx512bf16.dpbf16ps.512"
    return _chains(
        "roofline_multiply_bf16", 16, 64,
        lambda f, base: f.load(base, "<32 x bfloat>", align=4),
        lambda f, s, a: f.call("<16 x float>", dot, s, a, a),
    )  # fmt: skip


def _chains(
    name: str, n: int, flops: int, factor: Callable[[Function, Value], Value],
    step: Callable[[Function, Value, Value], Value],
) -> Kernel:  # fmt: skip
    """Sums of n lanes in registers, each made `_ROUNDS` times by `step` from itself and a factor.

    Args:
        flops: of one step.
        factor: given the address of the sums.
    """
    type = f"<{n} x float>"

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(4 * n * _CHAINS)), "float")
        sums = [f.load(f.at(base, f.index(i * n), "float"), type) for i in range(_CHAINS)]
        a = factor(f, base)
        with f.loop("i", 0, _ROUNDS, carry=sums) as i:
            i.next(*[step(f, s, a) for s in i.carried])
        for j, s in enumerate(i.results):
            f.store(s, f.at(base, f.index(j * n), "float"))

    return build(name, ["memory"], body, tiles=_TILES, flops=flops * _CHAINS * _ROUNDS * _TILES)


def _multiply_tiles() -> Kernel:
    """Products of AMX tiles: 16 x 32 by 32 x 16 bfloat16 numbers, four sums at a time."""
    rounds = _ROUNDS // 4

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        for tile in range(8):
            f.call("void", "llvm.x86.tilezero", Value(str(tile), "i8"))
        with f.loop("i", 0, rounds):
            for out in range(4):
                a, b = 4 + out // 2, 6 + out % 2
                given = [Value(str(tile), "i8") for tile in (out, a, b)]
                f.call("void", "llvm.x86.tdpbf16ps", *given)

    flops = 4 * 2 * 16 * 16 * 32 * rounds * _TILES
    return build("roofline_multiply_tiles", ["memory"], body, tiles=_TILES, flops=flops)


def _read(target: Target) -> Kernel:
    """Sums of everything in memory, each tile a part of it."""
    n = target.lanes(float32)
    type, count = f"<{n} x float>", _READ_BYTES // 4 // _TILES

    def body(f: Function, pointers: Mapping[str, Value]) -> None:
        base = f.at(pointers["memory"], f.mul(f.tile, f.index(count)), "float")
        zero = f.const(type, 0.0)
        with f.loop("i", 0, count, n * 8, carry=[zero] * 8) as i:
            loads = [
                f.load(f.at(base, f.add(i.index, f.index(j * n)), "float"), type) for j in range(8)
            ]
            i.next(*[f.add(c, x) for c, x in zip(i.carried, loads, strict=True)])
        total = i.results[0]
        for s in i.results[1:]:
            total = f.add(total, s)
        f.store(total, f.scratch)

    return build(
        "roofline_read", ["memory"], body, tiles=_TILES, scratch=64, flops=0, bytes=_READ_BYTES
    )
