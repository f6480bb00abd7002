"""tt.compile: a Python function over Tensors becomes one native program for each kind of call.

Knows signatures, guards and programs; never kernels. The first call of a kind records the function
and compiles the recording; later calls run the program and no Python of the function.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from threading import get_ident
from typing import Any, NamedTuple

from tinytorch.base import settings
from tinytorch.base.arguments import flag
from tinytorch.base.errors import CompileError, NonFiniteError, SettingError
from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen.target import NAMES, Target
from tinytorch.compiler import pipeline
from tinytorch.compiler.graph.graph import RECOMPUTE
from tinytorch.compiler.record.dynamic import DynamicLengths, DynamicShapes
from tinytorch.compiler.record.guards import Changes, Place, given_guards, place_of
from tinytorch.compiler.record.objects import asked, is_a, name_of
from tinytorch.compiler.record.recording import RECORDING_LOCK, record
from tinytorch.compiler.record.signature import flatten
from tinytorch.compiler.run.executable import Executable
from tinytorch.compiler.run.program import program_for
from tinytorch.tensor.interpreter import PRECISIONS, STATE
from tinytorch.tensor.interpreter import precision as precision_mode
from tinytorch.tensor.tensor import Tensor

# A kind of call: shapes, number types, static arguments, settings.
MOST_RECORDINGS = 64  # kept; those of the kind of call made first go
MOST_VARIANTS = 8  # kept of one kind of call, which differ by values of the Python around it
MOST_NUMBERS = 3  # recordings that another number caused, after which numbers become states
_NOT_RECORDED = object()
Key = tuple[Any, ...]  # what a kind of call is known by


def compile(
    fn: Callable[..., Any] | None = None,
    *,
    precision: str | None = None,
    target: str | Target | None = None,
    threads: int | None = None,
    guards: Iterable[Any] = (),
    dynamic_shapes: Mapping[str, Any] | None = None,
    recompute: str | None = None,
    check_nan: bool = False,
    freeze: bool = False,
) -> Any:
    """A function that does what `fn` does, as one native program.

    Args:
        fn: a function over Tensors, or a Module; left out when used as a decorator with settings.
        precision: "float32" or "bf16"; default that of the caller's `tt.precision`.
        target: "avx512", "avx2", "neon" or "vector128"; default the best of this machine.
        threads: at least 1; default `settings.num_threads()`. Those beyond the cores that the
            process has are left out: they would wait for each other.
        guards: what `fn` depends on and the recording cannot see: functions of nothing that give a
            number or an object, and pairs (object, "attribute"). They are asked at each call, and
            `fn` is recorded again when one of them gives something else.
        dynamic_shapes: by the name of an argument, a tuple with a `tt.dim` or None for each axis:
            one program serves every length of such an axis up to the dim's bound. See
            `record/dynamic.py` for arguments that hold several arrays. Default: each shape is a
            program of its own.
        recompute: what the program may compute again in place of keeping it for the backward
            pass; the numbers are the same to the last bit. "cheap": elementwise values, to 1/40 of
            the program's time, and the blocks of `tt.checkpoint`; "elementwise": all that
            elementwise operations give back, and these blocks; "none": nothing, at the price of
            memory. Default "cheap". What it brings: `compiled.memory()`.
        check_nan: raise an error where a result or a new state is NaN, or an infinity that arose in
            the program; it names the first operation that gave one, and its line. A step takes 1.1
            to 1.2 times as long; to find the operation a second program is made and runs, in which
            functions of the user are called again.
        freeze: take the Tensors that `fn` reads and does not write, the weights of a model in
            evaluation, for constant: what follows from them alone (filters packed and transformed,
            batch norms joined with convolutions, casts) is computed at the first call and kept.
            Writes to them are seen, eager or compiled, and lead to computing it again; but what
            NumPy writes to an array that it has kept (`from_numpy`, an older `numpy()`) is not.

    Returns:
        a `Compiled`. Calling it gives what `fn` gives, in fresh memory; Tensors that `fn` closes
        over and assigns to are updated in place; gradients that `fn` leaves are left.

    Raises:
        SettingError: no such precision, target, number of threads or way to recompute, or a target
            whose code this machine cannot run.
        CompileError: (at the call) `fn` looks at values, as in `if loss > 3`.
        NonFiniteError: (at the call, `check_nan`) NaN or infinity; no state has changed.

    Cost: a first call 1-10 s for a large model, 0.1-1 s when the disk cache has it; later calls
    about 6 us of Python with one argument, 15 with 250 states.

    What the Python of `fn` and of the user's functions it calls read (names, attributes, elements,
    contents of containers, arrays) is checked before each run, and a change records again. Tensors
    that it leaves in objects are there after each call, with the numbers of that call.

    Differs from PyTorch: a whole training step (forward, backward, update) is one program. Python
    runs only when it is recorded: prints and other side effects happen then.

    Example:
        >>> import tinytorch as tt
        >>> @tt.compile
        ... def double(x):
        ...     return x + x
        >>> double(tt.Tensor([1.0, 2.0]))
        Tensor([2., 4.])
    """
    if fn is None:
        return functools.partial(
            compile, precision=precision, target=target, threads=threads, guards=guards,
            dynamic_shapes=dynamic_shapes, recompute=recompute, check_nan=check_nan, freeze=freeze,
        )  # fmt: skip
    return Compiled(
        fn, precision, target, threads, guards, dynamic_shapes, recompute, check_nan, freeze
    )


class _Overlap(NamedTuple):
    """Arguments share memory that is written: what makes it another program, and ids of these."""

    key: Key
    states: frozenset[int]


class Compiled:
    """What `tt.compile` gives. Attributes it does not have are those of the function or Module."""

    def __init__(
        self, fn: Callable[..., Any], precision: str | None, target: str | Target | None,
        threads: int | None, guards: Iterable[Any] = (),
        dynamic_shapes: Mapping[str, Any] | None = None, recompute: str | None = None,
        check_nan: bool = False, freeze: bool = False,
    ):  # fmt: skip
        if not callable(fn):
            raise CompileError(
                "compile() was given something that cannot be called",
                got=type(fn).__name__,
                rule="a function over Tensors, or a Module",
                fix="tt.compile(function), without calling it",
            )
        if precision is not None and precision not in PRECISIONS:
            raise SettingError(
                "compile: no such precision",
                got=f"precision={precision!r}",
                rule="one of " + ", ".join(map(repr, PRECISIONS)),
                fix='compile(..., precision="bf16")',
            )
        if threads is not None and (not is_a(threads, int) or threads < 1):
            raise SettingError(
                "compile: threads is outside its range",
                got=f"threads={threads!r}",
                rule="a whole number >= 1",
                fix="compile(..., threads=2)",
            )
        if recompute is not None and recompute not in RECOMPUTE:
            raise SettingError(
                "compile: no such way to recompute",
                got=f"recompute={recompute!r}",
                rule="one of " + ", ".join(map(repr, RECOMPUTE)),
                fix='compile(..., recompute="elementwise")',
            )
        self.fn, self.precision, self.threads = fn, precision, threads
        self.recompute = recompute or RECOMPUTE[0]
        self.check_nan = flag("compile", "check_nan", check_nan)
        self.freeze = flag("compile", "freeze", freeze)
        self.target = _runnable(target)
        self.name = asked(fn, "__qualname__", name_of(type(fn)))
        self.captures = 0  # how often the function was recorded
        self._dynamic = None if dynamic_shapes is None else DynamicShapes(fn, dynamic_shapes)
        self._given = list(guards)
        given_guards(self._given)  # refused now rather than at the first call
        self._moving: set[Place] = set()  # places where other Tensors were found
        self._numbers: dict[Key, int] = {}  # recordings that another number caused, by kind
        self._calls: dict[Key, list[Executable]] = {}  # by kind of call, the newest first
        self._changes = Changes()
        self._last: Executable | None = None
        self._lock = ForkSafeLock()  # one recording at a time
        if asked(fn, "__name__", None) is not None:
            functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for this kind of call; make it first if there is none."""
        if STATE.interpreter is not None:  # part of another compiled function: recorded with it
            with self._mode():
                return self.fn(*args, **kwargs)
        found = None if self._dynamic is None else self._dynamic.find(args, kwargs)
        if not self.check_nan:
            return self._called(args, kwargs, found)
        try:
            return self._called(args, kwargs, found, "ends")
        except NonFiniteError:  # no state has changed: a program that looks at everything says more
            return self._called(args, kwargs, found, "everything")

    def _called(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: DynamicLengths | None,
        checks: str = "",
    ) -> Any:  # fmt: skip
        kind, leaves = self._kind(args, kwargs, found, checks)
        out = self._run(kind, None, leaves)
        if out is _NOT_RECORDED:
            executable = self._recorded(kind, args, kwargs, leaves, found)
            out = self._run(kind, executable, leaves)
        if type(out) is _Overlap:  # another program, in which they are states
            kind = (*kind, out.key)
            if found is not None:  # states have one length: each is a program of its own
                kind = (*kind, *found.lengths.values())
                leaves, found = leaves[: len(leaves) - len(found.lengths)], None
            executable = self._recorded(kind, args, kwargs, leaves, found, out.states)
            out = self._run(kind, executable, leaves)
        return out

    def _kind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], found: DynamicLengths | None,
        checks: str = "",
    ) -> tuple[Key, list[Any]]:  # fmt: skip
        """The kind of a call, and its arrays, lengths that differ from call to call behind them."""
        key: list[Any] = [
            (settings.STRUCTURE.value, settings.MODES.value),
            STATE.recording,
            self.precision or STATE.precision,
            checks,
        ]
        leaves: list[Any] = []
        shapes: Mapping[int, Any] = {} if found is None else found.shapes
        flatten(args, key, leaves, shapes)
        if kwargs:
            flatten(kwargs, key, leaves, shapes)
        if len(leaves) > 1 and len(set(map(id, leaves))) < len(leaves):
            leaves = _each_once(leaves, key)
        if found is not None:
            leaves += found.arrays
        return tuple(key), leaves

    def _run(self, key: Key, executable: Executable | None, leaves: list[Any]) -> Any:
        """Run a recording while no other thread records; the one that is right if none is given."""
        me, lock = get_ident(), RECORDING_LOCK
        try:  # Note [how it is shared] in base/locks.py
            lock.sharing.append(me)
            if lock.owner is not None:
                lock.give_way(me)
            if executable is None:
                executable = self._found(key, leaves)
            if executable is None:
                return _NOT_RECORDED
            if not executable.recording.states:
                found = executable.overlaps(leaves)
                if found is not None:
                    return _Overlap(*found)
            return executable(leaves)
        finally:
            lock.sharing.remove(me)

    def _found(self, key: Key, leaves: list[Any]) -> Executable | None:
        """A recording of this kind that is still right."""
        for executable in self._calls.get(key, ()):
            if executable.fits(leaves):
                self._last = executable
                return executable
        return None

    def _recorded(
        self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any],
        lengths: DynamicLengths | None, states: frozenset[int] = frozenset(),
    ) -> Executable:  # fmt: skip
        """A new recording, or the one that another thread has made meanwhile."""
        with self._lock.lock:
            with RECORDING_LOCK:  # no thread records: nothing that `fits` looks at is half changed
                found = self._found(key, leaves)
            if found is None:
                found = self._record(key, args, kwargs, states, lengths)
            return found

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A compiled method: the object it is called on is a static argument."""
        return self if instance is None else functools.partial(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name in ("fn", "__isabstractmethod__"):
            raise AttributeError(name)
        return getattr(self.fn, name)

    def __repr__(self) -> str:
        return f"<compiled {self.name}, recorded {self.captures} times>"

    # looking inside: what only shows a program is loaded when somebody looks

    def explain(self, *args: Any, **kwargs: Any) -> str:
        """Time every kernel and say what it does: operations, bytes, FLOPs, time, roofline.

        Args:
            args, kwargs: the kind of call to look at; default the last one. They are not changed,
                and neither are the states: the program runs on copies.
        """
        from tinytorch.compiler.run.explain import explain

        return explain(self._the_call(args, kwargs))

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """What `explain` shows, as numbers: a `compiler.run.kernel_sums.Profile`.

        Args:
            args, kwargs: the kind of call to look at; default the last one. They are not changed,
                and neither are the states: the program runs on copies.
        """
        from tinytorch.compiler.run.kernel_sums import profile

        return profile(self._the_call(args, kwargs))

    def trace(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write one run as a file for Perfetto: which thread did which kernel when.

        Args:
            path: of the file, for example "step.json"; what is there is replaced. It is opened at
                https://ui.perfetto.dev or in chrome://tracing.
            args, kwargs: the kind of call to look at; default the last one. They are not changed,
                and neither are the states: the program runs on copies.

        Raises:
            StorageError: the file cannot be written.

        Cost: 21 runs, of which the fastest is written. Runs that nobody looks at pay nothing.
        """
        from tinytorch.compiler.run.trace import write_trace

        write_trace(self._the_call(args, kwargs), self.name, path)

    def page(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write everything about the program as one HTML page, to look at in a browser.

        What every pass made of it, which thread did which kernel when, kernels with their limits
        and the user's lines, memory over time, LLVM and assembly.

        Args:
            path: of the file, for example "step.html"; what is there is replaced.
            args, kwargs: the kind of call to look at; default the last one. They are not changed,
                and neither are the states: the program runs on copies.

        Raises:
            StorageError: the file cannot be written.

        Cost: the passes and LLVM run again, and 21 runs: some seconds for a large model.
        """
        from tinytorch.compiler.run.page import write_page

        write_page(self._the_call(args, kwargs), self.name, path)

    def graph(self, *args: Any, **kwargs: Any) -> str:
        """The recorded program, as Python over the primitives."""
        return str(self._the_call(args, kwargs).recording.graph)

    def stages(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What each pass of the compiler makes of the program, by the name of the pass.

        Args:
            args, kwargs: the kind of call to look at; default the last one.

        The passes run again, each result is checked; `print(result)` shows it. The names are those
        of `compiler/pipeline.py`, after "capture", the recorded program.
        """
        program = self._the_call(args, kwargs).program
        return dict(pipeline.stages(program.graph, program.target))

    def memory(self, *args: Any, **kwargs: Any) -> str:
        """What memory it takes and where the busiest moment is."""
        return self._the_call(args, kwargs).program.plan.memory

    def workspace(self, *args: Any, **kwargs: Any) -> int:
        """Bytes of its arena, and of what it keeps that follows from frozen states.

        Args:
            args, kwargs: the kind of call to look at; default the last one.
        """
        plan = self._the_call(args, kwargs).program.plan
        return plan.arena + plan.kept

    def llvm(self, *args: Any, **kwargs: Any) -> str:
        """The LLVM IR of its kernels, as written."""
        from tinytorch.compiler.run.explain import llvm

        return llvm(self._the_call(args, kwargs))

    def asm(self, *args: Any, **kwargs: Any) -> str:
        """The assembly of its kernels."""
        from tinytorch.compiler.run.explain import assembly

        return assembly(self._the_call(args, kwargs))

    def _the_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Executable:
        if args or kwargs:
            return self._prepare(args, kwargs)
        if self._last is None:
            raise CompileError(
                "nothing has been compiled yet",
                got=f"{self.name!r} was not called",
                rule="shapes are known from a call",
                fix="call it once, or pass the arguments here",
            )
        return self._last

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Executable:
        found = None if self._dynamic is None else self._dynamic.find(args, kwargs)
        kind, leaves = self._kind(args, kwargs, found, "ends" if self.check_nan else "")
        return self._recorded(kind, args, kwargs, leaves, found)

    # compiling

    def _mode(self):
        return precision_mode(self.precision) if self.precision else nullcontext()

    def _record(
        self, key: Key, args: tuple[Any, ...], kwargs: dict[str, Any], states: frozenset[int],
        found: DynamicLengths | None,
    ) -> Executable:  # fmt: skip
        self._note_changes(key)
        given = given_guards(self._given)
        for g in given:
            g.held = g.now()
        with self._mode():
            recording = record(
                self.fn, args, kwargs, states=states, moving=self._moving,
                lift_numbers=self._numbers.get(key[1:], 0) >= MOST_NUMBERS, found=found,
                checks=key[3],
            )  # fmt: skip
        recording.graph.recompute = self.recompute
        if self.freeze:
            recording.freeze()
        self.captures += 1
        program = program_for(recording.graph, self.target or Target.host())
        threads = self.threads or settings.num_threads()
        self._last = executable = Executable(recording, program, given, threads)
        if recording.escapes.again:
            self._keep(executable, key)
        else:
            self._changes.note_once(self.name, recording.escapes.why)
        return executable

    def _note_changes(self, key: Key) -> None:
        """Learn from what the newest recording of this kind of call no longer agrees with."""
        changed = [g for newest in self._calls.get(key, ())[:1] for g in newest.changed()]
        if any(g.is_number for g in changed):
            self._numbers[key[1:]] = self._numbers.get(key[1:], 0) + 1
        for g in changed:
            if g.kind in ("attr", "item") and is_a(g.held, Tensor):
                self._moving.add(place_of(g))
        if changed:
            self._changes.note(self.name, changed)

    def _keep(self, executable: Executable, key: Key) -> None:
        """Let later calls find it; forget recordings that nothing leads to, and the oldest."""
        # the function may have moved them while it was recorded
        structure, _ = now = settings.STRUCTURE.value, settings.MODES.value
        for old in [k for k in self._calls if k[0][0] != structure]:
            del self._calls[old]
        variants = self._calls.pop((now, *key[1:]), [])
        self._calls[now, *key[1:]] = [executable, *variants[: MOST_VARIANTS - 1]]
        while len(self._calls) > 1 and sum(map(len, self._calls.values())) > MOST_RECORDINGS:
            del self._calls[next(iter(self._calls))]


def _runnable(target: str | Target | None) -> Target | None:
    """The target meant, which this machine can run."""
    if target is None:
        return None
    if not is_a(target, (str, Target)):
        raise SettingError(
            "compile: this is not a target",
            got=f"target={target!r}",
            rule="a name (" + ", ".join(map(repr, NAMES)) + ") or a Target",
            fix='compile(..., target="avx2")',
        )
    return (Target.named(target) if isinstance(target, str) else target).runnable()


def _each_once(leaves: list[Any], key: list[Any]) -> list[Any]:
    """The leaves without repetitions; the key says which were the same."""
    place: dict[int, int] = {}
    once: list[Any] = []
    for leaf in leaves:
        if id(leaf) not in place:
            place[id(leaf)] = len(once)
            once.append(leaf)
    key.append(tuple([place[id(leaf)] for leaf in leaves]))
    return once
