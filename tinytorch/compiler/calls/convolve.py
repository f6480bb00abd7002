"""Convolution and its two gradients as matrix products over windows laid out in memory.

Knows the lowering, strides and the matrix kernel. The windows of a channels-last image are copied
into rows of KH * KW * C numbers (im2col; K. Chellapilla et al., "High performance convolutional
neural networks for document processing", 2006); a product with the filters as a (KH * KW * C, O)
matrix gives channels-last results, which pass through the same epilogue as any product. The
gradient of the image is the convolution of the spread-out cotangent with the turned filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from tinytorch.base.dtypes import DType
from tinytorch.codegen.kernel import Operand
from tinytorch.compiler.calls.hosting import dense_operand, fused_epilogue
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.epilogue import joined, lower_product
from tinytorch.compiler.loops.expression import Constant, Load, Store
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.plan.fuse import Group
from tinytorch.compiler.plan.layout import dense_strides
from tinytorch.compiler.plan.tasks import Storage
from tinytorch.kernels.gemm_plan import GemmSpec

ROW_AXES = (0, 2, 3)  # of a result (N, C, H, W): the rows of the product; C is its columns


@dataclass(frozen=True)
class Image:
    """Pictures in memory: strides over (N, C, H, W)."""

    storage: Storage
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


def forward(lowering, group: Group) -> bool:
    """out = windows(x) @ w for each group of channels."""
    node = group.own
    x, w = node.inputs
    p = node.params
    image = _padded(lowering, image_of(lowering, x), p["padding"], node)
    _correlate(lowering, group, image, w, p["stride"], p["dilation"], p["groups"], turned=False)
    return True


def input_gradient(lowering, group: Group) -> bool:
    """The cotangent, spread by the stride and padded, correlated with the turned filters."""
    node = group.own
    g, w = node.inputs
    p = node.params
    image = _spread(lowering, image_of(lowering, g), w.shape, node)
    _correlate(lowering, group, image, w, (1, 1), p["dilation"], p["groups"], turned=True)
    return True


def weight_gradient(lowering, group: Group) -> bool:
    """windows(x)^T @ g for each group of channels."""
    node = group.own
    g, x = node.inputs
    p = node.params
    out = node.outputs[0]
    filters, channels, height, width = out.shape
    image = _padded(lowering, image_of(lowering, x), p["padding"], node)
    cotangent = channels_last(lowering, image_of(lowering, g), node)
    n, _, rows, columns = g.shape
    per_group = filters // p["groups"]
    m = n * rows * columns
    for number in range(p["groups"]):
        k = height * width * channels
        window = (height, width, p["stride"], p["dilation"])
        patches = _windows(
            lowering, image, (rows, columns), window, number * channels, channels, node
        )
        epilogue, names = fused_epilogue(lowering, group, (2, 3, 1), 0)
        epilogue = replace(epilogue, shift=number * per_group)
        a = Operand(x.dtype, (1, k))
        b = Operand(g.dtype, (cotangent.strides[3], 1), cotangent.offset + number * per_group)
        spec = GemmSpec((), k, per_group, m, a, b, dense_operand(out.dtype, (k, per_group)))
        _multiply(lowering, group, spec, epilogue, {**names, "a": patches, "b": cotangent.storage})
    return True


def _multiply(
    lowering, group: Group, spec: GemmSpec, epilogue, buffers: dict[str, Storage]
) -> None:
    lowered = lower_product(lowering.target, spec, epilogue)
    writes = {s.argument for s in epilogue.stores}
    lowering.add(lowered, buffers, group.label, group.own.where, writes)


def _correlate(
    lowering, group: Group, image: Image, w: Value, stride, dilation, groups: int, turned: bool
) -> None:
    """Every window of the image times the filters; turned: upside down, their axes swapped."""
    node, out = group.own, group.own.outputs[0]
    n, _, rows, columns = out.shape
    height, width = w.shape[2:]
    inner, outer = (
        (w.shape[0] // groups, w.shape[1]) if turned else (w.shape[1], w.shape[0] // groups)
    )
    m, k = n * rows * columns, height * width * inner
    for number in range(groups):
        patches = _windows(
            lowering,
            image,
            (rows, columns),
            (height, width, stride, dilation),
            number * inner,
            inner,
            node,
        )
        filters = _filters(lowering, w, number * (w.shape[0] // groups), inner, outer, turned, node)
        epilogue, names = fused_epilogue(lowering, group, ROW_AXES, 1)
        epilogue = replace(joined(epilogue), shift=number * outer)
        spec = GemmSpec(
            (), m, outer, k, Operand(image.dtype, (k, 1)), Operand(w.dtype, (outer, 1)),
            dense_operand(out.dtype, (m, outer)),
        )  # fmt: skip
        _multiply(lowering, group, spec, epilogue, {**names, "a": patches, "b": filters})


def image_of(lowering, v: Value) -> Image:
    """Where the pixels of a value lie."""
    access = lowering.access(v)
    return Image(
        lowering.homes[access.home].storage, v.dtype, v.shape, access.strides, access.offset
    )


def copy(
    lowering,
    sizes,
    source: Image,
    strides,
    offset: int,
    to: Storage,
    out_strides,
    out_offset: int,
    node: Node,
    label: str,
) -> None:
    """Copy elements between two strided places, over loops of the given sizes."""
    load = Load(source.dtype, "x", tuple(strides), offset)
    store = Store("to", source.dtype, tuple(out_strides), load, out_offset)
    nest = Nest(tuple(sizes), frozenset(), (store,), label)
    lowering.add_nest(nest, {"x": source.storage, "to": to}, label, node.where, {"to"})


def blank(lowering, dtype: DType, shape: tuple[int, int, int, int], node: Node) -> Image:
    """Channels-last zeros."""
    strides = dense_strides(shape, (0, 2, 3, 1))
    storage = lowering.storage("temporary", prod(shape) * dtype.itemsize)
    fill = Store("to", dtype, (1,), Constant(dtype, 0))
    nest = Nest((prod(shape),), frozenset(), (fill,), "fill")
    lowering.add_nest(nest, {"to": storage}, "fill", node.where, {"to"})
    return Image(storage, dtype, shape, strides)


def _place(
    lowering, image: Image, blank: Image, top: int, left: int, step: tuple[int, int], node: Node
) -> Image:
    """The image written into zeros, its pixels `step` apart."""
    n, c, h, w = blank.strides
    strides = (n, c, h * step[0], w * step[1])
    offset = top * h + left * w
    _write(lowering, image, blank.storage, strides, offset, node, "pad")
    return blank


def _write(lowering, image: Image, to, strides, offset: int, node: Node, what: str) -> None:
    """All pixels of the image copied to storage."""
    start = image.strides, image.offset
    copy(lowering, image.shape, image, *start, to, strides, offset, node, what)


def _padded(lowering, image: Image, padding, node: Node) -> Image:
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return image
    n, c, h, w = image.shape
    empty = blank(lowering, image.dtype, (n, c, h + top + bottom, w + left + right), node)
    return _place(lowering, image, empty, top, left, (1, 1), node)


def channels_last(lowering, image: Image, node: Node) -> Image:
    """The image densely with channels innermost; as it is if it lies so."""
    strides = dense_strides(image.shape, (0, 2, 3, 1))
    if all(s == t for s, t, n in zip(image.strides, strides, image.shape, strict=True) if n != 1):
        return replace(image, strides=strides)
    storage = lowering.storage("temporary", prod(image.shape) * image.dtype.itemsize)
    _write(lowering, image, storage, strides, 0, node, "channels last")
    return Image(storage, image.dtype, image.shape, strides)


def _spread(lowering, g: Image, w_shape, node: Node) -> Image:
    """The cotangent, laid so that its windows of stride 1 are what each pixel has touched."""
    p = node.params
    n, _, height, width = p["input_shape"]
    reach = [d * (k - 1) for d, k in zip(p["dilation"], w_shape[2:], strict=True)]
    top, left = (r - pad[0] for r, pad in zip(reach, p["padding"], strict=True))
    sizes = (height + reach[0], width + reach[1])
    if top == left == 0 and p["stride"] == (1, 1) and g.shape[2:] == sizes:
        return g
    empty = blank(lowering, g.dtype, (n, g.shape[1], *sizes), node)
    g, (top, left) = _inside(g, (top, left), sizes, p["stride"])
    return _place(lowering, g, empty, top, left, p["stride"], node) if prod(g.shape) else empty


def _inside(g: Image, start: Sequence[int], sizes: Sequence[int], step: Sequence[int]):
    """The pixels that land inside when laid `step` apart from `start` on, and where the first does.

    A padding wider than the filter's reach has windows that lie in the padding alone.
    """
    shape, offset, first = [*g.shape[:2]], g.offset, []
    for a, n, size, s, stride in zip(start, g.shape[2:], sizes, step, g.strides[2:], strict=True):
        skipped = max(0, -(a // s))
        first.append(a + skipped * s)
        shape.append(max(0, min(n - skipped, -(-(size - first[-1]) // s))))
        offset += skipped * stride
    return replace(g, shape=tuple(shape), offset=offset), first


def _windows(
    lowering, image: Image, size: tuple[int, int], window, first: int, channels: int, node: Node
) -> Storage:
    """Rows (n, y, x) of columns (i, j, c): the numbers under each window."""
    height, width, stride, dilation = window
    n, c, h, w = image.strides
    sizes = (image.shape[0], *size, height, width, channels)
    strides = (n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c)
    storage = lowering.storage("temporary", prod(sizes) * image.dtype.itemsize)
    dense = dense_strides(sizes, tuple(range(6)))
    offset = image.offset + first * c
    copy(lowering, sizes, image, strides, offset, storage, dense, 0, node, "windows")
    return storage


def _filters(
    lowering, w: Value, first: int, inner: int, outer: int, turned: bool, node: Node
) -> Storage:
    """The filters as rows (i, j, inner channel) of outer channels."""
    access = lowering.access(w)
    o, c, h, x = access.strides
    height, width = w.shape[2:]
    offset = access.offset + first * o
    if turned:
        offset += h * (height - 1) + x * (width - 1)
        strides = (-h, -x, o, c)
    else:
        strides = (h, x, c, o)
    sizes = (height, width, inner, outer)
    storage = lowering.storage("temporary", prod(sizes) * w.dtype.itemsize)
    source = Image(lowering.homes[access.home].storage, w.dtype, w.shape, access.strides)
    dense = dense_strides(sizes, (0, 1, 2, 3))
    copy(lowering, sizes, source, strides, offset, storage, dense, 0, node, "filters")
    return storage
