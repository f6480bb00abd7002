"""Native code with variables, free loops and ways, and what the code of a tokenizer is given.

Knows how instructions follow each other and where numbers lie, never what they are for.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

from tinytorch.codegen.builder import Function, Value


class Fields(IntEnum):
    """What lies where in the array `fields`."""

    CLASSES = 0  # address of a byte for each code point, and one for BROKEN
    BYTE_IDS = 1  # address of 256 int32
    PAIR_KEYS = 2  # address of int64: first << 32 | second, NONE where there is nothing
    PAIR_VALUES = 3  # address of int64: rank << 32 | token
    PAIR_SHIFT = 4  # 64 - bits of a place in the table of pairs
    PAIR_MASK = 5
    KEPT = 6  # address of the kept words, ENTRY bytes each
    KEPT_SHIFT = 7  # 64 - bits of a place among them
    WORK = 8  # address of memory for one word
    CAPACITY = 9  # symbols of a word for which it is enough
    OUT = 10  # address of the ids, int32: at most a text's bytes, and SLACK
    AT = 11  # where in the text the next word begins; 0 before a text, and again after it
    COUNT = 12  # ids written; likewise


class Flow(Function):
    """A function with variables in memory, which LLVM puts into registers, and with free loops."""

    def variable(self, name: str, start: Value) -> Variable:
        """A number that changes."""
        name = self.fresh(name + ".var")
        self.lines.insert(0, f'  %"{name}" = alloca {start.type}')
        made = Variable(self, Value(f'%"{name}"', "ptr"), start.type)
        made.set(start)
        return made

    @contextmanager
    def repeat(self, name: str) -> Generator[Repeat, None, None]:
        """Do the body again and again, until one of its ways leaves."""
        loop = Repeat(self, self.fresh(name))
        self.branch(loop.head)
        self.block(loop.head)
        yield loop
        self.branch(loop.head)
        self.block(loop.done)

    @contextmanager
    def either(self, condition: Value, name: str = "case") -> Generator[Either, None, None]:
        """Two ways: what is written first, and behind `otherwise()`."""
        ways = Either(self, self.fresh(name))
        self.branch_if(condition, ways.yes, ways.no)
        self.block(ways.yes)
        yield ways
        self.branch(ways.done)
        if not ways.parted:
            self.block(ways.no)
            self.branch(ways.done)
        self.block(ways.done)

    def number(self, n: int, type: str = "i64") -> Value:
        """A constant."""
        return self.const(type, n - (1 << 64) if n >= 1 << 63 else n)

    def field(self, name: Fields) -> Value:
        """A number of the array of fields."""
        return self.load(self.at(self.fields, self.index(name), "i64"), "i64", stem=name.name)

    def table(self, name: Fields) -> Value:
        """An address of the array of fields."""
        return self.load_pointer(self.at(self.fields, self.index(name), "i64"), name.name)

    def byte(self, pointer: Value, at: Value, ahead: int = 0) -> Value:
        """A byte as i64."""
        there = self.at(pointer, self.add(at, self.index(ahead)), "i8")
        return self.convert(self.load(there, "i8"), "i64", signed=False)

    def pick(self, pointer: Value, at: Value) -> Value:
        """An element of an array of int32, as i64."""
        there = self.load(self.at(pointer, at, "i32"), "i32")
        return self.convert(there, "i64", signed=False)

    def put(self, value: Value, pointer: Value, at: Value) -> None:
        """Store into an array of int32."""
        self.store(self.convert(value, "i32"), self.at(pointer, at, "i32"))

    def is_one_of(self, value: Value, *numbers: int) -> Value:
        """Whether it is one of these."""
        first, *rest = (self.compare("eq", value, self.index(n)) for n in numbers)
        for other in rest:
            first = self.op("or", first, other)
        return first


class Variable:
    """A number that changes: memory, which LLVM puts into a register.

    Args:
        f: whose it is.
        place: its address.
        type: of the number.
    """

    def __init__(self, f: Flow, place: Value, type: str):
        self._f, self._place, self._type = f, place, type

    def get(self) -> Value:
        """What it is now."""
        return self._f.load(self._place, self._type)

    def set(self, value: Value) -> None:
        """Be this from now on."""
        self._f.store(value, self._place)

    def add(self, value: Value | int) -> None:
        """Be so much more."""
        f = self._f
        self.set(f.add(self.get(), f.index(value) if isinstance(value, int) else value))


class Repeat:
    """A loop that is being written.

    Args:
        f: where it is.
        name: of its labels.
    """

    def __init__(self, f: Flow, name: str):
        self._f, self.head, self.done = f, f"{name}.head", f"{name}.done"
        self._name = name

    def leave_if(self, condition: Value) -> None:
        """End the loop if the condition holds."""
        on = self._f.fresh(f"{self._name}.on")
        self._f.branch_if(condition, self.done, on)
        self._f.block(on)

    def again_if(self, condition: Value) -> None:
        """Begin the next turn at once if the condition holds."""
        on = self._f.fresh(f"{self._name}.on")
        self._f.branch_if(condition, self.head, on)
        self._f.block(on)


class Either:
    """Two ways that are being written.

    Args:
        f: where they are.
        name: of their labels.
    """

    def __init__(self, f: Flow, name: str):
        self._f, self.parted = f, False
        self.yes, self.no, self.done = f"{name}.yes", f"{name}.no", f"{name}.done"

    def otherwise(self) -> None:
        """What follows is done where the condition does not hold."""
        self.parted = True
        self._f.branch(self.done)
        self._f.block(self.no)


INLINE, CALLED = "alwaysinline nounwind", "noinline nounwind"


def function(
    name: str, parameters: list[tuple[str, str]], result: str, attributes: str = CALLED
) -> Flow:
    """A new function that the module alone calls."""
    return Flow(name, parameters, result, attributes, "internal")


def low(f: Flow, value: Value) -> Value:
    """The lower half of 64 bits."""
    return f.op("and", value, f.number(0xFFFFFFFF), "low")


def high(f: Flow, value: Value) -> Value:
    """The upper half of 64 bits."""
    return f.op("lshr", value, f.index(32), "high")
