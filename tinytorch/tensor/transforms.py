"""Functions of functions: grad, vjp, jvp, checkpoint, and gradcheck, which tests a gradient.

Knows the tape. Each transform marks its inputs with a place of its own in the tape and asks for
what arrives there, so transforms nest, and a function may close over what is differentiated too.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tinytorch.base.dtypes import float64
from tinytorch.base.errors import DTypeError, GradientError, SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import NOT_DIFFERENTIABLE, OpClass, Primitive
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule, Leaf, Port, TapeNode
from tinytorch.tensor.dispatch import alias
from tinytorch.tensor.interpreter import STATE, enable_grad, no_grad, precision
from tinytorch.tensor.memory import DETACH, TensorBase, from_handle, held
from tinytorch.tensor.operands import tensor_of
from tinytorch.tensor.random import Generator, randn

__all__ = ["checkpoint", "grad", "gradcheck", "jvp", "primitive", "value_and_grad", "vjp"]


def _is_several(result: Any) -> bool:
    """Whether a function gave a tuple of results."""
    return issubclass(type(result), tuple)


def _several_of(result: Any) -> tuple[Any, ...]:
    """What a function gave, as a tuple of one for one result too."""
    return result if _is_several(result) else (result,)


def _marked(x: Any) -> tuple[Any, TapeNode]:
    """The same Tensor behind a mark in the tape; gradients go on to where x came from."""
    x = tensor_of(x)
    if not x.dtype.is_float:
        raise DTypeError(
            "only floats have a gradient",
            got=f"an argument of {x.dtype.name} {x.shape}",
            rule="a gradient says what a small change does, and integers have none",
            fix="grad(f, argnums=...) to name the float arguments, or x.float()",
        )
    mark = autograd.identity(x._node if STATE.recording else None, x.handle())
    marked = x.detach()
    marked._node = mark
    return marked, mark


def _reaches_beyond(roots: Sequence[Any], marks: Sequence[TapeNode]) -> bool:
    """Whether what was recorded since the marks depends on anything tracked besides them."""
    oldest = min(m.sequence for m in marks)
    own = set(marks)
    if any(m.parents and m.parents[0] is not None for m in marks):
        return True
    stack = [r._node for r in roots if r._node is not None]
    seen: set[Any] = set()
    while stack:
        place = stack.pop()
        node = place.node if type(place) is Port else place
        if node in seen or node in own:
            continue
        seen.add(node)
        if type(node) is Leaf or node.sequence < oldest:
            return True
        stack.extend(p for p in node.parents or () if p is not None)
    return False


def _single(loss: Any, name: str) -> Any:
    if not isinstance(loss, TensorBase) or loss.size != 1:
        got = f"a tensor {loss.shape}" if isinstance(loss, TensorBase) else type(loss).__name__
        raise GradientError(
            f"{name} needs a function whose result is a single number",
            got=got,
            rule="gradients are of one number with respect to many",
            fix="return loss.mean(), or use tt.vjp",
        )
    return loss


def _pull(
    outs: Sequence[Any], cotangents: Sequence[Any], marks: Sequence[TapeNode],
    primals: Sequence[TensorBase],
) -> list[Any]:  # fmt: skip
    """Gradients at the marks; zeros where nothing arrives."""
    again = STATE.recording and _reaches_beyond(outs, marks)
    roots = [
        (out._node, g) for out, g in zip(outs, cotangents, strict=True) if out._node is not None
    ]
    with enable_grad() if again else no_grad():
        found = autograd.propagate(roots, marks, keep=True)
        return [
            found[m] if m in found else x.detach().zeros_like()
            for m, x in zip(marks, primals, strict=True)
        ]


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives what `function` gives, and its gradient.

    Args:
        function: of Tensors, to a single number.
        argnums: with respect to which positional arguments; a number, or several.
        has_aux: `function` gives (number, anything else) instead.

    Returns:
        A function giving (value, gradient), the gradient a tuple if `argnums` is one.

    Example:
        >>> import tinytorch as tt
        >>> value, g = tt.value_and_grad(lambda x: (x * x).sum())(tt.Tensor([1.0, 3.0]))
        >>> value.item(), g.tolist()
        (10.0, [2.0, 6.0])
    """
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any):
        given = list(args)
        marks: list[TapeNode] = []
        primals: list[TensorBase] = []
        for i in places:
            given[i], mark = _marked(args[i])
            marks.append(mark)
            primals.append(given[i])
        with enable_grad():
            result = function(*given, **named)
        loss = _single(result[0] if has_aux else result, "grad")
        grads = _pull([loss], [loss.detach().ones_like()], marks, primals)
        value = _outside(result, loss, marks)
        return value, grads[0] if isinstance(argnums, int) else tuple(grads)

    return wrapped


