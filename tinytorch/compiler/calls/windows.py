"""The library calls of convolution and its two gradients, and of max pooling and its gradient.

Knows the lowering, strides over (N, C, H, W) and the kernels, never instructions. Where it can, a
kernel reads the pictures themselves: float32 and narrower floats without groups or dilation, those
of the shipped networks. Else the windows of a channels-last image are copied into rows of
KH * KW * C numbers (im2col; K. Chellapilla et al., "High performance convolutional neural networks
for document processing", 2006), and a product with the filters as a (KH * KW * C, O) matrix gives
channels-last results. Both pass them through the same epilogue as any product. The gradient of the
image is the convolution of the cotangent, its pixels spread by the stride, with the turned
filters. The gradient of a pooling comes here when its index was made by a pooling of the program;
any other index was rewritten to a scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from tinytorch.base.dtypes import DType, bfloat16, float16, float32, int8, int32, uint8
from tinytorch.codegen.kernel import Operand, ceil_div, round_up
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.epilogue import FusedEpilogue, joined, lower_product
from tinytorch.compiler.loops.expression import Constant, Expression, Load, Op, Reduce, Store
from tinytorch.compiler.loops.lower_nest import LOWERED
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.plan.access import dense_strides
from tinytorch.compiler.plan.lowering import Lowering, dense_operand
from tinytorch.compiler.plan.stages import Group, Storage
from tinytorch.kernels import pooling as kernels
from tinytorch.kernels.convolution import lower_convolution, lower_weights, suits_weights
from tinytorch.kernels.convolution_rows import ConvolutionSpec
from tinytorch.kernels.convolution_tiles import (
    lower_convolution_by_tiles,
    lower_weights_by_tiles,
    suits_tile_weights,
    suits_tiles,
)
from tinytorch.kernels.gemm_plan import GemmSpec
from tinytorch.kernels.pooling import PoolSpec
from tinytorch.kernels.register_tile import Words, words_of_bytes, words_of_pairs
from tinytorch.kernels.winograd import (
    both_ways,
    lower_winograd,
    lower_winograd_gradient,
    suits_winograd,
    suits_winograd_gradient,
)

Axes = tuple[int, ...]
Pair = tuple[int, int]  # of a picture: rows, columns
Padding = tuple[Pair, Pair]  # (top, bottom), (left, right)
LAST = (0, 2, 3, 1)  # channels innermost
ROW_AXES = (0, 2, 3)  # of a result (N, C, H, W): the rows of the product; C is its columns


@dataclass(frozen=True)
class Image:
    """Pictures in memory: strides over (N, C, H, W)."""

    storage: Storage
    dtype: DType
    shape: Axes
    strides: Axes
    offset: int = 0

    @property
    def operand(self) -> Operand:
        """Where they lie in their buffer."""
        return Operand(self.dtype, self.strides, self.offset)


def has_kernel(node: Node) -> bool:
    """Whether there is native code for it: where no cotangent begins outside."""
    p = node.params
    if "input_shape" not in p:
        return True
    return all(r >= pad[0] for r, pad in zip(_reach(node), p["padding"], strict=True))


def _reach(node: Node) -> list[int]:
    """How far the filter reaches from its first tap, in pixels, along both axes."""
    kernel = node.inputs[1].shape[2:]
    return [d * (k - 1) for d, k in zip(node.params["dilation"], kernel, strict=True)]


def _reads_pictures(node: Node) -> bool:
    """Whether a kernel reads the pictures themselves.

    Note [narrow convolutions]: bfloat16 is multiplied by AMX tiles, or in pairs where the processor
    does and the summed axis is even; elsewhere it is widened while it is copied, and multiplied as
    float32.
    """
    p = node.params
    known = {v.dtype for v in (*node.inputs, *node.outputs)} <= {float32, bfloat16, float16}
    known = known or (_of_bytes(node) and node.outputs[0].dtype is int32)
    work = prod(node.outputs[0].shape) * prod(node.inputs[1].shape)
    return p["groups"] == 1 and p["dilation"] == (1, 1) and known and work > 0


def _of_bytes(node: Node) -> bool:
    """Whether bytes are multiplied."""
    return {v.dtype for v in node.inputs} <= {int8, uint8}


def convolution(lowering: Lowering, group: Group) -> bool:
    """Every window of the image times the filters."""
    node = group.called
    (x, w), p = node.inputs, node.params
    if not has_kernel(node):
        return False
    (top, _), (left, _) = p["padding"]
    if _reads_pictures(node):
        image = _image_of(lowering, x)
        _correlate(lowering, group, image, w, (top, left), (1, 1), p["stride"], turned=False)
    else:
        image = _padded(lowering, _image_of(lowering, x), p["padding"], node)
        _multiply_windows(lowering, group, image, w, p["stride"], turned=False)
    return True


def convolution_input_gradient(lowering: Lowering, group: Group) -> bool:
    """The cotangent, spread by the stride and padded, correlated with the turned filters."""
    node = group.called
    (g, w), p = node.inputs, node.params
    if not has_kernel(node):
        return False
    top, left = (k - 1 - pad[0] for k, pad in zip(w.shape[2:], p["padding"], strict=True))
    if _reads_pictures(node):
        image = _image_of(lowering, g)
        _correlate(lowering, group, image, w, (top, left), p["stride"], (1, 1), turned=True)
    else:
        image = _spread(lowering, _image_of(lowering, g), node)
        _multiply_windows(lowering, group, image, w, (1, 1), turned=True)
    return True


def convolution_weight_gradient(lowering: Lowering, group: Group) -> bool:
    """Windows of the image, each times the cotangent that belongs to it, added up."""
    node = group.called
    if not has_kernel(node):
        return False
    g, x = node.inputs
    image, cotangent = _image_of(lowering, x), _image_of(lowering, g)
    suits = _reads_pictures(node) and suits_weights(lowering.target, node.outputs[0].shape[0])
    if not suits:
        _multiply_window_columns(lowering, group, image, cotangent)
        return True
    p, out = node.params, node.outputs[0]
    (top, _), (left, _) = p["padding"]
    if g.dtype is float32 or lowering.target.has_amx:
        cotangent = _channels_last(lowering, cotangent, node)
    words = _words(lowering, g.dtype, x.dtype, g.shape[3])
    spec = ConvolutionSpec(
        image.operand, image.shape, top, left, (1, 1), g.shape[2:], out.shape[2:], p["stride"],
        out.shape[0], words, tuple(lowering.needs.summed(node)),
    )  # fmt: skip
    epilogue, names = lowering.fused_epilogue(group, (2, 3, 1), 0)
    target, places = lowering.target, cotangent.operand
    lower = lower_weights
    if suits_tile_weights(target, spec, places):
        lower = lower_weights_by_tiles
    elif suits_winograd_gradient(target, spec, places):
        lower = lower_winograd_gradient
    key = (lower.__name__, target.key, spec, places, epilogue.arguments, epilogue.key)
    lowered = LOWERED.get(key, lambda: lower(target, spec, places, epilogue))
    buffers = {**names, "x": image.storage, "g": cotangent.storage, **lowering.lengths(group)}
    lowering.call(group, lowered, buffers, epilogue)
    return True


# pictures read where they lie


def _correlate(
    lowering: Lowering, group: Group, image: Image, w: Value, start: Pair, step: Pair,
    stride: Pair, turned: bool,
) -> None:  # fmt: skip
    """Every window of the image times the filters, and the epilogue."""
    out = group.called.outputs[0]
    size, filters = out.shape[2:], out.shape[1]
    summed = image.shape[1]
    if lowering.target.has_amx:  # its tiles read what fills the last pair up
        summed = round_up(summed, 2)
    words = _words(lowering, image.dtype, w.dtype, summed)
    top, left = start
    spec = ConvolutionSpec(
        image.operand, image.shape, top, left, step, size, w.shape[2:], stride, filters, words,
        lowering.needed_rows(group, (0,)),
    )  # fmt: skip
    packed = _packed_filters(lowering, w, spec, turned, group.called)
    epilogue, names = lowering.fused_epilogue(group, ROW_AXES, 1)
    epilogue = joined(epilogue)
    target, buffers = lowering.target, {**names, "x": image.storage, "w": packed}
    buffers |= lowering.lengths(group)
    lower = lower_convolution
    if spec.shifted:
        shift = 128 if spec.number is uint8 else -128
        buffers["added"] = _added_by_shift(lowering, w, shift, group.called)
    if suits_tiles(target, spec):
        lower = lower_convolution_by_tiles
    elif suits_winograd(target, spec):
        lower = lower_winograd
        buffers["u"] = _transformed_filters(lowering, w, turned, group.called)
    key = (lower.__name__, target.key, spec, epilogue.arguments, epilogue.key)
    lowered = LOWERED.get(key, lambda: lower(target, spec, epilogue))
    lowering.call(group, lowered, buffers, epilogue)


def _words(lowering: Lowering, a: DType, b: DType, summed: int) -> Words | None:
    """How numbers are multiplied: bytes, and an even number of bfloat16 along the summed axis."""
    target = lowering.target
    if not a.is_float:
        unsigned = "".join(side for side, x in (("a", a), ("b", b)) if x is uint8)
        return words_of_bytes(target, unsigned)
    pairs = target.has_bf16_dot and a is b is bfloat16 and summed % 2 == 0
    return words_of_pairs(target) if pairs else None


def _packed_filters(
    lowering: Lowering, w: Value, spec: ConvolutionSpec, turned: bool, node: Node
) -> Storage:
    """(KH, KW, inner channels, outer channels rounded up to whole vectors); turned: upside down.

    Words: (KH, KW, inner channels in words rounded up, outer channels, numbers of a word). The taps
    of a phase lie together, one phase after the other.
    """
    source, words = _image_of(lowering, w), spec.words
    (h, x, i, o), offset = _filter_strides(source, turned)
    inner, (height, width) = w.shape[0 if turned else 1], spec.window
    room = round_up(spec.filters, lowering.target.lanes(float32))
    each = words.each if words else 1
    dtype = words.type_of("b") if words else float32
    depth, whole = ceil_div(inner, each) * each, inner // each
    if room == spec.filters and inner % each == 0:
        to = lowering.temporary(dtype.itemsize * height * width * depth * room)
    else:
        to = _blank(lowering, dtype, (height, width, depth, room), node).storage
    for phase in spec.phases:
        dense = dense_strides((*phase.window, depth // each, each, room), (0, 1, 2, 4, 3))
        begin = offset + phase.tap[0] * h + phase.tap[1] * x
        strides = (h * spec.step[0], x * spec.step[1], each * i, i, o)
        for first, count, numbers in ((0, whole, each), (whole, 1, inner % each)):
            sizes = (*phase.window, count, numbers, spec.filters)
            if not prod(sizes):
                continue
            number: Expression = Load(w.dtype, "x", strides, begin + first * each * i)
            if w.dtype is not dtype:
                number = Op(dtype, "cast", (number,))
            place = phase.before * depth * room + first * dense[2]
            nest = Nest(sizes, frozenset(), (Store("to", dtype, dense, number, place),), "filters")
            lowering.add_nest(nest, {"x": source.storage, "to": to}, "filters", node.where, {"to"})
    return to


def _added_by_shift(lowering: Lowering, w: Value, shift: int, node: Node) -> Storage:
    """Times the sum of each filter: what is added where `shift` is to all pixels, zeros too."""
    source = _image_of(lowering, w)
    room = round_up(w.shape[0], lowering.target.lanes(float32))
    to = lowering.temporary(4 * room)
    number = Op(int32, "cast", (Load(w.dtype, "x", source.strides, source.offset),))
    over = frozenset(d for d in (1, 2, 3) if w.shape[d] != 1)
    total: Expression = Reduce(int32, "sum", number, over) if over else number
    store = Store("to", int32, (1, 0, 0, 0), Op(int32, "mul", (total, Constant(int32, shift))))
    nest = Nest(w.shape, over, (store,), "filters")
    lowering.add_nest(nest, {"x": source.storage, "to": to}, "filters", node.where, {"to"})
    return to


def _transformed_filters(lowering: Lowering, w: Value, turned: bool, node: Node) -> Storage:
    """G g G^T of each 3 x 3 filter (see kernels/winograd.py): (4, 4, inner, outer) of float32."""
    source = _image_of(lowering, w)
    (h, x, i, o), offset = _filter_strides(source, turned)
    inner, outer = w.shape[:2] if turned else w.shape[1::-1]
    g: list[list[Expression]] = []
    for a in range(3):
        loads = (Load(w.dtype, "x", (i, o), offset + a * h + b * x) for b in range(3))
        g.append([y if w.dtype is float32 else Op(float32, "cast", (y,)) for y in loads])
    half = Constant(float32, 0.5)

    def op(name: str, *operands: Expression) -> Expression:
        return Op(float32, name, operands)

    def spread(g: Sequence[Expression]) -> list[Expression]:
        ends = op("add", g[0], g[2])
        middle = (op("mul", half, op(name, ends, g[1])) for name in ("add", "sub"))
        return [g[0], *middle, g[2]]

    made = both_ways(g, spread)
    stores = tuple(
        Store("to", float32, (outer, 1), number, k * inner * outer) for k, number in enumerate(made)
    )
    to = lowering.temporary(4 * len(made) * inner * outer)
    nest = Nest((inner, outer), frozenset(), stores, "filters")
    lowering.add_nest(nest, {"x": source.storage, "to": to}, "filters", node.where, {"to"})
    return to


def _filter_strides(w: Image, turned: bool) -> tuple[Axes, int]:
    """Strides over (KH, KW, inner channels, outer channels), and the offset of the first."""
    o, c, h, x = w.strides
    height, width = w.shape[2:]
    if not turned:
        return (h, x, c, o), w.offset
    return (-h, -x, o, c), w.offset + h * (height - 1) + x * (width - 1)


# windows as the rows of a matrix


def _multiply_windows(
    lowering: Lowering, group: Group, image: Image, w: Value, stride: Pair, turned: bool
) -> None:
    """Every window of the image times the filters; turned: upside down, their axes swapped."""
    node, out = group.called, group.called.outputs[0]
    groups, dilation = node.params["groups"], node.params["dilation"]
    n, _, rows, columns = out.shape
    height, width = w.shape[2:]
    per_group = w.shape[0] // groups
    inner, outer = (per_group, w.shape[1]) if turned else (w.shape[1], per_group)
    m, k = n * rows * columns, height * width * inner
    window = (height, width, stride, dilation)
    for number in range(groups):
        patches = _windows(lowering, image, (rows, columns), window, number * inner, inner, node)
        filters = _filter_matrix(lowering, w, number * per_group, inner, outer, turned, node)
        epilogue, names = lowering.fused_epilogue(group, ROW_AXES, 1)
        epilogue = replace(joined(epilogue), shift=number * outer)
        a, b = Operand(image.dtype, (k, 1)), Operand(w.dtype, (outer, 1))
        spec = GemmSpec((), m, outer, k, a, b, dense_operand(out.dtype, (m, outer)))
        _multiply(lowering, group, spec, epilogue, {**names, "a": patches, "b": filters})


def _multiply_window_columns(
    lowering: Lowering, group: Group, image: Image, cotangent: Image
) -> None:
    """windows(x)^T @ g for each group of channels."""
    node, out = group.called, group.called.outputs[0]
    p = node.params
    filters, channels, height, width = out.shape
    image = _padded(lowering, image, p["padding"], node)
    cotangent = _channels_last(lowering, cotangent, node)
    n, _, rows, columns = cotangent.shape
    per_group = filters // p["groups"]
    m, k = n * rows * columns, height * width * channels
    window = (height, width, p["stride"], p["dilation"])
    for number in range(p["groups"]):
        first = number * channels
        patches = _windows(lowering, image, (rows, columns), window, first, channels, node)
        epilogue, names = lowering.fused_epilogue(group, (2, 3, 1), 0)
        epilogue = replace(epilogue, shift=number * per_group)
        a, g = Operand(image.dtype, (1, k)), cotangent.operand
        b = Operand(g.dtype, (g.strides[3], 1), g.offset + number * per_group)
        spec = GemmSpec(
            (), k, per_group, m, a, b, dense_operand(out.dtype, (k, per_group)),
            summed=tuple(pictures.each(rows * columns) for pictures in lowering.needs.summed(node)),
        )  # fmt: skip
        buffers = {**names, "a": patches, "b": cotangent.storage, **lowering.lengths(group)}
        _multiply(lowering, group, spec, epilogue, buffers)


def _multiply(
    lowering: Lowering, group: Group, spec: GemmSpec, epilogue: FusedEpilogue,
    buffers: dict[str, Storage],
) -> None:  # fmt: skip
    lowered = lower_product(lowering.target, spec, epilogue)
    lowering.call(group, lowered, buffers, epilogue)


def _windows(
    lowering: Lowering, image: Image, size: Pair, window: tuple[int, int, Pair, Pair], first: int,
    channels: int, node: Node,
) -> Storage:  # fmt: skip
    """Rows (n, y, x) of columns (i, j, c): the numbers under each window."""
    height, width, stride, dilation = window
    n, c, h, w = image.strides
    sizes = (image.shape[0], *size, height, width, channels)
    strides = (n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c)
    storage = lowering.temporary(prod(sizes) * image.dtype.itemsize)
    dense = dense_strides(sizes, tuple(range(6)))
    load = Load(image.dtype, "x", strides, image.offset + first * c)
    _copy(lowering, sizes, image.storage, load, storage, dense, 0, node, "windows")
    return storage


def _filter_matrix(
    lowering: Lowering, w: Value, first: int, inner: int, outer: int, turned: bool, node: Node
) -> Storage:
    """The filters as rows (i, j, inner channel) of outer channels."""
    source = _image_of(lowering, w)
    strides, offset = _filter_strides(source, turned)
    sizes = (*w.shape[2:], inner, outer)
    storage = lowering.temporary(prod(sizes) * w.dtype.itemsize)
    dense = dense_strides(sizes, (0, 1, 2, 3))
    load = Load(w.dtype, "x", strides, offset + first * source.strides[0])
    _copy(lowering, sizes, source.storage, load, storage, dense, 0, node, "filters")
    return storage


# images


def _image_of(lowering: Lowering, v: Value) -> Image:
    """Where the pixels of a value lie."""
    access = lowering.located(v)
    storage = lowering.of[access.base].storage
    return Image(storage, v.dtype, v.shape, access.strides, access.offset)


def _copy(
    lowering: Lowering, sizes: Axes, source: Storage, load: Load, to: Storage, strides: Axes,
    offset: int, node: Node, label: str,
) -> None:  # fmt: skip
    """Copy elements between two strided places, over loops of the given sizes."""
    store = Store("to", load.dtype, strides, load, offset)
    nest = Nest(sizes, frozenset(), (store,), label)
    lowering.add_nest(nest, {"x": source, "to": to}, label, node.where, {"to"})


def _blank(lowering: Lowering, dtype: DType, shape: Axes, node: Node) -> Image:
    """Channels-last zeros."""
    storage = lowering.temporary(prod(shape) * dtype.itemsize)
    fill = Store("to", dtype, (1,), Constant(dtype, 0))
    nest = Nest((prod(shape),), frozenset(), (fill,), "fill")
    lowering.add_nest(nest, {"to": storage}, "fill", node.where, {"to"})
    return Image(storage, dtype, shape, dense_strides(shape, LAST))


def _write(
    lowering: Lowering, image: Image, to: Storage, strides: Axes, offset: int, node: Node,
    label: str,
) -> None:  # fmt: skip
    """All pixels of the image copied to storage."""
    load = Load(image.dtype, "x", image.strides, image.offset)
    _copy(lowering, image.shape, image.storage, load, to, strides, offset, node, label)


def _put(
    lowering: Lowering, image: Image, blank: Image, first: Pair, step: Pair, node: Node
) -> Image:
    """The image written into zeros from its pixel `first` on, pixels `step` apart."""
    n, c, h, w = blank.strides
    strides, offset = (n, c, h * step[0], w * step[1]), first[0] * h + first[1] * w
    _write(lowering, image, blank.storage, strides, offset, node, "pad")
    return blank


def _padded(lowering: Lowering, image: Image, padding: Padding, node: Node) -> Image:
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return image
    n, c, h, w = image.shape
    empty = _blank(lowering, image.dtype, (n, c, h + top + bottom, w + left + right), node)
    return _put(lowering, image, empty, (top, left), (1, 1), node)


def _channels_last(lowering: Lowering, image: Image, node: Node) -> Image:
    """The image densely with channels innermost; as it is if it lies so."""
    strides = dense_strides(image.shape, LAST)
    if all(s == t for s, t, n in zip(image.strides, strides, image.shape, strict=True) if n != 1):
        return replace(image, strides=strides)
    storage = lowering.temporary(prod(image.shape) * image.dtype.itemsize)
    _write(lowering, image, storage, strides, 0, node, "channels last")
    return Image(storage, image.dtype, image.shape, strides)


def _spread(lowering: Lowering, g: Image, node: Node) -> Image:
    """The cotangent, laid so that its windows of stride 1 are what each pixel has touched."""
    p, reach = node.params, _reach(node)
    n, _, height, width = p["input_shape"]
    top, left = (r - pad[0] for r, pad in zip(reach, p["padding"], strict=True))
    sizes = (height + reach[0], width + reach[1])
    if top == left == 0 and p["stride"] == (1, 1) and g.shape[2:] == sizes:
        return g
    empty = _blank(lowering, g.dtype, (n, g.shape[1], *sizes), node)
    g, first = _inside(g, (top, left), sizes, p["stride"])
    return _put(lowering, g, empty, first, p["stride"], node) if prod(g.shape) else empty


def _inside(g: Image, start: Pair, sizes: Pair, step: Pair) -> tuple[Image, Pair]:
    """The pixels that land inside when laid `step` apart from `start` on, and where the first does.

    A padding wider than the filter's reach has windows that lie in the padding alone.
    """
    shape, offset, first = [*g.shape[:2]], g.offset, list[int]()
    for a, n, size, s, stride in zip(start, g.shape[2:], sizes, step, g.strides[2:], strict=True):
        skipped = max(0, -(a // s))
        first.append(a + skipped * s)
        shape.append(max(0, min(n - skipped, -(-(size - first[-1]) // s))))
        offset += skipped * stride
    return replace(g, shape=tuple(shape), offset=offset), (first[0], first[1])


# max pooling


def max_pool(lowering: Lowering, group: Group) -> bool:
    """The winners of all windows, and their places."""
    node = group.called
    (x,), (out, index) = node.inputs, node.outputs
    spec = PoolSpec(x.shape, out.shape, **node.params, needed=lowering.needed_rows(group, (0,)))
    operands = (lowering.operand(v) for v in (x, out, index))
    kernel = kernels.max_pool(lowering.target, spec, *operands)
    return lowering.run_kernel(group, kernel, {"x": x, "out": out, "index": index})


def max_pool_gradient(lowering: Lowering, group: Group) -> bool:
    """Each pixel from the windows it won."""
    (g, index), (out,) = group.called.inputs, group.called.outputs
    maker = lowering.producer.get(index)
    if maker is None or index not in maker.outputs[1:] or maker.inputs[0].shape != out.shape:
        return False
    needed = lowering.needed_rows(group, (0,))
    spec = PoolSpec(out.shape, g.shape, **maker.params, needed=needed)
    operands = (lowering.operand(v) for v in (g, index, out))
    kernel = kernels.max_pool_gradient(lowering.target, spec, *operands)
    return lowering.run_kernel(group, kernel, {"g": g, "index": index, "out": out})
