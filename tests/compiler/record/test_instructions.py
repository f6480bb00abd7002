"""Instructions: what each reads and changes of the user's objects, as the watch is told."""

import contextvars
import copy
import datetime
import functools
import numbers
import operator
import os
import random
import time
import types

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.compiler.record.instructions import PLANS, plan_of
from tinytorch.compiler.record.watch import Watch

NUMBER, TABLE, LIST = 3, {"k": 1, "j": 2}, [1, [2]]
THING = types.SimpleNamespace(k=1, inner=types.SimpleNamespace(k=2))
ARRAY, PAIRS, TENSOR = [np.arange(4.0)], {"a": {"k": 1}}, tt.ones(3)
CONTEXT = contextvars.ContextVar("context", default=1)


class Point:
    """Matched by position."""

    __match_args__ = ("x", "y")

    def __init__(self):
        self.x, self.y = 1, 2

    def size(self):
        return self.x


class Longer(Point):
    """A class with a base."""

    def size(self):
        return super().size()


class Slotted:
    """A class whose objects have no dict."""

    __slots__ = ("k",)


POINT, LONGER, SLOTTED, SLOT = Point(), Longer(), Slotted(), Slotted.__dict__["k"]
SLOTTED.k = 1


def watched(function):
    """(what was read, what changes) of a call of a function."""
    with Watch() as watch:
        watch.run(function, (), {})
        guards = watch.finish()
        written = {name for _, name, _ in watch.written.values()}
        changed = [x for x, _ in watch.snapshots.values()]
        watch.take_back()
    assert watch.complete, watch.why
    name = function.__qualname__
    return {(g.kind, g.shown) for g in guards if not g.shown.startswith(name)}, written, changed


def cell():
    k = 1

    def function():
        return k

    return function


def swapped():
    inner = TABLE.items()
    return [a for a, _ in inner]


def formatted():
    return f"{LIST} {NUMBER!r:>4}"


def matched():
    match POINT:
        case Point(1, y):
            return y
    return None


def matched_keys():
    match TABLE:
        case {"k": k}:
            return k
    return None


