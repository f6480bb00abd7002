"""branches.py: compiled branches against the eager ones, on every target and number of threads.

The ground truth of most is the eager branch, Python's `if` over ordinary Tensors whose gradients
are the tape's (tests/tensor/test_cond.py holds it to closed forms).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F
from tests.compiler.compiled import targets
from tests.compiler.record.derivatives import derivatives, numbers
from tinytorch.base.errors import IndexRangeError, TinyTorchError
from tinytorch.compiler.graph.graph import Graph, Value, step_reference, verify
from tinytorch.compiler.graph.simplify import remove_unused
from tinytorch.compiler.record.recording import record
from tinytorch.compiler.run import program as programs
from tinytorch.compiler.run.program import Runner, address_of
from tinytorch.primitives import TABLE, add, mul
from tinytorch.primitives.body import Body
from tinytorch.primitives.primitive import Spec

# Sums of fewer than 200 terms in another order, through at most 5 trips or cases that multiply a
# difference by less than 4: 4^5 * 200 * 2^-52.
BOUND = 5e-11
PROGRAMS: dict[str, Callable] = {}


def program(function):
    """A function of (flag, weight (4, 4), x (5, 1, 4)), compared with itself, compiled."""
    PROGRAMS[function.__name__] = function
    return function


@program
def a_network_or_a_line(flag, weight, x):
    def loss(weight, x):
        y = tt.cond(flag, lambda x: ((x @ weight).tanh() * 2).exp(), lambda x: x * 3, (x,))
        return (y * y).sum()

    return derivatives(loss, weight, x)


@program
def several_results_in_containers(flag, weight, x):
    def loss(weight, x):
        out = tt.cond(
            flag,
            lambda x, d: {"y": (x @ weight).exp(), "n": (d["w"].sum(), None)},
            lambda x, d: {"y": x * d["w"][0], "n": (x.sum(), None)},
            [x, {"w": weight}],
        )
        return (out["y"] * out["n"][0]).sum()

    return derivatives(loss, weight, x)


@program
def handed_on_and_given_twice(flag, weight, x):
    """What came, the same value for two results, and a number."""
    y = x.exp()
    return tt.cond(flag, lambda: (x, y, y, y + 1, y + 1), lambda: (y * x, x, y, x, x * 0))


@program
def branches_in_branches(flag, weight, x):
    def loss(weight, x):
        def outer(x):
            large = (x @ weight).sum() > 0
            return tt.cond(large, lambda: (x @ weight).tanh(), lambda: tt.cond(
                flag, lambda: x * weight[0], lambda: x.exp()))  # fmt: skip

        return (tt.cond(flag, outer, lambda x: outer(-x).sin(), (x,)) ** 2).sum()

    return derivatives(loss, weight, x)


@program
def a_loop_that_stops_early(flag, weight, x):
    """Once the sum is large the state stays, and nothing is computed."""

    def loss(weight, x):
        def trip(c, v):
            done = (c * c).sum() > 1.5
            return tt.cond(done, lambda: (c, c.sum()), lambda: ((c @ weight + v).exp(), v.sum()))

        last, ys = tt.scan(trip, x[0] * 0.1, x)
        return (last * last).sum() + (ys * ys).sum()

    return derivatives(loss, weight, x)


@program
def loops_in_a_branch(flag, weight, x):
    def loss(weight, x):
        def walk(reverse):
            last, ys = tt.scan(
                lambda c, v: ((c @ weight + v).tanh(), (c * v).sum()), x[0], x, reverse=reverse
            )
            return (last * last).sum() + ys.sum()

        return tt.cond(flag, lambda: walk(False), lambda: walk(True) * 2)

    return derivatives(loss, weight, x)


@program
def parts_without_gradient(flag, weight, x):
    """detach(), a gradient of the user's, and results of which one case has no gradient."""

    @tt.custom_vjp
    def straight(x):
        return x.round()

    straight.define(lambda x: (x.round(), None), lambda kept, g: (g * 3,))

    def loss(weight, x):
        y, z = tt.cond(
            flag,
            lambda: (straight(x @ weight) * x, x.detach() * weight[0]),
            lambda: (x.detach(), straight(x * 2)),
        )
        return (y * z).sum()

    return derivatives(loss, weight, x)


