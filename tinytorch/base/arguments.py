"""Arguments: is one in its range, and if a call went wrong all the same, what is said of it.

Knows numbers, intervals, calls and tracebacks; never what an argument means. In this order: checks
of single arguments, whose messages name owner, argument, range and value; then what Python or NumPy
say of arguments that no check foresaw (`len(None)`, `int("text")`, an attribute that a string does
not have), as an `ArgumentError` of four parts, with the call's arguments, the function's signature,
and the first error as its cause.

Note [whose error it is]
    Only errors that arose in this package, or in what it called of NumPy and of Python's library,
    are explained. An error in the user's own code that we called (a loss, a callback, a data set)
    goes through as it is: a frame of a file outside says so.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FunctionType, MethodType, TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

import numpy as np

from tinytorch.base.errors import (
    ArgumentError,
    ArgumentTypeError,
    IndexRangeError,
    MissingKeyError,
    OutOfMemoryError,
    SettingError,
    TinyTorchError,
    short,
)

P = ParamSpec("P")  # the parameters of a function, and what it returns
R = TypeVar("R")

# --- checks of single arguments ---


def number(owner: str, name: str, value: object, interval: str) -> float:
    """`value` as a float if it lies in `interval`, else a SettingError.

    Args:
        owner: who has the setting, for the message.
        name: the setting.
        value: what was given.
        interval: as in mathematics: "[0, 1)" holds 0 and not 1; "inf" is allowed as a bound.

    >>> number("SGD", "momentum", 0.9, "[0, 1)")
    0.9
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    x = math.nan
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        x = float(value)
    if not math.isnan(x):
        above = x >= low if interval[0] == "[" else x > low
        below = x <= high if interval[-1] == "]" else x < high
        if above and below:
            return x
    raise SettingError(
        f"{owner}: {name} is outside its range",
        got=f"{name}={short(value)}",
        rule=f"a number in {interval}",
        fix=f"{owner}(..., {name}={_inside(low, high):g})",
    )


def _inside(low: float, high: float) -> float:
    """Some number between the bounds, to show in a message."""
    if math.isinf(high):
        return low + 1 if math.isfinite(low) else 0.0
    return (low + high) / 2


def whole(owner: str, name: str, value: object, at_least: int) -> int:
    """`value` as an int if it is a whole number >= `at_least`, else a SettingError.

    >>> whole("Linear", "in_features", 784, at_least=1)
    784
    """
    if (
        not isinstance(value, bool)
        and isinstance(value, numbers.Integral)
        and int(value) >= at_least
    ):
        return int(value)
    raise SettingError(
        f"{owner}: {name} is not a whole number in its range",
        got=f"{name}={short(value)}",
        rule=f"a whole number >= {at_least}",
        fix=f"{owner}(..., {name}={at_least})",
    )


def pair(owner: str, name: str, value: object, at_least: int) -> tuple[int, int]:
    """One whole number for both image axes, or a pair (vertical, horizontal), each >= `at_least`.

    >>> pair("Conv2d", "stride", 2, at_least=1), pair("Conv2d", "padding", (0, 1), at_least=0)
    ((2, 2), (0, 1))
    """
    listed = _listed(value)
    values = (value, value) if listed is None else listed
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise SettingError(
            f"{owner}: {name} does not fit the two image axes",
            got=f"{name}={short(value)}",
            rule="one whole number, or two (vertical, horizontal)",
            fix=f"{owner}(..., {name}={at_least})",
        )
    return whole(owner, name, values[0], at_least), whole(owner, name, values[1], at_least)


def single(owner: str, name: str, value: object, at_least: int) -> int:
    """One whole number for the axis of a signal, alone or as the only one of a tuple.

    >>> single("conv1d", "stride", (2,), at_least=1)
    2
    """
    values = _listed(value)
    return whole(owner, name, values[0] if values and len(values) == 1 else value, at_least)


