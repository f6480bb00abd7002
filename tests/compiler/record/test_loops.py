"""loops.py: compiled loops against the eager ones, on every target and number of threads.

The ground truth of most is the eager loop, an ordinary Python loop over ordinary Tensors whose
gradients are the tape's (tests/tensor/test_scan.py holds it to closed forms).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F
from tests.compiler.compiled import targets
from tests.compiler.record.derivatives import derivatives, numbers
from tinytorch.base.errors import CompileError, TinyTorchError
from tinytorch.compiler.graph.graph import step_reference
from tinytorch.compiler.record.recording import record
from tinytorch.primitives.primitive import OpClass

# Sums of fewer than 200 terms in another order, handed on through at most 5 trips that multiply a
# difference by less than 4: 4^5 * 200 * 2^-52.
BOUND = 5e-11
PROGRAMS: dict[str, Callable] = {}


def program(function):
    """A function of (weight (4, 4), x (5, 1, 4)) that is compared with itself, compiled."""
    PROGRAMS[function.__name__] = function
    return function


def start(*shape):
    return tt.ones(shape, dtype=tt.float64)


@program
def recurrence(weight, x):
    def loss(weight, x):
        last, ys = tt.scan(
            lambda c, v: ((c @ weight + v).tanh(), (c * v).sum()), start(1, 4) * x[0], x
        )
        return (last * last).sum() + ys.sum() + (ys * ys).sum()

    return derivatives(loss, weight, x)


@program
def from_the_end(weight, x):
    def loss(weight, x):
        last, ys = tt.scan(lambda c, v: ((c @ weight + v).sigmoid(), c), x[0], x, reverse=True)
        return (last * ys).sum()

    return derivatives(loss, weight, x)


@program
def one_trip(weight, x):
    return recurrence(weight, x[:1])


@program
def no_trip(weight, x):
    return tt.scan(lambda c, v: (c @ weight, c + v), start(1, 4), x[:0])


@program
def parts_without_gradient(weight, x):
    """detach(), a step function, and a gradient of the user's inside a trip."""

    @tt.custom_vjp
    def straight(x):
        return x.round()

    straight.define(lambda x: (x.round(), None), lambda kept, g: (g,))

    def loss(weight, x):
        def f(c, v):
            new = (c @ weight).tanh() * v.detach() + v
            return new, new.detach() * c + straight(new * 2) * new + (c > 0) * c

        last, ys = tt.scan(f, start(1, 4), x)
        return (last * last).sum() + (ys * ys).sum()

    return derivatives(loss, weight, x)


@program
def loops_in_loops(weight, x):
    def loss(weight, x):
        def outer(c, v):
            def inner(d, u):
                d = (d @ weight + u).sigmoid()
                return d, d * c

            d, ys = tt.scan(inner, c, v)
            return d * 0.5, ys.sum(0)

        last, ys = tt.scan(outer, start(1, 4), x[:4].reshape(2, 2, 1, 4))
        return (last * ys).sum()

    return derivatives(loss, weight, x)


@program
def carried_values_change_places(weight, x):
    def loss(weight, x):
        (a, b), (y, z) = tt.scan(
            lambda c, v: ((c[1], c[0] * v @ weight), (c[0] * c[1], c[1].exp())), (x[0], x[1]), x
        )
        return (a * b).sum() + y.sum() + (z * y).sum()

    return derivatives(loss, weight, x)


@program
def the_same_value_twice(weight, x):
    """What is carried is also stacked, twice, and so is what came."""
    last, ys = tt.scan(
        lambda c, v: ((c[0] + v,) * 2, (c[0] + v, c[0] + v, c, v)), x[:2].unbind(0), x
    )
    return (*last, ys[0], ys[1], *ys[2], ys[3])


@program
def handed_on_as_it_came(weight, x):
    def loss(weight, x):
        (c, d), ys = tt.scan(lambda c, v: ((c[0], c[1] * c[0]), c[1] @ weight), (x[0], x[1]), x)
        return (c * d).sum() + ys.sum()

    return derivatives(loss, weight, x)


