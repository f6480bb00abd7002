"""Loops with carried state: `scan`.

Knows trees of Tensors and one trip of a loop. Eagerly a loop is Python's, its operations are
recorded one by one; an interpreter is given the function itself, so that a compiled loop is one
operation whatever its length.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinytorch.base.arguments import flag
from tinytorch.base.errors import ArgumentTypeError, DTypeError, SettingError, ShapeError
from tinytorch.primitives.primitive import Primitive, Spec
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.interpreter import STATE, Interpreter, interpreting, no_grad
from tinytorch.tensor.memory import Buffer, TensorBase, from_value
from tinytorch.tensor.operands import tensor_of
from tinytorch.tensor.shaping import stack
from tinytorch.tensor.trees import containers, filled, leaves_of

__all__ = ["scan"]

Tensors = Sequence[Any]
Trip = Callable[[Tensors, Tensors], tuple[list[Any], list[Any]]]  # (carried, x) -> (carried, y)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Run `f` along a sequence, handing a carried state from trip to trip.

        carry = init
        for t in range(length):                 # from the end, if `reverse`
            carry, y[t] = f(carry, x[t])
        return carry, stack(y)

    Args:
        f: gives (carry, y). `carry` is of the same kind as `init`: containers, shapes and number
            types stay. What else it reads (weights) gets gradients as anywhere.
        init: Tensors, in tuples, lists and dicts if they are several; None: nothing is carried.
        xs: Tensors in containers, or None. Along axis 0 they have one part for each trip.
        length: how many trips, at least 0; needed where there are no xs.
        reverse: begin at the end; y[t] still belongs to x[t].

    Returns:
        (the last carry, what `f` gave for each t, stacked along axis 0), in containers like those
        that `f` gives.

    Raises:
        ShapeError, DTypeError: xs of different lengths; a carried value that changes its shape or
            number type.
        ArgumentTypeError: `f` gives no pair, or the carry in other containers.
        SettingError: `length` is missing, or not the one of xs.

    Cost: eagerly that of the loop. In a compiled function the trips share their kernels: code and
    compile time do not depend on `length`; its gradient is one loop more, and a gradient that sums
    products over all trips is one product after it. `f` is run once or more often to be recorded,
    and never again. With no trips it runs once without numbers, to see what it gives.

    Example:
        >>> import tinytorch as tt
        >>> total, sums = tt.scan(lambda c, x: (c + x, c + x), tt.Tensor(0.0), tt.arange(1.0, 4.0))
        >>> total.item(), sums.tolist()
        (6.0, [1.0, 3.0, 6.0])
    """
    reverse = flag("scan", "reverse", reverse)
    carried = [tensor_of(x) for x in leaves_of(init)]
    given = [tensor_of(x) for x in leaves_of(xs)]
    length = _length(given, length)
    of_ys: list[Any] = []  # what f gave last: the containers of y

    def trip(carried: Tensors, x: Tensors) -> tuple[list[Any], list[Any]]:
        new, y = _pair(f(filled(init, iter(carried)), filled(xs, iter(x))))
        of_ys[:] = [y]
        return _kept(init, carried, new), [tensor_of(x) for x in leaves_of(y)]

    interpreter = STATE.interpreter
    if not length:
        last, ys = carried, _nothing(trip, carried, given)
    elif interpreter is not None:
        last, ys = interpreter.scan(trip, carried, given, length, reverse)
    else:
        return _walk(f, filled(init, iter(carried)), filled(xs, iter(given)), length, reverse)
    return filled(init, iter(last)), filled(of_ys[0], iter(ys))


def _walk(
    f: Callable[[Any, Any], Any], carry: Any, xs: Any, length: int, reverse: bool
) -> tuple[Any, Any]:
    """The definition: trip after trip."""
    rows: list[Any] = []
    alone = isinstance(xs, TensorBase)  # the usual case by the shortest way
    for t in reversed(range(length)) if reverse else range(length):
        x = xs[t] if alone else filled(xs, (part[t] for part in leaves_of(xs)))
        new, y = _pair(f(carry, x))
        if not _is_like(carry, new):
            kept = _kept(carry, [*leaves_of(carry)], new)
            new = filled(carry, iter(kept))
        carry = new
        rows.append(y)
    if reverse:
        rows.reverse()
    if all([isinstance(y, TensorBase) for y in rows]):
        return carry, stack(rows, 0)
    leaves = [[tensor_of(part) for part in leaves_of(y)] for y in rows]
    for i, y in enumerate(leaves):
        if len(y) != len(leaves[0]):
            raise ArgumentTypeError(
                "scan: y is not the same in every trip",
                got=f"{len(y)} tensors for t = {i}, {len(leaves[0])} for t = 0",
                rule="the same containers each time",
                fix="return zeros where there is nothing to return",
            )
    ys = [stack(list(parts), 0) for parts in zip(*leaves, strict=True)]
    return carry, filled(rows[0], iter(ys))


def _is_like(before: Any, after: Any) -> bool:
    """Whether a carry of Tensors, alone or in tuples, is what the next trip expects."""
    if isinstance(before, TensorBase):
        like = isinstance(after, TensorBase) and before.shape == after.shape
        return like and before.dtype is after.dtype
    if before.__class__ is tuple and after.__class__ is tuple and len(before) == len(after):
        return all(map(_is_like, before, after))
    return False


