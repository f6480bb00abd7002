"""Watching a recording: other watchers go on, nothing is kept, nothing is left half done."""

import gc
import types
import warnings
import weakref

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.reference_program import ReferenceProgram
from tinytorch import nn
from tinytorch.base.errors import CompileError, GradientError
from tinytorch.compiler import compile as compile_module
from tinytorch.compiler.record import watch
from tinytorch.compiler.record.guards import RecompileWarning

pytestmark = pytest.mark.usefixtures("by_numpy")


def thing(**named):
    return types.SimpleNamespace(**named)


X = tt.Tensor([1.0, 2.0])


# --- where nothing can be watched ---


@pytest.fixture
def blind(monkeypatch):
    monkeypatch.setattr(watch, "available", lambda: False)


def test_without_watching_names_are_guarded(blind):
    """Ground truth: eager; globals, closures, attributes of plain objects in the code's names."""
    o, k = thing(k=2.0), 3.0
    f = tt.compile(lambda x: x * o.k * k)
    assert f(X).tolist() == [6, 12]
    o.k = 4.0
    assert f(X).tolist() == [12, 24]
    k = 5.0
    assert f(X).tolist() == [20, 40]


def test_without_watching_states_are_recorded_anew_and_right(blind):
    """Ground truth: arithmetic; what a place held cannot be known, so each call is recorded."""
    o = thing(n=tt.zeros(2), state={})

    def f(x):
        if "m" not in o.state:
            o.state["m"] = tt.zeros(2)
        o.state["m"].add_(x)
        o.n = o.n + x
        return o.n + o.state["m"]

    f = tt.compile(f)
    warnings.simplefilter("ignore", RecompileWarning)
    for i in range(1, 5):
        assert f(X).tolist() == [2.0 * i, 4.0 * i]
        assert o.n.tolist() == [i, 2.0 * i]


# --- half done ---


def test_an_exception_leaves_no_tensor_without_numbers():
    """Invariant: after a failed recording every place holds what it held; eager code goes on."""
    o = thing(n=tt.zeros(2), v=[], d={})

    def f(x, fail=True):
        o.n = o.n + x
        o.m = o.n * 2
        o.v.append(o.n)
        o.d["k"] = (o.n, 1)
        if fail:
            raise ValueError
        return o.n

    with pytest.raises(ValueError):
        tt.compile(f)(X)
    assert o.n.tolist() == [0, 0] and vars(o).keys() == {"n", "v", "d"} and not o.v and not o.d
    assert f(X, False).tolist() == [1, 2]


def test_a_program_that_fails_leaves_its_places():
    """Invariant: an index outside its axis; the counter did not move, and counts the next call."""
    o, table = thing(n=tt.zeros(())), tt.ones(3)

    def f(i):
        o.n = o.n + 1
        return tt.take(table, i)

    f = tt.compile(f)
    with pytest.raises(IndexError):
        f(np.array([5]))
    assert o.n.item() == 0
    f(np.array([1]))
    assert o.n.item() == 1
    with pytest.raises(IndexError):
        f(np.array([7]))
    assert o.n.item() == 1
    f(np.array([1]))
    assert o.n.item() == 2


def test_looking_inside_leaves_no_tensor():
    """Invariant: graph(x) records without running."""
    o = thing(n=tt.zeros(2))

    def f(x):
        o.n = o.n + x
        return o.n

    f = tt.compile(f)
    assert "add" in f.graph(X)
    assert o.n.tolist() == [0, 0]
    assert f(X).tolist() == [1, 2] and o.n.tolist() == [1, 2]


# --- what is kept ---


def test_a_dropped_function_keeps_nothing():
    """Invariant: objects and Tensors that a compiled function read go with it."""

    class Holder:
        pass

    def used():
        o = Holder()
        o.w, o.cfg, o.v = tt.ones(2), {"k": 2.0}, [Holder()]

        def f(x):
            o.n = x * o.w * o.cfg["k"] * len(o.v)
            return o.n

        f = tt.compile(f)
        f(X), f(X)
        return [weakref.ref(x) for x in (o, o.w, o.v[0])]

    gone = used()
    gc.collect()
    assert [r() for r in gone] == [None] * 3


