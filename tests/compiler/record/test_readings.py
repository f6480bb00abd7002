"""Readings: the guards of one access fail with what it gives, and with nothing else."""

import collections
import enum
import functools
import itertools
import operator
import types

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.compiler.record.guards import Guards
from tinytorch.compiler.record.readings import Readings, holds_tensor


class Noted(Readings):
    """Readings alone: what would be called is kept."""

    def __init__(self):
        super().__init__()
        self.called = []

    def will_call(self, function, arguments):
        self.called.append((function, arguments))


ACCESSES = {}


def access(make):
    """`make()` gives (what is read, a change that it sees, a change that it does not see)."""
    ACCESSES[make.__name__] = make
    return make


def classes():
    """Base, Derived(Base): made anew, as they are changed."""
    Base = type("Base", (), {"k": 1, "other": 1})
    return Base, type("Derived", (Base,), {"__slots__": ()})


def read(x, name):
    return lambda seen: seen.read_attribute(x, name)


@access
def an_attribute_of_the_object():
    x = types.SimpleNamespace(k=1, other=1)
    return read(x, "k"), lambda: setattr(x, "k", 2), lambda: setattr(x, "other", 2)


@access
def an_attribute_of_the_class():
    Base, Derived = classes()
    x = Derived()
    return read(x, "k"), lambda: setattr(Base, "k", 2), lambda: setattr(Base, "other", 2)


@access
def an_attribute_that_a_class_between_comes_to_have():
    _, Derived = classes()
    x = Derived()
    return read(x, "k"), lambda: setattr(Derived, "k", 2), lambda: setattr(Derived, "other", 2)


@access
def an_attribute_that_the_object_comes_to_have():
    Base, _ = classes()
    x = Base()
    return read(x, "k"), lambda: setattr(x, "k", 2), lambda: setattr(x, "other", 2)


@access
def a_hidden_attribute_that_a_module_comes_to_have():
    Layer = type("Layer", (nn.Module,), {"_k": 1, "other": 1})
    layer = Layer()
    return read(layer, "_k"), lambda: setattr(layer, "_k", 2), lambda: setattr(layer, "_o", 2)


@access
def an_attribute_that_nobody_has():
    Base, Derived = classes()
    x = Derived()
    return read(x, "new"), lambda: setattr(Base, "new", 2), lambda: setattr(Base, "k", 2)


@access
def an_attribute_that_new_bases_have():
    Base, Derived = type("Base", (), {}), type("Derived", (type("Other", (), {}),), {})
    return (
        read(Derived(), "new"),
        lambda: setattr(Derived, "__bases__", (type("New", (Base,), {"new": 1}),)),
        lambda: setattr(Base, "new", 2),
    )


@access
def the_class_of_an_object():
    Base, Derived = classes()
    x = Base()
    return (
        lambda seen: seen.read_class(x),
        lambda: setattr(x, "__class__", type("New", (), {})),
        lambda: setattr(Base, "k", 2),
    )


@access
def a_slot():
    Slotted = type("Slotted", (), {"__slots__": ("k", "other")})
    x = Slotted()
    return read(x, "k"), lambda: setattr(x, "k", 2), lambda: setattr(x, "other", 2)


@access
def a_property():
    Base = type("Base", (), {"k": property(lambda self: self.other)})
    x = Base()
    return read(x, "k"), lambda: setattr(Base, "k", property(id)), lambda: vars(x).update(k=2)


@access
def a_property_of_a_library():
    x = types.SimpleNamespace(k=1, other=1)
    Base = type("Base", (), {"k": property(functools.partial(getattr, x, "k"))})
    return read(Base(), "k"), lambda: setattr(Base, "k", 3), lambda: setattr(x, "other", 2)


@access
def an_attribute_of_a_class():
    Base, Derived = classes()
    return read(Derived, "k"), lambda: setattr(Base, "k", 2), lambda: setattr(Base, "other", 2)


@access
def an_attribute_of_a_metaclass():
    Meta = type("Meta", (type,), {"k": 1, "other": 1})
    Base = Meta("Base", (), {})
    return read(Base, "k"), lambda: setattr(Meta, "k", 2), lambda: setattr(Meta, "other", 2)


@access
def a_property_of_a_metaclass():
    Meta = type("Meta", (type,), {"k": property(lambda cls: 1)})
    Base = Meta("Base", (), {})
    return read(Base, "k"), lambda: setattr(Meta, "k", 2), lambda: setattr(Meta, "other", 2)


@access
def an_attribute_of_super():
    Base, Derived = classes()
    x = Derived()
    return (
        lambda seen: seen.read_attribute(super(Derived, x), "k"),
        lambda: setattr(Base, "k", 2),
        lambda: setattr(x, "k", 2),
    )


@access
def an_attribute_of_super_that_nobody_has():
    Base, Derived = classes()
    x = Derived()
    return (
        lambda seen: seen.read_attribute(super(Derived, x), "new"),
        lambda: setattr(Base, "new", 2),
        lambda: setattr(Derived, "new", 2),
    )