@program
def integers_and_a_lookup(weight, x):
    """Places that a trip computes, and gradients of the rows found there."""

    def loss(weight):
        def f(carry, _):
            i, total = carry
            row = F.embedding(i, weight)
            return ((i * 5 + 1) % 4, total + row), row

        (_, total), rows = tt.scan(
            f, (tt.tensor([0, 3]), tt.zeros(2, 4, dtype=tt.float64)), None, 5
        )
        return (total * total).sum() + (rows * rows).sum()

    return derivatives(loss, weight)


@program
def no_carry(weight, x):
    return tt.scan(lambda c, v: (None, (v @ weight).exp()), None, x)[1]


@program
def views_of_other_strides(weight, x):
    """xs that lie backwards and turned in memory, written in part inside the trip."""

    def f(c, v):
        new = c + v
        part = new[:, :2]
        part *= 2
        return new, new.T

    return tt.scan(f, start(1, 4), x.flip(0).permute(0, 2, 1).permute(0, 2, 1))


@program
def all_carried_values_sorted(weight, x):
    """A row that NumPy or a kernel of its own does."""
    return tt.scan(lambda c, v: (tt.sort(c + v, -1)[0], c), x[0], x)


@pytest.fixture(scope="module")
def given():
    return numbers(4, 4), numbers(5, 1, 4, seed=1)