def _pair(out: Any) -> tuple[Any, Any]:
    """What the function of a loop gave."""
    if out.__class__ is not tuple or len(out) != 2:
        raise ArgumentTypeError(
            "scan: the function does not give a pair",
            got=out.__class__.__name__,
            rule="(carry, y); y may be None",
            fix="return carry, y",
        )
    return out


def _kept(like: Any, before: Tensors, new: Any) -> list[Any]:
    """The Tensors of a new carry.

    Raises:
        ArgumentTypeError, ShapeError, DTypeError: it is not what the next trip expects.
    """
    _check_containers(like, new)
    after = [tensor_of(x) for x in leaves_of(new)]
    _check_kept(before, after)
    return after


class _Shapes(Interpreter):
    """Carries operations out on shapes and number types alone."""

    def apply(self, primitive: Primitive, operands: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Tensors without numbers, of the Specs that the row infers."""
        specs: Any = primitive.infer(*(t.spec for t in operands), **params)
        if specs.__class__ is tuple:
            return tuple([from_value(s) for s in specs])
        return from_value(specs)

    def constant(self, buffer: Buffer) -> Any:
        """A Tensor of that shape."""
        return from_value(Spec(buffer.shape, buffer.dtype))

    def assign(self, tensor: Any, new: Any) -> None:
        """Nothing is written."""

    def scan(
        self, trip: Trip, carried: Tensors, xs: Tensors, length: int, reverse: bool
    ) -> tuple[Tensors, list[Any]]:
        """The shapes of a loop in the loop."""
        ys = [y.spec for y in self.once(trip, carried, xs)]
        return carried, [from_value(Spec((length, *y.shape), y.dtype)) for y in ys]

    def cond(self, predicate: Any, true: Any, false: Any) -> list[Any]:
        """The shapes of one case; the other one gives the same."""
        out = true()
        false()
        return out

    def once(self, trip: Trip, carried: Tensors, xs: Tensors) -> list[Any]:
        """What one trip gives."""
        parts = [from_value(Spec(x.shape[1:], x.dtype)) for x in xs]
        return trip([from_value(c.spec) for c in carried], parts)[1]


def _nothing(trip: Trip, carried: Tensors, xs: Tensors) -> list[Any]:
    """What a loop of no trips stacks: arrays of no rows."""
    shapes = _Shapes()
    with interpreting(shapes), no_grad():
        specs = [y.spec for y in shapes.once(trip, carried, xs)]
    return [zeros((0, *s.shape), dtype=s.dtype) for s in specs]


def _length(xs: Tensors, length: int | None) -> int:
    """The number of trips that xs and `length` agree on."""
    for x in xs:
        if not x.shape:
            raise ShapeError(
                "scan: a sequence has no axis to go along",
                got=f"xs {[tuple(x.shape) for x in xs]}",
                rule="axis 0 of each of xs has one part for each trip",
                fix="what is the same in every trip is no x: let f close over it",
            )
    lengths = list(dict.fromkeys(x.shape[0] for x in xs))
    if len(lengths) > 1:
        raise ShapeError(
            "scan: the sequences are not of one length",
            got=f"xs {[tuple(x.shape) for x in xs]}",
            rule="axis 0 of each of xs has one part for each trip",
            fix=f"x[:{min(lengths)}] for all of them",
        )
    wanted = lengths[0] if lengths else length
    whole = isinstance(length, int) and not isinstance(length, bool) and length >= 0
    if wanted is None or (length is not None and not (whole and length == wanted)):
        raise SettingError(
            "scan: the number of trips is not known, or not that of the sequences",
            got=f"length={length!r}, xs {[tuple(x.shape) for x in xs]}",
            rule="a whole number >= 0, that of axis 0 of xs; needed where there are no xs",
            fix="scan(f, init, xs), or scan(f, init, length=10)",
        )
    return wanted


def _check_containers(init: Any, new: Any) -> None:
    if containers(new) != containers(init):
        raise ArgumentTypeError(
            "scan: the carried state comes back in other containers",
            got=f"{containers(new)}",
            rule=f"as init has them: {containers(init)}",
            fix="return the carry in the same tuples, lists and dicts as it came",
        )


def _check_kept(before: Tensors, after: Tensors) -> None:
    """Refuse carried values that are not what the next trip expects."""
    if any(a.shape != b.shape for a, b in zip(before, after, strict=True)):
        raise ShapeError(
            "scan: a carried value changes its shape",
            got=f"{[tuple(b.shape) for b in after]}",
            rule=f"the shapes of init stay: {[tuple(a.shape) for a in before]}",
            fix="begin with an init of the shape that f gives, or reshape what it gives",
        )
    if any(a.dtype is not b.dtype for a, b in zip(before, after, strict=True)):
        raise DTypeError(
            "scan: a carried value changes its number type",
            got=f"{[b.dtype.name for b in after]}",
            rule=f"the types of init stay: {[a.dtype.name for a in before]}",
            fix="begin with an init of the type that f gives, or convert what it gives",
        )
