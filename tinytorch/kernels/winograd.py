"""Convolution with 3 x 3 filters by minimal filtering: 16 products where windows take 36.

Knows a block of output rows and the products of matrices in it, never graphs. A tile of 2 x 2
outputs sees 4 x 4 pixels d of each channel. With filters g of that channel

    Y = A^T [sum over channels of (G g G^T) * (B^T d B)] A

where * multiplies number by number: 16 products of matrices, tiles x channels times channels x
filters. Lavin and Gray 2015, "Fast algorithms for convolutional neural networks" (arXiv
1509.09308), F(2 x 2, 3 x 3); the products of a block of rows stay in the second-level cache.

Error: with the magnitudes of all matrices in place of the matrices, Y bounds what a sum of C
channels can be off by, times (C + 11) / 2^24: 2 roundings of d, 4 of g, one of the product, C of
the sums, 4 of the end (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.5). That is
the bound of sums over windows, but for pixels of the 4 x 4 that an output does not see: they count
too. Where they are no number, or too large, the outputs of that block are summed over windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import LINE, Epilogue, Lowered, Pointers, ceil_div
from tinytorch.codegen.target import Target
from tinytorch.kernels.convolution import (
    TILE_FLOPS,
    ConvolutionSpec,
    Forward,
    Part,
    PictureRows,
    parts_of,
    vector_parts,
)
from tinytorch.kernels.register_tile import (
    EpilogueWriter,
    Rectangle,
    Turns,
    rows_that_fit,
    sum_of_lanes,
)

PRODUCTS = 16  # numbers of a transformed tile, 4 x 4
# Tiles of a picture, and how many outputs computed may lie outside it: smaller pictures leave the
# products few rows, odd sizes make them for nothing.
FEWEST_TILES = 16
MOST_WASTE = 1.35
# Transformed filters stay in the second-level cache beside a block's numbers.
MOST_FILTERS = 1 << 13  # filters times channels
# Transformed pixels of a block, in bytes: half of the second-level cache.
KEPT_BYTES = 512 << 10


def suits_winograd(target: Target, spec: ConvolutionSpec) -> bool:
    """Whether 3 x 3 windows lie side by side, in whole vectors of channels, and enough of them."""
    lanes, (n, c, _, _), (height, width) = target.lanes(float32), spec.shape, spec.size
    plain = spec.window == (3, 3) and spec.stride == spec.step == (1, 1) and not spec.pairs
    tiles = ceil_div(height, 2) * ceil_div(width, 2)
    return (
        plain
        and n * c > 0
        and c % lanes == 0
        and spec.filters % lanes == 0
        and c * spec.filters <= MOST_FILTERS
        and tiles >= FEWEST_TILES
        and 4 * tiles <= MOST_WASTE * height * width
    )


def lower_winograd(target: Target, spec: ConvolutionSpec, epilogue: Epilogue) -> Lowered:
    """The kernel of a convolution that `suits_winograd`.

    Buffers "x", "w" and the epilogue's as those of `lower_convolution`, and "u": G g G^T as
    float32 (4, 4, C, O).
    """
    return Lowered.of(_Winograd(target, spec, epilogue).kernel())


def _rows_in_block(spec: ConvolutionSpec, lanes: int) -> int:
    """Output rows done together: a divisor of OH, even, or all of them."""
    (height, width), channels = spec.size, spec.shape[1]
    across, best = ceil_div(width, 2), 0
    for block in range(1, height + 1):
        if height % block or (block % 2 and block != height):
            continue
        tiles = ceil_div(block, 2) * across
        fits = 4 * PRODUCTS * tiles * (channels + 2 * lanes) <= KEPT_BYTES
        short = 2 * PRODUCTS * tiles * channels * spec.filters <= 2 * TILE_FLOPS
        if not best or (fits and short):
            best = block
    return best


class _Winograd(Forward):
    """Writes the kernel."""

    def __init__(self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue):
        lanes = target.lanes(float32)
        block, channels = _rows_in_block(spec, lanes), spec.shape[1]
        self.down, self.across = ceil_div(block, 2), ceil_div(spec.size[1], 2)
        self.count = self.down * self.across  # tiles of a block
        rows = PictureRows(
            spec.image, spec.shape, spec.top, spec.left, spec.step, 2 * self.down + 2,
            2 * self.across + 2, lanes,
        )  # fmt: skip
        size = max(part.size for part in vector_parts(spec.filters // lanes)) * lanes
        # A line between the 16 matrices: a tile's numbers would share a set of the cache where
        # matrices are 4 KB apart, or a multiple.
        self.matrix = self.count * channels + LINE // 4
        arrays = {
            "pixels": PRODUCTS * self.matrix,  # B^T d B: (4, 4, tiles, C)
            "products": PRODUCTS * self._panel(size),  # (4, 4, tiles, filters of a panel)
            "outputs": 4 * self.count * size,  # (rows, columns, filters of a panel)
        }
        super().__init__(target, spec, epilogue, block, rows, arrays)
        self.label, self.arguments = "convolution (Winograd)", ("x", "w", "u")
        self.flops = 2 * PRODUCTS * self.count * self.units * channels * spec.filters

    def unit(self, f: Function, p: Pointers, unit: Value) -> None:
        """One block of output rows of one picture."""
        line = self.begin_unit(f, p, unit)
        self._transform(f)
        for vectors in vector_parts(self.vectors):
            with self.columns(f, vectors) as column:
                self._multiply(f, p, vectors, column)
                finite = self._outputs(f, vectors.size)
                with f.when(finite):
                    self._give(f, p, line, vectors.size, column)
                with f.when(f.op("xor", finite, f.const("i1", 1))):
                    self.panel(f, p, line, vectors, column)

    def _transform(self, f: Function) -> None:
        """B^T d B of every tile and channel."""
        channels, row = self.spec.shape[1], self.rows.row
        with f.loop("tile", 0, self.count) as i, f.loop("c", 0, channels, self.lanes) as c:
            first = f.add(self._corner(f, i.index, row, channels), c.index)
            pixels = [
                [self._load(f, "rows", first, i * row + j * channels) for j in range(4)]
                for i in range(4)
            ]
            to = f.add(f.mul(i.index, f.index(channels)), c.index)
            for number, value in enumerate(_both_ways(f, pixels, _pixels)):
                self.scratch.store("pixels", f.add(to, f.index(number * self.matrix)), value)

    def _multiply(self, f: Function, p: Pointers, vectors: Part, column: Value) -> None:
        """The 16 products of matrices, for some filters."""
        channels, filters = self.spec.shape[1], self.spec.filters
        size = vectors.size * self.lanes
        with f.loop("product", 0, PRODUCTS) as k:
            skip = f.mul(k.index, f.index(channels * filters))
            u = f.at(p["u"], f.add(skip, column), "float", "u")
            for part in parts_of(self.count, rows_that_fit(self.target, vectors.size)):
                offsets = tuple(i * channels for i in range(part.size))
                loops = Turns(1, 0), Turns(channels, 1)
                name = self.tile((part.size, vectors.size), offsets, loops, filters)
                with part.loop(f, "tiles") as first:
                    at = f.add(
                        f.mul(k.index, f.index(self.matrix)), f.mul(first, f.index(channels))
                    )
                    to = f.mul(k.index, f.index(self._panel(size)))
                    to = f.add(to, f.mul(first, f.index(size)))
                    a, c = self.scratch.at("pixels", at), self.scratch.at("products", to)
                    f.call("void", name, a, u, c)

    def _outputs(self, f: Function, vectors: int) -> Value:
        """A^T m A of every tile; gives whether all outputs are finite."""
        size, row = vectors * self.lanes, 2 * self.across * vectors * self.lanes
        zero = f.const(self.scratch.wide, 0.0)
        with f.loop("tile", 0, self.count, carry=[zero]) as i:
            to = self._corner(f, i.index, row, size)
            total = i.carried[0]
            for j in range(0, size, self.lanes):
                first = f.add(f.mul(i.index, f.index(size)), f.index(j))
                products = [
                    [self._load(f, "products", first, (4 * a + b) * self._panel(size))
                     for b in range(4)]
                    for a in range(4)
                ]  # fmt: skip
                for number, value in enumerate(_both_ways(f, products, _sums)):
                    place = number // 2 * row + number % 2 * size + j
                    self.scratch.store("outputs", f.add(to, f.index(place)), value)
                    total = f.add(total, f.sub(value, value))  # 0, or no number
            i.next(total)
        return f.compare("eq", sum_of_lanes(f, i.results[0]), f.const("float", 0.0), stem="finite")

    def _give(self, f: Function, p: Pointers, line: Value, vectors: int, column: Value) -> None:
        """Hand the outputs to the epilogue, row by row."""
        size, width = vectors * self.lanes, self.spec.size[1]
        results = EpilogueWriter(self.epilogue, "float", self.lanes, self.spec.filters, size)
        with f.loop("y", 0, self.block) as y:
            first = f.add(line, f.mul(y.index, f.index(width)))
            part = Rectangle((), first, f.index(width), column, f.index(size))
            place = f.mul(y.index, f.index(2 * self.across * size))
            results.emit(f, p, part, self.scratch.at("outputs", place), size)

    def _panel(self, size: int) -> int:
        """Numbers from one product's matrix to the next."""
        return self.count * size + LINE // 4

    def _corner(self, f: Function, tile: Value, row: int, pixel: int) -> Value:
        """Where a tile begins among rows of so many numbers, with so many to a pixel."""
        y, x = f.div(tile, f.index(self.across)), f.rem(tile, f.index(self.across))
        return f.add(f.mul(y, f.index(2 * row)), f.mul(x, f.index(2 * pixel)))

    def _load(self, f: Function, name: str, first: Value, more: int) -> Value:
        return self.scratch.load(name, f.add(first, f.index(more)))


def _both_ways(
    f: Function, numbers: Sequence[Sequence[Value]],
    of: Callable[[Function, Sequence[Value]], list[Value]],
) -> list[Value]:  # fmt: skip
    """Columns, then rows of a square, each made what `of` makes of it; row by row."""
    columns = [of(f, column) for column in zip(*numbers, strict=True)]
    return [x for row in zip(*columns, strict=True) for x in of(f, row)]


def _pixels(f: Function, d: Sequence[Value]) -> list[Value]:
    """B^T d."""
    return [f.sub(d[0], d[2]), f.add(d[1], d[2]), f.sub(d[2], d[1]), f.sub(d[1], d[3])]


def _sums(f: Function, m: Sequence[Value]) -> list[Value]:
    """A^T m."""
    return [f.add(f.add(m[0], m[1]), m[2]), f.sub(f.sub(m[1], m[2]), m[3])]
