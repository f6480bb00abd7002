"""The errors of TinyTorch. Each has four parts: what, got, rule, fix.

TinyTorchError
├── ShapeError (ValueError)         sizes do not fit
├── DTypeError (TypeError)          number types do not fit
├── SettingError (ValueError)       a setting is outside its range
├── IndexRangeError (IndexError)    an index is outside its axis
├── ArgumentError (ValueError)      an argument has a value that cannot be used
├── ArgumentTypeError (TypeError)   an argument is of a kind that cannot be used
├── MissingKeyError (KeyError)      a name is not among those there are
├── GradientError (RuntimeError)    a gradient cannot be computed
├── OverlapError (RuntimeError)     one place in memory would be written twice
├── CompileError (RuntimeError)     a function cannot be compiled
├── NonFiniteError (FloatingPointError)     a compiled function computed NaN or an infinity
├── OutOfMemoryError (MemoryError, RuntimeError)    an array does not fit into memory
├── DataError (ValueError)          data is missing or damaged
├── FileFormatError (ValueError)    a file is not what its name says
├── StorageError (OSError)          a file or folder cannot be written, or is not there
│   └── NotFoundError (FileNotFoundError)   there is no such file
├── UnknownNameError (AttributeError)    there is no such name; what to write instead
└── MissingError (ImportError)      an optional library is needed
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable
from typing import Any

LONGEST_PART = 4000  # characters of one part of a message: a file may hold names of any length


def printable(text: str) -> str:
    """`text` as a terminal can show it: control characters, line ends among them, are spelled out.

    Names and notes that come from files may hold the characters that move a terminal's cursor,
    change its title or turn the direction of writing; every message and report shows them so.

    >>> print(printable("loss" + chr(27) + "[2J"))
    loss\\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class _Short(reprlib.Repr):
    def __init__(self):
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 80


_short = _Short()


def short(x: object, limit: int = 80) -> str:
    """The value in at most `limit` characters, without going through all of it.

    What a file holds may be nested a million times in a few bytes, so its repr() is never taken.

    >>> short([["a"] * 1000] * 1000, 60)
    "[['a', 'a', 'a', 'a', 'a', 'a', ...], ['a', 'a', 'a', 'a'..."
    """
    text = printable(_short.repr(x))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _part(text: object) -> str:
    """One part of a message: printable, not without end; lines of its own are kept."""
    whole = str(text)
    if len(whole) > LONGEST_PART:
        whole = whole[: LONGEST_PART - 3] + "..."
    return whole if whole.isprintable() else "\n".join(map(printable, whole.split("\n")))


def _message(what: str, *parts: str) -> str:
    inside = (part.replace("\n", "\n        ") for part in parts)
    return "{}\n  got:  {}\n  rule: {}\n  fix:  {}".format(what, *inside)


class TinyTorchError(Exception):
    """Base of all errors raised on purpose.

    Every part is shown with control characters spelled out (`printable`), and cut where it is
    longer than LONGEST_PART.

    Args:
        what: one line, what went wrong, in the user's words.
        got: what was given.
        rule: what would have been right.
        fix: one concrete thing to type or do.
    """

    def __init__(self, what: str, *, got: object, rule: str, fix: str):
        self.what, self.got = _part(what).replace("\n", "\\n"), _part(got)
        self.rule, self.fix = _part(rule), _part(fix)
        super().__init__(_message(self.what, self.got, self.rule, self.fix))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.what, self.got, self.rule, self.fix))


def _rebuild(
    kind: type[TinyTorchError], what: str, got: str, rule: str, fix: str
) -> TinyTorchError:
    return kind(what, got=got, rule=rule, fix=fix)


class ShapeError(TinyTorchError, ValueError):
    """Sizes do not fit together."""


class DTypeError(TinyTorchError, TypeError):
    """Number types do not fit together."""


class SettingError(TinyTorchError, ValueError):
    """A setting is outside its range."""


class IndexRangeError(TinyTorchError, IndexError):
    """An index points outside its axis."""


