"""Frames: a user's code is seen instruction by instruction, with what lies on its stack.

Knows frames, code objects and the interpreter's memory; never what an instruction means.

Note [reading the evaluation stack]
    Python calls an Observer before each bytecode instruction of the user's own code (`sys.settrace`
    in 3.11, `sys.monitoring` since). The operands of `LOAD_ATTR` or `BINARY_SUBSCR` lie on the
    frame's evaluation stack, which Python does not show, so they are read from the memory of the
    frame. Its layout is the same in CPython 3.11, 3.12 and 3.13 (`_PyInterpreterFrame` in
    Include/internal/pycore_frame.h; `localsplus` begins 72 bytes in), how deep the stack is at an
    instruction follows from the code alone (`dis.stack_effect`), and `available()` compares both
    with what is known of a frame of its own before they are relied upon. Only references are read,
    nothing is written.

What is seen: frames of code that is neither TinyTorch's, the standard library's, nor in a folder
where libraries are installed.
"""

from __future__ import annotations

import ctypes
import dis
import functools
import sys
import threading
import types
from collections.abc import Callable, Collection
from typing import Any, cast

from tinytorch.base.locks import ForkSafeLock
from tinytorch.compiler.record.objects import MISSING, is_library, of_library

_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "INTERPRETER_EXIT")
_ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE")


def depths(code: types.CodeType) -> dict[int, int]:
    """How many objects lie on the evaluation stack before each instruction, by its offset."""
    listed = list(dis.get_instructions(code))
    following = {a.offset: b.offset for a, b in zip(listed, listed[1:], strict=False)}
    by_offset = {i.offset: i for i in listed}
    # where an exception is caught: the stack is cut, then the instruction's place (if kept) and the
    # exception are put on it
    starts = [(0, 0)]
    for entry in cast(list[Any], dis._parse_exception_table(code)):  # pyright: ignore
        starts.append((entry.target, entry.depth + 1 + bool(entry.lasti)))
    found: dict[int, int] = {}
    while starts:
        offset, depth = starts.pop()
        if offset in found or offset not in by_offset:
            continue
        found[offset] = depth
        i = by_offset[offset]
        argument = i.arg if i.opcode >= dis.HAVE_ARGUMENT else None
        if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
            effect = dis.stack_effect(i.opcode, argument, jump=True)
            starts.append((i.argval, depth + effect))
        if i.opname not in _ENDS and i.opname not in _ALWAYS and offset in following:
            effect = dis.stack_effect(i.opcode, argument, jump=False)
            if i.opname == "RETURN_GENERATOR":  # it goes on with what was sent on the stack
                effect = 1
            starts.append((following[offset], depth + effect))
    return found


def places_of(code: types.CodeType) -> list[str]:
    """The names of the frame's places below its stack: variables, cells, outer cells."""
    own = list(code.co_varnames)
    return [*own, *(c for c in code.co_cellvars if c not in own), *code.co_freevars]


_FRAME, LOCALS = 24, 72  # bytes: PyFrameObject.f_frame, _PyInterpreterFrame.localsplus
FUNCTION = 0 if sys.version_info < (3, 12) else 16  # _PyInterpreterFrame.f_func, later f_funcobj
_pointer, _object = ctypes.c_void_p.from_address, ctypes.py_object.from_address


def at(address: int) -> Any:
    """The object whose reference lies there, MISSING for none."""
    try:
        return _object(address).value
    except ValueError:
        return MISSING


# being called before each instruction