@access
def the_word_of_an_enumeration():
    Colour = enum.Enum("Colour", "RED GREEN")
    return (
        read(Colour.RED, "value"),
        lambda: setattr(Colour.RED, "_value_", 5),
        lambda: setattr(Colour.GREEN, "_value_", 5),
    )


@access
def a_name_of_a_module():
    module = types.ModuleType("users")
    module.k = module.other = 1
    return read(module, "k"), lambda: setattr(module, "k", 2), lambda: setattr(module, "other", 2)


@access
def a_name_that_a_module_does_not_have():
    module = types.ModuleType("users")
    return read(module, "k"), lambda: setattr(module, "k", 2), lambda: setattr(module, "other", 2)


@access
def whether_a_tensor_gathers_a_gradient():
    x = tt.ones(2)
    return read(x, "requires_grad"), lambda: x.requires_grad_(), lambda: x.fill_(2)


@access
def an_item_of_a_dict():
    table = {"k": 1, "other": 1}
    return (
        lambda seen: seen.read_item(table, "k", "k"),
        lambda: table.update(k=2),
        lambda: table.update(other=2),
    )


@access
def an_item_that_a_dict_does_not_have():
    table = {}
    return (
        lambda seen: seen.read_item(table, "k", "k"),
        lambda: table.update(k=2),
        lambda: table.update(other=2),
    )


@access
def an_item_of_a_list():
    numbers = [1, 2]
    return (
        lambda seen: seen.read_item(numbers, -1, "last"),
        lambda: numbers.append(3),
        lambda: numbers.insert(0, 3),
    )


@access
def the_items_of_a_list():
    numbers, inner = [1, [2]], [3]
    return (
        lambda seen: seen.read_all(numbers),
        lambda: numbers.append(3),
        lambda: (numbers[1].append(4), inner.append(4)),
    )


@access
def the_items_of_lists_in_a_list():
    numbers = [1, [2, [3]]]
    return (
        lambda seen: seen.read_inside(numbers, 1),
        lambda: numbers[1].append(3),
        lambda: numbers[1][1].append(4),
    )


@access
def the_values_of_a_dict():
    table = {"k": 1}
    return lambda seen: seen.read_inside(table.values()), lambda: table.update(k=2), lambda: None


@access
def the_bounds_of_a_slice():
    bounds = [1]
    return (
        lambda seen: seen.read_inside(slice(bounds, 2)),
        lambda: bounds.append(2),
        lambda: None,
    )


@access
def a_container_of_the_standard_library():
    table = collections.UserDict(k=[1])
    return (
        lambda seen: seen.read_inside(table),
        lambda: table.update(k=2),
        lambda: table["k"].append(2),
    )


@access
def the_maps_of_a_chain():
    table, under = {"k": 1}, {}
    chain = collections.ChainMap(table, under)
    return lambda seen: seen.read_inside(chain), lambda: under.update(k=2), lambda: None


@access
def the_numbers_of_an_array_in_a_list():
    held = [np.zeros(3)]

    def act(seen):
        seen.read_item(held, 0, "held[0]")
        seen.read_array(held[0][1:])

    return act, lambda: held[0].fill(1), lambda: held[0].__setitem__(0, 5)


@access
def a_part_of_an_array_in_a_list():
    held = [np.zeros(3)]

    def act(seen):
        seen.read_item(held, 0, "held[0]")
        seen.read_array(held[0], slice(0, 2))

    return act, lambda: held[0].fill(1), lambda: held[0].__setitem__(2, 5)


@access
def an_object_that_a_library_reads():
    x = types.SimpleNamespace(k=1, inner=types.SimpleNamespace(k=1))
    return lambda seen: seen.read_by_library(x), lambda: setattr(x.inner, "k", 2), lambda: None


@access
def a_function_with_arguments_that_a_library_reads():
    numbers, other = [1], [1]
    given = functools.partial(print, numbers, k=numbers)
    return (
        lambda seen: seen.read_by_library(given),
        lambda: numbers.append(2),
        lambda: other.append(2),
    )


@access
def a_class_that_a_library_reads():
    Base, Derived = classes()
    return (
        lambda seen: seen.read_by_library(Derived, objects=True),
        lambda: setattr(Base, "new", 2),
        lambda: None,
    )


@pytest.mark.parametrize("name", ACCESSES)
def test_a_guard_fails_with_what_was_read(name):
    """Ground truth: the change of each form, and one that reading it again does not show."""
    act, change, other = ACCESSES[name]()
    seen = Noted()
    act(seen)
    guards = Guards(seen.guards.values())
    assert guards.guards and guards.hold()
    other()
    assert guards.hold()
    change()
    assert not guards.hold()


UNGUARDED = {
    "memory": (lambda seen: seen.read_inside(memoryview(b"12")), "reads the memory of"),
    "iterator": (lambda seen: seen.not_repeatable(iter("ab"), "it"), "answers otherwise"),
    "object made anew": (
        lambda seen: seen.read_directly(types.SimpleNamespace().__class__, "__subclasses__", "s"),
        None,
    ),
    "another object each time": (
        lambda seen: seen.read_directly(
            type("C", (), {"k": property(lambda self: object())})(), "k", "o.k"
        ),
        "reads o.k, another object each time",
    ),
}