def _outside(result: Any, loss: Any, marks: Sequence[TapeNode]) -> Any:
    """The result as the caller sees it: connected to the tape only if the caller's is."""
    if STATE.recording and _reaches_beyond([loss], marks):
        return result
    if _is_several(result):
        return tuple(alias(t, DETACH) if isinstance(t, TensorBase) else t for t in result)
    return result.detach()


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives the gradient of `function`, which gives a single number.

    Args: as `value_and_grad`.

    Returns:
        A function giving the gradient; (gradient, aux) with `has_aux`.

    Example:
        >>> import tinytorch as tt
        >>> cube = lambda x: x * x * x
        >>> tt.grad(tt.grad(cube))(tt.Tensor(2.0)).item()   # 6 x
        12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any):
        value, g = both(*args, **named)
        return (g, value[1]) if has_aux else g

    return wrapped


def vjp(function: Callable[..., Any], *primals: TensorBase) -> tuple[Any, Callable[..., Any]]:
    """What `function` gives at `primals`, and the function that pulls a cotangent back.

    Args:
        function: of Tensors, to a Tensor or a tuple of them.
        primals: its arguments.

    Returns:
        (result, pull); pull(g), with g like the result, gives a tuple: one gradient an argument.

    Example:
        >>> import tinytorch as tt
        >>> y, pull = tt.vjp(lambda x: x * x, tt.Tensor([1.0, 2.0]))
        >>> pull(tt.Tensor([1.0, 10.0]))[0].tolist()
        [2.0, 40.0]
    """
    pairs = [_marked(x) for x in primals]
    with enable_grad():
        result = function(*(x for x, _ in pairs))
    marks = [m for _, m in pairs]
    outs = _several_of(result)

    def pull(g: Any):
        cotangents = g if _is_several(result) else (g,)
        for out, cotangent in zip(outs, cotangents, strict=True):
            if tuple(cotangent.shape) != out.shape:
                raise ShapeError(
                    "vjp: the cotangent has another shape than the result",
                    got=f"cotangent {tuple(cotangent.shape)}, result {out.shape}",
                    rule="one number for each number of the result",
                    fix="g.reshape(result.shape)",
                )
        given = [tensor_of(c) for c in cotangents]
        return tuple(_pull(outs, given, marks, [x for x, _ in pairs]))

    if STATE.recording and _reaches_beyond(outs, marks):
        return result, pull
    plain = tuple(out.detach() for out in outs)
    return plain if _is_several(result) else plain[0], pull


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """What `function` gives at `primals`, and how fast it changes in the direction `tangents`.

    The transpose of the vjp: pull(u) is linear in u, and its own vjp at any u is the jvp. So no row
    of the table needs a rule for it.

    Args:
        function: of Tensors, to a Tensor or a tuple of them.
        primals: where, a tuple of Tensors.
        tangents: in which direction, Tensors like `primals`.

    Returns:
        (result, change), both like the result.

    Cost: three times the function.

    Source: J. Townsend 2017, "A new trick for calculating Jacobian vector products".

    Example:
        >>> import tinytorch as tt
        >>> tt.jvp(lambda x: x * x, (tt.Tensor(3.0),), (tt.Tensor(1.0),))[1].item()
        6.0
    """
    pairs = [_marked(x) for x in primals]
    marks, inputs = [m for _, m in pairs], [x for x, _ in pairs]
    with enable_grad():
        result = function(*inputs)
        outs = _several_of(result)
        directions = [_marked(out.detach().zeros_like()) for out in outs]
        roots = [(out._node, u) for out, (u, _) in zip(outs, directions, strict=True) if out._node]
        found = autograd.propagate(roots, marks, keep=True)
    pulled = [(found[m], tensor_of(t)) for m, t in zip(marks, tangents, strict=True) if m in found]
    lifts = [m for _, m in directions]
    changes = _pull(
        [g for g, _ in pulled], [t for _, t in pulled], lifts, [out.detach() for out in outs]
    )
    if not (STATE.recording and _reaches_beyond(outs, marks)):
        outs, changes = tuple([o.detach() for o in outs]), [c.detach() for c in changes]
    return (tuple(outs), tuple(changes)) if _is_several(result) else (outs[0], changes[0])


