"""Guards: one reading each, and all of a recording at once; what the code says by itself."""

import types
import warnings

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import CompileError
from tinytorch.compiler.record.guards import Changes, Guard, Guards, RecompileWarning, given_guards
from tinytorch.compiler.record.watch import names_read

SCALE = 2.0
UNUSED = 5


def helper(x):
    return x * SCALE


def names(function):
    return {g.shown for g in names_read(function)}


def of(kind, holder, key, shown="it"):
    guard = Guard(kind, holder, key, None, shown)
    guard.held = guard.now()
    return guard


def test_an_equal_number_holds_and_another_does_not():
    """Closed form: 0.1 -> 0.1 holds; 0.2, another type, -0.0 for 0.0 do not; nan is nan."""
    o = types.SimpleNamespace(k=0.1)
    guards = Guards([of("attr", o, "k")])
    o.k = float("0.1")
    assert guards.hold() and guards.hold()
    for before, after in ((0.1, 0.2), (1, True), (1, 1.0), (0.0, -0.0), ("a", "b")):
        o.k = before
        guards = Guards([of("attr", o, "k")])
        o.k = after
        assert not guards.hold()
        assert [g.shown for g in guards.changed()] == ["it"]
    o.k = float("nan")
    guards = Guards([of("attr", o, "k")])
    o.k = float("nan")
    assert guards.hold()


@pytest.mark.parametrize(
    "kind, holder, key, change",
    [
        ("item", {"k": 1}, "k", lambda d: d.update(k=2)),
        ("item", {"k": 1}, "k", lambda d: d.clear()),
        ("item", [1, 2], -1, lambda v: v.append(3)),
        ("has", {}, "k", lambda d: d.update(k=1)),
        ("all", [1, 2], None, lambda v: v.append(3)),
        ("all", [1, 2], None, lambda v: v.reverse()),
        ("all", {"a": 1}, None, lambda d: d.update(a=2)),
        ("all", {"a": 1}, None, lambda d: d.update(b=2)),
        ("all", {1}, None, lambda s: s.add(2)),
        ("array", np.zeros(3), None, lambda a: a.fill(1)),
        ("array", np.zeros(3), slice(0, 2), lambda a: a.fill(1)),
        ("array", np.zeros(3), None, lambda a: a.resize(4, refcheck=False)),
        ("class", Changes, "note", lambda kind: setattr(kind, "note", None)),
    ],
)
def test_each_kind_of_reading(kind, holder, key, change):
    """Ground truth: what the reading gives before and after."""
    if isinstance(holder, type):
        holder = type("Copy", (), dict(vars(holder)))
    guard = of(kind, holder, key)
    guards = Guards([guard])
    assert guards.hold() and guard.holds()
    change(holder)
    assert not guards.hold() and not guard.holds()
    assert guards.changed() == [guard]
    assert "it" in guard.change()


@pytest.mark.parametrize(
    "kind, key, change",
    [
        ("kind", None, lambda o: setattr(o, "__class__", type("Other", (), {}))),
        ("names", None, lambda o: setattr(o, "new", 1)),
        ("again", "later", lambda o: setattr(o, "later", 1)),
        ("again", "k", lambda o: setattr(o, "k", (1.5, "c"))),
    ],
)
def test_each_kind_of_reading_of_an_object(kind, key, change):
    """Ground truth: what the reading gives before and after; an equal tuple is no change."""
    o = type("Thing", (), {})()
    o.k = (1.5, "b")
    guard = of(kind, o, key)
    guards = Guards([guard])
    assert guards.hold() and guard.holds()
    o.k = (float("1.5"), "b")
    assert guards.hold()
    change(o)
    assert not guards.hold() and guards.changed() == [guard] and "it" in guard.change()


def test_many_readings_of_one_object_are_checked_together():
    """Invariant: one getter for each object; each change is found."""
    o = types.SimpleNamespace(**{f"a{i}": object() for i in range(10)})
    guards = Guards([of("attr", o, f"a{i}", f"a{i}") for i in range(10)])
    assert guards.hold()
    o.a7 = object()
    assert not guards.hold()
    assert [g.shown for g in guards.changed()] == ["a7"]


def test_an_object_that_raises_when_it_is_read_has_changed():
    """Invariant: a check never raises."""

    class Broken:
        def __getattr__(self, name):
            raise RuntimeError(name)

    o = Broken()
    o.k = 1
    guards = Guards([of("attr", o, "k")])
    assert guards.hold()
    del o.k
    assert not guards.hold()


def test_what_the_user_gives():
    """Ground truth: functions and pairs are asked; anything else is refused."""
    o = types.SimpleNamespace(k=1, part=types.SimpleNamespace(k=1))
    box = [1]
    given = given_guards([(o, "k"), (o, "part.k"), lambda: box[0]])
    for g in given:
        g.held = g.now()
    guards = Guards(given)
    assert guards.hold()
    o.part.k = 2
    assert [g.shown for g in guards.changed()] == ["SimpleNamespace.part.k"]
    box[0] = 2
    assert [g.shown for g in guards.changed()] == ["SimpleNamespace.part.k", "guards[2]"]
    with pytest.raises(CompileError, match="no guard"):
        given_guards([3])


def test_a_warning_comes_once_and_late():
    """Ground truth: OFTEN = 3 recordings because of one name."""
    o = types.SimpleNamespace(k=1.0)
    guard, changes = of("attr", o, "k", "o.k"), Changes()
    o.k = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changes.note("f", [guard])
        changes.note("f", [guard])
    with pytest.warns(RecompileWarning, match="'o.k' was 1.0 and is now 2.0.*0-d Tensor"):
        changes.note("f", [guard])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changes.note("f", [guard])


def test_without_watching_the_names_of_the_code_are_guarded():
    """Ground truth: the names written in the functions below."""
    rate, config = 0.1, types.SimpleNamespace(steps=3, other=4)

    def step(x):
        return helper(x) * rate * config.steps * [y * UNUSED for y in (lambda: x)()]

    assert names(step) == {"rate", "helper", "SCALE", "config", "config.steps", "UNUSED"}


def test_without_watching_self_of_a_bound_method_is_guarded():
    """Ground truth: `self.rate` is named in the method."""

    class Trainer:
        def __init__(self):
            self.rate, self.name = 0.5, "t"

        def step(self, x):
            return x * self.rate

    assert names(Trainer().step) == {"self.rate"}


def test_without_watching_an_attribute_is_not_the_global_of_the_same_name():
    """Ground truth: `o.step` reads no global called `step`; names in the code say both alike."""
    namespace = {"step": 1.0, "o": None}
    exec("def f():\n    return o.step\n", namespace)
    assert "step" not in names(namespace["f"])


TABLE, RATES = np.arange(6.0), [1.0, 2.0, 3.0]


def test_parts_that_were_read_by_slices_are_guarded():
    """Closed form. A slice cannot be in a set before Python 3.12: recording raised TypeError."""
    compiled = tt.compile(
        lambda x: x * TABLE[::-1].copy()[0] + TABLE[2:4].sum() + float(RATES[1:][0])
    )
    x, before = tt.ones(1), (TABLE.copy(), list(RATES))
    try:
        assert compiled(x).item() == 5.0 + 5.0 + 2.0
        TABLE[5] = 7.0
        assert compiled(x).item() == 7.0 + 5.0 + 2.0
        RATES[1] = 20.0
        assert compiled(x).item() == 7.0 + 5.0 + 20.0
    finally:
        TABLE[:], RATES[:] = before
