"""Where the elements of values are found: strides over memory, coordinates over loops.

Ground truth: NumPy's arrays of positions, element by element, and closed forms.
"""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from tinytorch.base.dtypes import float32, int64
from tinytorch.compiler.graph.graph import Node, Value, applied
from tinytorch.compiler.plan.access import (
    Access,
    Coordinate,
    at,
    bounds,
    broadcast,
    dense_strides,
    identity,
    is_arithmetic,
    is_simple,
    move_access,
    move_coordinates,
    movement_of,
    nested,
    nowhere,
    plain,
    reshape_strides,
    unit,
)
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec


def moved(name: str, x: tuple[int, ...], **params) -> Node:
    """A node of movement over an array of its own."""
    return applied(TABLE[name], (Value(Spec(x, float32)),), params)


MOVES = [
    moved("permute", (2, 3, 4), axes=(2, 0, 1)),
    moved("permute", (2, 1, 4), axes=(1, 2, 0)),
    moved("broadcast_to", (3, 1), shape=(2, 3, 4)),
    moved("broadcast_to", (3, 1, 4), shape=(3, 2, 4)),
    moved("broadcast_to", (), shape=(2, 3)),
    moved("slice", (6, 5), start=(1, 0), stop=(6, 4), step=(2, 3)),
    moved("slice", (4, 3), start=(2, 1), stop=(3, 3), step=(1, 1)),
    moved("flip", (3, 4), axes=(1,)),
    moved("flip", (3, 4, 2), axes=(0, 2)),
    moved("reshape", (2, 3, 4), shape=(6, 4)),
    moved("reshape", (2, 3, 4), shape=(2, 2, 6)),
    moved("reshape", (2, 1, 3), shape=(1, 2, 3, 1)),
    moved("reshape", (6, 4), shape=(2, 3, 2, 1, 2)),
    moved("reshape", (1, 1), shape=()),
]
NAMES = [f"{n.primitive.name} {n.inputs[0].shape} {n.outputs[0].shape}" for n in MOVES]