def _listed(value: object) -> tuple[object, ...] | None:
    """What is in a list or a tuple; None for anything else."""
    return tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else None


def flag(owner: str, name: str, value: object) -> bool:
    """`value` if it is True or False, else a SettingError.

    >>> flag("SGD", "nesterov", True)
    True
    """
    if isinstance(value, bool):
        return value
    raise SettingError(
        f"{owner}: {name} is a yes or no",
        got=f"{name}={short(value)}",
        rule="True or False",
        fix=f"{owner}(..., {name}=True)",
    )


def one_of(owner: str, name: str, value: object, choices: Sequence[str]) -> str:
    """`value` if it is one of the texts, else a SettingError.

    >>> one_of("TransformerBlock", "norm", "rms", ("layer", "rms"))
    'rms'
    """
    if isinstance(value, str) and value in choices:
        return value
    raise SettingError(
        f"{owner}: there is no such {name}",
        got=f"{name}={short(value)}",
        rule="one of " + ", ".join(map(repr, choices)),
        fix=f"{owner}(..., {name}={choices[0]!r})",
    )


# --- errors that no check foresaw ---

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = (
    _HERE,
    os.path.dirname(os.path.abspath(np.__file__)) + os.sep,
    os.path.dirname(os.path.abspath(os.__file__)) + os.sep,
    "<frozen ",
    "<string>",
    "<__array_function__ internals>",
)
_INSTALLED = os.sep + "site-packages" + os.sep

# What is explained, and as what: PyTorch's users catch the same kinds.
KINDS: dict[type[Exception], type[TinyTorchError]] = {
    IndexError: IndexRangeError,
    KeyError: MissingKeyError,
    TypeError: ArgumentTypeError,
    AttributeError: ArgumentTypeError,
    ValueError: ArgumentError,
    ArithmeticError: ArgumentError,
    AssertionError: ArgumentError,
    BufferError: ArgumentTypeError,
}
RAW = (*KINDS, MemoryError)


