"""The tape: gradients, depth, sharing, freeing, versions."""

import gc
import weakref

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.errors import GradientError, ShapeError


def leaf(*shape, seed=0, dtype="float64"):
    return tt.randn(*shape, dtype=dtype, generator=tt.Generator(seed)).requires_grad_()


def test_gradient_of_a_product_is_the_other_factor():
    """Closed form: d(sum(a b)) / da = b."""
    a, b = leaf(3, 4), leaf(3, 4, seed=1)
    (a * b).sum().backward()
    assert np.array_equal(a.grad.numpy(), b.detach().numpy())


def test_broadcast_operands_get_gradients_of_their_own_shape():
    """Closed form: each repeat adds 1."""
    a, b = leaf(3, 1), leaf(4)
    (a + b).sum().backward()
    assert a.grad.tolist() == [[4.0]] * 3
    assert b.grad.tolist() == [3.0] * 4


def test_gradients_accumulate_over_backward_calls():
    """Closed form: twice the gradient of x is 2."""
    x = leaf(2)
    x.sum().backward()
    x.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_gradients_add_up_in_one_place_unless_somebody_holds_them():
    """Invariant: the address stays where the leaf alone has the gradient; a gradient that was taken
    from it, a view of one and an array over its memory keep the numbers they had."""
    x = leaf(3)

    def again():
        (x * 2.0).sum().backward()
        return x.grad.numpy().__array_interface__["data"][0]

    assert again() == again() == again()
    held = x.grad
    again()
    assert held.tolist() == [6.0] * 3 and x.grad.tolist() == [8.0] * 3
    del held
    view = x.grad[1:]
    again()
    assert view.tolist() == [8.0] * 2 and x.grad.tolist() == [10.0] * 3
    del view
    array = x.grad.numpy()
    again()
    assert array.tolist() == [10.0] * 3 and x.grad.tolist() == [12.0] * 3


def test_gradients_that_are_recorded_do_not_add_up_in_place():
    """Closed form: of x^3 twice 6 x^2 = 24, and the derivative of that sum is 12 x = 24."""
    x = tt.tensor(2.0, requires_grad=True)
    for _ in range(2):
        (x * x * x).backward(create_graph=True)
    recorded, x.grad = x.grad, None
    assert recorded.item() == 24.0
    recorded.backward()
    assert x.grad.item() == 24.0


def test_one_hundred_thousand_operations_deep():
    """Closed form: the derivative of x + 1 + 1 ... is 1; no recursion may overflow."""
    x = tt.Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    y = x
    for _ in range(100_000):
        y = y + 1.0
    del y