# Classes of operations that rows of users may have.
_OPEN = (OpClass.OPAQUE, OpClass.ELEMENTWISE, OpClass.CONTRACTION)


def primitive(
    name: str, *, infer: Callable[..., Any], numpy: Callable[..., Any],
    vjp: Callable[..., Any] | str = NOT_DIFFERENTIABLE, samples: Callable[..., Any] = tuple,
    **options: Any,
) -> Primitive:  # fmt: skip
    """Add a row to the table of operations, and get the function that applies it.

    Args:
        name: unique.
        infer: `infer(*specs, **params)` gives the Spec (shape and dtype) of the result.
        numpy: `numpy(*arrays, **params)` computes it.
        vjp: `vjp(g, out, *inputs, **params)` gives the gradients, made of Tensor operations.
        samples: gives Samples for the contract test.
        options: the other arguments of `tinytorch.primitives.primitive.Primitive`; `op_class` is
            "opaque", "elementwise" or "contraction".

    Raises:
        SettingError: another op_class: the compiler knows those rows one by one.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> double = tt.primitive("example_double", infer=lambda x: x, numpy=lambda x: 2 * x,
        ...                       vjp=lambda g, out, x: (g * 2,))
        >>> double(tt.Tensor([1.0, 2.0])).tolist()
        [2.0, 4.0]
        >>> del tt.primitives.TABLE["example_double"]
    """
    op_class = options.get("op_class", OpClass.OPAQUE)
    if op_class not in (*_OPEN, *(c.value for c in _OPEN)):
        raise SettingError(
            "primitive: no such class of operations for a row of yours",
            got=f"op_class={op_class!r}",
            rule="one of " + ", ".join(repr(c.value) for c in _OPEN),
            fix='op_class="opaque", of which nothing is assumed',
        )
    return Primitive(name, infer, numpy, vjp=vjp, samples=samples, **options)


def gradcheck(
    function: Callable[..., Any], primals: Sequence[Any], *, order: int = 2, step: float = 1e-5,
    rtol: float = 1e-5, atol: float = 1e-7, seed: int = 0,
) -> bool:  # fmt: skip
    """Compare the gradient of `function` with central differences in float64, one direction.

    Note [the error of a central difference]
        (f(x + h v) - f(x - h v)) / 2h is wrong by h^2 f'''/6 + eps |f| / h. With h = 1e-5 and
        eps = 2.2e-16 that is about 1e-10 f''' + 2e-11 |f|: a relative 1e-5 leaves room for those
        whose derivatives are 10^4 times their values.

    Args:
        function: of Tensors, to a Tensor.
        primals: where, float Tensors (converted to float64).
        order: 1 checks the gradient, 2 the gradient of the gradient too.
        step: h.
        rtol: allowed difference, relative to the size of what is compared.
        atol: allowed difference besides.
        seed: of the random directions.

    Raises:
        GradientError: they differ; the message gives both numbers.
    """
    generator = Generator(seed)
    xs = [tensor_of(x).detach().astype(float64) for x in primals]
    directions = [randn(*x.shape, dtype=float64, generator=generator) for x in xs]
    result = function(*xs)
    weights = randn(*result.shape, dtype=float64, generator=generator)

    def slope(*at: TensorBase):
        _, pull = vjp(lambda *inputs: (function(*inputs) * weights).sum(), *at)
        grads = pull(TABLE["full"](shape=(), value=1.0, dtype=float64))
        for g, x in zip(grads, at, strict=True):
            if g.shape != x.shape:
                raise GradientError(
                    "gradcheck: a gradient has another shape than its argument",
                    got=f"gradient {g.shape} for an argument {x.shape}",
                    rule="one number for each number of the argument",
                    fix="sum over the axes that were broadcast: fold_to(g, x.shape)",
                )
        return sum((g * d).sum() for g, d in zip(grads, directions, strict=True))

    def value(*at: TensorBase):
        return (function(*at) * weights).sum()

    for derivative, lower in list(
        zip((slope, _second(slope, directions)), (value, slope), strict=True)
    )[:order]:
        _compare(derivative(*xs), lower, xs, directions, step, rtol, atol)
    return True


