"""Each operation along an axis of a length: compiled once = eager at every length."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.lengths import MOST, check, floats, plant, wholes
from tinytorch.base.errors import CompileError, IndexRangeError, ShapeError
from tinytorch.compiler.graph.length_rules import RULES
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import OpClass

T = tt.dim("T", max=MOST)
T2 = tt.dim("T", max=MOST, min=2)
MIDDLE, LAST, FIRST = {"x": (None, T)}, {"x": (None, None, T)}, {"x": (T,)}
W, K = floats(50, 4, 6), floats(51, 3, 2, 4)
TABLE_OF_ROWS, OTHERS, PLACES = floats(52, 11, 4), floats(60, MOST, 4), wholes(3, 11, 5)


def middle(n):
    return (floats(n, 3, n, 4),)


def last(n):
    return (floats(n, 2, 4, n),)


def first(n):
    return (floats(n, n, 3),)


UNARY = {
    "elementwise": lambda x: (x * 2 + 1).tanh(),
    "sum over": lambda x: x.sum(1),
    "sum beside": lambda x: x.sum((0, 2)),
    "sum of all": lambda x: x.sum(),
    "mean": lambda x: x.mean(1),
    "mean of all": lambda x: x.mean(),
    "var": lambda x: x.var(1, correction=0),
    "max": lambda x: tt.amax(x, 1),
    "min": lambda x: tt.amin(x, (1, 2)),
    "prod": lambda x: (x * 0.1 + 1).prod(1),
    "any": lambda x: (x > 1.5).any(1),
    "all": lambda x: (x > -1.5).all(1),
    "argmax": lambda x: x.argmax(1),
    "argmin": lambda x: x.argmin(1),
    "cumsum": lambda x: x.cumsum(1),
    "sort": lambda x: x.sort(1).values,
    "argsort": lambda x: x.argsort(1),
    "softmax over": lambda x: x.softmax(1),
    "softmax beside": lambda x: x.softmax(-1),
    "layer norm": lambda x: tt.nn.functional.layer_norm(x, (4,)),
    "matmul rows": lambda x: x @ W,
    "matmul columns": lambda x: W.T @ x.permute(0, 2, 1),
    "matmul inner": lambda x: x.permute(0, 2, 1) @ x,
    "matmul both": lambda x: x @ x.permute(0, 2, 1),
    "joined": lambda x: x.reshape(-1, 4) * 2,
    "joined and summed": lambda x: x.reshape(-1, 4).sum(0),
    "joined inner": lambda x: x.reshape(-1, 4).T @ x.reshape(-1, 4),
    "joined and apart": lambda x: x.reshape(-1, 4).reshape(x.shape) + x,
    "flattened": lambda x: x.reshape(3, -1).sum(1),
    "one place": lambda x: x[:, -1],
    "first place": lambda x: x[:, 0],
    "last by length": lambda x: x[:, x.shape[1] - 1 :],
    "neighbours": lambda x: x[:, 1:] - x[:, :-1],
    "backwards": lambda x: x[:, ::-1],
    "flip": lambda x: x.flip(1),
    "every other": lambda x: x[:, ::2],
    "pad before": lambda x: tt.pad(x, (0, 2, 0), (0, 0, 0), 7.0),
    "pad behind": lambda x: tt.pad(x, (0, 1, 0), (0, 2, 0), 7.0),
    "joined with itself": lambda x: tt.concat([x, x], 1),
    "joined with others": lambda x: tt.concat([x, K, x, K], 1),
    "joined behind": lambda x: tt.concat([K, x], 1),
    "positions": lambda x: x + tt.arange(x.shape[1]).reshape(-1, 1),
    "positions from": lambda x: x + tt.arange(2, 2 + x.shape[1]).reshape(-1, 1),
    "ones": lambda x: (tt.ones(x.shape) * x).sum(1) + tt.ones(x.shape[1]).sum(),
    "length": lambda x: x / x.shape[1] + x.shape[1] * 0.5,
    "root of the length": lambda x: x * x.shape[1] ** -0.5,
    "size": lambda x: x * (1.0 / x.size),
    "lookup": lambda x: TABLE_OF_ROWS[PLACES].sum() * x,
    "rows of it": lambda x: x[:, tt.tensor([0, -1])],
    "triangle": lambda x: tt.tril(x @ x.permute(0, 2, 1)),
}


@pytest.mark.parametrize("name", UNARY)
def test_an_operation_is_right_at_every_length(name):
    """Ground truth: eager, which is the definition, at each length."""
    check(UNARY[name], middle, MIDDLE)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.softmax(-1),
        lambda x: x.sum(-1),
        lambda x: x.mean(),
        lambda x: x @ x.permute(0, 2, 1),
        lambda x: tt.amax(x, -1),
        lambda x: x.cumsum(-1),
        lambda x: x.reshape(2, -1).softmax(-1),
    ],
)
def test_along_the_last_axis(f):
    """Ground truth: eager."""
    check(f, last, LAST)


@pytest.mark.parametrize(
    "f", [lambda x: x.mean(0), lambda x: x * 2, lambda x: x.T @ x, lambda x: x.var(0, correction=0)]
)
def test_along_the_first_axis(f):
    """Ground truth: eager."""
    check(f, first, FIRST)


def test_a_mean_is_that_of_what_is_there():
    """Closed form: the mean of n equal numbers is that number (1 / n is rounded), the sum exact."""
    f = tt.compile(lambda x: (x.mean(), x.sum()), dynamic_shapes=FIRST)
    for n in range(1, MOST + 1):
        mean, total = f(tt.full((n,), 3.0))
        assert mean.item() == pytest.approx(3.0, rel=2e-7) and total.item() == 3.0 * n


@pytest.mark.parametrize("target", ["avx512", "avx2", "vector128"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_on_every_target_with_any_threads(target, threads):
    """Ground truth: eager."""
    from tests.compiler.compiled import targets

    if target not in [t.name for t in targets()]:
        pytest.skip("this machine has no such instructions")

    def f(x):
        h = tt.nn.functional.layer_norm(x @ W, (6,)).softmax(1)
        return h, h.reshape(-1, 6).T @ x.reshape(-1, 4), x[:, -1], x.mean(1)

    check(f, middle, MIDDLE, target=target, threads=threads)


def test_labels_and_rows_of_tables():
    """Ground truth: eager; an index beyond a length is never looked at."""
    check(lambda i: TABLE_OF_ROWS[i], lambda n: (wholes(n, 11, 2, n),), {"i": (None, T)})
    loss = tt.nn.functional.cross_entropy
    shapes = {"x": (T,), "y": (T,)}
    check(lambda x, y: loss(x, y), lambda n: (floats(n, n, 5), wholes(n, 5, n)), shapes)


def test_an_index_outside_its_axis_is_still_found():
    """Ground truth: IndexRangeError, also between the length and the bound."""
    f = tt.compile(lambda x, i: x[i], dynamic_shapes={"x": (T,)})
    assert f(tt.arange(5), tt.tensor([4])).tolist() == [4]
    assert f(tt.arange(5), tt.tensor([-5])).tolist() == [0]
    for wrong in (5, -6):
        with pytest.raises(IndexRangeError):
            f(tt.arange(5), tt.tensor([wrong]))


def test_gradients_of_tables_and_slices():
    """Ground truth: eager gradients."""

    def loss(table, places, x, i):
        y = (table[i] + places[: i.shape[1]]) * x
        return y[:, -1].sum() + (y[:, 1:] ** 2).sum() + y.cumsum(1).mean()

    def f(x, i):
        return tt.grad(loss, argnums=(0, 1))(TABLE_OF_ROWS, OTHERS, x, i)

    shapes = {"x": (None, T), "i": (None, T)}
    check(f, lambda n: (floats(n, 2, n, 4), wholes(n, 11, 2, n)), shapes)


def test_gradients_of_arguments_have_their_length():
    """Ground truth: eager."""

    def f(x):
        return tt.grad(lambda z: (z.softmax(1) * z).sum())(x)

    check(f, middle, MIDDLE)


def test_two_dims_meet():
    """Ground truth: eager, for all pairs of lengths."""
    s = tt.dim("S", max=4)
    f = tt.compile(
        lambda x, y: (x @ y, (x @ y).reshape(-1).softmax(0)),
        dynamic_shapes={"x": (T, None), "y": (None, s)},
    )
    for n in range(1, MOST + 1):
        for m in range(1, 5):
            x, y = floats(n, n, 3), floats(m, 3, m)
            out, soft = f(x, y)
            np.testing.assert_allclose(out.numpy(), (x @ y).numpy(), 1e-5, 1e-5)
            wanted = (x @ y).reshape(-1).softmax(0).numpy()
            np.testing.assert_allclose(soft.numpy(), wanted, 1e-5, 1e-6)
    assert f.captures == 1


def test_convolutions_over_a_length():
    """Ground truth: eager; pictures of a number, and of a width, that differ."""
    w = floats(70, 4, 2, 3, 3)

    def f(x):
        return tt.nn.functional.conv2d(x, w, padding=1, stride=2)

    check(f, lambda n: (floats(n, n, 2, 6, 6),), {"x": (T,)})
    check(f, lambda n: (floats(n, 2, 2, 6, n),), {"x": (None, None, None, T)})

    def gradient(x):
        return tt.grad(lambda v: (tt.nn.functional.conv2d(x, v, padding=1) ** 2).sum())(w)

    check(gradient, lambda n: (floats(n, n, 2, 6, 6),), {"x": (T,)}, tolerance=2e-4)


def test_pooling_picture_by_picture():
    """Ground truth: eager, with the gradient."""

    def f(x):
        pooled = tt.nn.functional.max_pool2d(x, 2)
        return pooled, tt.grad(lambda z: (tt.nn.functional.max_pool2d(z, 2) ** 2).sum())(x)

    check(f, lambda n: (floats(n, n, 2, 4, 4),), {"x": (T,)})


def test_random_numbers_are_those_of_the_length():
    """Ground truth: eager, bit for bit; the generator stands where it would stand."""

    def f(x):
        a = tt.rand(x.shape) * x
        b = tt.nn.functional.dropout(x, 0.5)
        return a, b, tt.randn(x.shape[1]), tt.rand(3)

    compiled = tt.compile(f, dynamic_shapes=MIDDLE)
    for n in (*range(1, MOST + 1), 2):
        tt.manual_seed(n)
        wanted = f(*middle(n))
        tt.manual_seed(n)
        for x, y in zip(compiled(*middle(n)), wanted, strict=True):
            np.testing.assert_allclose(x.numpy(), y.numpy(), 1e-5, 1e-6)
    assert compiled.captures <= 2


def test_a_part_of_a_state_is_written():
    """Ground truth: eager; what lies behind the part keeps its numbers."""
    held = [tt.zeros(2, 12, 4), tt.zeros(2, 12, 4)]

    def step_of(state):
        def step(x, start):
            new = tt.tensor([0, 0, 0]) + start * tt.tensor([0, 1, 0])
            from tinytorch.tensor.indexing import slice_update

            state.assign_(slice_update(state, x, new))
            return state.sum()

        return step

    compiled = tt.compile(step_of(held[1]), dynamic_shapes={"x": (None, T)})
    eager = step_of(held[0])
    for n, start in ((3, 0), (9, 3), (1, 11), (2, 5)):
        for step in (eager, compiled):
            step(floats(n, 2, n, 4), tt.tensor(start))
        np.testing.assert_array_equal(held[1].numpy(), held[0].numpy())
    before = held[1].numpy().copy()
    with pytest.raises(IndexRangeError):
        compiled(floats(5, 2, 5, 4), tt.tensor(8))
    np.testing.assert_array_equal(held[1].numpy(), before)


REFUSED = {
    "if": (lambda x: x if x.shape[1] > 3 else x * 2, "decides by a length"),
    "range": (lambda x: [x[:, t] for t in range(x.shape[1])][0], "decides by a length"),
    "len": (lambda x: x.permute(1, 0, 2).sum() + len(x.permute(1, 0, 2)), "decides by a length"),
    "a fixed place": (lambda x: x[:, 2], "for some lengths"),
    "a fixed end": (lambda x: x[:, :3], "for some lengths"),
    "sizes that differ": (lambda x: x + floats(1, 3, MOST, 4), "do not fit"),
    "torn apart": (lambda x: x.permute(1, 0, 2).reshape(2, -1), "reshape"),
    "a float": (lambda x: x * math.sqrt(x.shape[1]), "decides by a length"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused(name):
    """Ground truth: a four-part error, never numbers."""
    f, phrase = REFUSED[name]
    compiled = tt.compile(f, dynamic_shapes=MIDDLE)
    with pytest.raises(tt.TinyTorchError, match=phrase):
        compiled(*middle(4))


def test_narrower_bounds_decide_more():
    """Closed form: with min=2 the second place is there, and T > 1 is true."""
    f = tt.compile(lambda x: x[:, 1] if x.shape[1] > 1 else x, dynamic_shapes={"x": (None, T2)})
    x = floats(2, 3, 2, 4)
    np.testing.assert_array_equal(f(x).numpy(), x[:, 1].numpy())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_function_of_the_user_is_given_what_is_valid(threads):
    """Ground truth: eager; the function sees the shapes of the call, and says what it makes."""
    seen: list[tuple] = []
    rows = tt.dim("B", max=4)

    def ranked(a, b):
        seen.append((a.shape, b.shape))
        return np.sort(a, axis=1), a.sum() + b.sum(), a.reshape(-1)

    def f(x):
        made = [(x.shape, "float32"), ((), "float32"), (x.shape[0] * x.shape[1], "float32")]
        several = tt.host_call(ranked, made, x * 2, (x + 1).sum(0))
        return tuple(y.sum() + y * 3 for y in several)

    compiled = tt.compile(f, dynamic_shapes={"x": (rows, T)}, threads=threads)
    for b, n in ((4, MOST), (2, 3), (1, 1), (3, MOST), (4, 2)):
        x = floats(n, b, n)
        wanted, got = f(x), compiled(x)
        for y, z in zip(wanted, got, strict=True):
            np.testing.assert_allclose(z.numpy(), y.numpy(), 2e-5, 2e-5)
        assert seen[-1] == seen[-2] == ((b, n), (n,))
        plant(compiled)
    assert compiled.captures == 1


def test_what_such_a_function_gives_must_be_of_the_length():
    """Ground truth: the four-part error names the shape of this call."""
    f = tt.compile(
        lambda x: tt.host_call(lambda a: a[1:], (x.shape, "float32"), x), dynamic_shapes={"x": (T,)}
    )
    with pytest.raises(ShapeError, match="gave arrays of other shapes"):
        f(floats(1, 4))


def test_an_operation_without_a_rule_is_refused():
    """Invariant: what is unknown is refused; put_rows has no rule, for the last row wins there."""
    assert TABLE["put_rows"].op_class is OpClass.UPDATE and "put_rows" not in RULES

    def f(x, i):
        from tinytorch.tensor.indexing import put_rows

        return put_rows(tt.zeros(11, 4), i, x)

    compiled = tt.compile(f, dynamic_shapes={"x": (T,), "i": (T,)})
    with pytest.raises(CompileError, match="length is known only when the program runs"):
        compiled(floats(3, 3, 4), wholes(3, 11, 3))
