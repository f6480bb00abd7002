"""Convolutions that read the picture itself; the others become products over windows.

Knows the lowering, strides and the kernels for convolution. Taken for float32 and narrower floats
without groups or dilation: those of the shipped networks. The gradient of the image is the
convolution of the cotangent, its pixels spread by the stride, with the turned filters.
"""

from __future__ import annotations

from math import prod

from tinytorch.base.dtypes import bfloat16, float16, float32
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target
from tinytorch.compiler.calls import convolve
from tinytorch.compiler.calls.convolve import ROW_AXES, Image, blank, channels_last, image_of
from tinytorch.compiler.calls.hosting import fused_epilogue
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.loops.epilogue import joined
from tinytorch.compiler.loops.expression import Expression, Load, Op, Store
from tinytorch.compiler.loops.lowered import LOWERED
from tinytorch.compiler.loops.nest import Nest
from tinytorch.compiler.plan.fuse import Group
from tinytorch.compiler.plan.layout import dense_strides
from tinytorch.kernels.blocking import round_up
from tinytorch.kernels.convolution import (
    ConvolutionSpec,
    lower_convolution,
    lower_weights,
    suits_weights,
)


def forward(lowering, group: Group) -> bool:
    """Directly where the kernel can, else by windows."""
    node = group.own
    x, w = node.inputs
    p = node.params
    if not _suits(node):
        return convolve.forward(lowering, group)
    (top, _), (left, _) = p["padding"]
    _correlate(lowering, group, image_of(lowering, x), w, (top, left), (1, 1), p["stride"], False)
    return True


def input_gradient(lowering, group: Group) -> bool:
    """Directly where the kernel can, else by windows."""
    node = group.own
    g, w = node.inputs
    p = node.params
    if not _suits(node):
        return convolve.input_gradient(lowering, group)
    start = tuple(k - 1 - pad[0] for k, pad in zip(w.shape[2:], p["padding"], strict=True))
    _correlate(lowering, group, image_of(lowering, g), w, start, p["stride"], (1, 1), True)
    return True


def weight_gradient(lowering, group: Group) -> bool:
    """Directly where the kernel can, else by windows."""
    node = group.own
    g, x = node.inputs
    p, out = node.params, node.outputs[0]
    if not _suits_weight(lowering.target, node):
        return convolve.weight_gradient(lowering, group)
    (top, _), (left, _) = p["padding"]
    image = image_of(lowering, x)
    cotangent = image_of(lowering, g)
    if g.dtype is float32:
        cotangent = channels_last(lowering, cotangent, node)
    spec = ConvolutionSpec(
        _operand(image), image.shape, top, left, (1, 1), g.shape[2:], out.shape[2:], p["stride"],
        out.shape[0],
    )  # fmt: skip
    epilogue, names = fused_epilogue(lowering, group, (2, 3, 1), 0)
    target, places = lowering.target, _operand(cotangent)
    key = ("convolution_weights", target.key, spec, places, epilogue.arguments, epilogue.key)
    lowered = LOWERED.get(key, lambda: lower_weights(target, spec, places, epilogue))
    buffers = {**names, "x": image.storage, "g": cotangent.storage}
    writes = {s.argument for s in epilogue.stores}
    lowering.add(lowered, buffers, group.label, node.where, writes)
    return True


def _operand(image: Image) -> Operand:
    return Operand(image.dtype, image.strides, image.offset)


def _suits_weight(target: Target, node: Node) -> bool:
    return _suits(node) and suits_weights(target, node.outputs[0].shape[0])


def _suits(node: Node) -> bool:
    p = node.params
    kinds = {v.dtype for v in (*node.inputs, *node.outputs)}
    # Note [narrow convolutions]: bfloat16 is widened while it is copied, and multiplied as float32.
    # Slower than matrix tiles could be, but not than writing windows for them.
    known = kinds <= {float32, bfloat16, float16}
    work = prod(node.outputs[0].shape) * prod(node.inputs[1].shape)
    return p["groups"] == 1 and p["dilation"] == (1, 1) and known and work > 0


def _correlate(lowering, group: Group, image: Image, w: Value, start, step, stride, turned) -> None:
    """Every window of the image times the filters, and the epilogue."""
    node, out = group.own, group.own.outputs[0]
    size, filters = out.shape[2:], out.shape[1]
    packed = _filters(lowering, w, filters, turned, node)
    top, left = start
    spec = ConvolutionSpec(
        _operand(image), image.shape, top, left, step, size, w.shape[2:], stride, filters
    )
    epilogue, names = fused_epilogue(lowering, group, ROW_AXES, 1)
    epilogue = joined(epilogue)
    target = lowering.target
    key = ("convolution", target.key, spec, epilogue.arguments, epilogue.key)
    lowered = LOWERED.get(key, lambda: lower_convolution(target, spec, epilogue))
    buffers = {**names, "x": image.storage, "w": packed}
    writes = {s.argument for s in epilogue.stores}
    lowering.add(lowered, buffers, group.label, node.where, writes)


def _filters(lowering, w: Value, filters: int, turned: bool, node: Node):
    """(KH, KW, inner channels, outer channels rounded up to whole vectors); turned: upside down."""
    source = image_of(lowering, w)
    o, c, h, x = source.strides
    outer, inner, height, width = w.shape
    offset = source.offset
    strides = (h, x, c, o)
    if turned:
        offset += h * (height - 1) + x * (width - 1)
        strides, inner = (-h, -x, o, c), outer
    room = round_up(filters, lowering.target.lanes(float32))
    sizes = (height, width, inner, filters)
    dense = dense_strides((height, width, inner, room), (0, 1, 2, 3))
    if room == filters:
        to = lowering.storage("temporary", 4 * prod(sizes))
    else:
        to = blank(lowering, float32, (height, width, inner, room), node).storage
    number: Expression = Load(w.dtype, "x", strides, offset)
    if w.dtype is not float32:
        number = Op(float32, "cast", (number,))
    nest = Nest(sizes, frozenset(), (Store("to", float32, dense, number),), "filters")
    lowering.add_nest(nest, {"x": source.storage, "to": to}, "filters", node.where, {"to"})
    return to
