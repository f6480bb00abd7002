"""Recording: what ends up in the graph, and that nothing else has changed."""

import operator

import numpy as np
import pytest

from tinytorch.base.dtypes import float32
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Value, step_reference
from tinytorch.compiler.record.recorder import EagerStrides
from tinytorch.compiler.record.recording import record
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec
from tinytorch.tensor.tensor import Tensor


def tensor(*shape, requires_grad=False, seed=0):
    rng = np.random.default_rng(seed)
    return Tensor(rng.normal(size=shape).astype(np.float32), requires_grad=requires_grad)


def arrays_of(captured, *arguments):
    held = dict(zip(captured.graph.arguments, arguments, strict=True))
    for value, source in zip(captured.graph.states, captured.sources, strict=True):
        held[value] = (source if isinstance(source, Tensor) else source.grad)._buffer.array
    return held


def test_a_function_becomes_its_operations():
    """Ground truth: the same function run eagerly."""
    w = tensor(3, 2)
    x = tensor(4, 3, seed=1)

    def f(x):
        return (x @ w).tanh()

    captured = record(f, (x,), {})
    (out,), updates = step_reference(captured.graph, arrays_of(captured, x.numpy()))
    assert out.tolist() == f(x).tolist()
    assert updates == {}
    assert captured.sources == [w]


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x.sum().item(),
        lambda x: x.numpy(),
        lambda x: float(x.sum()),
        lambda x: [y for y in range(int(x.sum()))],
    ],
)
def test_looking_at_values_is_refused_with_the_line(look):
    """The message names what was asked, and this file."""
    with pytest.raises(CompileError, match="cannot look at values") as caught:
        record(look, (tensor(3),), {})
    assert "test_recorder.py:" in caught.value.got
    assert "tt.where" in caught.value.fix


def test_equal_constants_become_one():
    """Closed form: two equal arrays and a different one make two constants."""

    def f(x):
        return x + np.ones(3, np.float32) + np.ones(3, np.float32) * np.zeros(3, np.float32)

    captured = record(f, (tensor(3),), {})
    assert len(captured.graph.constants) <= 2
    (out,), _ = step_reference(captured.graph, {captured.graph.arguments[0]: np.zeros(3, "f4")})
    assert out.tolist() == [1, 1, 1]


def test_two_tensors_over_one_memory_are_one_state():
    """Invariant: detach() shares memory, so it is no second input."""
    w = tensor(3, requires_grad=True)
    view = w.detach()

    def f(x):
        return x * w + view + w.detach()

    captured = record(f, (tensor(3),), {})
    assert len(captured.graph.states) == 1
    assert [tensor for tensor, _ in captured.views] == [view]


def test_an_assigned_alias_is_an_update_of_what_it_shows():
    """Ground truth: eager."""
    w = tensor(3)
    view = w.detach()

    def f():
        view.assign_(view + 1)
        return w + 0

    captured = record(f, (), {})
    (out,), new = step_reference(captured.graph, arrays_of(captured))
    assert np.allclose(out, w.numpy() + 1)
    assert [
        s for v, s in zip(captured.graph.states, captured.sources, strict=True) if v in new
    ] == [w]


def test_an_array_given_twice_is_one_argument():
    """Invariant: identity of arguments is kept."""
    x = tensor(3)
    captured = record(lambda a, b: a * b, (x, x), {})
    assert len(captured.graph.arguments) == 1


def test_an_argument_that_is_also_closed_over_stays_apart():
    """Invariant: the next call may be given another array, so the two must not be mixed up."""
    w = tensor(3)
    captured = record(lambda x: x + w, (w,), {})
    assert len(captured.graph.arguments) == len(captured.graph.states) == 1


def test_a_tensor_of_another_recording_is_refused():
    """The message says that the tensor has no numbers and what to do."""
    kept = [None]

    def leak(x):
        operator.setitem(kept, 0, x * 2)  # a way to put it there that is not seen
        return x

    record(leak, (tensor(3),), {})
    with pytest.raises(CompileError, match="has no numbers"):
        record(lambda x: x + kept[0], (tensor(3),), {})


