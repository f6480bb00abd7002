"""Sums of products over named axes: einsum, tensordot, vecdot.

Knows letters. Every product of two operands becomes one matmul: axes that both keep are its
batches, axes that one has are its rows or columns, axes that end here are summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.primitives import TABLE
from tinytorch.tensor.contractions import matmul
from tinytorch.tensor.creation import arange
from tinytorch.tensor.dispatch import apply, common, tensor_of
from tinytorch.tensor.half_precision import in_float32
from tinytorch.tensor.number_types import check_one_float
from tinytorch.tensor.reductions import sum
from tinytorch.tensor.shaping import axis_of, broadcast_to, moveaxis, permute, reshape

_DOTS = "0123456789"  # names of the axes that "..." stands for, the last one first


def _refuse(what: str, equation: str, xs: Sequence[Any]) -> ShapeError:
    return ShapeError(
        f"einsum: {what}",
        got=f"{equation!r} with {', '.join(str(x.shape) for x in xs)}",
        rule="one letter for each axis; axes of one letter have one size, or size 1",
        fix='for example einsum("bij,bjk->bik", a, b)',
    )


def _parse(equation: str, xs: Sequence[Any]) -> tuple[list[str], str]:
    """Letters of each operand, and of the result, with "..." written out as digits."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise _refuse("another number of operands than terms", equation, xs)
    spelled = []
    most = 0
    for term, x in zip(terms, xs, strict=True):
        letters = term.replace("...", "")
        hidden = len(x.shape) - len(letters)
        plain = all(c.isascii() and c.isalpha() for c in letters) and term.count("...") < 2
        if hidden < 0 or (hidden and "..." not in term) or not plain or hidden > len(_DOTS):
            raise _refuse("the letters do not fit the axes", equation, xs)
        most = max(most, hidden)
        spelled.append(term.replace("...", _DOTS[:hidden][::-1]))
    dots = _DOTS[:most][::-1]
    if not arrow:
        every = "".join(spelled)
        single = sorted(c for c in set(every) - set(_DOTS) if every.count(c) == 1)
        right = "..." + "".join(single)
    result = right.replace("...", dots, 1)
    if "." in result or len(set(result)) != len(result) or set(result) - set("".join(spelled)):
        raise _refuse("the result names an axis twice, or one that no operand has", equation, xs)
    return spelled, result


def _without_repeats(x: Any, letters: str) -> tuple[Any, str]:
    """The diagonal where an operand names an axis twice."""
    for letter in letters:
        while letters.count(letter) > 1:
            a, b = letters.index(letter), letters.rindex(letter)
            n = x.shape[a]
            moved = moveaxis(moveaxis(x, b, 0), a + 1, 0)
            flat = reshape(moved, (n * n, *moved.shape[2:]))
            x = apply(TABLE["take"], (flat, arange(n) * (n + 1)), {"axis": 0})
            letters = letter + letters.replace(letter, "")
    return x, letters


def _summed(x: Any, letters: str, keep: set[str]) -> tuple[Any, str]:
    """x without the axes that nobody needs."""
    drop = tuple(i for i, c in enumerate(letters) if c not in keep)
    return (sum(x, drop), "".join(c for c in letters if c in keep)) if drop else (x, letters)


def _ordered(x: Any, letters: str, order: str) -> Any:
    """x with its axes in this order; axes it has not are new, of size 1."""
    have = [c for c in order if c in letters]
    x = permute(x, [letters.index(c) for c in have]) if "".join(have) != letters else x
    shape, at = [], 0
    for c in order:
        shape.append(x.shape[at] if c in letters else 1)
        at += c in letters
    return reshape(x, shape) if shape != list(x.shape) else x


def _product(a: Any, in_a: str, b: Any, in_b: str, keep: set[str]) -> tuple[Any, str]:
    """Two operands as one, by matmul."""
    a, in_a = _summed(a, in_a, keep | set(in_b))
    b, in_b = _summed(b, in_b, keep | set(in_a))
    sizes = dict(zip(in_a, a.shape, strict=True))
    for c, n in zip(in_b, b.shape, strict=True):
        sizes[c] = n if sizes.get(c, 1) == 1 else sizes[c]
    both = [c for c in in_a if c in in_b]
    gone = "".join(c for c in both if c not in keep)
    batch = "".join(c for c in both if c in keep)
    rows = "".join(c for c in in_a if c not in in_b)
    columns = "".join(c for c in in_b if c not in in_a)
    if not gone:
        order = batch + rows + columns
        return _ordered(a, in_a, order) * _ordered(b, in_b, order), order
    left, right = _ordered(a, in_a, batch + rows + gone), _ordered(b, in_b, batch + gone + columns)
    # size 1 beside a larger one: stretched, since joined axes cannot broadcast
    left = broadcast_to(left, [sizes[c] for c in batch + rows + gone])
    right = broadcast_to(right, [sizes[c] for c in batch + gone + columns])
    outer = tuple(sizes[c] for c in batch)
    m, k, n = (math.prod(sizes[c] for c in part) for part in (rows, gone, columns))
    out = matmul(reshape(left, (*outer, m, k)), reshape(right, (*outer, k, n)))
    order = batch + rows + columns
    return reshape(out, [sizes[c] for c in order]), order