def test_what_is_replaced_is_not_kept_by_a_place_that_is_read_anew():
    """Invariant: the Tensor of the call before goes when the next one is put there."""
    o = thing(n=tt.zeros(2))

    def f(x):
        o.n = o.n + x
        return x

    f = tt.compile(f)
    first = weakref.ref(o.n)
    f(X)
    second = weakref.ref(o.n)
    f(X), f(X)
    gc.collect()
    assert first() is None and second() is None and f.captures == 1


def test_recordings_kept_are_bounded():
    """Ground truth: MOST_RECORDINGS in all, MOST_VARIANTS of one kind."""
    o = thing(k="0")
    f = tt.compile(lambda x: x * float(o.k))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecompileWarning)
        for i in range(2 * compile_module.MOST_VARIANTS):
            o.k = str(i)
            assert f(X).tolist() == [i, 2.0 * i]
    assert sum(map(len, f._calls.values())) == compile_module.MOST_VARIANTS
    for n in range(1, compile_module.MOST_RECORDINGS + 10):
        f(tt.zeros(n))
    assert sum(map(len, f._calls.values())) <= compile_module.MOST_RECORDINGS


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tt.grad(lambda v: (v * v).sum())(x),
        lambda x: tt.vjp(lambda v: v[1:] * 2, x)[1](x[1:]),
        lambda x: tt.checkpoint(lambda v: v.reshape(1, 2) * 2)(x),
        lambda x: [t * 2 for t in x.reshape(2, 1)][0],
        lambda x: tt.value_and_grad(lambda v: (v[0] * v[1]).sum())(x)[1],
    ],
)
def test_what_ends_with_the_call_is_no_state(function):
    """Invariant: transforms, views and closures leave nothing behind: one recording serves."""
    f = tt.compile(function)
    for _ in range(3):
        f(X)
    assert f.captures == 1


def test_temporary_objects_are_no_guards():
    """Invariant: what the function makes itself needs no look at the next call."""

    def f(x):
        parts = [x, x * 2]
        named = {"a": parts[0], "b": {"k": 1}}
        box = thing(k=named["b"]["k"])
        add = lambda a, b: a + b * box.k  # noqa: E731
        return add(*[p for p in parts if named])

    f = tt.compile(f)
    assert f(X).tolist() == [3, 6]
    held = [g for g in f._last.guards.guards if not g.shown.endswith("__")]
    assert {g.shown for g in held} <= {"thing", "types"}


def test_garbage_collected_within_the_call():
    """Ground truth: eager; what is left behind is found whatever generation it is in."""
    o = thing(n=tt.zeros(2), state={})

    def f(x):
        if "m" not in o.state:
            o.state["m"] = {"k": tt.zeros(2)}
        gc.collect()
        o.state["m"]["k"].add_(x)
        o.n = o.n + x
        return o.n + o.state["m"]["k"]

    f = tt.compile(f)
    warnings.simplefilter("ignore", RecompileWarning)
    for i in range(1, 5):
        assert f(X).tolist() == [2.0 * i, 4.0 * i]
        assert o.state["m"]["k"].tolist() == [i, 2.0 * i]


# --- objects that answer in their own way ---


class OwnDict:
    """It knows what lies in its dict, and nothing else: `isinstance` asks its `__class__`."""

    def __getattribute__(self, name):
        return object.__getattribute__(self, "__dict__")[name]

    def __call__(self, x):
        return x * self.k


class NoClass:
    """Its class is a secret."""

    k = 2.0

    @property
    def __class__(self):
        raise ValueError("mine")

    def __call__(self, x):
        return x * self.k


def closed():
    """An object of a class that tells what lies in its own dict, and nothing else."""

    class Meta(type):
        def __getattribute__(cls, name):
            return type.__getattribute__(cls, "__dict__")[name]

    class Closed(metaclass=Meta):
        def __call__(self, x):
            return x * self.k

    return Closed()


def leaves_tensor(x, o):
    object.__setattr__(o, "n", x * 2)
    return x * 2


