"""Reading a pickle of plain values and NumPy arrays without executing it.

Knows the opcodes of the format and a few names; never imports or calls what a file asks for.

Note [why not pickle.Unpickler]
    The standard library's reader is a machine that runs the file's program. With a `find_class`
    that admits known names alone it still sets attributes of what it is given (BUILD), takes what
    other code registered (EXT1, EXT2, EXT4), fills dictionaries with keys that were chosen to
    collide or whose hash takes for ever, and keeps a place for every number up to the one that a
    file remembers something by (LONG_BINPUT): memory without end from six bytes. So opcodes and
    their arguments are read by `pickletools.genops`, which never does what they say, and what plain
    values and arrays need of them is done here. Whatever has no line in `_Reader.do` is refused.

Source: the Python standard library's pickletools (a description of each opcode), and PEP 3154, 574.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch.base.errors import FileFormatError, short

# What a file may name, and what each stands for here. Python 2 and NumPy 1 and 2 spell them so.
KNOWN = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.numeric _frombuffer": "from bytes",
    "numpy._core.numeric _frombuffer": "from bytes",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
    "__builtin__ bytes": "bytes",
}
# Opcodes whose argument is the value.
VALUES = frozenset(
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINBYTES SHORT_BINBYTES "
    "BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
# Opcodes that begin a value.
FRESH: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple,
}  # fmt: skip
# How many values an opcode takes; those that are not here take all above a mark.
TAKEN = {
    "STOP": 1, "POP": 1, "APPEND": 1, "SETITEM": 2, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3,
    "STACK_GLOBAL": 2, "REDUCE": 2, "BUILD": 2,
}  # fmt: skip
# A dtype's code: as NumPy writes those of plain numbers. Others are whole languages.
PLAIN = re.compile(r"[<>|=]?[biuf](1|2|4|8|16)")
MOST_AXES = 64  # NumPy's limit
LARGEST_KEY = 2**31  # larger whole numbers can be chosen so that a dictionary takes for ever
# A string of protocol 0 with no other escapes than Python 2 writes.
ESCAPED = re.compile(rb"(?:[^\\]|\\(?:x[0-9a-fA-F]{2}|[nrt\\'\"]))*+", re.S)


class _Name:
    """A name that the file asked for and that is known; nothing is imported."""

    def __init__(self, asked: str):
        if asked not in KNOWN:
            raise _Refused(f"it asks for {asked}")
        self.meaning = KNOWN[asked]


class _Dtype:
    """A dtype that is being rebuilt: BUILD brings its byte order."""

    def __init__(self, code: object):
        code = _text(code)
        if not PLAIN.fullmatch(code):
            raise _Refused(f"an array of {short(code)}")
        self.dtype, self.whole = np.dtype(code), False

    def bring_order(self, order: str) -> None:
        """Take the byte order."""
        if order not in ("<", ">", "|", "="):
            raise _Refused("a dtype of another byte order")
        self.dtype, self.whole = self.dtype.newbyteorder(order), True


class _Array:
    """An array that is being rebuilt: BUILD brings what it holds."""

    def __init__(self):
        self.array: np.ndarray | None = None

    def fill(self, shape: object, dtype: object, fortran: bool, content: object) -> None:
        """Take what NumPy wrote of an array."""
        if not (isinstance(dtype, _Dtype) and dtype.whole and isinstance(content, bytes)):
            raise _Refused("an array whose content is not bytes")
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise _Refused("an array whose shape is not a tuple of whole numbers >= 0")
        if len(shape) > MOST_AXES:
            raise _Refused(f"an array of {len(shape)} axes")
        flat = np.frombuffer(content, dtype.dtype) if content else np.empty(0, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")


class _Refused(Exception):
    """Why the file is not read."""


# How reading ends otherwise; the warning, where warnings are errors, is of an escape in a name.
STUMBLED = (_Refused, RecursionError, TypeError, ValueError, OverflowError, DeprecationWarning)


class _Reader:
    """Does the opcodes of one pickle with a stack of values; a mark begins another stack."""

    def __init__(self, content: bytes):
        self.stack: list = []
        self.below: list[list] = []  # the stacks under the marks
        self.memo: dict[int, object] = {}
        self.left = len(content)  # bytes that texts may stand for: no more than the file has

    def do(self, name: str, argument: Any) -> None:
        """One opcode, by its name in pickletools."""
        match name:
            case _ if name in VALUES:
                self.push(argument)
            case _ if name in FRESH:
                self.push(FRESH[name]())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top(object)
            case "GET" | "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise _Refused(f"a value is recalled that was never remembered ({argument})")
                self.push(self.memo[argument])
            case "PROTO" | "FRAME":  # a version, and a hint for buffering
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self.taken(name)
            case "BINSTRING" | "SHORT_BINSTRING":  # of Python 2: bytes, which come as latin-1
                self.push(argument.encode("latin1"))
            case "BYTEARRAY8":
                self.push(bytes(argument))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.push(tuple(self.taken(name)))
            case "LIST":
                self.push(self.taken(name))
            case "DICT":
                self.push(_items(self.taken(name)))
            case "APPEND" | "APPENDS":
                values = self.taken(name)
                self.top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = _items(self.taken(name))
                self.top(dict).update(values)
            case "GLOBAL":
                self.push(_Name(argument))
            case "STACK_GLOBAL":
                module, found = self.taken(name)
                self.push(_Name(f"{_text(module)} {_text(found)}"))
            case "REDUCE":
                self.reduce(*self.taken(name))
            case "BUILD":
                self.build(*self.taken(name))
            case _:
                raise _Refused(f"opcode {name} is not one of plain data")

    def push(self, value: object) -> None:
        """Put a value on top of the stack: the stack under a mark, if one was taken last."""
        self.stack.append(value)

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which stays there."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise _Refused(f"no {kind.__name__} to fill or to remember")
        return self.stack[-1]

    def taken(self, name: str) -> list:
        """The values that an opcode takes: so many, or all above the topmost mark, which goes."""
        if name in TAKEN:
            values = self.stack[-TAKEN[name] :]
            if len(values) < TAKEN[name]:
                raise _Refused(f"a value is missing for {name}")
            del self.stack[-TAKEN[name] :]
            return values
        if not self.below:
            raise _Refused(f"a mark is missing for {name}")
        values, self.stack = self.stack, self.below.pop()
        return values

    def reduce(self, name: object, arguments: object) -> None:
        """Calls of the original; here those that make an array, its shell, a dtype, and bytes."""
        if not isinstance(name, _Name) or type(arguments) is not tuple:
            raise _Refused("a call of something that is not a known name")
        match name.meaning, arguments:
            case "reconstruct", _:
                made = _Array()
            case "dtype", (code, *_):
                made = _Dtype(code)
            case "from bytes", (content, dtype, shape, order):
                made = _Array()
                made.fill(shape, dtype, order == "F", content)
            case "encode", (text, "latin1"):
                made = _text(text).encode("latin1")
                self.left -= len(made)
                if self.left < 0:
                    raise _Refused("texts that stand for more bytes than the file has")
            case "bytes", ():
                made = b""
            case _:
                raise _Refused(f"a call of {name.meaning} with other arguments")
        self.push(made)

    def build(self, target: object, state: object) -> None:
        """The state of an array (version, shape, dtype, Fortran order, bytes) or of a dtype."""
        match target, state:
            case _Array(), (_, shape, dtype, fortran, content) if type(state) is tuple:
                target.fill(shape, dtype, bool(fortran), content)
            case _Dtype(), (_, order, None, None, None, *_) if type(state) is tuple:
                target.bring_order(_text(order))
            case _:
                raise _Refused("a state that is not one of an array of plain numbers")
        self.push(target)


def read_pickled_arrays(content: bytes, name: str) -> Any:
    """The value in a pickle of None, booleans, numbers, strings, lists, tuples, dicts and arrays.

    Args:
        content: the whole pickle, protocol 0 to 5, without out-of-band buffers.
        name: the file, for messages.

    Returns:
        the value. Strings of Python 2 come as bytes. Arrays are of numbers, read-only.

    Raises:
        FileFormatError: the pickle is damaged, or holds something else, whatever that is: nothing
            that it names is imported or called.

    Cost: one pass; about 1 us a value; the arrays twice. A value that stands in many places is
        handed out once: what comes back may be small and have no end when it is printed.

    Example:
        >>> import pickle
        >>> read_pickled_arrays(pickle.dumps({"labels": [3, 1]}), "batch")
        {'labels': [3, 1]}
    """
    reader = _Reader(content)
    try:
        for opcode, argument in _opcodes(content):
            reader.do(opcode, argument)
        (value,) = reader.taken("STOP")
        return finished(value, {})
    except STUMBLED as reason:
        raise FileFormatError(
            f"{name} is not a pickle of plain data",
            got=reason,
            rule="numbers, strings, containers and arrays of numbers; nothing is executed",
            fix="delete the file and fetch it again from its official address",
        ) from None


def _opcodes(content: bytes) -> Iterator[tuple[str, Any]]:
    """The name and argument of each opcode before STOP.

    Strings of protocol 0 are read here: the library's reader takes escapes that nobody writes, and
    before Python 3.12 no bytes above 127.
    """
    file = io.BytesIO(content)
    steps = pickletools.genops(file)
    while True:
        if content[file.tell() : file.tell() + 1] == b"S":
            file.read(1)
            yield "STRING", _quoted(file.readline())
            continue
        opcode, argument, _ = next(steps)
        if opcode.name == "STOP":
            return
        yield opcode.name, argument


def finished(value: Any, done: dict[int, object]) -> Any:
    """The value with rebuilt arrays in place of their parts.

    Args:
        value: as the stack held it.
        done: what is finished already, by identity: a value that stands in many places is gone
            through once, or a small file could take for ever.
    """
    if isinstance(value, _Array):
        if value.array is None:
            raise _Refused("an array without content")
        return value.array
    if isinstance(value, (_Name, _Dtype)):
        raise _Refused("a name where a value should be")
    if type(value) not in (list, tuple, dict):
        return value
    if id(value) in done:
        return done[id(value)]
    if type(value) is tuple:
        done[id(value)] = tuple(finished(v, done) for v in value)
    elif type(value) is list:
        done[id(value)] = fresh = []
        fresh.extend(finished(v, done) for v in value)
    else:
        done[id(value)] = fresh = {}
        fresh.update({k: finished(v, done) for k, v in value.items()})
    return done[id(value)]


def _text(value: object) -> str:
    if not isinstance(value, str | bytes):
        raise _Refused("something else where a text should be")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _items(values: list) -> dict:
    """Keys and values, one after the other."""
    keys = values[::2]
    if len(values) % 2 or not all(map(_is_key, keys)):
        raise _Refused("a key without a value, or one that is not plain")
    return dict(zip(keys, values[1::2], strict=True))


def _is_key(key: object) -> bool:
    if isinstance(key, int):
        return abs(key) < LARGEST_KEY
    return key is None or isinstance(key, str | bytes)


def _quoted(line: bytes) -> bytes:
    """A string of protocol 0: in quotes, special characters escaped."""
    text, quote = line[1:-2], line[:1]
    if line[-2:] != quote + b"\n" or quote not in (b"'", b'"') or len(line) < 3:
        raise _Refused("a string without quotes, or without an end")
    if not ESCAPED.fullmatch(text):
        raise _Refused("a string with an unknown escape")
    return text.decode("unicode_escape").encode("latin1")