def _second(slope: Callable[..., Any], directions: Sequence[Any]) -> Callable[..., Any]:
    def curvature(*at: TensorBase):
        grads = grad(slope, argnums=tuple(range(len(at))))(*at)
        return sum((g * d).sum() for g, d in zip(grads, directions, strict=True))

    return curvature


def _compare(
    exact: Any, lower: Callable[..., Any], xs: Sequence[TensorBase],
    directions: Sequence[TensorBase], step: float, rtol: float, atol: float,
) -> None:  # fmt: skip
    ahead = lower(*(x + d * step for x, d in zip(xs, directions, strict=True)))
    behind = lower(*(x - d * step for x, d in zip(xs, directions, strict=True)))
    numeric = ((ahead - behind) / (2.0 * step)).item()
    size = max(abs(exact.item()), abs(numeric), abs(ahead.item()))
    if not abs(exact.item() - numeric) <= atol + rtol * size:
        raise GradientError(
            "gradcheck: the gradient is not that of the function",
            got=f"{exact.item():.10g} from the gradient, {numeric:.10g} from differences",
            rule=f"they agree to {rtol:g} of their size",
            fix="check each factor and the broadcast axes in the vjp",
        )


# --- checkpointing: forget what a block computed, compute it again when its gradient is asked ---
#
# Memory falls from all values of a block to its inputs; time rises by one more forward pass of it.


class _Journal:
    """What each Tensor that a block assigned to (random state, running means) held before."""

    def __init__(self, outer: _Journal | None):
        self.outer = outer
        self.before: dict[int, tuple[Any, Any]] = {}

    def note(self, tensor: Any) -> None:
        """Called before a Tensor is assigned to."""
        self.before.setdefault(id(tensor), (tensor, tensor.handle()))
        if self.outer is not None:
            self.outer.note(tensor)

    @contextmanager  # pyright: ignore[reportDeprecated]
    def repeated(self) -> Iterator[None]:
        """Everything as it was when the block ran first; afterwards as it is now."""
        now = [(tensor, tensor.handle()) for tensor, _ in self.before.values()]
        outer, STATE.journal = STATE.journal, None
        try:
            _assign(reversed(self.before.values()))  # what was written last is put back first
            yield
        finally:
            _assign(now)
            STATE.journal = outer


def _assign(pairs: Any) -> None:
    with no_grad():
        for tensor, handle in pairs:
            tensor.assign_(from_handle(handle))


def _read_outside(outs: tuple[Any, ...], start: int) -> dict[Any, Any]:
    """Places older than the block that its results depend on, each with what was read there."""
    found: dict[Any, Any] = {}
    stack = [(out._node, out.handle()) for out in outs if out._node is not None]
    seen: set[Any] = set()
    while stack:
        place, handle = stack.pop()
        if autograd.sequence_of(place) < start:
            found.setdefault(place, handle)
            continue
        node = place.node if type(place) is Port else place
        if node in seen or type(node) is not TapeNode:
            continue
        seen.add(node)
        for parent, read in zip(node.parents, node.inputs, strict=True):
            if parent is not None:
                stack.append((parent, read))
    return found