def explain(
    problem: Exception, call: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Exception:
    """The error to raise for a raw one: four parts, or the same if it is not ours.

    Args:
        problem: as caught, in the frame that made the call.
        call: what was called, a function or an object with a name.
        arguments, named: what it was called with.
    """
    if isinstance(problem, TinyTorchError) or not _is_ours(problem.__traceback__):
        return problem
    if isinstance(problem, MemoryError):
        return OutOfMemoryError.of(problem)
    kind = next(ours for raw, ours in KINDS.items() if isinstance(problem, raw))
    name = getattr(call, "__qualname__", None) or type(call).__name__
    if isinstance(call, MethodType) and not isinstance(call.__self__, type):
        name = f"{type(call.__self__).__name__}.{call.__name__}"  # not that of a base class
    given = [short(x, 60) for x in arguments] + [f"{k}={short(x, 60)}" for k, x in named.items()]
    try:
        signature = str(inspect.signature(call))
    except (TypeError, ValueError):
        signature = "(...)"
    return kind(
        f"{name}: an argument cannot be used",
        got=f"{name}({', '.join(given)}); {type(problem).__name__}: {problem}",
        rule=f"{name}{signature}",
        fix=f"help({name}) says what each argument may be",
    )


def _is_ours(traceback: TracebackType | None) -> bool:
    """Whether every frame below the call's own is of this package or of a library it uses."""
    traceback = traceback.tb_next if traceback is not None else None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        ours = file.startswith(_LIBRARIES[:2]) or file.endswith(".pyx")  # NumPy's, compiled
        if not ours and (_INSTALLED in file or not file.startswith(_LIBRARIES)):
            return False
        traceback = traceback.tb_next
    return True


def explained(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with raw errors of its arguments in four parts. Cost: 0.1 us a call."""

    @functools.wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except RAW as problem:
            error = explain(problem, function, arguments, named)
            if error is problem:
                raise
            raise error from problem

    call.__explained__ = True  # type: ignore[attr-defined]
    return call


_GIVEN_NOTHING = object()
# a name in the package: the line that a message names is the user's, outside of it
_DOOR_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "<door>")
_DOOR = """
def door({parameters}, *more, **unknown):
    if more or unknown{missing}:
        refuse(({names}), more, unknown)
    return function({names})
"""


def fitted(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with a call that does not fit its parameters explained, and nothing else.

    Written out for each function, as a call that passes on whatever it is given takes three times
    as long. Cost: 0.04 us a call. A function with other kinds of parameters is `explained`.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
        return explained(function)

    def refuse(given: tuple[Any, ...], more: tuple[Any, ...], unknown: dict[str, Any]) -> NoReturn:
        named = {p.name: x for p, x in zip(parameters, given, strict=True)}
        named = {name: x for name, x in named.items() if x is not _GIVEN_NOTHING}
        arguments, named = ((*given, *more), unknown) if more else ((), named | unknown)
        try:
            inspect.signature(function).bind(*arguments, **named)
        except TypeError as problem:
            raise explain(problem, function, arguments, named) from problem
        raise AssertionError(f"the door of {function.__qualname__} refused a call that fits")

    needed = [p.name for p in parameters if p.default is p.empty]
    space: dict[str, Any] = {
        "function": function, "refuse": refuse, "nothing": _GIVEN_NOTHING,
        **{f"default_{p.name}": p.default for p in parameters},
    }  # fmt: skip
    source = _DOOR.format(
        parameters=", ".join(
            f"{p.name}={'nothing' if p.name in needed else 'default_' + p.name}" for p in parameters
        ),
        missing="".join(f" or {name} is nothing" for name in needed),
        names=", ".join(p.name for p in parameters) + ("," if len(parameters) == 1 else ""),
    )
    exec(_door_code(source), space)
    door = functools.wraps(function)(space["door"])
    door.__explained__ = True  # type: ignore[attr-defined]
    return door


@functools.lru_cache
def _door_code(source: str) -> CodeType:
    """Most functions of the table have the same parameters: one compilation for all of them."""
    return compile(source, _DOOR_FILE, "exec")


def explain_all(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Let public functions, constructors and methods of a module explain raw errors.

    A function stays plain where this package's own files imported it before: they pay nothing. Of
    classes, those that the module's folder defines; `forward` is explained by who calls it.

    Args:
        namespace: globals() of the module that offers the names.
        names: its `__all__`, or a part of it.
    """
    for name in names:
        x = namespace.get(name)
        if isinstance(x, FunctionType) and not hasattr(x, "__explained__"):
            home = vars(sys.modules[x.__module__])
            wrapped = explained(x)
            namespace[name] = wrapped
            if home.get(x.__name__) is x:
                home[x.__name__] = wrapped  # so that pickle finds what it saw
        elif isinstance(x, type) and not issubclass(x, BaseException):
            for kind in x.__mro__:
                if f"{kind.__module__}.".startswith(f"{namespace['__name__']}."):
                    public = [n for n in vars(kind) if n[0] != "_" and n != "forward"]
                    explain_methods(kind, ["__init__", *public])


_OF_CLASS: tuple[type, ...] = (classmethod, staticmethod)


def explain_methods(owner: type, names: Iterable[str]) -> None:
    """Let methods that `owner` itself defines, and that take arguments, explain raw errors."""
    wrapped: dict[Any, Callable[..., Any]] = {}  # a method may have two names, and is one object
    for name in names:
        held: Any = vars(owner).get(name)
        of_class = isinstance(held, _OF_CLASS)
        method: Any = held.__func__ if of_class else held
        if not isinstance(method, FunctionType) or hasattr(method, "__explained__"):
            continue
        code, own = method.__code__, not isinstance(held, staticmethod)
        if code.co_argcount + code.co_kwonlyargcount > own or code.co_flags & inspect.CO_VARARGS:
            call = wrapped.setdefault(method, explained(method))
            setattr(owner, name, type(held)(call) if of_class else call)