@program
def integers_and_a_lookup(flag, weight, x):
    def loss(weight):
        index = tt.tensor([3, 0, 3])
        rows = tt.cond(
            flag, lambda: F.embedding(index, weight), lambda: F.embedding(index // 2, weight) * 2
        )
        return (rows * rows).sum()

    return derivatives(loss, weight)


@program
def views_of_other_strides(flag, weight, x):
    """What is given lies backwards and turned, and so does what is returned."""
    turned = x.flip(0).permute(2, 0, 1)
    part = x[1:, :, 1:]
    return tt.cond(
        flag, lambda: (turned.T, part * 2), lambda: ((turned * 2).permute(2, 1, 0), part)
    )


@program
def rows_that_numpy_does(flag, weight, x):
    return tt.cond(flag, lambda: tt.sort(x, -1)[0] * 2, lambda: tt.sort(x @ weight, 0)[0])


@program
def behind_checkpoint_and_forward(flag, weight, x):
    """Computed again for the gradient; and a derivative along a direction."""

    def loss(weight, x):
        block = tt.checkpoint(lambda x: tt.cond(flag, lambda: (x @ weight).exp(), lambda: x * 2))
        return (block(x) ** 2).sum()

    def along(x):
        return tt.cond(flag, lambda: (x @ weight).tanh().exp(), lambda: x * x)

    return (*tt.value_and_grad(loss, (0, 1))(weight, x)[1], *tt.jvp(along, (x,), (x + 1,)))


@program
def two_of_one_predicate(flag, weight, x):
    y = tt.cond(flag, lambda: (x @ weight).exp(), lambda: x)
    z = tt.cond(flag, lambda: y * 2, lambda: y @ weight)
    return y + 1, z


@pytest.fixture(scope="module")
def given():
    return numbers(4, 4), numbers(5, 1, 4, seed=1)


FLAGS = [tt.Tensor(np.array(holds)) for holds in (True, False)]


def flat(x):
    if isinstance(x, dict):
        x = tuple(x.values())
    return [y for part in x for y in flat(part)] if isinstance(x, tuple | list) else [x]


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_is_eager(name, target, given):
    """Ground truth: the eager branch, to the bound above; threads change no bit."""
    function = PROGRAMS[name]
    runs: dict[int, list] = {}
    for threads in (1, 2, 3):
        compiled = tt.compile(function, target=target, threads=threads)
        for _ in range(2):  # what a case leaves in memory is nothing to the next call
            runs[threads] = [
                [t.detach().numpy() for t in flat(compiled(flag, *given))] for flag in FLAGS
            ]
        assert compiled.captures == 1
    for i, flag in enumerate(FLAGS):
        wanted = [t.detach().numpy() for t in flat(function(flag, *given))]
        for a, *b in zip(wanted, *(run[i] for run in runs.values()), strict=True):
            assert (a.shape, a.dtype) == (b[0].shape, b[0].dtype)
            assert np.isfinite(a).all()
            assert np.abs(a - b[0]).max(initial=0) <= BOUND * max(1, np.abs(a).max(initial=0))
            assert all(x.tobytes() == b[0].tobytes() for x in b)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_recorded_prints_as_python(name, given, tmp_path):
    """Ground truth: the definition of the graph, row by row; the printed text does the same."""
    recording = record(PROGRAMS[name], (FLAGS[0], *given), {})
    graph = recording.graph
    for flag in FLAGS:
        arrays = [t.numpy() for t in (flag, *given)]
        held = dict(zip(graph.arguments, arrays, strict=True))
        held |= {v: s.numpy() for v, s in zip(graph.states, recording.sources, strict=True)}
        wanted, _ = step_reference(graph, held)
        np.savez(tmp_path / "constants.npz", **graph.long_constants())
        scope: dict = {}
        exec(compile(graph.source(str(tmp_path / "constants.npz")), name, "exec"), scope)
        found = scope["program"](*held.values())
        for a, b in zip(flat(found), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def both(step, *given):
    """The step eagerly and compiled: (what `step` makes of each flag, by the way it ran)."""
    return [[step(run, flag, *given) for flag in FLAGS] for run in (lambda f: f, tt.compile)]


def test_what_only_one_case_gives():
    """Closed form: of the other one there is nothing, zeros; what nobody reads is left out."""
    pair = Spec((2,), tt.float64)

    def more(a, b):
        return add(a, b), mul(a, a), mul(b, b)

    true, false = (Body.of(pair, pair)(f) for f in (more, lambda a, b: (b, add(a, a))))
    given = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    params = {"true": true, "false": false, "results": 1}
    for holds, wanted in ((True, ([4, 6], [1, 4], [9, 16], [0, 0])),
                          (False, ([3, 4], [0, 0], [0, 0], [2, 4]))):  # fmt: skip
        out = TABLE["cond"](np.array(holds), *given, **params)
        assert [x.tolist() for x in out] == list(wanted)
    graph = Graph([Value(Spec((), tt.bool_)), Value(pair), Value(pair)])
    outputs = graph.add(TABLE["cond"], tuple(graph.arguments), params)
    graph.results = [outputs[2]]
    (node,) = remove_unused(graph).nodes
    assert node.outputs == (outputs[2],) and node.inputs == (graph.arguments[0], graph.arguments[2])
    assert (len(node.bodies[0].lines), node.bodies[1].results, node.params["results"]) == (1, (), 0)
    verify(remove_unused(graph), "here")


def test_the_function_not_taken_is_not_called():
    """Closed form: a host call counts how often its case ran; a case with none runs whole."""
    calls: list[str] = []

    def note(name):
        return lambda x: tt.host_call(lambda a: (calls.append(name), a)[1], x, x * 2)

    @tt.compile
    def step(flag, x):
        y = x + 1
        z = tt.cond(flag, lambda: note("yes")(y) * y, lambda: note("no")(y) - note("later")(y))
        return z * 2

    for flag, wanted, seen in ((0, 12.0, ["yes"]), (1, 0.0, ["no", "later"])) * 3:
        calls.clear()
        assert step(FLAGS[flag], tt.Tensor(1.0)).item() == (16.0 if flag == 0 else wanted)
        assert calls == seen


def test_host_calls_in_cases_of_cases():
    """Closed form: which of four host calls is made, by the two predicates."""
    calls: list[int] = []

    def leaf(i):
        return lambda x: tt.host_call(lambda a: (calls.append(i), a + i)[1], x, x) * 10

    @tt.compile
    def step(a, b, x):
        y = tt.cond(
            a,
            lambda: tt.cond(b, lambda: leaf(0)(x), lambda: leaf(1)(x)) + 1,
            lambda: tt.cond(b, lambda: leaf(2)(x), lambda: leaf(3)(x)) + 2,
        )
        return y + x

    for i in range(4):
        calls.clear()
        a, b = FLAGS[i // 2], FLAGS[i % 2]
        assert step(a, b, tt.Tensor(1.0)).item() == 10 * (1 + i) + 1 + i // 2 + 1
        assert calls == [i]


def stages_run(compiled, holds):
    """How many kernels did something in one run, and how many there are, with this predicate."""
    call = compiled._last
    graph = call.recording.graph
    runner = Runner(call.program, 2, timed=True)
    arrays = [np.ones(v.shape, v.dtype.storage) for v in graph.arguments]
    arrays[0][...] = holds
    made = [np.empty(v.shape, v.dtype.storage) for v in graph.results]
    runner.bind_states([address_of(np.ones(v.shape, v.dtype.storage)) for v in graph.states])
    runner.run([address_of(a) for a in arrays], [address_of(a) for a in made])
    spans = runner.spans()
    kernels = [one.task.symbol != "gate" for one in call.program.plan.launched]
    return len({s.task for s in spans if s.tiles and kernels[s.task]}), sum(kernels)


def test_stages_of_the_case_not_taken_do_not_run():
    """Ground truth: 64 products, whose tiles no thread takes, forward and backward."""

    def deep(x):
        for _ in range(64):
            x = (x @ x).tanh()
        return x

    step = tt.compile(lambda flag, x: tt.cond(flag, deep, lambda x: x * 2, (x,)))
    step(FLAGS[0], numbers(8, 8))
    yes, every = stages_run(step, True)
    no, _ = stages_run(step, False)
    assert no == 1 and yes == every - no >= 64
    slope = tt.compile(
        lambda flag, x: tt.grad(lambda x: tt.cond(flag, deep, lambda x: x * 2, (x,)).sum())(x)
    )
    slope(FLAGS[0], numbers(8, 8))
    yes, every = stages_run(slope, True)
    no, _ = stages_run(slope, False)
    assert no <= 5 and yes >= 3 * 64


def test_tensors_that_a_case_assigns_to():
    """Ground truth: eager. A count, a running mean and a generator's state move on, or stay."""

    def step(run, flag, x):
        tt.manual_seed(3)
        norm = tt.nn.BatchNorm1d(4)
        count, weight = tt.tensor(0), tt.nn.Parameter(tt.ones(4))
        optimizer = tt.optim.AdamW([weight, *norm.parameters()], lr=0.1)

        def train(x):
            count.add_(1)
            y = norm(x) * weight + tt.rand(5, 4)
            loss = (y * y).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        def whole(flag, x):
            return tt.cond(flag, train, lambda x: (x * weight.detach()).mean(), (x,))

        program, out = run(whole), []
        for i in range(4):
            out.append(program(FLAGS[0] if i % 2 else flag, x).item())
        after = (norm.running_mean, norm.running_var, weight, tt.default_generator.state)
        return [*out, count.item(), *(v for t in after for v in t.reshape(-1).tolist())]

    eager, compiled = both(step, tt.rand(5, 4, generator=tt.Generator(1)))
    assert [x[4] for x in eager] == [4, 2]
    np.testing.assert_allclose(compiled, eager, rtol=2e-5, atol=1e-6)


def test_a_bad_index_counts_where_its_case_is_taken():
    """Ground truth: IndexRangeError, and no state has changed; else nothing happens."""
    table, count = numbers(4, 2), tt.tensor(0)

    @tt.compile
    def step(flag, index):
        count.add_(1)
        return tt.cond(flag, lambda: table[index], lambda: table[:2] * 2)

    bad = tt.tensor([1, 9])
    with pytest.raises(IndexRangeError, match="index 9"):
        step(FLAGS[0], bad)
    assert count.item() == 0
    np.testing.assert_array_equal(step(FLAGS[1], bad).numpy(), table.numpy()[:2] * 2)
    assert count.item() == 1


def test_check_nan_looks_at_what_was_computed():
    """Ground truth: the branch is named where its case gives NaN; memory of the other is none."""

    def step(flag, x):
        def loss(x):
            return tt.cond(flag, lambda: (x * 2).log().exp(), lambda: (x * 3).tanh().exp()).sum()

        return tt.value_and_grad(loss)(x)

    compiled = tt.compile(step, check_nan=True)
    good, bad = tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, -2.0])
    for flag, x in ((0, good), (1, good), (1, bad)):
        compiled(FLAGS[flag], x)
    for _ in range(2):
        with pytest.raises(tt.TinyTorchError) as caught:
            compiled(FLAGS[0], bad)
    assert "cond at test_branches.py" in str(caught.value)
    compiled(FLAGS[1], bad)


def test_a_branch_along_a_length():
    """Ground truth: eager, for several lengths, by one program."""
    t = tt.dim("T", max=9)

    def step(flag, x):
        def loss(x):
            y, z = tt.cond(
                flag,
                lambda x: (x.abs().log(), x.exp().sum(0)),
                lambda x: ((x / x.sum()).softmax(0), x[0] * x.shape[0]),
                (x,),
            )
            return (y * y).sum() + (z * z).mean()

        return tt.value_and_grad(loss)(x)

    compiled = tt.compile(step, dynamic_shapes={"x": {0: t}})
    for n in (3, 9, 1, 5):
        for flag in FLAGS:
            for a, b in zip(step(flag, numbers(n, 2)), compiled(flag, numbers(n, 2)), strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-12)
    assert compiled.captures == 1


def test_explain_page_and_trace_show_the_case_that_was_taken(tmp_path):
    """Ground truth: made-up integers and truth values are 0, so the false case runs."""

    def step(flag, x):
        return tt.cond(flag, lambda: (x @ x).exp().cumsum(0), lambda: x.tanh())

    compiled = tt.compile(step)
    compiled(FLAGS[0], numbers(64, 64))
    rows = {r.split()[1]: r for r in compiled.explain().splitlines()[2:8]}
    assert rows["matmul+exp"].split()[2] == "0" and "not taken" in rows["matmul+exp"]
    assert rows["tanh"].split()[2] == "1"
    compiled.page(tmp_path / "page.html")
    compiled.trace(tmp_path / "trace.json")
    assert "cond, if True" in (tmp_path / "page.html").read_text()


def test_a_warm_start_reads_the_branch_from_disk(tmp_path, monkeypatch):
    """Ground truth: the cold run; the passes do not run again."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    programs.forget_programs()
    x = numbers(3, 3)

    def step(flag, x):
        return tt.cond(flag, lambda: x.exp() @ x, lambda: (x * 2, x)[0])

    cold = [tt.compile(step)(flag, x).numpy() for flag in FLAGS]
    programs.forget_programs()

    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(programs, "_from_passes", refuse)
    for a, flag in zip(cold, FLAGS, strict=True):
        np.testing.assert_array_equal(tt.compile(step)(flag, x).numpy(), a)


def test_other_threads_and_late_workers():
    """Closed form: a thousand calls in turn, with more threads than cores."""

    @tt.compile
    def step(flag, x):
        return tt.cond(flag, lambda: (x + 1).sum(), lambda: (x - 1).sum()) * 2

    x = tt.ones(64, 64)
    for i in range(1000):
        assert step(FLAGS[i % 2], x).item() == (0.0 if i % 2 else 2 * 2 * 64 * 64)


def test_a_case_may_not_write_to_what_has_views():
    """Ground truth: the phrase."""
    x = tt.zeros(4)
    part = x[1:]

    def change():
        x.add_(1)
        return x.sum()

    with pytest.raises(TinyTorchError, match="writes to a tensor that has views"):
        tt.compile(lambda flag: tt.cond(flag, change, lambda: x.sum()))(FLAGS[0])
    assert part.tolist() == [0, 0, 0]


def test_a_case_leaves_no_gradient():
    """Ground truth: the phrase."""
    weight = tt.nn.Parameter(tt.ones(4))

    def back():
        loss = (weight * weight).sum()
        loss.backward()
        return loss.detach()

    with pytest.raises(TinyTorchError, match="leaves another .grad"):
        tt.compile(lambda flag: tt.cond(flag, back, lambda: tt.tensor(0.0)))(FLAGS[0])
    assert weight.grad is None


def test_an_update_in_a_case_is_done_where_the_state_lies():
    """Ground truth: eager; the other case has no task, and nothing is copied."""
    weights = [tt.nn.Parameter(tt.ones(5, 3)), tt.nn.Parameter(tt.ones(3))]
    optimizer = tt.optim.AdamW(weights, lr=0.1)

    def step(flag, x):
        loss = ((x @ weights[0]) * weights[1]).sum()
        loss.backward()

        def update():
            optimizer.step()

        tt.cond(flag, update, lambda: None)
        optimizer.zero_grad()
        return loss.detach()

    compiled, x = tt.compile(step), tt.ones(2, 5)
    losses = [compiled(FLAGS[i % 2], x).item() for i in range(4)]
    moved = [w.tolist() for w in weights]
    for w in weights:
        with tt.no_grad():
            w.assign_(tt.ones_like(w))
    optimizer = tt.optim.AdamW(weights, lr=0.1)
    np.testing.assert_allclose([step(FLAGS[i % 2], x).item() for i in range(4)], losses, rtol=1e-6)
    np.testing.assert_allclose(weights[0].tolist(), moved[0], rtol=1e-6)
    cases = [t for t in compiled.stages()["lower"].tasks if t.shown.startswith("cond")]
    assert [t.shown for t in cases] == ["cond, if True"]
    assert not any("copy" in t.shown for t in compiled.stages()["lower"].tasks)


@pytest.mark.parametrize("run", [lambda f: f, tt.compile], ids=["eager", "compiled"])
def test_the_gradient_of_what_is_not_taken_is_zero(run):
    """Closed form: 2; the root has no finite slope at 0, the logarithm no value."""

    def loss(flag, x):
        root = x.sqrt()
        return tt.cond(flag, lambda: (root + x.log()).sum(), lambda: (x * 2).sum())

    slope = run(lambda flag, x: tt.grad(loss, 1)(flag, x))
    assert slope(FLAGS[1], tt.zeros(3)).tolist() == [2.0] * 3
    assert slope(FLAGS[0], tt.ones(1)).tolist() == [1.5]


def test_a_state_that_both_cases_leave_as_it_is():
    """Ground truth: the state; no case has anything to do."""
    count = tt.tensor(3)

    def same():
        count.mul_(1)

    step = tt.compile(lambda flag: tt.cond(flag, same, same))
    for flag in FLAGS:
        step(flag)
    assert count.item() == 3