def renews(x, o):
    kept.append(x)
    kept[-1] = o
    return x * 2


kept = []


@pytest.mark.parametrize("make", [OwnDict, NoClass, closed])
@pytest.mark.parametrize(
    "use",
    [
        lambda x, o: x * o.k,
        lambda x, o: o(x),
        lambda x, o: (x * 2, o)[0],
        lambda x, o: [x * q.k for q in [o]][0],
        lambda x, o: x * max([o], key=lambda q: q.k).k,
        leaves_tensor,
        renews,
    ],
)
def test_objects_are_looked_at_past_their_own_code(make, use):
    """Ground truth: eager; the object is an argument, in a list, in a variable, and a result."""
    o = make()
    object.__setattr__(o, "k", 2.0)
    compiled = [
        tt.compile(use),
        tt.compile(lambda x, v: use(x, v[0])),
        tt.compile(lambda x: use(x, o)),
    ]
    calls = [lambda f: f(X, o), lambda f: f(X, [o]), lambda f: f(X)]
    for f, call in zip(compiled, calls, strict=True):
        assert [call(f).tolist() for _ in range(3)] == [[2, 4]] * 3
    assert tt.compile(lambda x: (x, o))(X)[1] is o
    assert tt.compile(o)(X).tolist() == [2, 4]


# --- what a user can say ---


def test_what_cannot_be_seen_can_be_given(tmp_path):
    """Ground truth: eager; a file, the time, an object of another library."""
    file = tmp_path / "number"
    file.write_text("0")
    f = tt.compile(lambda x: x * float(file.read_text()), guards=[file.read_text])
    assert f(X).tolist() == [0, 0]
    file.write_text("2")
    assert f(X).tolist() == [2, 4]
    with pytest.raises(CompileError, match="no guard"):
        tt.compile(lambda x: x, guards=["k"])


def test_backward_outside_says_where_it_belongs():
    """Ground truth: the message; results of a program have no record to go back through."""
    model = nn.Linear(2, 1)
    with pytest.raises(GradientError, match="inside the compiled function"):
        tt.compile(model)(tt.ones(3, 2)).sum().backward()


def test_tensors_that_are_replaced_at_every_call_need_no_new_recording():
    """Invariant: the place is read anew from the second change on."""
    o = thing(w=[tt.ones(2)])
    f = tt.compile(lambda x: x * o.w[0])
    for i in range(6):
        o.w[0] = tt.Tensor([float(i), 1.0])
        assert f(X).tolist() == [i, 2.0]
    assert f.captures == 2
    o.w[0] = tt.Tensor([1.0, 1.0, 1.0])  # another shape
    assert f(tt.ones(3)).tolist() == [1, 1, 1]


def test_an_annealed_number_makes_no_new_programs(monkeypatch):
    """Invariant: after a few recordings the number is an input; each call has its own value."""
    graphs = set()

    def program(graph, target):
        graphs.add(str(graph))
        return ReferenceProgram(graph)

    monkeypatch.setattr(compile_module, "program_for", program)
    o = thing(k=1.0)
    f = tt.compile(lambda x: x * o.k + 0.5)
    with pytest.warns(RecompileWarning, match="o.k.*0-d Tensor") as seen:
        for i in range(20):
            o.k = 1 / (1 + i)
            np.testing.assert_allclose(f(X).numpy(), np.array([1, 2]) * o.k + 0.5, rtol=1e-6)
    assert len(graphs) == 4
    assert seen[0].filename == __file__  # it points at the user's call


def test_what_is_recorded_at_every_call_says_why():
    """Ground truth: three recordings for an iterator, and for an object made anew each time."""
    numbers, o = iter(range(10)), thing(s=thing(n=tt.zeros(2)))

    def renew(x):
        o.s = thing(n=o.s.n + x)
        return o.s.n

    for function, why in ((lambda x: x * next(numbers), "iterator"), (renew, "not to be repeated")):
        f = tt.compile(function)
        with pytest.warns(RecompileWarning, match=f"recorded at every call.*{why}") as seen:
            for _ in range(4):
                f(X)
        assert len(seen) == 1 and seen[0].filename == __file__
