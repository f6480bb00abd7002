"""Branches on a value: `cond`.

Knows trees of Tensors and two functions of them. Eagerly a branch is Python's `if`; an interpreter
is given both functions, so that a compiled branch is one operation of which one case runs.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

from tinytorch.base.dtypes import bool_
from tinytorch.base.errors import ArgumentTypeError, DTypeError, ShapeError
from tinytorch.tensor.dispatch import copied
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.memory import TensorBase, is_alone
from tinytorch.tensor.operands import tensor_of
from tinytorch.tensor.trees import containers, filled, leaves_of

__all__ = ["cond"]


def cond(
    predicate: Any, true_function: Callable[..., Any], false_function: Callable[..., Any],
    operands: tuple[Any, ...] | list[Any] = (),
) -> Any:  # fmt: skip
    """One of two functions of the same operands, as a value says that may be known late.

        return true_function(*operands) if predicate else false_function(*operands)

    Args:
        predicate: a bool Tensor of shape (); a Python bool chooses at once, also in a compiled
            function.
        true_function, false_function: give Tensors, in tuples, lists and dicts if they are
            several, None for nothing. What else they read (weights) gets gradients as anywhere,
            and they may assign to Tensors (a count, a generator's state, a running mean).
        operands: Tensors in containers, one for each parameter of the functions.

    Returns:
        what the function that is taken gives, in Tensors of their own: one that it hands on as it
        came is copied.

    Raises:
        ShapeError, DTypeError: the predicate is not one truth value; or (compiled, where both
            functions are seen) results differ in shape or number type.
        ArgumentTypeError: the predicate is no bool at all, the operands are no tuple or list; or
            (compiled) results come in other containers.

    Cost: eagerly that of the function taken. In a compiled function both are recorded and have code
    in the program, and one runs: the other costs about 0.3 us. The gradient is a branch, too; that
    of the function not taken is zero and not computed. What the gradient reads is kept as long as
    for any operation, in memory for both. `tt.where` computes both sides and chooses number by
    number: for small arrays that is cheaper.

    Differs from `torch.cond`: operands may be left out, functions may close over Tensors and write
    to those that they are not given. From `jax.lax.cond`: the operands are one argument.

    Example:
        >>> import tinytorch as tt
        >>> @tt.compile
        ... def root(x):
        ...     return tt.cond(x > 0, lambda x: x.sqrt(), lambda x: x * 0, (x,))
        >>> root(tt.Tensor(9.0)).item(), root(tt.Tensor(-9.0)).item()
        (3.0, -0.0)
    """
    if not isinstance(operands, tuple | list):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(
            "cond: the operands are not in a tuple",
            got=operands.__class__.__name__,
            rule="a tuple or list of what both functions are given, one argument each",
            fix="cond(predicate, f, g, (x,))",
        )
    given = [tensor_of(x) for x in leaves_of(operands)]
    interpreter, known = STATE.interpreter, isinstance(predicate, bool | np.bool_)
    if known:
        tree = (true_function if predicate else false_function)(*filled(operands, iter(given)))
        return filled(tree, map(tensor_of, leaves_of(tree)))
    _check_predicate(predicate)
    if interpreter is None:
        taken = true_function if predicate.item() else false_function
        return _owned(taken(*filled(operands, iter(given))))
    gave: list[tuple[Any, list[Any]]] = []  # by both functions: the containers, and what is in them

    def case(function: Callable[..., Any]) -> list[Any]:
        tree = function(*filled(operands, iter(given)))
        leaves = [tensor_of(x) for x in leaves_of(tree)]
        gave.append((tree, leaves))
        return leaves

    def other() -> list[Any]:
        leaves = case(false_function)
        _check_alike(*gave[-2:])
        return leaves

    leaves = interpreter.cond(predicate, lambda: case(true_function), other)
    return filled(gave[-1][0], iter(leaves))


def _owned(tree: Any) -> Any:
    """The same, but of what somebody else has, or what shows other memory, a copy.

    So that it is what a program gives: later changes of what was handed on are not seen in it.
    """
    leaves = [tensor_of(x) for x in leaves_of(tree)]
    new = [  # the tree, the list, the argument of getrefcount
        leaves[i] if getrefcount(leaves[i]) <= 3 and is_alone(leaves[i]) else copied(leaves[i])
        for i in range(len(leaves))
    ]
    return filled(tree, iter(new))


def _check_predicate(predicate: Any) -> None:
    """Refuse what is no bool Tensor of shape ()."""
    if not isinstance(predicate, TensorBase):
        raise ArgumentTypeError(
            "cond: the predicate is no truth value",
            got=f"{predicate!r:.60}, {predicate.__class__.__name__}",
            rule="a bool Tensor of shape (), or True or False",
            fix="a comparison of Tensors, x > 0; of a number of Python's, bool(number)",
        )
    if predicate.dtype is not bool_:
        raise DTypeError(
            "cond: the predicate is a number, not a truth value",
            got=f"{predicate.dtype.name} {tuple(predicate.shape)}",
            rule="a bool Tensor of shape ()",
            fix="x != 0, or the comparison that is meant, as x > 0",
        )
    if predicate.shape != ():
        raise ShapeError(
            "cond: the predicate is not one truth value",
            got=f"bool {tuple(predicate.shape)}",
            rule="a bool Tensor of shape (): one function is taken for everything",
            fix="tt.where(predicate, a, b) to choose number by number; predicate.any() or .all();"
            " of one number predicate.reshape(()); outside a compiled function predicate.item()",
        )


def _check_alike(true: tuple[Any, list[Any]], false: tuple[Any, list[Any]]) -> None:
    """Refuse functions that do not give the same kind of thing."""
    given = [containers(tree) for tree, _ in (true, false)]
    if given[0] != given[1]:
        raise ArgumentTypeError(
            "cond: the two functions give other containers",
            got=f"{given[1]}, if the predicate does not hold",
            rule=f"the same as if it does: {given[0]}",
            fix="return the same tuples, lists and dicts from both, zeros where there is nothing",
        )
    shapes = [[tuple(x.shape) for x in leaves] for _, leaves in (true, false)]
    if shapes[0] != shapes[1]:
        raise ShapeError(
            "cond: the two functions give other shapes",
            got=f"{shapes[1]}, if the predicate does not hold",
            rule=f"the same as if it does: {shapes[0]}",
            fix="reshape or pad what one of them gives",
        )
    types = [[x.dtype.name for x in leaves] for _, leaves in (true, false)]
    if types[0] != types[1]:
        raise DTypeError(
            "cond: the two functions give other number types",
            got=f"{types[1]}, if the predicate does not hold",
            rule=f"the same as if it does: {types[0]}",
            fix="x.to(dtype) in one of them; a Python float is float32 where it becomes a Tensor",
        )
