"""Objects that answer questions about themselves with code of their own are not asked."""

import collections
import sys
import types

import pytest

import tinytorch as tt
from tests.compiler.record import test_watch
from tinytorch.compiler.record import objects
from tinytorch.compiler.record.objects import MISSING


class Liar(dict):
    """Says it is an int, without a dict, and fails at every attribute."""

    def __getattribute__(self, name):
        if name == "__class__":
            return int
        raise RuntimeError(name)


class Base:
    __slots__ = ("slot",)
    shared = 1


class Derived(Base):
    shared = 2
    also = shared

    def __init__(self):
        self.own = 3


def test_a_class_is_told_past_the_objects_own_answer():
    """Ground truth: `type(x)`, which no class can change."""
    assert isinstance(Liar(), int) and not objects.is_a(Liar(), int)
    assert objects.is_a(Liar(), dict) and objects.is_a(True, int)
    assert objects.name_of(Liar) == "Liar" and objects.module_of(Liar) == __name__


def test_what_an_object_and_a_class_hold():
    """Ground truth: the definitions above."""
    liar, x = Liar(), Derived()
    object.__setattr__(liar, "k", 1)
    assert objects.dict_of_object(liar) == {"k": 1}
    assert objects.dict_of_object(3) is None and objects.own_dict(3) is None
    assert objects.own_dict(x) is x.__dict__ and x.own == 3
    assert objects.own_dict(Derived)["shared"] == 2  # the dict, not a proxy of it
    assert objects.dict_of_class(Derived) is objects.own_dict(Derived)
    assert type(objects.dict_of_class(Derived)) is dict
    assert objects.bases_of(Derived) == (Derived, Base, object)
    assert objects.slots_of(Derived) == ["slot"] and objects.slots_of(int) == []


def test_what_a_class_and_its_bases_hold_under_a_name():
    """Ground truth: the order in which Python asks them."""
    assert objects.owner_of(Derived, "shared") is Derived
    assert objects.owner_of(Base, "shared") is Base and objects.owner_of(Base, "own") is None
    assert objects.found_in(Derived, "shared") == 2
    assert objects.found_in(Derived, "slot") is Base.__dict__["slot"]
    assert objects.found_in(Derived, "nothing") is MISSING
    two = Derived.__dict__["shared"]
    assert objects.names_in(Derived, two) == ["also", "shared"]
    assert objects.names_in(Derived, Base.__dict__["shared"]) == []  # Derived covers it


def test_special_methods_and_classes_that_can_change():
    """Ground truth: Python's data model; of builtin and of immutable types none can."""
    assert objects.has_method(property(), "__set__") and not objects.has_method(len, "__set__")
    assert objects.can_change_class(Derived) and not objects.can_change_class(int)
    assert not objects.can_change_class(type(sys.flags))


def test_the_dict_behind_what_shows_it():
    """Invariant: a proxy or a view gives the dict itself, anything else is given back."""
    table = {"k": 1}
    for shown in (types.MappingProxyType(table), table.keys(), table.values(), table.items()):
        assert objects.dict_behind(shown) is table
    assert objects.dict_behind(types.MappingProxyType(types.MappingProxyType(table))) is table
    assert objects.dict_behind(table) is table and objects.dict_behind(3) == 3


def test_questions_that_fail_have_an_answer():
    """Ground truth: the default; a list is no key; a message shows numbers and class names."""
    assert objects.asked(Liar(), "k", "default") == "default"
    assert objects.asked(Derived(), "own", 0) == 3
    assert objects.hashable((1, "a")) and not objects.hashable(([],))
    assert objects.short("k") == "'k'" and objects.short(Derived()) == "Derived"


@pytest.mark.parametrize(
    "make, kind, key",
    [
        (lambda: {"k": 1}, "item", "k"),
        (lambda: [1, 2], "item", 1),
        (Derived, "attr", "own"),
        (lambda: type("C", (), {"k": 1}), "attr", "k"),
        (lambda: types.CellType(1), "attr", "cell_contents"),
    ],
)
def test_what_is_put_is_there_past_setattr(make, kind, key):
    """Ground truth: reading it back."""
    x, value = make(), object()
    objects.put(kind, x, key, value)
    assert (x[key] if kind == "item" else getattr(x, key)) is value


class Guarded:
    def __setattr__(self, name, value):
        raise AssertionError(name)

    __delattr__ = __setattr__


def test_what_is_put_runs_no_code_of_the_user_and_can_be_taken_away():
    """Invariant: `__setattr__` is passed by; MISSING deletes, also what is not there."""
    x, table = Guarded(), {"k": 1}
    objects.put("attr", x, "k", 1)
    assert x.k == 1
    objects.put("attr", x, "k", MISSING)
    assert not hasattr(x, "k")
    objects.put("item", table, "k", MISSING)
    objects.put("item", table, "k", MISSING)
    assert table == {}


@pytest.mark.parametrize(
    "container, contents",
    [([1], [2, 3]), ({1: 1}, {2: 3}), ({1}, [2]), (collections.deque([1]), [2, 3])],
)
def test_a_container_is_refilled(container, contents):
    """Ground truth: a container made of the contents."""
    objects.refill(container, contents)
    assert container == type(container)(contents)


def test_whose_code_it_is():
    """Ground truth: this file is a user's; the package, the standard library and pytest are not."""
    assert not objects.is_library(__file__) and objects.is_library(tt.__file__)
    assert objects.is_library(collections.__file__) and objects.is_library(pytest.__file__)
    assert objects.is_library("<frozen os>") and not objects.is_library("<stdin>")
    assert objects.of_library(collections) and objects.of_library("os.path")
    assert not objects.of_library(test_watch) and not objects.of_library("__main__")
    assert objects.is_library_class(int) and objects.is_library_class(tt.Tensor)
    assert not objects.is_library_class(Derived)
    assert objects.is_users(Derived.__init__) and not objects.is_users(collections.namedtuple)
    assert not objects.is_users(len)
