"""How a gradient flows back through the tape, and functions with a gradient of their own.

Knows nodes and the `vjp` of primitives; each gradient is made of the same operations, so recording
them (`create_graph`) gives second derivatives, and an interpreter captures them like any others.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.errors import GradientError, ShapeError
from tinytorch.primitives import absorb
from tinytorch.tensor import tape
from tinytorch.tensor.dispatch import copied
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import (
    Buffer,
    TensorBase,
    concrete,
    copy_of,
    from_array,
    from_handle,
    from_value,
    held,
    is_held,
    relatives,
)
from tinytorch.tensor.operands import tensor_of
from tinytorch.tensor.tape import _COMPILED, GradientRule, Leaf, Port, TapeNode, sequence_of


def _refuse_changed(node: TapeNode) -> None:
    """Raise: memory that the tape kept was overwritten (see Note [a view is a view])."""
    raise GradientError(
        "a tensor was changed in place after it was used",
        got=f"memory that {node.primitive} read was overwritten, before backward()",
        rule=f"backward of {node.primitive} needs the value that was read",
        fix="call backward() before the step that writes, or give it x.clone()",
    )


def _cotangents(node: TapeNode, g: Any, final: bool) -> Sequence[Any]:
    """Gradients with respect to the operands of one node; `final`: the zeros of g are."""
    if node.primitive is _COMPILED:
        raise GradientError(
            "a gradient arrives at the result of a compiled function",
            got="backward(), or grad, of something computed from it",
            rule="gradients stay within one call: what a compiled function gives has no record",
            fix="loss and backward() inside the compiled function; or result.detach(), or "
            "no_grad() around its call, where no gradient is wanted",
        )
    if node.inputs is None:
        raise GradientError(
            "backward() went through this graph already",
            got="a second backward() over the same operations",
            rule="the first one frees what it needed, to give the memory back",
            fix="backward(retain_graph=True) the first time, or add the losses up first",
        )
    primitive = node.primitive
    if primitive is None:
        return (g,)
    versions = 0
    inputs: list[Any] = []
    needs: list[bool] = []
    for handle, parent in zip(node.inputs, node.parents, strict=True):
        if type(handle) is Buffer:
            versions += handle.version
            inputs.append(from_handle(handle, parent))
        else:
            inputs.append(from_value(handle, parent))
        needs.append(parent is not None)
    if versions != node.versions:
        _refuse_changed(node)
    if node.output.__class__ is tuple:
        out: Any = tuple([from_handle(h, Port(node, i)) for i, h in enumerate(node.outputs)])
    else:  # of a view none is kept
        out = None if node.output.__class__ is np.ndarray else from_handle(node.output, node)
    asked: dict[str, Any] = {"needs": tuple(needs)} if primitive.asks_needs else {}
    if final and primitive.asks_final:
        asked["final"] = True
    rule: Callable[..., Sequence[Any]] = primitive.vjp  # type: ignore[assignment]
    return rule(g, out, *inputs, **asked, **node.params)


def propagate(
    roots: Iterable[tuple[Any, Any]], wanted: Iterable[Any] | None = None, *, keep: bool = False,
    final: bool = False,
) -> dict[Any, Any]:  # fmt: skip
    """Gradients that arrive at Leafs (or at `wanted`), newest operation first.

    A node is newer than everything it read, so taking the newest first means that all its users
    have been seen: each node is visited once, whatever the graph's shape.

    Args:
        roots: pairs of where to start (`tensor._node`) and the cotangent there.
        wanted: Leafs, Nodes or Ports at which to stop and report; None: every Leaf.
        keep: keep the graph for another pass.
        final: zeros in the cotangents of the roots are final (see Primitive's Note).

    Returns:
        Gradient for each Leaf or wanted place that was reached.

    Cost: O(n log n) for n operations between; no recursion, so any depth works.
    """
    targets = None if wanted is None else set(wanted)
    oldest = -1 if targets is None else min((sequence_of(t) for t in targets), default=0)
    found: dict[Any, Any] = {}
    pending: dict[TapeNode, Any] = {}
    heap: list[tuple[int, TapeNode]] = []
    selected: set[TapeNode] = set()  # whose cotangent holds final zeros

    def arrive(place: Any, g: Any, final: bool) -> None:
        if place is None or g is None:
            return
        if targets is not None and place in targets:
            found[place] = g if place not in found else found[place] + g
            return
        if place.__class__ is Leaf:
            if targets is None:
                found[place] = g if place not in found else found[place] + g
            return
        node = place.node if place.__class__ is Port else place
        if node.sequence < oldest:
            return
        if node not in pending:
            heapq.heappush(heap, (-node.sequence, node))
            pending[node] = {} if type(node.output) is tuple else None
        if final:
            selected.add(node)
        if place.__class__ is Port:
            slots = pending[node]
            slots[place.index] = g if place.index not in slots else slots[place.index] + g
        else:
            pending[node] = g if pending[node] is None else pending[node] + g

    for place, g in roots:
        arrive(place, g, final)
    while heap:
        node = heapq.heappop(heap)[1]
        g = pending.pop(node)
        several = type(node.output) is tuple
        if several:
            g = tuple([g.get(i) for i in range(len(node.outputs))])
        holds = node in selected
        cotangents = _cotangents(node, g, holds)
        row = node.primitive
        selects = row.selects if row is not None else ()
        goes_on = holds and not (row is not None and row.mixes)
        for i, place in enumerate(node.parents or ()):
            arrive(place, cotangents[i], goes_on or i in selects)
        if not keep:
            node.free()
    return found


def backward(tensor: Any, gradient: Any, *, retain_graph: bool, create_graph: bool) -> None:
    """Add the gradient of `tensor` to `.grad` of every leaf that it depends on."""
    if tensor._node is None:
        raise GradientError(
            "backward() has nothing to go back through",
            got=f"a tensor {tensor.shape} that depends on no tensor with requires_grad=True",
            rule="operations are recorded where an operand requires a gradient, outside no_grad(); "
            "not those of a compiled function: its backward() is called inside it",
            fix="x = tt.Tensor(..., requires_grad=True) before computing the loss, or loss and "
            "backward() inside the compiled function",
        )
    if gradient is None:
        if tensor.size != 1:
            raise GradientError(
                "backward() needs a single number to start from",
                got=f"a tensor {tensor.shape}",
                rule="gradients are of one number with respect to many",
                fix="loss.mean().backward(), or backward(gradient) with a gradient of its shape",
            )
        gradient = tensor.ones_like()
    elif gradient.shape != tensor.shape:
        raise ShapeError(
            "the gradient given to backward() has another shape",
            got=f"gradient {gradient.shape} for a tensor {tensor.shape}",
            rule="it holds one number for each number of the tensor",
            fix="gradient.reshape(tensor.shape), or gradient.broadcast_to(tensor.shape)",
        )
    before, STATE.recording = STATE.recording, create_graph
    try:
        found = propagate([(tensor._node, gradient)], keep=retain_graph or create_graph)
        for leaf in [*found]:
            g = found.pop(leaf)  # so that nobody else holds it
            leaf.grad = _owned(g) if leaf.grad is None else leaf.grad + g
    finally:
        STATE.recording = before


def _owned(g: Any) -> Any:
    """A gradient in memory that no other Tensor shows, since `.grad` may be written.

    A rule may give one Tensor to several operands (`a + b`), a view, or what it was given.
    """
    if type(g) is not concrete() and not is_held(g):  # a RowGradient makes its own
        return g
    if g._value is not None:
        return from_handle(g.handle(), g._node)
    # known here, in the loop of `backward`, and as getrefcount's argument
    if getrefcount(g) <= 3 and not is_held(g) and len(relatives(g)) == 1:
        array = g._buffer.array
        if array.flags.writeable and 0 not in array.strides:
            return g
    out = from_array(copy_of(g._buffer.array, g.dtype), g.dtype)
    out._node = g._node
    return out


# --- functions with a gradient of their own ---


class _UserGradient(GradientRule):
    """Stands in the tape for a function with a gradient of the user's."""

    asks_final = True

    def __init__(self, rule: custom_vjp, named: dict[str, Any], residuals: Any):
        self.rule, self.named, self.residuals = rule, named, residuals
        self.name = rule.__name__

    def vjp(self, g: Any, out: Any, *inputs: TensorBase, final: bool = False) -> tuple[Any, ...]:
        """One gradient for each Tensor argument."""
        residuals = self.residuals
        if STATE.recording:  # what forward kept must be connected to the inputs: compute it again
            _, residuals = self.rule.forward(*inputs, **self.named)
        given = self.rule.backward(residuals, g)
        grads: list[Any] = [*given] if issubclass(type(given), tuple) else [given]
        shapes = [None if d is None else tuple(d.shape) for d in grads]
        wanted = [x.shape for x in inputs]
        if len(shapes) != len(wanted) or any(
            s not in (None, w) for s, w in zip(shapes, wanted, strict=True)
        ):
            raise ShapeError(
                f"custom_vjp {self}: backward gave gradients that do not fit the arguments",
                got=f"gradients {shapes} for arguments {wanted}",
                rule="one gradient (or None) for each argument, of its shape",
                fix="return a tuple, one entry an argument",
            )
        grads = [None if d is None else tensor_of(d) for d in grads]
        if final and self.rule.elementwise:
            grads = [None if d is None else absorb(d, g) for d in grads]
        return tuple(grads)


class custom_vjp:
    """A function of Tensors with a gradient of your own.

    `forward(*tensors, **settings)` gives (result, residuals), `backward(residuals, g)` one gradient
    (or None) for each Tensor argument. Second derivatives follow from both, if `backward` is made
    of Tensor operations.

    Args:
        function: gives the result; used where nothing is recorded.

    Example:
        >>> import tinytorch as tt
        >>> @tt.custom_vjp
        ... def straight_through(x):
        ...     return x.round()
        >>> _ = straight_through.define(lambda x: (x.round(), None), lambda kept, g: (g,))
        >>> tt.grad(lambda x: straight_through(x).sum())(tt.Tensor([0.2, 0.7])).tolist()
        [1.0, 1.0]
    """

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.function, self.elementwise = function, False
        self.__name__: str = getattr(function, "__name__", "function")
        self.forward: Callable[..., Any] = self._undefined
        self.backward: Callable[..., Any] = self._undefined

    def define(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> custom_vjp:
        """Set the two rules; gives itself."""
        self.forward, self.backward = forward, backward
        return self

    defvjp = define

    def _undefined(self, *args: Any, **named: Any) -> NoReturn:
        raise GradientError(
            f"custom_vjp {self.__name__}: no gradient is defined",
            got="a call whose gradient is needed",
            rule="forward and backward are given before the first such call",
            fix=f"{self.__name__}.define(forward, backward)",
        )

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """The function, recorded with its own gradient."""
        tensors = [tensor_of(x) for x in args]
        if not (STATE.recording and any(t._node is not None for t in tensors)):
            return self.function(*args, **settings)
        with no_grad():
            out, residuals = self.forward(*(held(t) for t in tensors), **settings)
        several = issubclass(type(out), tuple)
        fresh = tuple(map(_given, out)) if several else _given(out)
        return tape.record(_UserGradient(self, settings, residuals), tensors, {}, fresh)


def _given(out: Any) -> Any:
    """A result of forward as the caller gets it; forward may give back an input as it was held."""
    return copied(out.detach()) if is_held(out) else out.detach()


def with_slope(slope: Callable[[Any], Any]) -> Callable[[Callable[[Any], Any]], custom_vjp]:
    """Decorator for a function of one Tensor whose derivative at x is `slope(x)`."""

    def decorate(function: Callable[[Any], Any]) -> custom_vjp:
        def forward(x: TensorBase) -> tuple[Any, Any]:
            return function(x), x

        def backward(x: TensorBase, g: TensorBase) -> tuple[Any]:
            return (g * slope(x),)

        rule = custom_vjp(function)
        rule.elementwise = True
        return rule.define(forward, backward)

    return decorate