class Observer:
    """Runs a function and is called before each instruction of the user's code that it reaches."""

    def enters(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """A frame of the user's code begins; its places lie at `base`."""

    def offsets(self, code: types.CodeType) -> Collection[int]:
        """The instructions of a code object that it wants to see."""
        return ()

    def instruction(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        """The instruction at `frame.f_lasti` is about to run; others than those asked for too."""

    tracer: Any = None  # what `sys.settrace` was given, if nobody else has set one

    def unwatched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs none of the user's code: while it runs nothing is looked at.

        With `sys.settrace` every call of a function costs 1 us more, a library's too.
        """

        def quiet(*args: Any) -> Any:
            if self.tracer is None:
                return function(*args)
            sys.settrace(None)
            try:
                return function(*args)
            finally:
                sys.settrace(self.tracer)

        return quiet

    def observe(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the function; gives its result."""
        if sys.version_info >= (3, 12):
            return _monitored(self, function, args, kwargs)
        return _traced(self, function, args, kwargs)


_watched: set[types.CodeType] = set()  # code of this file that is watched like a user's


def _of_library_frame(frame: types.FrameType, code: types.CodeType) -> bool:
    """Whether a frame runs a library's code."""
    name = code.co_filename
    if code in _watched:
        return False
    if name[:1] == "<" and name != "<stdin>":  # made by exec: it is whose names it uses
        return is_library(name) or of_library(str(frame.f_globals.get("__name__")))
    return is_library(name)


def _base(frame: types.FrameType) -> int:
    return (_pointer(id(frame) + _FRAME).value or 0) + LOCALS


def _traced(
    observer: Observer, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """By `sys.settrace`. A debugger or a measure of coverage that is set sees all it saw before."""
    before = sys.gettrace()

    files: set[str] = set()  # of libraries, met before: most calls end at the first line

    def begin(frame: types.FrameType, event: Any, arg: Any) -> Any:
        if frame.f_code.co_filename in files:
            return None
        code, theirs = frame.f_code, None
        if before is not None:
            theirs = before(frame, event, arg)
            if sys.gettrace() is not begin:  # some put themselves in place at each call
                sys.settrace(begin)
        if _of_library_frame(frame, code):
            if before is None and code.co_filename[:1] != "<":
                files.add(code.co_filename)
            return theirs
        base = _base(frame)
        observer.enters(frame, code, base)
        frame.f_trace_opcodes = True
        if before is None:
            frame.f_trace_lines = False
            return functools.partial(_opcode, observer.instruction, code, base)
        return _shared(begin, theirs, functools.partial(observer.instruction, frame, code, base))

    observer.tracer = begin if before is None else None
    sys.settrace(begin)
    try:
        return function(*args, **kwargs)
    finally:
        observer.tracer = None
        sys.settrace(before)


def _opcode(act: Callable[..., Any], code: Any, base: int, frame: Any, event: str, _: Any) -> None:
    if event == "opcode":
        act(frame, code, base)


def _shared(begin: Callable[..., Any], theirs: Any, act: Callable[..., Any]) -> Callable[..., Any]:
    """A local trace function for another tracer and ours."""

    def local(frame: types.FrameType, event: str, arg: Any) -> Any:
        nonlocal theirs
        if event == "opcode":
            act()
        elif theirs is not None:
            theirs = theirs(frame, event, arg) or theirs
            frame.f_trace_opcodes = True
            if sys.gettrace() is not begin:
                sys.settrace(begin)
        return local

    return local


_observing: dict[int, Observer] = {}  # thread -> who sees what it runs (3.12 and later)
_instrumented: dict[int, types.CodeType] = {}  # by id: equal code is instrumented apart
_instrumenting = ForkSafeLock()
_MONITORING: Any = getattr(sys, "monitoring", None)
_TOOLS = (4, 3)  # numbers of tools that Python leaves to anybody


def _monitored(
    observer: Observer, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """By `sys.monitoring`, beside all other tools; a library's code costs one event, once."""
    thread = threading.get_ident()
    outer = _observing.get(thread)
    with _instrumenting:
        tool = _tool()
        _observing[thread] = observer
    try:
        return function(*args, **kwargs)
    finally:
        with _instrumenting:
            if outer is not None:
                _observing[thread] = outer
            else:
                del _observing[thread]
            if not _observing:
                _give_back(tool)


def _tool() -> int:
    for tool in _TOOLS:
        if _MONITORING.get_tool(tool) == "tinytorch":
            return tool
    tool = next(t for t in _TOOLS if _MONITORING.get_tool(t) is None)
    _MONITORING.use_tool_id(tool, "tinytorch")
    events = _MONITORING.events

    def begins(code: types.CodeType, _offset: int) -> Any:
        observer = _observing.get(threading.get_ident())
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        if _of_library_frame(frame, code):
            return _MONITORING.DISABLE
        if observer is not None:
            observer.enters(frame, code, _base(frame))
            if id(code) not in _instrumented:
                _instrumented[id(code)] = code
                _MONITORING.set_local_events(tool, code, events.INSTRUCTION)
        return None

    def instruction(code: types.CodeType, offset: int) -> Any:
        observer = _observing.get(threading.get_ident())
        if observer is not None:
            if offset not in observer.offsets(code):
                return _MONITORING.DISABLE
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            observer.instruction(frame, code, _base(frame))
        return None

    _MONITORING.register_callback(tool, events.PY_START, begins)
    _MONITORING.register_callback(tool, events.PY_RESUME, begins)
    _MONITORING.register_callback(tool, events.INSTRUCTION, instruction)
    _MONITORING.set_events(tool, events.PY_START | events.PY_RESUME)
    return tool


def _give_back(tool: int) -> None:
    _MONITORING.set_events(tool, 0)
    for code in _instrumented.values():
        _MONITORING.set_local_events(tool, code, 0)
    _instrumented.clear()
    _MONITORING.free_tool_id(tool)


class _Probe(Observer):
    """Looks whether a frame of its own is laid out as it is read here."""

    def __init__(self) -> None:
        self.sample = types.SimpleNamespace(part=[object()])
        self.seen: list[bool] = []
        self.code = self.read.__code__
        self.places, self.deep = places_of(self.code), depths(self.code)
        self.names = {i.offset: i.opname for i in dis.get_instructions(self.code)}

    def offsets(self, code: types.CodeType) -> Collection[int]:
        """All."""
        return range(len(code.co_code))

    def read(self, first: Any, second: Any) -> Any:
        """What it is tried on: names, a cell, and a stack with something on it."""
        keep = second
        return len((keep, lambda: first)), first.part[len((keep, 1, 2)) - 3]

    def instruction(self, frame: types.FrameType, code: types.CodeType, base: int) -> None:
        name = self.names.get(frame.f_lasti)
        if code is not self.code or name not in ("LOAD_ATTR", "BINARY_SUBSCR"):
            return
        top = base + 8 * (len(self.places) + self.deep[frame.f_lasti])
        below, wanted = (8, self.sample) if name == "LOAD_ATTR" else (16, self.sample.part)
        inner = _pointer(id(frame) + _FRAME).value or 0
        self.seen.append(_pointer(top - below).value == id(wanted))
        self.seen.append(_pointer(base + 8 * self.places.index("keep")).value == id(self.seen))
        self.seen.append(_pointer(inner + FUNCTION).value == id(type(self).read))


@functools.cache
def available() -> bool:
    """Whether this Python's frames are laid out as they are read here."""
    known = (3, 11) <= sys.version_info[:2] <= (3, 13) and sys.implementation.name == "cpython"
    if not known or hasattr(sys, "gettotalrefcount") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    probe = _Probe()
    _watched.add(probe.code)
    probe.observe(probe.read, (probe.sample, probe.seen), {})
    return len(probe.seen) == 6 and all(probe.seen)