@pytest.mark.parametrize("name", UNGUARDED)
def test_what_no_guard_can_tell_of_says_why(name):
    """Ground truth: memory and iterators answer otherwise without a change that could be seen;
    a method bound anew is the same method."""
    act, why = UNGUARDED[name]
    seen = Noted()
    act(seen)
    assert [why in reason for _, reason in seen.unguarded] == ([True] if why else [])


def test_what_the_call_wrote_is_no_reading():
    """Invariant: names, attributes and elements that were set before they are read are its own."""
    x, table, numbers = types.SimpleNamespace(k=1), {"k": 1, "j": 1}, [1, 2]
    seen = Noted()
    seen.will_set_attribute(x, "k")
    seen.will_set_attribute(x, "new")
    seen.read_attribute(x, "k")
    seen.will_change(table)
    seen.set_items.add((id(table), "k"))
    seen.read_item(table, "k", "k")
    assert not seen.guards
    assert [(name, old) for _, name, old in seen.written.values()][0] == ("k", 1)
    table["j"], before = 5, dict(table)
    seen.read_item(table, "j", "j")  # what it held before the call changed it
    (guard,) = seen.guards.values()
    assert guard.held == 1 and seen.snapshots[id(table)][1] == before
    seen.will_change(numbers)
    numbers.append(3)
    seen.read_item(numbers, 0, "numbers[0]")  # its places have moved: all of it is read
    assert list(seen.guards.values())[-1].kind == "all"
    assert list(seen.guards.values())[-1].held[0] == [1, 2]


@pytest.mark.parametrize(
    "container, method, read, changed",
    [
        ([1], "append", False, True), ([1], "pop", True, True), ([1], "index", True, False),
        ({"k": 1}, "get", False, False), ({"k": 1}, "update", False, True),
        ({"k": 1}, "items", True, False), ({1}, "add", False, True),
        (collections.deque([1]), "popleft", True, True), (bytearray(b"1"), "find", True, False),
    ],
)  # fmt: skip
def test_methods_of_containers(container, method, read, changed):
    """Ground truth: what the method does: append() reads nothing, items() changes nothing."""
    seen = Noted()
    seen.will_call_method(container, method)
    assert [g.kind for g in seen.guards.values()] == (["all"] if read else [])
    assert (id(container) in seen.snapshots) is changed


def test_getters_of_the_operator_module_are_called():
    """Ground truth: a property whose getter is one reads what that reads."""
    getter = operator.attrgetter("other")
    x = type("C", (), {"k": property(getter)})()
    seen = Noted()
    seen.read_attribute(x, "k")
    assert seen.called == [(getter, [x])]


def test_changes_of_modules_are_counted():
    """Ground truth: settings.STRUCTURE counts them, but for Tensors that are no parameters."""
    layer, seen = nn.Linear(2, 2), Noted()
    layer.scale, layer.mask = 2.0, tt.ones(2)
    for name in ("scale", "mask"):
        seen.read_attribute(layer, name)
    assert [g.counted for g in seen.guards.values()] == [True, False]


def test_how_the_user_writes_it():
    """Ground truth: the first name that was met; else the class."""
    x, seen = types.SimpleNamespace(k=[1]), Noted()
    assert seen.shown(x) == "SimpleNamespace" and seen.shown(int) == "int"
    seen.add_name(x, "settings")
    seen.add_name(x, "other")
    seen.read_attribute(x, "k")
    seen.read_all(x.k)
    assert [g.shown for g in seen.guards.values()] == ["settings.k", "settings.k"]


def test_what_was_there_before_the_call():
    """Ground truth: `old` and what was read from it; not what lies in the young generation."""
    seen, old, young = Noted(), types.SimpleNamespace(), types.SimpleNamespace()
    table, numbers = {"k": 1}, np.ones(2)  # in no generation: plain values
    ids = {id(young)}
    assert seen.is_old(old, ids) and not seen.is_old(young, ids)
    assert not seen.is_old(numbers, ids)
    seen.found(numbers, "numbers", old)
    seen.found(table, "table", young)
    assert seen.is_old(numbers, ids) and not seen.is_old(table, ids | {id(table)})
    assert seen.is_old(super(types.SimpleNamespace, old), ids)


def test_containers_of_tensors():
    """Ground truth: by hand; four containers deep."""
    x = tt.ones(1)
    deep = {1: {1: {1: {1: {1: x}}}}}
    for held in (x, [x], {"k": (1, x)}, {x}, [[[[x]]]]):
        assert holds_tensor(held)
    for held in (1, [1], {"k": np.ones(1)}, [[[[[x]]]]], deep, iter([x]), itertools.repeat(x)):
        assert not holds_tensor(held)


def test_how_deep_tuples_are_looked_into():
    """Ground truth: counted by hand; the deepest tuple that may be entered is."""
    held = []
    inside = ((held,),)
    for depth, reached in ((0, False), (1, False), (2, True)):
        seen = Noted()
        seen.read_inside(inside, depth)
        assert (("all", id(held), None) in seen.guards) is reached
