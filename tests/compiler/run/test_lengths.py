"""Arrays of the lengths of a call in memory that is planned for the greatest ones."""

import numpy as np

import tinytorch as tt
from tinytorch.base.lengths import Length, dim
from tinytorch.compiler.graph.axes import plain_axes
from tinytorch.compiler.run.lengths import Staging

T_DIM = dim("T", max=5)


def test_what_was_there_before_is_zero_again():
    """Closed form: beyond what was put in are zeros, whatever was put in before."""
    staging = Staging(plain_axes((2, Length.of(T_DIM))), np.dtype(np.float32))
    for n in (5, 2, 4, 1):
        whole = staging.take(np.full((2, n), n, np.float32))
        assert (whole[:, :n] == n).all() and (whole[:, n:] == 0).all()


def test_results_are_dense_and_keep_their_numbers():
    """Invariant: a result is not changed by the next call, and has the shape of its call."""
    f = tt.compile(lambda x: (x + 1, x.T * 2), dynamic_shapes={"x": (T_DIM,)})
    first, turned = f(tt.ones(2, 3))
    f(tt.zeros(5, 3))
    assert first.tolist() == [[2.0] * 3] * 2 and turned.tolist() == [[2.0] * 2] * 3
    assert first.numpy().flags.c_contiguous


def test_an_argument_that_is_given_back_has_its_length():
    """Closed form: itself, a view of it, and what it was before it was assigned to."""

    def f(x):
        y = x[:, 1:]
        return x, y, x[:, -1], x * 2

    compiled = tt.compile(f, dynamic_shapes={"x": (None, T_DIM)})
    for n in (2, 5, 3):
        x = tt.arange(2 * n).reshape(2, n)
        out = compiled(x)
        assert out[0] is x and out[1].tolist() == x[:, 1:].tolist()
        assert out[2].tolist() == x[:, -1].tolist() and out[3].tolist() == (x * 2).tolist()


def test_an_argument_may_be_written():
    """Closed form: the array that was given holds the new numbers."""

    def f(x):
        before = x * 1
        x += 1
        return before.sum()

    compiled = tt.compile(f, dynamic_shapes={"x": (T_DIM,)})
    for n in (2, 5, 3):
        x = tt.ones(n)
        assert compiled(x).item() == n and x.tolist() == [2.0] * n


def test_strides_do_not_matter():
    """Closed form: parts and transposes come in as what they show."""
    compiled = tt.compile(lambda x: x * 1, dynamic_shapes={"x": (T_DIM,)})
    whole = tt.arange(40).reshape(4, 10)
    for part in (whole[:, :3], whole.T[:5], whole[1:3]):
        assert compiled(part).tolist() == part.tolist()
    assert compiled.captures == 3  # shapes beside the length: 3, 4 and 10


def test_an_argument_that_shows_a_state_has_a_program_for_each_length():
    """Ground truth: eager; the function writes the memory that the argument shows."""

    def stepping(state):
        def step(x):
            state.add_(1.0)
            return x.sum()

        return step

    states = [tt.zeros(5), tt.zeros(5)]
    eager = stepping(states[0])
    compiled = tt.compile(stepping(states[1]), dynamic_shapes={"x": (T_DIM,)})
    for n in (2, 4, 2, 5, 3):
        wanted, got = eager(states[0][:n]), compiled(states[1][:n])
        assert got.item() == wanted.item() and states[1].tolist() == states[0].tolist()
    assert compiled(tt.ones(3)).item() == 3.0


def test_gradients_are_left_in_the_length_of_the_call():
    """Ground truth: eager; the second time they are added to those of the first."""

    def f(x):
        loss = (x * x).softmax(0).max() + (x * 3).sum()
        loss.backward()
        return loss

    compiled = tt.compile(f, dynamic_shapes={"x": (T_DIM,)})
    for n in (2, 5, 3):
        eager, made = (tt.tensor([0.25 * i for i in range(n)], requires_grad=True) for _ in "ab")
        for _ in range(2):
            assert abs(f(eager).item() - compiled(made).item()) < 1e-5
            np.testing.assert_allclose(made.grad.numpy(), eager.grad.numpy(), 1e-5, 1e-6)
    assert compiled.captures == 2  # with a gradient and without
