"""Reading a pickle of plain values and NumPy arrays without executing it.

Knows the opcodes of the format and a few names; never imports or calls what a file asks for. The
standard library's reader is a machine that runs the file's program, which may call any function;
this one knows numbers, strings, containers and the steps that rebuild an array of plain numbers.

Source: the Python standard library's pickletools (a description of each opcode), and PEP 3154, 574.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np

from tinytorch.base.errors import FileFormatError, short

# What a file may name, and what each stands for here. Python 2 and NumPy 1 and 2 spell them so.
RECONSTRUCT, FROM_BYTES, ARRAY, DTYPE = "reconstruct", "from bytes", "ndarray", "dtype"
ENCODE, BYTES = "encode", "bytes"
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): FROM_BYTES,
    ("numpy._core.numeric", "_frombuffer"): FROM_BYTES,
    ("numpy", "ndarray"): ARRAY,
    ("numpy", "dtype"): DTYPE,
    ("_codecs", "encode"): ENCODE,
    ("__builtin__", "bytes"): BYTES,
}
# A dtype's code: as NumPy writes those of plain numbers. Others are whole languages.
PLAIN = re.compile(r"[<>|=]?[biuf](1|2|4|8|16)")
MOST_AXES = 64  # NumPy's limit
LARGEST_KEY = 2**31  # larger whole numbers can be chosen so that a dictionary takes for ever
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"\\": b"\\", b"'": b"'", b'"': b'"'}


class _Name:
    """A name that the file asked for and that is known; nothing is imported."""

    def __init__(self, meaning: str):
        self.meaning = meaning


class _Array:
    """An array or dtype that is being rebuilt."""

    def __init__(self, kind: str, code: str = ""):
        self.kind, self.code = kind, code
        self.array: np.ndarray | None = None
        self.dtype: np.dtype | None = None


_MARK = object()


class _Refused(Exception):
    """Why the file is not read."""


class _Reader:
    """Goes through the opcodes of one pickle with a stack of values."""

    def __init__(self, content: bytes):
        self.content, self.at = memoryview(content), 0
        self.stack: list = []
        self.memo: dict[int, object] = {}
        self.encoded = 0

    def encode(self, text: str) -> bytes:
        """The bytes that a text stands for; all of them together are no more than the file."""
        self.encoded += len(text)
        if self.encoded > len(self.content):
            raise _Refused("texts that stand for more bytes than the file has")
        return text.encode("latin1")

    def take(self, n: int) -> bytes:
        """The next n bytes."""
        if n < 0 or self.at + n > len(self.content):
            raise _Refused(f"it ends early: {n} bytes wanted at byte {self.at}")
        piece = bytes(self.content[self.at : self.at + n])
        self.at += n
        return piece

    def number(self, form: str) -> int:
        """A number in `struct`'s notation."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        """The bytes up to the next line end."""
        rest = self.content[self.at : self.at + 1024].tobytes()
        end = rest.find(b"\n")
        if end < 0:
            raise _Refused(f"a text without an end at byte {self.at}")
        self.at += end + 1
        return rest[:end]

    def pop(self):
        """The value on top of the stack."""
        if not self.stack or self.stack[-1] is _MARK:
            raise _Refused(f"a value is missing at byte {self.at}")
        return self.stack.pop()

    def top(self, kind: type):
        """The container on top of the stack, which stays there."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _Refused(f"no {kind.__name__} to fill at byte {self.at}")
        return self.stack[-1]

    def to_mark(self) -> list:
        """All values above the topmost mark, which goes too."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise _Refused(f"a mark is missing at byte {self.at}")

    def run(self):
        """The one value that the pickle holds."""
        while True:
            code = self.take(1)
            if code == b".":
                return finished(self.pop(), {})
            action = ACTIONS.get(code)
            if action is None:
                raise _Refused(f"opcode {code!r} at byte {self.at - 1} is not one of plain data")
            action(self)


