"""The errors of TinyTorch. Each has four parts: what, got, rule, fix.

TinyTorchError
├── ShapeError (ValueError)         sizes do not fit
├── DTypeError (TypeError)          number types do not fit
├── SettingError (ValueError)       a setting is outside its range
├── IndexRangeError (IndexError)    an index is outside its axis
├── GradientError (RuntimeError)    a gradient cannot be computed
├── CompileError (RuntimeError)     a function cannot be compiled
├── DataError (ValueError)          data is missing or damaged
├── FileFormatError (ValueError)    a file is not what its name says
├── StorageError (OSError)          a file or folder cannot be written, or is not there
└── MissingError (ImportError)      an optional library is needed
"""

from __future__ import annotations


class TinyTorchError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: one line, what went wrong, in the user's words.
        got: what was given.
        rule: what would have been right.
        fix: one concrete thing to type or do.
    """

    def __init__(self, what: str, *, got: object, rule: str, fix: str):
        self.what, self.got, self.rule, self.fix = what, str(got), rule, fix
        super().__init__(f"{what}\n  got:  {got}\n  rule: {rule}\n  fix:  {fix}")

    def __reduce__(self):
        return (_rebuild, (type(self), self.what, self.got, self.rule, self.fix))


def _rebuild(kind, what, got, rule, fix):
    return kind(what, got=got, rule=rule, fix=fix)


class ShapeError(TinyTorchError, ValueError):
    """Sizes do not fit together."""


class DTypeError(TinyTorchError, TypeError):
    """Number types do not fit together."""


class SettingError(TinyTorchError, ValueError):
    """A setting is outside its range."""


class IndexRangeError(TinyTorchError, IndexError):
    """An index points outside its axis."""


class GradientError(TinyTorchError, RuntimeError):
    """A gradient was asked for that cannot be computed."""


class CompileError(TinyTorchError, RuntimeError):
    """A function cannot be captured or compiled."""

    @classmethod
    def own_fault(cls, what: str, *, got: object, rule: str) -> CompileError:
        """TinyTorch contradicts itself: no setting of the user's can mend it."""
        fix = "this is a fault of TinyTorch: please report it with the compiled function"
        return cls(what, got=got, rule=rule, fix=fix)


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


class MissingError(TinyTorchError, ImportError):
    """An optional library is needed and not installed."""