def test_a_chain_of_diamonds_costs_linear_time():
    """Closed form: y = y + y, 60 times: gradient 2^60. Visiting each path would never end."""
    x = tt.Tensor(1.0, dtype="float64", requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_graph_is_freed_after_backward():
    """Invariant: what the tape kept is gone without the garbage collector's help."""
    gc.disable()
    try:
        x = leaf(3)
        middle = x.exp()
        kept = weakref.ref(middle._buffer.array)
        loss = (middle * middle).sum()
        del middle
        assert kept() is not None
        loss.backward()
        assert kept() is None
    finally:
        gc.enable()


def test_a_tape_without_backward_is_freed_too():
    """Invariant: no reference cycle through an operation that needs its own output."""
    gc.disable()
    try:
        y = leaf(3).exp()
        kept = weakref.ref(y._node)
        del y
        assert kept() is None
    finally:
        gc.enable()


def test_second_backward_says_that_the_graph_was_freed():
    """Ground truth: the message."""
    loss = (leaf(2) * 2).sum()
    loss.backward()
    with pytest.raises(GradientError, match="went through this graph already"):
        loss.backward()


def test_retain_graph_allows_another():
    """Closed form: gradient of x^2, twice."""
    x = tt.Tensor([3.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.tolist() == [12.0]


def test_create_graph_gives_second_derivatives():
    """Closed form: (x^3)'' = 6 x."""
    x = tt.Tensor([2.0], requires_grad=True)
    (x * x * x).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    g.sum().backward()
    assert x.grad.tolist() == [12.0]


def test_backward_of_several_numbers_needs_a_start():
    """Ground truth: the message."""
    with pytest.raises(GradientError, match="single number to start from"):
        (leaf(3) * 2).backward()
    with pytest.raises(ShapeError, match="another shape"):
        (leaf(3) * 2).backward(tt.ones(2))


def test_backward_without_a_tape_is_an_error():
    """Ground truth: the message."""
    with pytest.raises(GradientError, match="nothing to go back through"):
        tt.ones(1).backward()


def test_no_grad_records_nothing_and_nests():
    """Invariant of the modes."""
    x = leaf(2)
    with tt.no_grad():
        assert not (x * 2).requires_grad
        with tt.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @tt.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad


def test_in_place_after_use_leaves_the_gradient_right():
    """Closed form: d(x y)/dx is the value y had, whatever y holds later."""
    x = tt.Tensor([2.0], requires_grad=True)
    y = tt.Tensor([3.0])
    z = x * y
    y += 100.0
    z.sum().backward()
    assert x.grad.tolist() == [3.0]


def test_in_place_on_a_result_is_differentiated():
    """Closed form: y = exp(x) overwritten by 2 y has derivative 2 exp(x)."""
    x = tt.Tensor([1.0], dtype="float64", requires_grad=True)
    y = x.exp()
    y *= 2.0
    y.sum().backward()
    assert x.grad.item() == pytest.approx(2 * np.e, rel=1e-15)


def test_memory_written_past_the_rule_is_noticed():
    """Ground truth: the message, with the operation."""
    x = tt.Tensor([1.0], requires_grad=True)
    y = tt.Tensor([1.0])
    z = (x * y).sum()
    y._buffer.array[...] = 5.0
    y._buffer.version += 1
    with pytest.raises(GradientError, match=r"(?s)changed in place.*mul"):
        z.backward()


def test_assigning_to_a_recording_leaf_is_an_error():
    """Ground truth: the message names this file."""
    x = leaf(2)
    with pytest.raises(GradientError, match=r"(?s)changed in place.*test_autograd\.py"):
        x += 1.0
    with tt.no_grad():
        x += 1.0
    assert x.is_leaf and x.requires_grad


def test_setitem_is_differentiated():
    """Closed form: the overwritten place gets no gradient, the value gets it."""
    x, v = leaf(3), leaf(1, seed=1)
    y = x * 1.0
    y[1] = v[0]
    (y * tt.Tensor([1.0, 10.0, 100.0], dtype="float64")).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 100.0]
    assert v.grad.tolist() == [10.0]


def test_detach_and_clone():
    """Invariants: detach shares memory and forgets; clone copies and remembers."""
    x = leaf(2)
    assert tt.shares_memory(x.detach(), x) and not x.detach().requires_grad
    y = x.clone()
    assert y._buffer.address != x._buffer.address and not y.is_leaf
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_grad_can_only_be_set_where_it_is_kept():
    """Ground truth: the messages."""
    x = tt.ones(2)
    x.grad = None
    with pytest.raises(GradientError, match="no place for a gradient"):
        x.grad = tt.ones(2)
    with pytest.raises(ShapeError, match="another shape than its tensor"):
        leaf(2).grad = tt.ones(3)


def test_integers_have_no_gradient():
    """Ground truth: the message."""
    with pytest.raises(TypeError, match="only floats have a gradient"):
        tt.tensor([1], requires_grad=True)


def test_several_outputs_each_carry_their_gradient():
    """Closed form: max pooling hands the gradient to the winner."""
    x = tt.Tensor(np.arange(16.0).reshape(1, 1, 4, 4), requires_grad=True)
    tt.max_pool2d(x, 2).sum().backward()
    assert np.flatnonzero(x.grad.numpy()).tolist() == [5, 7, 13, 15]


def test_steps_leave_no_memory_behind():
    """Measured with tracemalloc: forty steps hold no more than the first ten did, without the
    garbage collector: 20 kB is room for caches, one step's tape keeps 400 kB."""
    import tracemalloc

    w = leaf(100, 100)
    x = tt.ones(50, 100, dtype="float64")

    def steps(count: int) -> int:
        for _ in range(count):
            w.grad = None
            h = (x @ w).tanh()
            (h * h).mean().backward()
            with tt.no_grad():
                w.sub_(w.grad, alpha=0.1)
        return tracemalloc.get_traced_memory()[0]

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        first = steps(10)
        assert steps(40) - first < 20_000
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_diamond_of_width_a_thousand():
    """Closed form: a thousand uses of x, added up: gradient 1000; linear time."""
    x = tt.Tensor(2.0, dtype="float64", requires_grad=True)
    total = x * 0.0
    for _ in range(1000):
        total = total + x
    total.backward()
    assert x.grad.item() == 1000.0


def test_arrays_and_numpy_numbers_on_either_side_are_recorded():
    """Closed forms: NumPy's arrays and numbers are constants, on the left too."""
    x = tt.Tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    a, s = np.array([3.0, 4.0]), np.float64(2.0)
    for f, gradient in (
        (lambda: a * x, a), (lambda: x * a, a), (lambda: s * x, [2.0, 2.0]),
        (lambda: a - x, [-1, -1]), (lambda: x / s, [0.5, 0.5]), (lambda: a @ x, a),
        (lambda: x @ a, a), (lambda: s + x, [1, 1]),
        (lambda: tt.maximum(a, x), [0, 0]), (lambda: a[0] * x, [3.0, 3.0]),
    ):  # fmt: skip
        x.grad = None
        f().sum().backward()
        assert x.grad.tolist() == list(gradient)


STAIRS = {
    "sign": lambda lib, x: x.sign(), "floor": lambda lib, x: x.floor(),
    "ceil": lambda lib, x: x.ceil(), "round": lambda lib, x: x.round(),
    "trunc": lambda lib, x: x.trunc(), "decimals": lambda lib, x: x.round(decimals=1),
    "floored": lambda lib, x: lib.divide(x, 2.0, rounding_mode="floor"),
    "floor of 1 / x": lambda lib, x: lib.divide(2.0, x + 1.0, rounding_mode="floor"),
    "truncated": lambda lib, x: lib.divide(x, 2.0, rounding_mode="trunc"),
    "behind a product": lambda lib, x: (x.reshape(1, 2) @ lib.ones(2, 3)).sign(),
    "beside a slope": lambda lib, x: x * x.sign() + x.floor(),
}  # fmt: skip


@pytest.mark.parametrize("name", STAIRS)
def test_a_staircase_leaves_zeros(name):
    """Ground truth: PyTorch: a gradient of x's shape, zero where the function is flat."""
    grads = []
    for lib in (tt, torch):
        x = lib.tensor([0.0, 1.5], requires_grad=True)
        STAIRS[name](lib, x).sum().backward()
        grads.append(x.grad.tolist())

    def step(x):
        x.requires_grad_()
        STAIRS[name](tt, x).sum().backward()
        return x.grad

    assert grads[0] == grads[1]
    assert tt.compile(step)(tt.tensor([0.0, 1.5])).tolist() == grads[1]
    assert tt.grad(lambda x: STAIRS[name](tt, x).sum())(tt.tensor([0.0, 1.5])).tolist() == grads[1]


def test_gradients_are_the_arrays_that_were_computed(monkeypatch):
    """Invariant: a gradient that nobody else holds is not copied; one that two leaves get is."""
    copied = []
    monkeypatch.setattr(
        "tinytorch.tensor.autograd.copy_of", lambda a, dtype: copied.append(a.shape) or a.copy()
    )
    x, w, b = tt.ones(4, 3), tt.ones(3, 2, requires_grad=True), tt.ones(2, requires_grad=True)
    for _ in range(2):
        w.grad = b.grad = None
        ((x @ w).tanh() + b).sum().backward()
    assert copied == []
    a, c = tt.ones(3, requires_grad=True), tt.ones(3, requires_grad=True)
    (a + c).sum().backward()
    assert copied and a.grad._buffer.array is not c.grad._buffer.array


# --- looking at the tape; ground truth: counting by hand ---


def test_operations_are_listed_oldest_first():
    """By hand: x w + w, summed; w is one leaf though it is read twice."""
    w = tt.ones(2, requires_grad=True)
    x = tt.full((2,), 3.0)
    recorded = tt.tape((x * w + w).sum())
    assert [op.name for op in recorded.operations] == ["mul", "add", "sum"]
    assert [op.reads for op in recorded.operations] == [(None, "leaf"), (0, "leaf"), (1,)]
    assert recorded.operations[2].inputs == ((2,),) and recorded.operations[2].shape == ()
    assert len(recorded) == 3 and recorded.leaves == 1
    assert recorded.counts() == {"mul": 1, "add": 1, "sum": 1}


def test_memory_is_counted_once_for_each_array():
    """By hand: exp keeps its result (12 bytes), views are the same memory, the sum 4 bytes."""
    w = tt.ones(3, requires_grad=True)
    assert tt.tape(w.exp().reshape(3, 1)[:, 0].sum()).nbytes == 12 + 4


def test_nothing_recorded_or_freed():
    """Ground truth: the messages."""
    with pytest.raises(GradientError, match="no tape behind"):
        tt.tape(tt.ones(1))
    loss = (tt.ones(2, requires_grad=True) * 2).sum()
    loss.backward()
    with pytest.raises(GradientError, match="was freed"):
        tt.tape(loss)


def test_printing_stops_somewhere():
    """Stated: forty operations, then how many more."""
    x = tt.ones(1, requires_grad=True)
    for _ in range(50):
        x = x + 1.0
    text = str(tt.tape(x))
    assert text.startswith("50 operations, 1 leaves") and "and 10 more" in text
    assert len(text.splitlines()) == 42


def test_several_outputs_are_one_operation():
    """By hand: max pooling gives values and positions."""
    x = tt.ones(1, 1, 4, 4, requires_grad=True)
    assert [op.name for op in tt.tape(tt.max_pool2d(x, 2)).operations] == ["max_pool2d"]