def einsum(equation: str, *operands: Any) -> Any:
    """The sum of products that an equation of letters says.

        einsum("bij,bjk->bik", a, b)[b, i, k] = sum over j of a[b, i, j] * b[b, j, k]

    Args:
        equation: for each operand one letter an axis, "..." for axes that broadcast, after "->" the
            letters of the result (left out: those that stand once, in alphabetical order).
        operands: Tensors, from left to right; a list of them too.

    Raises:
        ShapeError: letters and axes do not fit.

    Cost: operands are multiplied from left to right; each product is one matmul.

    Example:
        >>> import tinytorch as tt
        >>> tt.einsum("ij,j->i", tt.ones(2, 3), tt.arange(3)).tolist()
        [3.0, 3.0]
    """
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise SettingError("einsum: no operands", got=equation, rule="at least one", fix="give a")
    xs = [tensor_of(x) for x in operands]
    check_one_float("einsum", **{f"operand {i}": x for i, x in enumerate(xs)})
    terms, result = _parse(equation, xs)
    _check_sizes(equation, xs, terms)
    pairs = [_without_repeats(x, letters) for x, letters in zip(xs, terms, strict=True)]
    x, letters = pairs[0]
    for i, (y, more) in enumerate(pairs[1:], 2):
        later = set(result).union(*(set(t) for _, t in pairs[i:]))
        x, letters = _product(x, letters, y, more, later)
    x, letters = _summed(x, letters, set(result))
    return permute(x, [letters.index(c) for c in result]) if letters != result else x


def _check_sizes(equation: str, xs: Sequence[Any], terms: Sequence[str]) -> None:
    sizes: dict[str, int] = {}
    for x, letters in zip(xs, terms, strict=True):
        for c, n in zip(letters, x.shape, strict=True):
            have = sizes.get(c, n)
            if n != have and 1 not in (n, have):
                raise _refuse(f"axes called {c!r} have sizes {have} and {n}", equation, xs)
            sizes[c] = max(n, have) if 0 not in (n, have) else 0
        for c in set(letters):
            if len({n for d, n in zip(letters, x.shape, strict=True) if d == c}) > 1:
                raise _refuse(f"an operand names {c!r} twice with different sizes", equation, xs)


def tensordot(a, b, axes: Any = 2, *, dims: Any = None) -> Any:
    """Sums of products over some axes of a and as many of b; the others follow one another.

    Args:
        a: any shape.
        b: any shape.
        axes: how many of the last axes of a and the first of b, or two lists of axes.
        dims: `axes` by PyTorch's name.

    Raises:
        ShapeError: their sizes differ.
    """
    a, b = tensor_of(a), tensor_of(b)
    axes = axes if dims is None else dims
    if isinstance(axes, int):
        of_a, of_b = list(range(len(a.shape) - axes, len(a.shape))), list(range(axes))
    else:
        of_a, of_b = (
            [axis_of(x, i) for i in ([at] if isinstance(at, int) else at)]
            for x, at in zip((a, b), axes, strict=True)
        )
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ShapeError(
            "tensordot: the summed axes have different sizes",
            got=f"a {a.shape} axes {of_a}, b {b.shape} axes {of_b}",
            rule="pairwise equal",
            fix="give the pairs: axes=([...], [...])",
        )
    rest_a = [i for i in range(len(a.shape)) if i not in of_a]
    rest_b = [i for i in range(len(b.shape)) if i not in of_b]
    k = math.prod(a.shape[i] for i in of_a)
    left = reshape(permute(a, rest_a + of_a), (math.prod(a.shape[i] for i in rest_a), k))
    right = reshape(permute(b, of_b + rest_b), (k, math.prod(b.shape[i] for i in rest_b)))
    shape = [a.shape[i] for i in rest_a] + [b.shape[i] for i in rest_b]
    return reshape(matmul(left, right), shape)


@in_float32("a", "b")
def vecdot(a, b, *, axis: int = -1) -> Any:
    """Sum of a * b along one axis, which both have; the other axes broadcast.

    Args:
        a: any shape.
        b: any shape.
        axis: counted from the end, -1 is the last.
    """
    a, b = common(a, b)
    if axis >= 0 and len(a.shape) != len(b.shape):
        axis -= max(len(a.shape), len(b.shape))
    if a.shape[axis] != b.shape[axis]:
        raise ShapeError(
            "vecdot: the vectors have different lengths",
            got=f"a {a.shape}, b {b.shape}, axis={axis}",
            rule="equal sizes along the axis",
            fix="(a * b).sum(axis), which broadcasts",
        )
    return sum(moveaxis(a, axis, -1) * moveaxis(b, axis, -1), -1)