def read_pickled_arrays(content: bytes, name: str):
    """The value in a pickle of None, booleans, numbers, strings, lists, tuples, dicts and arrays.

    Args:
        content: the whole pickle, protocol 0 to 5, without out-of-band buffers.
        name: the file, for messages.

    Returns:
        the value. Strings of Python 2 come as bytes. Arrays are of numbers, read-only.

    Raises:
        FileFormatError: the pickle is damaged, or holds something else, whatever that is: nothing
            that it names is imported or called.

    Cost: one pass; about 1 us a value; the arrays once. A value that stands in many places is
        handed out once: what comes back may be small and have no end when it is printed.

    Example:
        >>> import pickle
        >>> read_pickled_arrays(pickle.dumps({"labels": [3, 1]}), "batch")
        {'labels': [3, 1]}
    """
    try:
        return _Reader(content).run()
    except (_Refused, RecursionError, TypeError, ValueError, OverflowError, IndexError) as reason:
        raise FileFormatError(
            f"{name} is not a pickle of plain data",
            got=reason,
            rule="numbers, strings, containers and arrays of numbers; nothing is executed",
            fix="delete the file and fetch it again from its official address",
        ) from None


def finished(value, done: dict[int, object]):
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
    if isinstance(value, _Name) or value is _MARK:
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


def _global(reader: _Reader, module: str, name: str) -> None:
    meaning = KNOWN.get((module, name))
    if meaning is None:
        raise _Refused(f"it asks for {module}.{name}")
    reader.stack.append(_Name(meaning))


def _global_lines(reader: _Reader) -> None:
    module, name = reader.line().decode("ascii"), reader.line().decode("ascii")
    _global(reader, module, name)


def _global_stacked(reader: _Reader) -> None:
    name, module = reader.pop(), reader.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise _Refused("a name that is not a string")
    _global(reader, module, name)


def _reduce(reader: _Reader) -> None:
    """Calls of the original; here the three that make an array's shell, a dtype, and bytes."""
    arguments, name = reader.pop(), reader.pop()
    if not isinstance(name, _Name) or type(arguments) is not tuple:
        raise _Refused("a call of something that is not a known name")
    if name.meaning == RECONSTRUCT:
        reader.stack.append(_Array(ARRAY))
    elif name.meaning == DTYPE and arguments:
        reader.stack.append(_Array(DTYPE, _text(arguments[0])))
    elif name.meaning == FROM_BYTES and len(arguments) == 4:
        content, dtype, shape, order = arguments
        reader.stack.append(_Array(ARRAY))
        _fill(reader.top(_Array), shape, dtype, order == "F", content)
    elif name.meaning == ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
        reader.stack.append(reader.encode(_text(arguments[0])))
    elif name.meaning == BYTES and not arguments:
        reader.stack.append(b"")
    else:
        raise _Refused(f"a call of {name.meaning} with other arguments")


def _build(reader: _Reader) -> None:
    """The state of an array (version, shape, dtype, Fortran order, bytes) or of a dtype."""
    state, target = reader.pop(), reader.top(_Array)
    if type(state) is not tuple:
        raise _Refused("a state that is not a tuple")
    if target.kind == DTYPE:
        order = _text(state[1])
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise _Refused("a dtype that is not of plain numbers")
        if not PLAIN.fullmatch(target.code):
            raise _Refused(f"an array of {short(target.code)}")
        target.dtype = np.dtype(target.code).newbyteorder(order)
        return
    _, shape, dtype, fortran, content = state
    _fill(target, shape, dtype, bool(fortran), content)


def _fill(target: _Array, shape, dtype, fortran: bool, content) -> None:
    if not isinstance(dtype, _Array) or dtype.dtype is None or not isinstance(content, bytes):
        raise _Refused("an array whose content is not bytes")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused("an array whose shape is not a tuple of whole numbers >= 0")
    if len(shape) > MOST_AXES:
        raise _Refused(f"an array of {len(shape)} axes")
    flat = np.frombuffer(content, dtype.dtype) if content else np.empty(0, dtype.dtype)
    target.array = flat.reshape(shape, order="F" if fortran else "C")


def _text(value) -> str:
    if not isinstance(value, str | bytes):
        raise _Refused("something else where a text should be")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _append(reader: _Reader, values: list) -> None:
    reader.top(list).extend(values)


def _put_items(reader: _Reader, values: list) -> None:
    if len(values) % 2:
        raise _Refused("a key without a value")
    keys = values[::2]
    if not all(map(_is_key, keys)):
        raise _Refused("a key that is not plain")
    reader.top(dict).update(zip(keys, values[1::2], strict=True))


def _is_key(key) -> bool:
    if isinstance(key, int):
        return abs(key) < LARGEST_KEY
    return key is None or isinstance(key, str | bytes)


def _set_item(reader: _Reader) -> None:
    value, key = reader.pop(), reader.pop()
    _put_items(reader, [key, value])


def _append_one(reader: _Reader) -> None:
    value = reader.pop()
    _append(reader, [value])