class ArgumentError(TinyTorchError, ValueError):
    """An argument has a value that cannot be used (see base/arguments.py)."""


class ArgumentTypeError(TinyTorchError, TypeError):
    """An argument is of a kind that cannot be used (see base/arguments.py)."""


class MissingKeyError(TinyTorchError, KeyError):
    """A name is not among those there are."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class GradientError(TinyTorchError, RuntimeError):
    """A gradient was asked for that cannot be computed."""


class OutOfMemoryError(TinyTorchError, MemoryError, RuntimeError):
    """Memory was asked for that cannot be had; a RuntimeError too, as PyTorch's."""

    @classmethod
    def of(cls, problem: BaseException | int) -> OutOfMemoryError:
        """The error for a MemoryError of NumPy or of the system, or for a number of bytes."""
        got = f"{problem:,} bytes" if isinstance(problem, int) else str(problem)
        return cls(
            "there is not enough memory for this",
            got=got or "an array of unknown size",
            rule="what is computed at once fits into the memory that this process may have",
            fix="a smaller batch or shape; for training also tt.checkpoint(block)",
        )


class OverlapError(TinyTorchError, RuntimeError):
    """One place in memory would be written twice."""


class CompileError(TinyTorchError, RuntimeError):
    """A function cannot be captured or compiled."""

    @classmethod
    def own_fault(cls, what: str, *, got: object, rule: str) -> CompileError:
        """TinyTorch contradicts itself: no setting of the user's can mend it."""
        fix = "this is a fault of TinyTorch: please report it with the compiled function"
        return cls(what, got=got, rule=rule, fix=fix)


class LengthError(CompileError):
    """A compiled function would have to know a length (`tt.dim`) before it runs."""


class NonFiniteError(TinyTorchError, FloatingPointError):
    """A compiled function computed NaN or an infinity (`compile(..., check_nan=True)`)."""


class DataError(TinyTorchError, ValueError):
    """Data is missing or damaged."""


class FileFormatError(TinyTorchError, ValueError):
    """A file is not what its name says."""


class StorageError(TinyTorchError, OSError):
    """A file or folder cannot be written, or is not there.

    Args:
        what: one line, what went wrong, in the user's words.
        got: what was given.
        rule: what would have been right.
        fix: one concrete thing to type or do.
        errno: the operating system's number for it, as in every OSError.
    """

    def __init__(self, what: str, *, got: object, rule: str, fix: str, errno: int | None = None):
        super().__init__(what, got=got, rule=rule, fix=fix)
        self.errno = errno


class NotFoundError(StorageError, FileNotFoundError):
    """There is no such file or folder."""


class UnknownNameError(TinyTorchError, AttributeError):
    """A module or object has no such name. What to write instead is worked out when it is read.

    Args:
        owner: what was asked, in words.
        unknown: the name.
        parts: gives the rule and the fix.
    """

    def __init__(self, owner: str, unknown: str, parts: Callable[[], tuple[str, str]]):
        Exception.__init__(self, owner, unknown)
        self.what, self.got = f"{owner} has no attribute {unknown!r}", printable(unknown)
        self._parts = parts

    @functools.cached_property
    def _said(self) -> tuple[str, str]:
        return self._parts()

    @property
    def rule(self) -> str:  # type: ignore[override]
        """What would have been right."""
        return self._said[0]

    @property
    def fix(self) -> str:  # type: ignore[override]
        """What to write instead."""
        return self._said[1]

    def __str__(self) -> str:
        return _message(self.what, self.got, self.rule, self.fix)

    def __reduce__(self) -> tuple[Any, ...]:
        rule, fix = self.rule, self.fix
        return (_rebuild_unknown, (*self.args, rule, fix))


def _rebuild_unknown(owner: str, unknown: str, rule: str, fix: str) -> UnknownNameError:
    return UnknownNameError(owner, unknown, lambda: (rule, fix))


class MissingError(TinyTorchError, ImportError):
    """An optional library is needed and not installed."""