def test_a_tensor_on_an_older_tape_is_refused():
    """backward() through it would work once only."""
    w = tensor(3, requires_grad=True)
    outside = w * 2
    with pytest.raises(CompileError, match="recorded for"):
        record(lambda x: (x * outside).sum(), (tensor(3),), {})
    record(lambda x: (x * outside.detach()).sum(), (tensor(3),), {})


def test_argument_containers_are_rebuilt():
    """Closed form: the function sees the same tree."""
    seen = []

    def f(a, *, more):
        seen.append((type(a), type(more), more["k"]))
        return a[0] + more["x"][1]

    captured = record(f, ((tensor(3), 1),), {"more": {"x": [0, np.ones(3, "f4")], "k": 7}})
    assert seen == [(tuple, dict, 7)]
    assert len(captured.graph.arguments) == 2


def laid_out(shape, axes):
    """An array of a shape whose axes lie in memory in this order, the last side by side."""
    order = np.argsort(axes)
    numbers = np.arange(np.prod(shape), dtype=np.float32)
    return numbers.reshape([shape[a] for a in axes]).transpose(order)


LAYOUTS = [
    ("add", [((3, 4), (1, 0)), ((3, 4), (1, 0))], {}),
    ("add", [((3, 4), (1, 0)), ((3, 4), (0, 1))], {}),
    ("add", [((2, 3, 4), (2, 0, 1)), ((3, 1), (0, 1))], {}),
    ("exp", [((2, 3, 4), (1, 2, 0))], {}),
    ("concatenate", [((3, 1), (1, 0)), ((3, 4), (1, 0))], {"axis": 1}),
    ("concatenate", [((1, 3, 4), (0, 2, 1)), ((2, 3, 4), (0, 2, 1))], {"axis": 0}),
    ("cumsum", [((3, 4), (1, 0))], {"axis": 0}),
    ("erf", [((2, 3, 4), (2, 1, 0))], {}),
    ("sort", [((2, 3, 4), (1, 2, 0))], {"axis": 1}),
    ("sum", [((2, 3, 4), (2, 1, 0))], {"axes": (1,), "keepdims": False}),
]


@pytest.mark.parametrize("name, operands, params", LAYOUTS)
def test_results_lie_as_numpy_lays_them_out(name, operands, params):
    """Ground truth: the strides of what NumPy makes of arrays that lie so."""
    row, strides = TABLE[name], EagerStrides()
    arrays = [laid_out(*operand) for operand in operands]
    values = [Value(Spec(a.shape, float32)) for a in arrays]
    for value, array in zip(values, arrays, strict=True):
        strides.lift(value, array)
    made = row.evaluate(tuple(arrays), (float32,) * len(arrays), params)
    out = Value(Spec(made.shape, float32))
    strides.note_result(row, tuple(values), out)
    dense = made.flags.c_contiguous
    assert strides.of.get(out) == (None if dense else tuple(s // 4 for s in made.strides))


@pytest.mark.parametrize(
    "name, axes, params, is_view",
    [
        ("permute", (0, 1, 2), {"axes": (2, 0, 1)}, True),
        ("permute", (1, 2, 0), {"axes": (1, 2, 0)}, True),
        ("reshape", (0, 1, 2), {"shape": (6, 4)}, True),
        ("reshape", (1, 2, 0), {"shape": (6, 4)}, False),
        ("reshape", (1, 2, 0), {"shape": (2, 12)}, True),
    ],
)
def test_views_lie_as_numpy_takes_them(name, axes, params, is_view):
    """Ground truth: NumPy's view of an array that lies so; where it has to copy it is none."""
    row, strides, shape = TABLE[name], EagerStrides(), (2, 3, 4)
    array = laid_out(shape, axes)
    x = Value(Spec(shape, float32))
    strides.lift(x, array)
    made = row.numpy(array, **params)
    assert np.shares_memory(made, array) is is_view
    out = Value(Spec(made.shape, float32))
    assert strides.note_view(row, x, out, params) is is_view
    if is_view:
        dense = made.flags.c_contiguous
        assert strides.of.get(out) == (None if dense else tuple(s // 4 for s in made.strides))