def flat(x):
    return [y for part in x for y in flat(part)] if isinstance(x, tuple | list) else [x]


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_is_eager(name, target, given):
    """Ground truth: the eager loop, to the bound above; threads change no bit."""
    function = PROGRAMS[name]
    wanted = [t.detach().numpy() for t in flat(function(*given))]
    runs = []
    for threads in (1, 2, 3):
        compiled = tt.compile(function, target=target, threads=threads)
        runs.append([t.detach().numpy() for t in flat(compiled(*given))])
        assert compiled.captures == 1
    for a, *b in zip(wanted, *runs, strict=True):
        assert (a.shape, a.dtype) == (b[0].shape, b[0].dtype)
        assert np.abs(a - b[0]).max(initial=0) <= BOUND * max(1, np.abs(a).max(initial=0))
        assert all(x.tobytes() == b[0].tobytes() for x in b)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_recorded_prints_as_python(name, given, tmp_path):
    """Ground truth: the definition of the graph, row by row; the printed text does the same."""
    recording = record(PROGRAMS[name], given, {})
    graph = recording.graph
    arrays = dict(zip(graph.arguments, [t.numpy() for t in given], strict=True))
    arrays |= {v: s.numpy() for v, s in zip(graph.states, recording.sources, strict=True)}
    wanted, _ = step_reference(graph, arrays)
    np.savez(tmp_path / "constants.npz", **graph.long_constants())
    scope: dict = {}
    exec(compile(graph.source(str(tmp_path / "constants.npz")), name, "exec"), scope)
    found = scope["program"](*arrays.values())
    for a, b in zip(flat(found), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def loops_of(graph):
    return [node for node in graph.nodes if node.primitive.op_class is OpClass.LOOP]


def lstm_step(length):
    tt.manual_seed(0)
    model = tt.nn.LSTM(8, 8, 2)
    optimizer = tt.optim.AdamW(model.parameters(), lr=1e-2)

    def step(x):
        loss = (model(x)[0] ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    x = np.random.default_rng(2).standard_normal((length, 4, 8)).astype(np.float32)
    return model, step, tt.Tensor(x)


def test_the_work_of_the_compiler_does_not_depend_on_the_number_of_trips():
    """Invariant: recorded operations and lines are the same of 100 and of 400 trips; kernels and
    the saved plan grow by the few that longer products outside the loops are packed and cut by."""
    seen, launched = [], []
    for length in (100, 400):
        _, step, x = lstm_step(length)
        compiled = tt.compile(step)
        compiled(x)
        stages = compiled.stages()
        plan = stages["launch plan"].plan
        graph = stages["capture"].graph
        lines = sum(len(n.body.lines) for n in loops_of(graph))
        names = len({t.symbol for t in plan.written})
        seen.append((len(graph.nodes), lines, len(plan.written), names, len(str(plan.to_json()))))
        launched.append(len(plan.launched))
    (*work, few, names, short), (*same, many, more, long) = seen
    assert work == same
    assert launched[1] - launched[0] > 2 * 300
    assert abs(many - few) <= 10 and abs(more - names) <= 10
    assert long / many < 1.1 * short / few  # larger numbers have more digits


def test_the_gradient_of_a_weight_is_one_product_after_the_loop():
    """Invariant: no trip of the gradient hands on or stacks anything of the weight's shape."""
    model, step, x = lstm_step(6)
    graph = record(step, (x,), {}).graph
    backward = [n for n in loops_of(graph) if n.params["reverse"]]
    assert len(backward) == 2
    for node in backward:
        made = [s.shape for s in node.body.outputs]
        assert (8, 32) not in made and (32,) not in made
    products = [n for n in graph.nodes if n.primitive.name == "matmul"]
    assert [n.inputs[0].shape[-1] for n in products].count(6 * 4) == 4  # of W_ih and W_hh


def test_training_with_an_optimizer():
    """Ground truth: three eager steps. AdamW divides by the root of squared gradients: a rounding
    of float32 moves a weight by no more than lr; gradients here agree to 1e-5 of their size."""
    eager, step, x = lstm_step(6)
    for _ in range(3):
        step(x)
    model, step, x = lstm_step(6)
    compiled = tt.compile(step)
    losses = [compiled(x).item() for _ in range(3)]
    assert compiled.captures <= 2 and losses[2] < losses[0]
    for a, b in zip(eager.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), atol=3e-4)


def test_what_a_trip_assigns_to_is_carried_along():
    """Ground truth: the eager loop: a count, a running mean with a gradient through it, a stream
    of random numbers, drawn to the last bit."""

    def run(x):
        count, mean = tt.tensor(0), tt.zeros(1, 4, dtype=tt.float64)

        def f(c, v):
            with tt.no_grad():
                count.add_(1)
            mean.assign_(mean * 0.9 + v * 0.1)
            return c + tt.rand(1, 4, dtype=tt.float64), mean * c

        def loss(x):
            return tt.scan(f, start(1, 4), x)[1].sum() + mean.sum()

        value, slope = tt.value_and_grad(loss)(x)
        return value, slope, count * 1, tt.rand(3)

    x = numbers(5, 1, 4)
    tt.manual_seed(5)
    wanted = run(x)
    compiled = tt.compile(run)
    for _ in range(2):
        tt.manual_seed(5)
        for a, b in zip(wanted, compiled(x), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-13)


def test_state_from_outside_is_updated_once_a_trip():
    """Closed form: a count of trips, and a sum, in Tensors that outlive the call."""
    count, total = tt.tensor(0), tt.zeros(2)

    @tt.compile
    def run(x):
        def f(c, v):
            count.add_(1)
            total.add_(v)
            return c, total * 1

        return tt.scan(f, None, x)[1]

    sums = run(tt.arange(6.0).reshape(3, 2))
    assert sums.tolist() == [[0, 1], [2, 4], [6, 9]]
    run(tt.ones(3, 2))
    assert count.item() == 6 and total.tolist() == [9, 12]


def test_a_users_function_is_called_in_each_trip():
    """Ground truth: the eager loop: calls in order, around the loop and in a loop inside it."""
    seen: list[float] = []

    def note(x):
        seen.append(float(x.sum()))
        return x * 2

    def run(x):
        def inner(c, v):
            return c + tt.host_call(note, v, v), None

        def outer(c, v):
            c = tt.scan(inner, c, tt.stack([v, v + 1]))[0]
            return c, tt.host_call(note, c, c)

        tt.host_call(note, x[0], x[0])
        last, ys = tt.scan(outer, tt.zeros(2), x)
        return last, ys, tt.host_call(note, last, last)

    x = tt.arange(6.0).reshape(3, 2)
    wanted = [t.tolist() for t in run(x)]
    calls, seen[:] = list(seen), []
    assert len(calls) == 3 * (2 + 1) + 2
    compiled = tt.compile(run)
    for _ in range(2):
        assert [t.tolist() for t in compiled(x)] == wanted and seen == calls
        seen.clear()


def test_nan_in_a_trip_is_found():
    """Ground truth: the loop is named, and no state has changed."""
    total = tt.zeros(2)

    @functools.partial(tt.compile, check_nan=True)
    def run(x):
        total.add_(tt.scan(lambda c, v: (c * v.log(), None), tt.ones(2), x)[0])

    run(tt.ones(3, 2) * 2)
    before = total.tolist()
    with pytest.raises(TinyTorchError, match=r"computed NaN: scan at test_loops\.py"):
        run(tt.ones(3, 2) * -1)
    assert total.tolist() == before


def test_dropout_in_a_trip_is_the_same_backward(given):
    """Ground truth: the eager loop from the same seed: a mask is kept, never drawn again."""
    weight, x = given

    def run(weight):
        def loss(weight):
            last, ys = tt.scan(
                lambda c, v: (F.dropout((c @ weight + v).tanh(), 0.5, True), c), start(1, 4), x
            )
            return (last * last).sum() + (ys * ys).sum()

        return tt.grad(loss)(weight)

    tt.manual_seed(3)
    wanted = run(weight)
    tt.manual_seed(3)
    found = tt.compile(run)(weight)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=BOUND, atol=BOUND)


