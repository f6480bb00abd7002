"""Convolution with 3 x 3 filters by minimal filtering: 16 products where windows take 36.

Knows a block of output rows and the products of matrices in it, never graphs. A tile of 2 x 2
outputs sees 4 x 4 pixels d of each channel. With filters g of that channel

    Y = A^T [sum over channels of (G g G^T) * (B^T d B)] A

where * multiplies number by number: 16 products of matrices, tiles x channels times channels x
filters. Lavin and Gray 2015, "Fast algorithms for convolutional neural networks" (arXiv
1509.09308), F(2 x 2, 3 x 3); the products of a block of rows stay in the second-level cache.

The gradient of the filters is the transpose of it, of tiles D of the cotangent:

    G^T [sum over tiles of (A D A^T) * (B^T d B)] G

Error: with the magnitudes of all matrices in place of the matrices, Y bounds what a sum of C
channels can be off by, times (C + 11) / 2^24: 2 roundings of d, 4 of g, one of the product, C of
the sums, 4 of the end (Higham 2002, "Accuracy and Stability of Numerical Algorithms", 3.5). That is
the bound of sums over windows, but for pixels of the 4 x 4 that an output does not see: they count
too. Where they are no number, or too large, the outputs of that block are summed over windows, and
so is a gradient where its sums are no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import TypeVar

from tinytorch.base.dtypes import float32
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.kernel import (
    LINE,
    Epilogue,
    Kernel,
    Lowered,
    Operand,
    Pointers,
    Scratch,
    Shares,
    ceil_div,
    end_of_needed,
    lengths_of,
    named_kernel,
    offset_of,
    some_needed,
    where_needed,
)
from tinytorch.codegen.target import Target
from tinytorch.codegen.vector_math import muladd
from tinytorch.kernels.convolution import (
    TILE_FLOPS,
    Forward,
    Part,
    Parts,
    parts_of,
    units_wanted,
    vector_parts,
)
from tinytorch.kernels.convolution_rows import ConvolutionSpec, PictureRows
from tinytorch.kernels.register_tile import (
    EpilogueWriter,
    Rectangle,
    Turns,
    all_finite,
    rows_that_fit,
)

T = TypeVar("T")

PRODUCTS = 16  # numbers of a transformed tile, 4 x 4
# Tiles of a picture, and how many outputs computed may lie outside it: few smaller pictures leave
# the products few rows, odd sizes make them for nothing.
FEWEST_TILES = 16
MOST_WASTE = 1.35
# As many tiles a block takes whatever it costs to share a picture: fewer leave registers empty.
FEW_TILES = 8
# Filters times channels whose transformed filters stay in the second-level cache beside a block's
# numbers; and those that stay in the third (4 MB), which is worth it where many tiles read them:
# 256 channels were 3 times as fast as windows, 128 channels 2.5 times (docs/log.md, 2026-11-28).
NEAR_FILTERS, MOST_FILTERS, MANY_TILES = 1 << 13, 1 << 16, 256
# Transformed pixels of a block, in bytes: half of the second-level cache.
KEPT_BYTES = 512 << 10
# Tiles for which filters are read once: with 16 (a picture of 8 x 8) reading them from the
# third-level cache takes as long as the products; 64 were no faster than 32.
SHARED_TILES = 32
# Where there are so many pieces of work threads share them evenly, however long a piece is.
MANY_UNITS = 64
# Tiles that the gradient of the filters sums over before it adds to what is in memory: blocks of
# 16 tiles (8 x 8 pictures) alone reach 53 % of the peak.
DEPTH = 64


def suits_winograd(target: Target, spec: ConvolutionSpec) -> bool:
    """Whether 3 x 3 windows lie side by side, in whole vectors of channels, and enough of them."""
    lanes, (n, c, _, _), (height, width) = target.lanes(float32), spec.shape, spec.size
    plain = spec.window == (3, 3) and spec.stride == spec.step == (1, 1) and spec.words is None
    tiles = ceil_div(height, 2) * ceil_div(width, 2)
    most = MOST_FILTERS if n * tiles >= MANY_TILES else NEAR_FILTERS
    return (
        plain
        and n * c > 0
        and c % lanes == 0
        and spec.filters % lanes == 0
        and c * spec.filters <= most
        and (tiles >= FEWEST_TILES or n * tiles >= MANY_TILES)
        and 4 * tiles <= MOST_WASTE * height * width
    )


def lower_winograd(target: Target, spec: ConvolutionSpec, epilogue: Epilogue) -> Lowered:
    """The kernel of a convolution that `suits_winograd`.

    Buffers "x", "w" and the epilogue's as those of `lower_convolution`, and "u": G g G^T as
    float32 (4, 4, C, O).
    """
    return Lowered.of(_Winograd(target, spec, epilogue).kernel())


def _rows_in_block(spec: ConvolutionSpec, lanes: int, columns: int = 0) -> int:
    """Output rows done together: a divisor of OH, even, or all of them.

    Args:
        columns: of the second of the matrices that are kept; default: of a panel.
    """
    (height, width), (n, channels) = spec.size, spec.shape[:2]
    kept = channels + (columns or 2 * lanes)
    across, best = ceil_div(width, 2), 0
    wanted = units_wanted(2 * PRODUCTS * ceil_div(height, 2) * across * channels * spec.filters * n)
    for block in range(1, height + 1):
        if height % block or (block % 2 and block != height):
            continue
        tiles = ceil_div(block, 2) * across
        fits = 4 * PRODUCTS * tiles * kept <= KEPT_BYTES
        units = n * (height // block)
        short = 2 * PRODUCTS * tiles * channels * spec.filters <= 2 * TILE_FLOPS
        short = short or units >= MANY_UNITS
        shared = units >= wanted or tiles <= FEW_TILES
        if not best or (fits and short and shared):
            best = block
    return best


def _blocks_together(units: int, tiles: int, most: int, least: int) -> int:
    """How many blocks of so many tiles are done together: a divisor of the units.

    Args:
        most: tiles.
        least: pieces of work that are left, but for a single block.

    >>> _blocks_together(256, 16, most=32, least=64), _blocks_together(64, 16, most=32, least=64)
    (2, 1)
    """
    fits = (b for b in range(2, units // least + 1) if units % b == 0 and b * tiles <= most)
    return max(fits, default=1)


class _Tiles:
    """The tiles of blocks of output rows, and 16 matrices of their numbers in scratch.

    Args:
        spec: the convolution.
        block: output rows of a block.
        lanes: of a vector.
        blocks: how many lie in a matrix one after the other.
    """

    def __init__(self, spec: ConvolutionSpec, block: int, lanes: int, blocks: int = 1):
        self.lanes, self.channels, self.blocks = lanes, spec.shape[1], blocks
        self.down, self.across = ceil_div(block, 2), ceil_div(spec.size[1], 2)
        self.count = self.down * self.across
        self.all = blocks * self.count
        self.rows = PictureRows(
            spec.image, spec.shape, spec.top, spec.left, 2 * self.down + 2, 2 * self.across + 2,
            lanes,
        )  # fmt: skip

    def matrix(self, columns: int) -> int:
        """Numbers from one matrix (tiles, columns) to the next.

        With a line between them: else a tile's numbers would share a set of the cache where
        matrices are a multiple of 4 KB apart.
        """
        return self.all * columns + LINE // 4

    def flops(self, units: int, filters: int) -> int:
        """Of the products of so many blocks."""
        return 2 * PRODUCTS * self.all * units * self.channels * filters

    def corner(self, f: Function, tile: Value, row: int, pixel: int) -> Value:
        """Where a tile begins among rows of so many numbers, with so many to a pixel."""
        y, x = f.div(tile, f.index(self.across)), f.rem(tile, f.index(self.across))
        return f.add(f.mul(y, f.index(2 * row)), f.mul(x, f.index(2 * pixel)))

    def transform(self, f: Function, scratch: Scratch, first_tile: Value) -> None:
        """B^T d B of every tile and channel of a block, from scratch array "rows" to "pixels"."""
        channels, row = self.channels, self.rows.row
        with f.loop("tile", 0, self.count) as i, f.loop("c", 0, channels, self.lanes) as c:
            first = f.add(self.corner(f, i.index, row, channels), c.index)
            pixels = [
                [scratch.load("rows", f.add(first, f.index(y * row + x * channels)))
                 for x in range(4)]
                for y in range(4)
            ]  # fmt: skip
            numbers = both_ways(pixels, partial(_pixels, f))
            at = f.add(first_tile, i.index), c.index
            self.store(f, scratch, "pixels", channels, at, numbers)

    def store(
        self, f: Function, scratch: Scratch, name: str, columns: int, at: tuple[Value, Value],
        numbers: Sequence[Value],
    ) -> None:  # fmt: skip
        """A tile's 16 vectors, each in its matrix of so many columns; at: the tile, the column."""
        to = f.add(f.mul(at[0], f.index(columns)), at[1])
        for k, value in enumerate(numbers):
            scratch.store(name, f.add(to, f.index(k * self.matrix(columns))), value)

    def clear(
        self, f: Function, scratch: Scratch, name: str, columns: int, first_tile: Value
    ) -> None:
        """Zeros for the tiles of a block, in matrices of so many columns."""
        zeros = [f.const(scratch.wide, 0.0)] * PRODUCTS
        with f.loop("tile", 0, self.count) as i, f.loop("c", 0, columns, self.lanes) as c:
            at = f.add(first_tile, i.index), c.index
            self.store(f, scratch, name, columns, at, zeros)