class _Block(GradientRule):
    """Stands in the tape for a block that can be run again."""

    name = "checkpoint"

    asks_final = True

    def __init__(self, run: Callable[..., Any], places: tuple[Any, ...], journal: _Journal):
        self.run, self.places, self.journal = run, places, journal
        self.precision = STATE.precision

    def vjp(self, g: Any, out: Any, *read: Any, final: bool = False) -> tuple[Any, ...]:
        """Run again, recorded, and go back through what was recorded."""
        start = autograd.next_sequence()
        with self.journal.repeated(), enable_grad(), precision(self.precision), _replaying():
            outs = tensors_of(self.run())
        now = _read_outside(outs, start)
        for place, x in zip(self.places, read, strict=True):
            if STATE.interpreter is None and now.get(place) is not x.handle():
                raise GradientError(
                    "a tensor was changed in place after it was used",
                    got=f"a tensor {x.shape} that a checkpointed block read is another one now",
                    rule="the block runs again in backward(), on what it read the first time",
                    fix="call backward() before the step that writes",
                )
        cotangents = _several_of(g)
        pairs = zip(outs, cotangents, strict=True)
        roots = [(o._node, c) for o, c in pairs if c is not None and o._node is not None]
        found = autograd.propagate(roots, self.places, keep=STATE.recording, final=final)
        return tuple([found.get(place) for place in self.places])


def _replaying() -> AbstractContextManager[None]:
    """While a block runs again: who records a program is told that it does."""
    return nullcontext() if STATE.interpreter is None else STATE.interpreter.replaying()


def tensors_of(result: Any) -> tuple[Any, ...]:
    """The Tensors in what a block gave: one, or a tuple among whose entries they are."""
    parts = _several_of(result)
    return tuple([x for x in parts if isinstance(x, TensorBase)])


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which keeps nothing for backward but what it read: backward runs it again.

    Args:
        function: of anything, to a Tensor or a tuple; a layer, or a block of them. Gradients reach
            its Tensor arguments and everything it closes over. Random numbers are the same again,
            and what it assigns to (running means) is assigned once.
            In a module's forward: `x = tt.checkpoint(self.block)(x)`.

    Returns:
        A function of the same arguments.

    Raises:
        GradientError: in backward, if a Tensor that the block read was assigned to in between.

    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost",
    https://arxiv.org/abs/1604.06174, section 3.

    Cost: the memory of one block at a time in place of all of them; one more forward pass. In a
        compiled function too, less what the gradients do not need of that pass; with
        `tt.compile(..., recompute="none")` neither.

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([1.0, 2.0], requires_grad=True)
        >>> block = tt.checkpoint(lambda x: (x * x).exp())
        >>> block(x).sum().backward()
        >>> x.grad.round()
        Tensor([  5., 218.])
    """

    def wrapped(*args: Any, **named: Any) -> Any:
        if not STATE.recording:
            return function(*args, **named)
        start = autograd.next_sequence()
        args = tuple(map(_kept, args))
        named = {name: _kept(x) for name, x in named.items()}

        def run() -> Any:
            return function(*args, **named)

        outer, journal = STATE.journal, _Journal(STATE.journal)
        STATE.journal = journal
        try:
            result = run()
        finally:
            STATE.journal = outer
        return _forgotten(result, run, journal, start)

    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = getattr(function, "__name__", type(function).__name__)
    return wrapped


def _kept(x: Any) -> Any:
    """An argument as it is now, whatever is assigned to it later."""
    return held(x) if isinstance(x, TensorBase) else x


def _forgotten(result: Any, run: Callable[..., Any], journal: _Journal, start: int) -> Any:
    """The result without what was recorded on the way to it."""
    outs = tensors_of(result)
    outside = _read_outside(outs, start)
    if not outside:
        return result
    places = tuple(outside)
    read = [from_handle(outside[place], place) for place in places]
    fresh = tuple([out.detach() for out in outs])
    if _is_several(result):
        autograd.record(_Block(run, places, journal), read, {}, fresh)
        given = iter(fresh)
        return tuple([next(given) if isinstance(x, TensorBase) else x for x in result])
    return autograd.record(_Block(run, places, journal), read, {}, fresh[0])
