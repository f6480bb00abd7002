"""Convolution straight from the picture: a register tile of pixels times output channels.

Knows pointers, strides and epilogues, never graphs. A tile of work copies the rows it needs into
scratch (channels innermost, zeros around: `window_rows`); a window is then KH runs of KW * C
numbers, so no array of windows is ever written. The register tile is that of Georganas et al.,
"Anatomy of high-performance deep learning convolutions on SIMD architectures", 2018, on
channels-last pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import Epilogue, Lowered, Operand, Step
from tinytorch.codegen.target import Target
from tinytorch.kernels.naming import named_kernel
from tinytorch.kernels.scratch import Scratch
from tinytorch.kernels.tiling import emit_epilogue
from tinytorch.kernels.window_block import Block, Turn, rows_that_fit, write_block
from tinytorch.kernels.window_rows import Rows

# A tile of work: 2 million operations take about 15 us on one core, 150 times what taking it costs.
TILE_FLOPS = 2_000_000
# Rows of the picture that a tile keeps, in bytes: a part of the second-level cache (1-2 MB) that
# leaves room for the filters.
KEPT_BYTES = 256 << 10


@dataclass(frozen=True)
class ConvolutionSpec:
    """One convolution of float32, bfloat16 or float16 pictures, groups = 1, dilation = 1.

    Products and sums are float32 whatever the pictures are.

    Args:
        image: strides over (N, C, H, W); shape: those sizes.
        top, left: zeros in front of the first row and column; what is missing at the end is 0 too.
        step: pixels of the picture lie this far apart, zeros between them: (1, 1) but in gradients.
        size: (OH, OW).
        window: (KH, KW).
        stride: of the windows.
        filters: O. Buffer "w" holds them as float32 (KH, KW, C, O rounded up to whole
            vectors).
    """

    image: Operand
    shape: tuple[int, ...]
    top: int
    left: int
    step: tuple[int, int]
    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, int]
    filters: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        n, c, _, _ = self.shape
        depth = c * self.window[0] * self.window[1]
        return 2 * n * self.size[0] * self.size[1] * depth * self.filters


@dataclass(frozen=True)
class Part:
    """Equal pieces of an axis: `count` pieces of `size`, the first at `start`."""

    size: int
    start: int
    count: int


def parts_of(total: int, most: int) -> list[Part]:
    """`total` cut into as few pieces of at most `most` as it takes, as equal as can be.

    >>> parts_of(32, 14)
    [Part(size=11, start=0, count=2), Part(size=10, start=22, count=1)]
    """
    pieces = -(-total // most)
    size, longer = divmod(total, pieces)
    found = [Part(size + 1, 0, longer), Part(size, longer * (size + 1), pieces - longer)]
    return [p for p in found if p.count]


def vector_parts(vectors: int) -> list[Part]:
    """Output channels, in vectors, cut into pieces for the registers: three alone, else pairs."""
    if vectors == 3:
        return [Part(3, 0, 1)]
    pairs = [Part(2, 0, vectors // 2), Part(1, vectors // 2 * 2, vectors % 2)]
    return [p for p in pairs if p.count]


def rows_of(target: Target, spec: ConvolutionSpec, block: int) -> Rows:
    """What a block of output rows reads."""
    count = (block - 1) * spec.stride[0] + spec.window[0]
    width = (spec.size[1] - 1) * spec.stride[1] + spec.window[1]
    lanes = target.lanes(float32)
    return Rows(
        spec.image, spec.shape, spec.top, spec.left, spec.step, count, width, lanes
    )  # fmt: skip


def rows_in_block(target: Target, spec: ConvolutionSpec) -> int:
    """Output rows done together: a divisor of OH, within what scratch keeps and a tile does."""
    flops = spec.flops // max(1, spec.shape[0])
    best = 1
    for block in range(1, spec.size[0] + 1):
        if spec.size[0] % block:
            continue
        fits = 4 * rows_of(target, spec, block).size <= KEPT_BYTES
        if fits and flops * block // spec.size[0] <= 2 * TILE_FLOPS:
            best = block
    return best


def lower_convolution(target: Target, spec: ConvolutionSpec, epilogue: Epilogue) -> Lowered:
    """The kernel of a convolution; buffers "x", "w" and the epilogue's.

    The epilogue is given each output once, as vectors along O: index ((n * OH + y) * OW + x, o).
    """
    if not spec.flops:
        raise ValueError("a convolution without work")
    kernel = _Forward(target, spec, epilogue).kernel()
    return Lowered((Step(kernel, kernel.arguments),))


class _Forward:
    """Writes one kernel."""

    def __init__(self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue):
        self.target, self.spec, self.epilogue = target, spec, epilogue
        self.lanes = target.lanes(float32)
        self.vectors = -(-spec.filters // self.lanes)
        self.block = rows_in_block(target, spec)
        self.rows = rows_of(target, spec, self.block)
        self.blocks: dict[str, Block] = {}
        sums = 20 * 3 * self.lanes  # more than any register tile
        sizes = {"rows": self.rows.size, "sums": sums}
        self.scratch = Scratch("float", 4, self.lanes, sizes)

    def kernel(self):
        """The kernel and its private functions."""
        spec = self.spec
        units = spec.shape[0] * (spec.size[0] // self.block)
        per_unit = max(1, spec.flops // units)
        together = max(1, min(TILE_FLOPS // per_unit, -(-units // 8)))

        def body(f: Function, p) -> None:
            self.scratch.begin(f, f.scratch)
            start = f.mul(f.tile, f.index(together))
            stop = f.minimum(f.add(start, f.index(together)), f.index(units))
            with f.loop("unit", start, stop) as unit:
                self._unit(f, p, unit.index)

        n, c, h, w = spec.shape
        moved = 4 * (n * c * h * w + n * spec.filters * spec.size[0] * spec.size[1])
        return named_kernel(
            "convolution", ("x", "w", *self.epilogue.arguments), body, tiles=-(-units // together),
            helpers=lambda prefix: [
                write_block(f"{prefix}.{name}", b) for name, b in self.blocks.items()
            ],
            scratch=self.scratch.bytes, flops=spec.flops, bytes=moved, label="convolution",
        )  # fmt: skip

    def _unit(self, f: Function, p, unit: Value) -> None:
        """One block of output rows of one picture."""
        spec = self.spec
        height, width = spec.size
        above = f.index(height // self.block)
        number = f.div(unit, above)
        first = f.mul(f.rem(unit, above), f.index(self.block), "first")
        self.rows.emit(
            f, p["x"], self.scratch.at("rows"), number, f.mul(first, f.index(spec.stride[0]))
        )
        line = f.mul(f.add(f.mul(number, f.index(height)), first), f.index(width), "line")
        for vectors in vector_parts(self.vectors):
            fits = rows_that_fit(self.target, vectors.size)
            lines = parts_of(self.block, max(1, fits // width))
            pixels = parts_of(width, fits)
            with f.loop("channels", 0, vectors.count) as c:
                column = f.add(f.mul(c.index, f.index(vectors.size)), f.index(vectors.start))
                column = f.mul(column, f.index(self.lanes), "column")
                for tall in lines:
                    with f.loop("row", 0, tall.count) as i:
                        y = f.add(f.mul(i.index, f.index(tall.size)), f.index(tall.start), "y")
                        for wide in pixels:
                            with f.loop("pixel", 0, wide.count) as j:
                                x = f.add(f.mul(j.index, f.index(wide.size)), f.index(wide.start))
                                shape = (tall.size, wide.size, vectors.size)
                                self._tile(f, p, shape, line, y, x, column)

    def _tile(self, f: Function, p, shape, line: Value, y: Value, x: Value, column: Value) -> None:
        """A register tile: its sums, then the epilogue."""
        spec, lanes = self.spec, self.lanes
        tall, wide, vectors = shape
        channels, row = spec.shape[1], self.rows.row
        down, right = spec.stride[0] * row, spec.stride[1] * channels
        offsets = tuple(i * down + j * right for i in range(tall) for j in range(wide))
        name = f"block.{tall}.{wide}.{vectors}"
        self.blocks[name] = Block(
            offsets, vectors, lanes, Turn(spec.window[0], row), Turn(spec.window[1] * channels, 1),
            self.vectors * lanes, vectors * lanes, False, self.target.has_fma,
        )  # fmt: skip
        place = f.add(f.mul(y, f.index(down)), f.mul(x, f.index(right)))
        a, c = self.scratch.at("rows", place), self.scratch.at("sums")
        f.call("void", f"@@.{name}", a, f.at(p["w"], column, "float"), c)
        first = f.add(f.add(line, f.mul(y, f.index(spec.size[1]))), x)
        whole = spec.filters % lanes == 0
        size = vectors * lanes
        width = f.minimum(f.index(size), f.sub(f.index(spec.filters), column))
        emit_epilogue(
            f, self.epilogue, p, c, size, float32, lanes, (), first, f.index(len(offsets)), column,
            f.index(size) if whole else width, spec.filters, size if whole else 0,
        )  # fmt: skip