def _tuple(n: int) -> Callable[[_Reader], None]:
    def action(reader: _Reader) -> None:
        values = [reader.pop() for _ in range(n)]
        reader.stack.append(tuple(reversed(values)))

    return action


def _value(make: Callable[[_Reader], object]) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(make(reader))


def _remember(where: Callable[[_Reader], int]) -> Callable[[_Reader], None]:
    def action(reader: _Reader) -> None:
        value = reader.pop()
        reader.stack.append(value)
        reader.memo[where(reader)] = value

    return action


def _quoted(reader: _Reader) -> bytes:
    """A string of protocol 0: in quotes, special characters escaped."""
    line = reader.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise _Refused("a string without quotes")
    return re.sub(rb"\\(x[0-9a-fA-F]{2}|.?)", _unescaped, line[1:-1], flags=re.S)


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code not in ESCAPES:
        raise _Refused(f"an unknown escape {match[0]!r}")
    return ESCAPES[code]


def _decimal(reader: _Reader) -> int | bool:
    line = reader.line()
    if line in (b"00", b"01"):  # how protocol 0 writes False and True
        return line == b"01"
    return int(line.rstrip(b"L"))


def _long(form: str) -> Callable[[_Reader], int]:
    return lambda reader: int.from_bytes(reader.take(reader.number(form)), "little", signed=True)


def _counted(form: str, text: bool) -> Callable[[_Reader], object]:
    def make(reader: _Reader) -> object:
        piece = reader.take(reader.number(form))
        return piece.decode("utf-8", "surrogatepass") if text else piece

    return make


def _recall(where: Callable[[_Reader], int]) -> Callable[[_Reader], object]:
    def make(reader: _Reader) -> object:
        at = where(reader)
        if at not in reader.memo:
            raise _Refused(f"a value is recalled that was never remembered ({at})")
        return reader.memo[at]

    return make


def _line_number(reader: _Reader) -> int:
    return int(reader.line())


ACTIONS: dict[bytes, Callable[[_Reader], object]] = {
    b"\x80": lambda r: r.take(1),  # PROTO
    b"\x95": lambda r: r.take(8),  # FRAME: a hint for buffering
    b"(": lambda r: r.stack.append(_MARK),
    b"0": lambda r: r.pop(),
    b"N": _value(lambda r: None),
    b"\x88": _value(lambda r: True),
    b"\x89": _value(lambda r: False),
    b"I": _value(_decimal),
    b"L": _value(_decimal),
    b"F": _value(lambda r: float(r.line())),
    b"J": _value(lambda r: r.number("<i")),
    b"K": _value(lambda r: r.number("<B")),
    b"M": _value(lambda r: r.number("<H")),
    b"G": _value(lambda r: r.number(">d")),
    b"\x8a": _value(_long("<B")),
    b"\x8b": _value(_long("<i")),
    b"S": _value(_quoted),
    b"T": _value(_counted("<i", text=False)),
    b"U": _value(_counted("<B", text=False)),
    b"B": _value(_counted("<I", text=False)),
    b"C": _value(_counted("<B", text=False)),
    b"\x8e": _value(_counted("<Q", text=False)),
    b"\x96": _value(_counted("<Q", text=False)),
    b"V": _value(lambda r: r.line().decode("raw-unicode-escape")),
    b"X": _value(_counted("<I", text=True)),
    b"\x8c": _value(_counted("<B", text=True)),
    b"\x8d": _value(_counted("<Q", text=True)),
    b"]": _value(lambda r: []),
    b"}": _value(lambda r: {}),
    b")": _value(lambda r: ()),
    b"l": _value(lambda r: r.to_mark()),
    b"t": _value(lambda r: tuple(r.to_mark())),
    b"d": lambda r: (lambda v: (r.stack.append({}), _put_items(r, v)))(r.to_mark()),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"a": _append_one,
    b"e": lambda r: _append(r, r.to_mark()),
    b"s": _set_item,
    b"u": lambda r: _put_items(r, r.to_mark()),
    b"p": _remember(_line_number),
    b"q": _remember(lambda r: r.number("<B")),
    b"r": _remember(lambda r: r.number("<I")),
    b"\x94": _remember(lambda r: len(r.memo)),
    b"g": _value(_recall(_line_number)),
    b"h": _value(_recall(lambda r: r.number("<B"))),
    b"j": _value(_recall(lambda r: r.number("<I"))),
    b"c": _global_lines,
    b"\x93": _global_stacked,
    b"R": _reduce,
    b"b": _build,
}