class _Winograd(Forward):
    """Writes the kernel."""

    def __init__(self, target: Target, spec: ConvolutionSpec, epilogue: Epilogue):
        lanes = target.lanes(float32)
        block = _rows_in_block(spec, lanes)
        tiles = ceil_div(block, 2) * ceil_div(spec.size[1], 2)
        fit = KEPT_BYTES // (4 * PRODUCTS * spec.shape[1])
        units = spec.shape[0] * (spec.size[0] // block)
        blocks = _blocks_together(units, tiles, min(SHARED_TILES, fit), MANY_UNITS)
        self.grid = grid = _Tiles(spec, block, lanes, blocks)
        size = max(part.size for part in vector_parts(spec.filters // lanes)) * lanes
        arrays = {
            "pixels": PRODUCTS * grid.matrix(grid.channels),  # B^T d B: (4, 4, tiles, C)
            "products": PRODUCTS * grid.matrix(size),  # (4, 4, tiles, filters of a panel)
            "outputs": 4 * grid.all * size,  # (rows, columns, filters of a panel)
        }
        super().__init__(target, spec, epilogue, block, grid.rows, arrays)
        self.units, self.blocks = self.units // blocks, blocks
        self.label, self.arguments = "convolution (Winograd)", ("x", "w", "u")
        self.flops = grid.flops(self.units, spec.filters)

    def unit(self, f: Function, p: Pointers, unit: Value) -> None:
        """Some blocks of output rows, from number `unit` on."""
        grid = self.grid
        with f.loop("block", 0, self.blocks) as i:
            self._block(f, p, f.add(unit, i.index), f.mul(i.index, f.index(grid.count)))
        for vectors in vector_parts(self.vectors):
            with self.columns(f, vectors) as column:
                self._multiply(f, p, vectors, column)
                finite = self._outputs(f, vectors.size)
                with f.loop("block", 0, self.blocks) as i:
                    number = f.add(unit, i.index)
                    with where_needed(f, p, self.needed, number, 1):
                        with f.when(finite):
                            first = f.mul(i.index, f.index(2 * grid.down))
                            self._give(f, p, number, first, vectors.size, column)
                        with f.when(f.opposite(finite)):
                            self.panel(f, p, self.begin_unit(f, p, number), vectors, column)

    def _block(self, f: Function, p: Pointers, number: Value, tile: Value) -> None:
        """A block's numbers in scratch from a tile on; zeros if its picture is not needed."""
        grid = self.grid
        needed = some_needed(f, p, self.needed, number, 1) if self.needed else f.const("i1", 1)
        with f.when(needed):
            self.take_rows(f, p, number)
            grid.transform(f, self.scratch, tile)
        if self.needed:
            with f.when(f.opposite(needed)):
                grid.clear(f, self.scratch, "pixels", grid.channels, tile)

    def _multiply(self, f: Function, p: Pointers, vectors: Part, column: Value) -> None:
        """The 16 products of matrices, for some filters."""
        channels, filters, grid = self.spec.shape[1], self.spec.filters, self.grid
        size = vectors.size * self.lanes
        with f.loop("product", 0, PRODUCTS) as k:
            skip = f.mul(k.index, f.index(channels * filters))
            u = f.at(p["u"], f.add(skip, column), "float", "u")
            for part in parts_of(grid.all, rows_that_fit(self.target, vectors.size)):
                offsets = tuple(i * channels for i in range(part.size))
                loops = Turns(1, 0), Turns(channels, 1)
                name = self.tile((part.size, vectors.size), offsets, loops, filters)
                with part.loop(f, "tiles") as first:
                    at = f.mul(k.index, f.index(grid.matrix(channels)))
                    at = f.add(at, f.mul(first, f.index(channels)))
                    to = f.mul(k.index, f.index(grid.matrix(size)))
                    to = f.add(to, f.mul(first, f.index(size)))
                    a, c = self.scratch.at("pixels", at), self.scratch.at("products", to)
                    f.call("void", name, a, u, c)

    def _outputs(self, f: Function, vectors: int) -> Value:
        """A^T m A of every tile; gives whether all outputs are finite."""
        grid, size = self.grid, vectors * self.lanes
        row = 2 * grid.across * size
        zero = f.const(self.scratch.wide, 0.0)
        with f.loop("tile", 0, grid.all, carry=[zero]) as i:
            to = grid.corner(f, i.index, row, size)
            total = i.carried[0]
            for j in range(0, size, self.lanes):
                first = f.add(f.mul(i.index, f.index(size)), f.index(j))
                products = [
                    [self.scratch.load("products", f.add(first, f.index(k * grid.matrix(size))))
                     for k in range(4 * a, 4 * a + 4)]
                    for a in range(4)
                ]  # fmt: skip
                for number, value in enumerate(both_ways(products, partial(_sums, f))):
                    place = number // 2 * row + number % 2 * size + j
                    self.scratch.store("outputs", f.add(to, f.index(place)), value)
                    total = f.add(total, f.sub(value, value))
            i.next(total)
        return all_finite(f, i.results[0])

    def _give(
        self, f: Function, p: Pointers, number: Value, above: Value, vectors: int, column: Value
    ) -> None:
        """Hand a block's outputs to the epilogue, row by row; above: rows before it in scratch."""
        size, width = vectors * self.lanes, self.spec.size[1]
        line = f.mul(number, f.index(self.block * width))
        results = EpilogueWriter(self.epilogue, "float", self.lanes, self.spec.filters, size)
        with f.loop("y", 0, self.block) as y:
            first = f.add(line, f.mul(y.index, f.index(width)))
            part = Rectangle((), first, f.index(width), column, f.index(size))
            place = f.mul(f.add(above, y.index), f.index(2 * self.grid.across * size))
            results.emit(f, p, part, self.scratch.at("outputs", place), size)


def both_ways(numbers: Sequence[Sequence[T]], of: Callable[[Sequence[T]], list[T]]) -> list[T]:
    """M x M^T of a square x, row by row: columns, then rows, each made what `of` makes of it."""
    columns = [of(column) for column in zip(*numbers, strict=True)]
    return [x for row in zip(*columns, strict=True) for x in of(row)]


def _pixels(f: Function, d: Sequence[Value]) -> list[Value]:
    """B^T d."""
    return [f.sub(d[0], d[2]), f.add(d[1], d[2]), f.sub(d[2], d[1]), f.sub(d[1], d[3])]


def _sums(f: Function, m: Sequence[Value]) -> list[Value]:
    """A^T m."""
    return [f.add(f.add(m[0], m[1]), m[2]), f.sub(f.sub(m[1], m[2]), m[3])]


# ---- the gradient of the filters


def suits_winograd_gradient(target: Target, spec: ConvolutionSpec, g: Operand) -> bool:
    """The same for the gradient of the filters: also, sizes are even, and all is float32."""
    even = all(n % 2 == 0 for n in spec.size)
    return even and suits_winograd(target, spec) and spec.image.dtype is g.dtype is float32


def lower_winograd_gradient(
    target: Target, spec: ConvolutionSpec, g: Operand, epilogue: Epilogue
) -> Lowered:
    """The kernels of a gradient that suits; arguments and buffers as those of `lower_weights`.

    Cost: C O 16 operations for 36 a tile; sums of 16 numbers for each filter of 9.
    """
    return _Gradient(target, spec, g).lowered(epilogue)


class _Gradient(Parts):
    """Sums over tiles: 16 C places."""

    def __init__(self, target: Target, spec: ConvolutionSpec, g: Operand):
        lanes = target.lanes(float32)
        block = _rows_in_block(spec, lanes, spec.filters)
        units = spec.shape[0] * (spec.size[0] // block)
        tiles = block * spec.size[1] // 4
        blocks = _blocks_together(units, tiles, DEPTH, 1)
        self.g, self.grid = g, _Tiles(spec, block, lanes, blocks)
        grid = self.grid
        arrays = {
            "pixels": PRODUCTS * grid.matrix(grid.channels),  # B^T d B: (4, 4, tiles, C)
            "cotangents": PRODUCTS * grid.matrix(spec.filters),  # A D A^T: (4, 4, tiles, O)
        }
        super().__init__(target, spec, block, grid.rows, arrays)
        self.units, self.blocks = self.units // blocks, blocks
        self.places = PRODUCTS * grid.channels
        self.share_out(grid.flops(self.units, spec.filters), "convolution weights (Winograd)")

    def unit(self, f: Function, p: Pointers, sums: Value, first: Value) -> None:
        """See Parts."""
        grid, filters = self.grid, self.spec.filters
        with f.loop("block", 0, grid.blocks) as i:
            self._block(f, p, f.add(first, i.index), f.mul(i.index, f.index(grid.count)))
        with f.loop("product", 0, PRODUCTS) as k:
            for vectors in vector_parts(filters // self.lanes):
                for piece in parts_of(grid.channels, rows_that_fit(self.target, vectors.size)):
                    with self.columns(f, vectors) as column, piece.loop(f, "piece") as c:
                        self._multiply(f, (piece.size, vectors.size), sums, (k.index, c, column))

    def _block(self, f: Function, p: Pointers, number: Value, tile: Value) -> None:
        """A block's numbers in scratch from a tile on; zeros if its picture is not needed."""
        grid = self.grid

        def transform() -> None:
            picture, first = self.take_rows(f, p, number)
            grid.transform(f, self.scratch, tile)
            self._transform(f, p, picture, first, tile)

        if grid.blocks == 1 or not self.needed:
            transform()
            return
        needed = some_needed(f, p, self.needed, number, 1)
        with f.when(needed):
            transform()
        with f.when(f.opposite(needed)):
            grid.clear(f, self.scratch, "pixels", grid.channels, tile)
            grid.clear(f, self.scratch, "cotangents", self.spec.filters, tile)

    def _multiply(
        self, f: Function, shape: tuple[int, int], sums: Value, at: tuple[Value, Value, Value]
    ) -> None:
        """Some channels times some filters, over the tiles; at: the product, the first of both."""
        grid, filters, (k, c, column) = self.grid, self.spec.filters, at
        loops = Turns(1, 0), Turns(grid.all, grid.channels)
        name = self.tile(shape, tuple(range(shape[0])), loops, filters)
        a = f.add(f.mul(k, f.index(grid.matrix(grid.channels))), c)
        b = f.add(f.mul(k, f.index(grid.matrix(filters))), column)
        to = f.add(f.mul(f.add(f.mul(k, f.index(grid.channels)), c), f.index(filters)), column)
        a, b = self.scratch.at("pixels", a), self.scratch.at("cotangents", b)
        f.call("void", name, a, b, f.at(sums, to, "float"))

    def _transform(
        self, f: Function, p: Pointers, number: Value, first: Value, first_tile: Value
    ) -> None:
        """A D A^T of every tile and filter of a block."""
        _, _, down, right = self.g.strides
        begin = f.add(f.mul(number, f.index(self.g.strides[0])), f.mul(first, f.index(down)))
        g = f.at(p["g"], f.add(begin, f.index(self.g.offset)), "float")
        filters, grid = self.spec.filters, self.grid
        with f.loop("tile", 0, grid.count) as i, f.loop("o", 0, filters, self.lanes) as o:
            here = f.add(grid.corner(f, i.index, down, right), o.index)
            places = [
                [f.add(here, f.index(y * down + x * right)) for x in range(2)] for y in range(2)
            ]
            tile = [[f.load(f.at(g, at, "float"), self.scratch.wide) for at in y] for y in places]
            numbers = both_ways(tile, partial(_cotangents, f))
            at = f.add(first_tile, i.index), o.index
            grid.store(f, self.scratch, "cotangents", filters, at, numbers)

    def sum_kernel(self, epilogue: Epilogue) -> Kernel:
        """See Parts."""
        filters, channels, parts = self.spec.filters, self.grid.channels, self.shares.tiles
        shares = Shares.of(channels, PRODUCTS * filters * parts)

        def body(f: Function, p: Pointers) -> None:
            with shares.loop(f, "c") as c, f.loop("o", 0, filters, self.lanes) as o:
                self._filters(f, p, epilogue, c.index, o.index)

        arguments = "temporary.parts", "x", "g", *epilogue.arguments
        return named_kernel(
            "convolution_weights_sum", (*arguments, *lengths_of(self.spec.needed)), body,
            tiles=shares.tiles, flops=parts * self.places * filters,
            bytes=4 * (parts + 1) * self.places * filters, label="convolution weights: sum",
        )  # fmt: skip

    def _filters(self, f: Function, p: Pointers, epilogue: Epilogue, c: Value, o: Value) -> None:
        """The 9 numbers of a channel in some filters."""
        filters, channels = self.spec.filters, self.grid.channels
        sums: list[list[Value]] = []
        for y in range(4):
            places = (f.add(f.index((4 * y + x) * channels), c) for x in range(4))
            sums.append([self.total(f, p, f.add(f.mul(i, f.index(filters)), o)) for i in places])
        finite = all_finite(f, reduce(f.add, (f.sub(x, x) for line in sums for x in line)))

        def give(tap: Value, x: Value) -> None:
            epilogue.emit(f, x, (f.add(f.mul(tap, f.index(channels)), c), o), None, p)

        with f.when(finite):
            for tap, x in enumerate(both_ways(sums, partial(_taps, f))):
                give(f.index(tap), x)
        with f.when(f.opposite(finite)), f.loop("tap", 0, 9) as tap:
            give(tap.index, self._over_windows(f, p, tap.index, c, o))

    def _over_windows(self, f: Function, p: Pointers, tap: Value, c: Value, o: Value) -> Value:
        """The sum over all outputs of the pixel that a tap sees times the cotangent."""
        spec = self.spec
        i, j = f.div(tap, f.index(3)), f.rem(tap, f.index(3))
        zero = f.const(self.scratch.wide, 0.0)
        end = end_of_needed(f, p, spec.needed, f.index(spec.shape[0]))
        with f.loop("n", 0, end, carry=[zero]) as n:
            with f.loop("y", 0, spec.size[0], carry=n.carried) as y:
                with f.loop("x", 0, spec.size[1], carry=y.carried) as x:
                    row = f.sub(f.add(y.index, i), f.index(spec.top))
                    column = f.sub(f.add(x.index, j), f.index(spec.left))
                    pixel = self._pixel(f, p, (n.index, c, row, column))
                    at = offset_of(f, self.g, (n.index, o, y.index, x.index))
                    g = f.load(f.at(p["g"], at, "float"), self.scratch.wide)
                    x.next(muladd(f, f.splat(pixel, self.lanes), g, x.carried[0]))
                y.next(*x.results)
            n.next(*y.results)
        return n.results[0]

    def _pixel(self, f: Function, p: Pointers, at: tuple[Value, Value, Value, Value]) -> Value:
        """One number of the pictures, 0 outside of them."""
        n, c, *where = at
        inside, held = f.const("i1", 1), list[Value]()
        for i, size in zip(where, self.spec.shape[2:], strict=True):
            inside = f.op("and", inside, f.compare("ge", i, f.index(0)))
            inside = f.op("and", inside, f.compare("lt", i, f.index(size)))
            held.append(f.minimum(f.maximum(i, f.index(0)), f.index(size - 1)))
        place = f.at(p["x"], offset_of(f, self.spec.image, (n, c, *held)), "float")
        x = f.load(place, "float")
        return f.select(inside, x, f.const("float", 0.0))


def _cotangents(f: Function, d: Sequence[Value]) -> list[Value]:
    """A d."""
    return [d[0], f.add(d[0], d[1]), f.sub(d[0], d[1]), f.neg(d[1])]


def _taps(f: Function, s: Sequence[Value]) -> list[Value]:
    """G^T s."""
    half = f.const(s[0].type, 0.5)
    both = f.mul(half, f.add(s[1], s[2]))
    return [f.add(s[0], both), f.mul(half, f.sub(s[1], s[2])), f.add(both, s[3])]