READS = {
    "a global": (lambda: NUMBER, {("item", "NUMBER")}),
    "a builtin": (lambda: len, {("has", "len")}),
    "a cell": (cell(), {("attr", "k")}),
    "attributes": (
        lambda: THING.inner.k,
        {("item", "THING"), ("attr", "THING.inner"), ("attr", "THING.inner.k")},
    ),
    "an item of a dict": (lambda: TABLE["k"], {("item", "TABLE"), ("item", "TABLE['k']")}),
    "a key that is there": (lambda: "k" in TABLE, {("item", "TABLE"), ("item", "TABLE['k']")}),
    "a key that is not": (lambda: "z" in TABLE, {("item", "TABLE"), ("has", "TABLE['z']")}),
    "an item of a list": (lambda: LIST[0], {("item", "LIST"), ("item", "LIST[0]")}),
    "a slice of a list": (lambda: LIST[:1], {("item", "LIST"), ("all", "LIST")}),
    "a comparison": (lambda: LIST == [], {("item", "LIST"), ("all", "LIST"), ("all", "LIST[1]")}),
    "a sum of lists": (lambda: (LIST + [])[0], {("item", "LIST"), ("all", "LIST")}),
    "a text with numbers": (
        lambda: "%s" % LIST,  # noqa: UP031
        {("item", "LIST"), ("all", "LIST"), ("all", "LIST[1]")}
    ),
    "an abstract class": (
        lambda: isinstance(NUMBER, numbers.Number),
        {
            ("has", "isinstance"), ("item", "NUMBER"), ("item", "numbers"),
            ("call", "the classes of an ABC"),
        },
    ),
    "several classes": (
        lambda: isinstance(NUMBER, (int, str)),
        {("has", "isinstance"), ("item", "NUMBER"), ("has", "int"), ("has", "str")},
    ),
    "a truth": (lambda: not LIST, {("item", "LIST"), ("all", "LIST")}),
    "unpacking": (lambda: [*LIST][0], {("item", "LIST"), ("all", "LIST")}),
    "a loop over items": (swapped, {("item", "TABLE"), ("all", "TABLE")}),
    "a formatted text": (
        formatted, {("item", "LIST"), ("item", "NUMBER"), ("all", "LIST"), ("all", "LIST[1]")}
    ),
    "numbers of an array": (
        lambda: ARRAY[0][1:3], {("item", "ARRAY"), ("item", "ARRAY[0]"), ("array", "ARRAY[0]")}
    ),
    "an index of a Tensor": (
        lambda: TENSOR[LIST[:1]], {("item", "TENSOR"), ("item", "LIST"), ("all", "LIST")}
    ),
    "environment": (
        lambda: os.environ.get("HOME"), {("item", "os"), ("call", "os.environ")}
    ),
    "a getattr": (
        lambda: getattr(THING, "k"),  # noqa: B009
        {("has", "getattr"), ("item", "THING"), ("attr", "THING.k")},
    ),
    "a __getattribute__": (
        lambda: object.__getattribute__(POINT, "x"),
        {("has", "object"), ("item", "POINT"), ("attr", "POINT.x")},
    ),
    "a slot asked itself": (
        lambda: SLOT.__get__(SLOTTED, Slotted),
        {("item", "SLOT"), ("item", "SLOTTED"), ("item", "Slotted"), ("attr", "SLOTTED.k")},
    ),
    "a vars": (
        lambda: vars(THING)["k"],
        {("has", "vars"), ("item", "THING"), ("item", "vars(THING)['k']")},
    ),
    "a dir": (lambda: dir(THING), {("has", "dir"), ("item", "THING"), ("names", "dir(THING)")}),
    "a context variable": (
        lambda: CONTEXT.get(), {("item", "CONTEXT"), ("call", "a context variable")}
    ),
    "a getter": (
        lambda: operator.itemgetter("k")(TABLE),
        {("item", "operator"), ("item", "TABLE"), ("item", "TABLE['k']"), ("all", "TABLE")},
    ),
    "a copy": (
        lambda: copy.deepcopy(PAIRS),
        {("item", "copy"), ("item", "PAIRS"), ("all", "PAIRS"), ("all", "PAIRS['a']")},
    ),
    "a partial function": (
        lambda: functools.partial(operator.getitem, TABLE)("k"),
        {("item", "functools"), ("item", "operator"), ("item", "TABLE"), ("all", "TABLE")},
    ),
    "a match of keys": (  # and whether there are enough of them
        matched_keys, {("item", "TABLE"), ("item", "TABLE['k']"), ("all", "TABLE")}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_is_read(name):
    """Ground truth: what the line of each form depends on, and that nothing changes."""
    function, expected = READS[name]
    read, written, changed = watched(function)
    assert read == expected and not written and not changed


def test_a_match_of_a_class_reads_its_arguments():
    """Ground truth: the class of POINT, and the attributes that __match_args__ names."""
    read, _, _ = watched(matched)
    assert {("attr", "POINT.x"), ("attr", "POINT.y"), ("kind", "type(POINT)")} <= read


def test_super_reads_the_bases():
    """Ground truth: Longer.size, and Point.size through it, and x."""
    read, _, _ = watched(lambda: LONGER.size())
    assert {("attr", "Longer.size"), ("item", "Point.size"), ("attr", "self.x")} <= {
        (kind, shown.replace("LONGER.", "self.")) for kind, shown in read
    }


def stores_a_global():
    global NUMBER
    NUMBER = NUMBER + 1


def stores_a_cell():
    k = 1

    def function():
        nonlocal k
        k = 2

    return function


def deletes():
    del THING.inner.k


def stores_an_item():
    TABLE["k"] = 2


def deletes_an_item():
    del TABLE["k"]


def stores_a_slice():
    LIST[1:] = [4]


def adds_in_place():
    global LIST
    LIST += [1]


WRITES = {
    "a global": (stores_a_global, {"NUMBER"}, None),
    "a cell": (stores_a_cell(), {"cell_contents"}, None),
    "an attribute": (lambda: setattr(THING, "k", 5), {"k"}, None),
    "an attribute past __setattr__": (lambda: object.__setattr__(THING, "k", 5), {"k"}, None),
    "an attribute deleted": (deletes, {"k"}, None),
    "an item": (stores_an_item, set(), "TABLE"),
    "an item deleted": (deletes_an_item, set(), "TABLE"),
    "a slice": (stores_a_slice, set(), "LIST"),
    "a method": (lambda: LIST.append(3), set(), "LIST"),
    "more than a list": (adds_in_place, {"LIST"}, "LIST"),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_changes_is_noted_before_it_does(name, monkeypatch):
    """Ground truth: what the line of each form changes."""
    fresh = {"NUMBER": 3, "TABLE": {"k": 1}, "LIST": [1]}
    for key, value in fresh.items():
        monkeypatch.setitem(globals(), key, value)
    monkeypatch.setattr(THING, "k", 1)
    monkeypatch.setattr(THING.inner, "k", 2)
    function, expected, container = WRITES[name]
    read, written, changed = watched(function)
    assert written == expected
    if name.startswith(("an attribute p", "a method", "a global", "an item")):  # nothing is read
        assert {kind for kind, _ in read} <= {"item", "has"}
    assert [id(x) for x in changed] == ([id(fresh[container])] if container else [])


@pytest.mark.parametrize(
    "function",
    [
        lambda: time.perf_counter(), lambda: random.random(), lambda: datetime.datetime.now(),
        lambda: next(ITERATOR),
    ],
)  # fmt: skip
def test_what_answers_otherwise_each_time_is_used_once(function):
    """Ground truth: two calls give two answers."""
    with Watch() as watch:
        watch.run(function, (), {})
        watch.finish()
    assert not watch.complete and "otherwise each time" in watch.why


ITERATOR = iter(range(10**9))


def test_the_plans_of_code_are_bounded():
    """Ground truth: PLANS code objects at most; a plan is made once."""
    code = stores_a_global.__code__
    assert plan_of(code) is plan_of(code)
    for i in range(PLANS + 1):
        plan_of(compile(f"x{i}", "<many>", "eval"))
    assert plan_of(code) == plan_of(code)


def test_an_argument_wider_than_a_byte_is_seen():
    """Ground truth: EXTENDED_ARG: the 300th name of a function is read as the first is."""
    lines = "\n".join(f"    v{i} = TABLE['k{i}']" for i in range(300))
    namespace = {"TABLE": {f"k{i}": i for i in range(300)}}
    exec(f"def many():\n{lines}\n    return TABLE.last\n".replace(".last", "['k299']"), namespace)
    read, _, _ = watched(namespace["many"])
    assert {("item", f"TABLE['k{i}']") for i in range(300)} <= read