def laid(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """The positions that strides of elements reach, as an array."""
    reach = bounds(strides, shape, offset)[1] if prod(shape) else 0
    memory = np.arange(offset + reach + 1)
    return as_strided(memory[offset:], shape, tuple(s * memory.itemsize for s in strides))


def defined(node: Node, x: np.ndarray) -> np.ndarray:
    """What the row of a node of movement makes of an array."""
    out = TABLE[node.primitive.name].evaluate((x,), (float32,), node.params)
    assert isinstance(out, np.ndarray)
    return out


@pytest.mark.parametrize("node", MOVES, ids=NAMES)
def test_an_access_finds_the_elements_of_the_definition(node):
    """Ground truth: NumPy over positions in memory, for each order of the operand's axes."""
    x = node.inputs[0]
    for order in permutations(range(len(x.shape))):
        strides = dense_strides(x.shape, order)
        found = move_access(node, Access(x, x.shape, strides, 5))
        wanted = defined(node, laid(x.shape, strides, 5))
        if found is None:
            assert node.primitive.name == "reshape" and order != plain(x)
            continue
        assert found.base is x and found.shape == node.outputs[0].shape
        np.testing.assert_array_equal(laid(found.shape, found.strides, found.offset), wanted)


@pytest.mark.parametrize("node", MOVES, ids=NAMES)
def test_coordinates_find_the_elements_of_the_definition(node):
    """Ground truth: NumPy, at each turn of loops over all of the result but its first elements."""
    x, out = node.inputs[0], node.outputs[0]
    positions = np.arange(prod(x.shape)).reshape(x.shape)
    wanted = defined(node, positions)
    first = tuple(int(n > 2) for n in out.shape)
    here = tuple(c.times(1, a) for c, a in zip(identity(out.shape), first, strict=True))
    found = move_coordinates(node, here, len(out.shape))
    if found is None:
        assert node.primitive.name == "reshape" and not is_simple(node)
        return
    for turn in np.ndindex(*(n - a for n, a in zip(out.shape, first, strict=True))):
        place = tuple(
            c.offset + sum(s * i for s, i in zip(c.strides, turn, strict=True)) for c in found
        )
        assert positions[place] == wanted[tuple(np.add(turn, first).astype(int))]
    for c, n in zip(found, x.shape, strict=True):
        assert n != 1 or not any(c.strides)


@pytest.mark.parametrize("node", MOVES, ids=NAMES)
def test_an_order_is_that_of_the_strides_where_the_operand_lies(node):
    """Ground truth: axes sorted by the strides of the result; a copy, and what has more axes by
    broadcasting, is plain."""
    x, out = node.inputs[0], node.outputs[0]
    for order in permutations(range(len(x.shape))):
        found = movement_of(node).order(node, order)
        assert sorted(found) == list(plain(out))
        access = move_access(node, Access(x, x.shape, dense_strides(x.shape, order)))
        if access is None or len(x.shape) < len(out.shape) and "broadcast" in node.primitive.name:
            assert found == plain(out)
            continue
        steps = [abs(access.strides[a]) for a in found if out.shape[a] != 1 and access.strides[a]]
        assert steps == sorted(steps, reverse=True)


def test_axes_of_size_one_of_a_reshape_lie_outermost():
    """Closed form: (2, 3, 4), its second axis innermost, as (2, 1, 3, 4), and as it is written."""
    node = moved("reshape", (2, 3, 4), shape=(2, 1, 3, 4))
    order = movement_of(node).order
    assert order(node, (0, 2, 1)) == (1, 0, 3, 2)
    assert order(node, (0, 1, 2)) == (0, 1, 2, 3)
    node = moved("reshape", (2, 1, 4), shape=(2, 4))
    assert order(node, (1, 0, 2)) == (0, 1)  # only the axis of size 1 lay elsewhere


@pytest.mark.parametrize("node", MOVES, ids=NAMES)
def test_strides_before_give_the_strides_after(node):
    """Ground truth: the access of the result, where the operand has the strides that were found."""
    x, out = node.inputs[0], node.outputs[0]
    for order in permutations(range(len(out.shape))):
        wanted = dense_strides(out.shape, order)
        before = movement_of(node).before(node, wanted)
        if node.primitive.name not in ("permute", "reshape"):
            assert before is None
        elif before is not None:
            access = move_access(node, Access(x, x.shape, before))
            assert access is not None
            for s, t, n in zip(access.strides, wanted, out.shape, strict=True):
                assert s == t or n == 1
        else:
            assert node.primitive.name == "reshape" and order != plain(out)


def test_which_movement_is_simple():
    """Closed form: broadcasting, and reshapes that only add or remove axes of size 1."""
    simple = {name for name, node in zip(NAMES, MOVES, strict=True) if is_simple(node)}
    assert simple == {
        "broadcast_to (3, 1) (2, 3, 4)", "broadcast_to (3, 1, 4) (3, 2, 4)",
        "broadcast_to () (2, 3)", "reshape (2, 1, 3) (1, 2, 3, 1)", "reshape (1, 1) ()",
    }  # fmt: skip


def test_nothing_is_moved():
    """Closed form: arrays without elements have an access from the beginning, whatever is cut."""
    node = moved("slice", (4, 3), start=(2, 0), stop=(2, 3), step=(1, 1))
    x = node.inputs[0]
    assert move_access(node, Access(x, (4, 3), (3, 1), 7)) == Access(x, (0, 3), (3, 1), 7)
    node = moved("flip", (0, 3), axes=(0, 1))
    x = node.inputs[0]
    assert move_access(node, Access(x, (0, 3), (3, 1), 7)) == Access(x, (0, 3), (-3, -1), 9)
    assert reshape_strides((0, 3), (3, 1), (5, 0)) == (0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_strides_under_another_shape(seed):
    """Ground truth: NumPy, which says in place whether a shape needs a copy."""
    random = np.random.default_rng(seed)
    factors = random.choice([1, 2, 2, 3], 5)
    cuts = [sorted(random.integers(0, 6, random.integers(1, 5))) for _ in range(2)]
    shape, new = (
        tuple(int(prod(part)) for part in np.split(factors, cut)) for cut in cuts
    )  # the same factors, cut at other places
    order = tuple(random.permutation(len(shape)).tolist())
    strides = dense_strides(shape, order if seed % 2 else tuple(range(len(shape))))
    if seed % 5 == 0:
        strides = (0, *strides[1:])
    x = laid(shape, strides)
    try:
        x.shape = new
        wanted = [s // x.itemsize for s, n in zip(x.strides, new, strict=True) if n != 1]
    except AttributeError:
        assert reshape_strides(shape, strides, new) is None
        return
    found = reshape_strides(shape, strides, new)
    assert found is not None and len(found) == len(new)
    assert [s for s, n in zip(found, new, strict=True) if n != 1] == wanted
    assert not any(s for s, n in zip(found, new, strict=True) if n == 1)


def test_the_ends_that_strides_reach():
    """Closed form: each axis goes to one end, -s (n - 1) below or s (n - 1) above."""
    assert bounds((5, -2, 0), (3, 4, 9), 6) == (0, 16)
    assert bounds((-1,), (1,), 3) == (3, 3) and bounds((), ()) == (0, 0)


def test_which_strides_keep_elements_apart():
    """Closed form: a step reaches past all shorter ones; axes of size 1 do not step."""
    assert nested((1, 4), (4, 2)) and nested((-4, 1), (2, 4)) and nested((12, 4, 1), (2, 3, 4))
    assert nested((1, 1), (4, 1)) and nested((0,), (1,)) and nested((), ())
    assert not nested((3, 1), (2, 4)) and not nested((0,), (2,)) and not nested((1, 1), (2, 2))
    assert (
        nested((2,), (3,)) and not nested((12, 3, 1), (2, 3, 4)) and nested((11, 4, 1), (2, 2, 4))
    )


def test_coordinates():
    """Closed form."""
    assert unit(3, 1) == Coordinate((0, 1, 0)) and nowhere(2) == Coordinate((0, 0))
    assert identity((2, 1, 3)) == (unit(3, 0), nowhere(3), unit(3, 2))
    assert Coordinate((1, -2), 3).times(-2, 5) == Coordinate((-2, 4), -1)
    assert Coordinate((1, -2), 3).times(2) == Coordinate((2, -4), 6)
    assert broadcast(identity((4, 2, 3)), (1, 3), (4, 2, 3)) == (nowhere(3), unit(3, 2))
    assert broadcast((), (), ()) == () and broadcast((unit(1, 0),), (1,), (3,)) == (nowhere(1),)
    access = Access(Value(Spec((4, 5), float32)), (4, 5), (5, 1), 2)
    assert at(access, (Coordinate((0, 2), 2), Coordinate((3, 1), -1)), 2) == ((3, 11), 11)
    assert Access(access.base, (4, 5), (5, 1)) == Access(access.base, (4, 5), (5, 1), 0)
    assert dense_strides((2, 3, 4), (2, 0, 1)) == (3, 1, 6)


def test_what_is_computed_at_the_same_place():
    """Closed form: elementwise rows and lookups; no movement, reductions or contractions."""
    x, i = Value(Spec((4, 4), float32)), Value(Spec((2,), int64))
    assert is_arithmetic(applied(TABLE["exp"], (x,), {}))
    assert is_arithmetic(applied(TABLE["cast"], (x,), {"dtype": float32}))
    assert is_arithmetic(applied(TABLE["take"], (x, i), {"axis": 0}))
    assert not is_arithmetic(applied(TABLE["matmul"], (x, x), {}))
    assert not is_arithmetic(applied(TABLE["sum"], (x,), {"axes": (0,), "keepdims": False}))