def test_a_bad_index_in_a_trip_changes_no_state():
    """Ground truth: IndexError, the user's line, and the state as it was."""
    table, seen = numbers(4, 2), tt.zeros(2, dtype=tt.float64)

    @tt.compile
    def run(first):
        (_, total), _ = tt.scan(
            lambda c, _: ((c[0] + 1, c[1] + F.embedding(c[0], table)), None),
            (first, tt.zeros(2, dtype=tt.float64)), length=3,
        )  # fmt: skip
        seen.assign_(seen + total)
        return total

    run(tt.tensor(1))
    before = seen.tolist()
    with pytest.raises(IndexError, match=r"index 4 into an axis of size 4, at test_loops\.py"):
        run(tt.tensor(2))
    assert seen.tolist() == before
    assert run(tt.tensor(0)).tolist() == table.numpy()[:3].sum(0).tolist()


@pytest.mark.parametrize(
    "f, phrase",
    [
        (lambda c, v: (c.add_(1), v), "writes to what it is given"),
        (lambda c, v: (c, v.mul_(2)), "writes to what it is given"),
        (lambda c, v: (c if c.sum() > 0 else v, v), "cannot look at values"),
    ],
)
def test_what_a_trip_cannot_do(f, phrase):
    """Ground truth: the phrase; four parts."""
    compiled = tt.compile(lambda x: tt.scan(f, tt.zeros(2), x))
    with pytest.raises(CompileError, match=phrase) as caught:
        compiled(tt.ones(3, 2))
    assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))


def test_a_trip_cannot_write_to_what_has_views():
    """Ground truth: the phrase: a view would show the old numbers in the next trip."""
    whole = tt.zeros(2, 2)
    row = whole[0]

    @tt.compile
    def run(x):
        return tt.scan(lambda c, v: (c, whole.add_(v) * 1), None, x)[1]

    with pytest.raises(CompileError, match="has views"):
        run(tt.ones(3, 2))
    assert row.tolist() == [0, 0]


def test_what_nobody_reads_of_a_loop_is_not_computed():
    """Invariant: after simplification a stack and a carried value that nothing needs are gone."""

    @tt.compile
    def run(x):
        (total, _), (_, product) = tt.scan(
            lambda c, v: ((c[0] + v, c[1] * v), (v.exp(), c[0] * v)), (x[0], x[1]), x
        )
        return product

    found = run(tt.Tensor([1.0, 2.0, 3.0]))
    assert found.tolist() == [1.0, 4.0, 12.0]
    (loop,) = loops_of(run.stages()["simplify"].graph)
    assert [line.row.name for line in loop.body.lines] == ["add", "mul"]
    assert loop.params["carries"] == 1 and len(loop.outputs) == 2
