"""A convolution in numbered versions: seven loops, loops over windows, im2col, the kernel.

Knows pictures (N, C, H, W) and filters (O, C, 3, 3) in float32, padded by one, stride 1.
"""

from __future__ import annotations

import numpy as np

import tinytorch as tt
from benchmarks.laboratory.matmul import compiled_assembly
from benchmarks.laboratory.versions import Native, Version
from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import Kernel, Pointers, build
from tinytorch.codegen.target import Target

SHAPE = (16, 64, 32, 32)  # N, C, H, W
SMALL = (1, 4, 12, 12)
FILTERS = 64


def loops(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A number of the result after the other, in Python."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    n, c, h, width = x.shape
    out = np.zeros((n, w.shape[0], h, width), x.dtype)
    for i in np.ndindex(*out.shape):
        picture, filter, row, column = i
        total = 0.0
        for channel in range(c):
            for dy in range(3):
                for dx in range(3):
                    pixel = padded[picture, channel, row + dy, column + dx]
                    total += float(pixel) * float(w[filter, channel, dy, dx])
        out[i] = total
    return out


def native_loops(shape: tuple[int, ...], filters: int) -> Kernel:
    """The same loops as a kernel, on a padded picture; a tile is a (picture, filter)."""
    _, channels, height, width = shape
    wide, plane = width + 2, (height + 2) * (width + 2)

    def body(f: Function, p: Pointers) -> None:
        picture = f.div(f.tile, f.index(filters))
        filter = f.rem(f.tile, f.index(filters))
        first = f.mul(picture, f.index(channels * plane))
        with f.loop("y", 0, height) as y, f.loop("x", 0, width) as x:
            corner = f.add(first, f.add(f.mul(y.index, f.index(wide)), x.index))
            with f.loop("c", 0, channels, carry=[f.const("float", 0.0)]) as c:
                there = f.add(corner, f.mul(c.index, f.index(plane)))
                weights = f.mul(f.add(f.mul(filter, f.index(channels)), c.index), f.index(9))
                total = c.carried[0]
                for i in range(9):
                    place = f.add(there, f.index(i // 3 * wide + i % 3))
                    pixel = f.load(f.at(p["x"], place, "float"), "float")
                    weight = f.load(f.at(p["w"], f.add(weights, f.index(i)), "float"), "float")
                    total = f.add(total, f.mul(pixel, weight))
                c.next(total)
            row = f.add(f.mul(f.tile, f.index(height)), y.index)
            place = f.add(f.mul(row, f.index(width)), x.index)
            f.store(c.results[0], f.at(p["out"], place, "float"))

    return build("convolution_loops", ("x", "w", "out"), body, tiles=shape[0] * filters)


def im2col(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Every window written out as a column, then one product of matrices."""
    n, c, h, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * 9, n * h * width)
    out = w.reshape(-1, c * 9) @ columns
    return out.reshape(-1, n, h, width).transpose(1, 0, 2, 3)


def operands(shape: tuple[int, ...], filters: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and filters of normal numbers."""
    draw = np.random.default_rng(0).standard_normal
    return draw(shape).astype(np.float32), draw((filters, shape[1], 3, 3)).astype(np.float32)


def versions(
    target: Target, shape: tuple[int, ...] = SHAPE, small: tuple[int, ...] = SMALL
) -> list[Version]:
    """All of them; `bytes` of the picture, the filters, the result, and of written-out windows."""
    x, w = operands(shape, FILTERS)
    few = operands(small, FILTERS // 16)
    padded = np.ascontiguousarray(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))))
    out = np.zeros((shape[0], FILTERS, *shape[2:]), np.float32)
    run = Native(target, [(native_loops(shape, FILTERS), (padded, w, out))])

    def native() -> np.ndarray:
        run()
        return out

    flops = 2 * 9 * shape[1] * out.size
    least = 4 * (x.size + w.size + out.size)
    kernel = tt.compile(
        lambda x, w: tt.nn.functional.conv2d(x, w, padding=1), target=target, threads=1
    )
    a, b = tt.Tensor(x), tt.Tensor(w)
    few_flops = 2 * 9 * small[1] * (FILTERS // 16) * small[0] * small[2] * small[3]
    return [
        Version(
            "seven loops in Python, one small picture", lambda: loops(*few), few_flops, 0,
            "the interpreter",
        ),
        Version(
            "the same loops, native", native, flops, least,
            "a sum waits for itself: one multiplication and addition in 3 to 5 cycles",
            run.assembly,
        ),
        Version(
            "im2col and a product, NumPy", lambda: im2col(x, w), flops, least + 2 * 9 * 4 * x.size,
            "nine copies of the picture go to memory and come back",
        ),
        Version(
            "the shipped kernel", lambda: kernel(a, b).numpy(), flops, least,
            "turning tiles into sums and back; channels are turned too, once for a whole network",
            compiled_assembly(kernel, a, b),
        ),
    ]  # fmt: skip


def expected(
    version: Version, shape: tuple[int, ...] = SHAPE, small: tuple[int, ...] = SMALL
) -> np.ndarray:
    """By im2col in float64, whose truth tests/primitives has."""
    if "Python" in version.name:
        x, w = operands(small, FILTERS // 16)
    else:
        x, w = operands(shape, FILTERS)
    return im2col(x.astype(np.float64), w.astype(np.float64))
