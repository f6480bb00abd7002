"""What a program computes of frozen states alone, and arithmetic that is moved there.

Knows graphs and rewrite rules, never memory or kernels. A state is frozen if the caller says so
(`compile(..., freeze=True)`) and the program does not write it: weights in inference. What follows
from such states alone is computed once for their numbers (plan/derive.py), so it costs a call
nothing. A factor and a shift for each channel behind a convolution, a batch norm in evaluation, are
therefore brought in front of it: of y = (conv(x, w) + b - mean) * scale + shift the program keeps

    conv(x, w * scale) + ((b - mean) * scale + shift)

Source: Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", https://arxiv.org/abs/1712.05877, section 3.2.

Error: w * scale is rounded once where a sum of K products was rounded about K times; so y is off by
at most (K + 6) / 2^24 times (the sum of |x w scale| + |b scale| + |mean scale| + |shift|), the
bound of the unfolded program too (Higham 2002, "Accuracy and Stability of Numerical Algorithms",
3.1). What overflows may differ: a sum beyond the largest float32, times a small scale.
"""

from __future__ import annotations

from typing import NamedTuple

from tinytorch.base.dtypes import float32
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.graph.rewriter import Inputs, Rewriter, Rule
from tinytorch.primitives.primitive import OpClass, Primitive

# Rows of these classes look at places that a check must have seen first, have bodies, are random,
# or are not known.
_ANEW = (
    OpClass.LOOKUP, OpClass.GATHER, OpClass.SCATTER, OpClass.UPDATE, OpClass.LOOP, OpClass.BRANCH,
    OpClass.RANDOM, OpClass.OPAQUE,
)  # fmt: skip
FEW_BYTES = 4096  # of a value that may be larger than what it is computed from


def may_be_derived(primitive: Primitive) -> bool:
    """Whether a result depends on the operands alone and nothing has to be checked before."""
    return primitive.op_class not in _ANEW


def frozen_nodes(graph: Graph) -> frozenset[Node]:
    """Operations on frozen states and constants alone whose results are no larger than these.

    (A weight of few bits becomes four times as large when it is unpacked; a product that unpacks it
    as it reads is faster.) Movement and sources are among them where operations on them may be.
    """
    if not graph.frozen:
        return frozenset()
    given = (*graph.frozen, *graph.constants)
    leaves: dict[Value, frozenset[Value]] = {v: frozenset([v]) for v in given}
    found: set[Node] = set()
    for node in graph.nodes:
        if not may_be_derived(node.primitive) or not all(v in leaves for v in node.inputs):
            continue
        below = frozenset[Value]().union(*(leaves[v] for v in node.inputs))
        size = sum(v.spec.nbytes for v in node.outputs)
        room = max(FEW_BYTES, sum(v.spec.nbytes for v in below))
        if not (node.is_movement or node.is_source) and size > room:
            continue
        leaves.update(dict.fromkeys(node.outputs, below))
        found.add(node)
    return frozenset(found)


# factors and shifts in front of a convolution


class _Convolution(NamedTuple):
    """A convolution, and what is added to each channel of it, if anything."""

    convolution: Node
    shift: Value | None


def _settled(r: Rewriter, v: Value) -> bool:
    """Whether a value depends on frozen states and constants alone."""
    stack, seen = [v], set[Value]()
    while stack:
        v = stack.pop()
        if v in seen or v in r.new.constants or v in r.frozen:
            continue
        seen.add(v)
        node = r.made.get(v)
        if node is None or not may_be_derived(node.primitive):
            return False
        stack.extend(node.inputs)
    return True


def _of_channels(r: Rewriter, v: Value, out: Value) -> bool:
    """Whether a settled value is one number for each channel of (N, O, H, W), or one number."""
    shape = (1,) * (4 - len(v.shape)) + v.shape
    one_each = (
        len(shape) == 4 and shape[1] in (1, out.shape[1]) and shape[::2] + shape[3:] == (1,) * 3
    )
    return one_each and v.dtype is out.dtype and _settled(r, v)


def _convolution(r: Rewriter, old: Value, v: Value) -> _Convolution | None:
    """The convolution that v is, shifted or not; None if it is none, or others read it too."""
    if len(r.users.get(old, ())) != 1 or old in r.outputs or len(v.shape) != 4:
        return None
    made, shift = r.maker(v, "convolution"), None
    if made is None and (added := r.maker(v, "add")) is not None:
        for x, other in (added.inputs, added.inputs[::-1]):
            made = r.maker(x, "convolution")
            if made is not None and _of_channels(r, other, v):
                shift = other
                break
        else:
            return None
    out_of_floats = made is not None and made.outputs[0].dtype.is_float
    return _Convolution(made, shift) if made is not None and out_of_floats else None


def _scaled_filters(r: Rewriter, w: Value, scale: Value) -> Value:
    """Each filter times its number, before it is rounded to a narrower type."""
    cast = r.maker(w, "cast")
    if cast is not None and cast.inputs[0].dtype is scale.dtype:
        wide = _scaled_filters(r, cast.inputs[0], scale)
        return r.add("cast", wide, **cast.params)
    if scale.spec.size > 1:
        scale = r.add("reshape", scale, shape=(w.shape[0], 1, 1, 1))
    return r.add("mul", w, scale)


def _mul(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    for i in (0, 1):
        v, scale = inputs[i], inputs[1 - i]
        found = _convolution(r, node.inputs[i], v)
        if found is None or not _of_channels(r, scale, v):
            continue
        x, w = found.convolution.inputs
        narrow = w.dtype is not scale.dtype
        if not _settled(r, w) or narrow and not _rounded(r, w, scale):
            continue
        filters = _scaled_filters(r, w, scale)
        y = r.again(found.convolution, (x, filters))[0]
        return y if found.shift is None else r.add("add", y, r.add("mul", found.shift, scale))
    return None


def _rounded(r: Rewriter, w: Value, scale: Value) -> bool:
    """Whether filters are a wider type's, rounded."""
    cast = r.maker(w, "cast")
    return cast is not None and cast.inputs[0].dtype is scale.dtype is float32


def _add(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    for i in (0, 1):
        v, more = inputs[i], inputs[1 - i]
        found = _convolution(r, node.inputs[i], v)
        if found is not None and found.shift is not None and _of_channels(r, more, v):
            shift = r.add("add", found.shift, more)
            return r.again(node, (found.convolution.outputs[0], shift))[0]
    return None


def _sub(r: Rewriter, node: Node, inputs: Inputs) -> Value | None:
    v, less = inputs
    found = _convolution(r, node.inputs[0], v)
    if found is None or not _of_channels(r, less, v):
        return None
    shift = r.add("neg", less) if found.shift is None else r.add("sub", found.shift, less)
    return r.add("add", found.convolution.outputs[0], shift)


FOLDING: dict[str, Rule] = {"mul": _mul, "add": _add, "sub": _sub}


def folded(graph: Graph) -> Graph:
    """The program with factors and shifts of channels in front of convolutions."""
    return Rewriter(graph, FOLDING).run() if graph.frozen else graph
