"""Signatures: what makes a call another kind of call, trees taken apart and put together."""

import collections

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.signature import Slot, filler, flatten, overlaps, rebuild

Pair = collections.namedtuple("Pair", "first second")


def taken(tree):
    key, leaves = [], []
    flatten(tree, key, leaves)
    return tuple(key), leaves


X, Y, A = tt.Tensor([1.0, 2.0]), tt.Tensor([[1]]), np.ones(3)


@pytest.mark.parametrize(
    "tree",
    [X, (X, Y), [Y, X], {"a": X, "b": (A, Y)}, Pair(X, [A]), collections.OrderedDict(a=A, b=X)],
)
def test_data_is_taken_out_from_left_to_right(tree):
    """Ground truth: the tree rebuilt with the leaves that were taken, and its class."""
    _, leaves = taken(tree)
    left = iter(leaves)
    again = rebuild(tree, lambda _: next(left))
    assert type(again) is type(tree) and next(left, None) is None
    assert all(a is b for a, b in zip(leaves, taken(again)[1], strict=True))


@pytest.mark.parametrize(
    "one, other",
    [
        (1, 2), (1, 1.0), (0.0, -0.0), (1, True), ("a", b"a"), ((1,), [1]), ([1, 2], [1, [2]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": 1}, collections.OrderedDict(a=1)),
        (Pair(1, 2), (1, 2)), (X, Y), (X, X.astype("float64")), (np.ones(3), np.ones(4)),
        (tt.ones(2, 2).T, tt.ones(2, 2)[:, ::-1]), (None, 0), (X, nn.Parameter(X)),
    ],
)  # fmt: skip
def test_what_makes_another_program(one, other):
    """Ground truth: the list; Python would take another branch, or the code have another shape."""
    assert taken(one)[0] != taken(other)[0]


def test_what_makes_no_other_program():
    """Ground truth: only the numbers differ; nan is nan."""
    assert taken(tt.ones(2))[0] == taken(tt.zeros(2))[0]
    assert taken((float("nan"), A))[0] == taken((float("nan"), 2 * A))[0]


def test_a_gradient_belongs_to_its_leaf():
    """Ground truth: a parameter after backward() has one leaf more, its gradient."""
    w = nn.Parameter(tt.ones(2))
    before = taken(w)
    (w * w).sum().backward()
    after = taken(w)
    assert before[1] == [w] and before[0] != after[0]
    assert after[1][0] is w and after[1][1] is w.grad


def test_what_is_neither_data_nor_a_key_is_refused():
    """The message names its class."""
    with pytest.raises(CompileError, match="cannot take") as caught:
        taken([{1, 2}])
    assert "set" in caught.value.got


def test_a_result_is_filled_anew_each_time():
    """Ground truth: each Slot replaced by its index; containers are fresh and of their class."""
    tree = [Slot("result", 0), (Slot("result", 1), "text"), Pair(Slot("result", 2), None)]
    tree.append(collections.Counter({"k": Slot("result", 3)}))
    fill = filler(tree)
    first, second = fill(lambda slot: slot.index), fill(lambda slot: slot.index)
    assert first == [0, (1, "text"), Pair(2, None), {"k": 3}]
    assert type(first[2]) is Pair and type(first[3]) is collections.Counter
    assert first == second and first is not second and first[3] is not second[3]


def test_overlaps_are_what_is_written_and_shown_by_another():
    """Ground truth: x[:2] and x[1:] share an element, x[:1] and x[2:] none; y is apart."""
    x, y = tt.ones(3), tt.ones(3)
    head, tail, first = x[:2], x[1:], x[:1]
    assert overlaps([head, y], {0}, [], []) is None
    assert overlaps([first, x[2:]], {0}, [], []) is None
    assert overlaps([head, tail], set(), [], []) is None  # nothing is written
    key, states = overlaps([head, y, tail], {2}, [], [])
    assert states == {id(head), id(tail)} and key[0] == "overlap" and len(key) == 3
    assert overlaps([head, y], set(), [x], [x])[1] == {id(head)}  # a state that is written
    assert overlaps([head, y], {0}, [], [x])[1] == {id(head)}  # a state that is read
    assert overlaps([y], {0}, [], [x]) is None
