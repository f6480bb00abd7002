"""A model as a program without Python: recorded once, compiled for a target, its weights prepared.

Knows recordings, launch plans and bytes; never C, or files. Every weight is a frozen state: what
follows from weights alone (packing, folding, Winograd's transform) is computed here, by the kernels
that the plan has for it, and what they leave becomes data beside the constants. Where this machine
lacks the target's instructions, these kernels are compiled for this machine: they move and scale
numbers, whatever the vectors they do it by.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinytorch.base.dtypes import DType
from tinytorch.base.errors import ArgumentTypeError, CompileError, SettingError
from tinytorch.codegen.engine import compile_text, module_texts
from tinytorch.codegen.kernel import Kernel, round_up
from tinytorch.codegen.target import Target
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.arena import ALIGNMENT
from tinytorch.compiler.plan.launch import Launched, LaunchPlan
from tinytorch.compiler.record.recording import Recording, record
from tinytorch.compiler.record.signature import Slot
from tinytorch.compiler.run.executable import Binding
from tinytorch.compiler.run.program import Program
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.interpreter import precision as precision_mode
from tinytorch.tensor.tensor import Tensor

# What an address in a program is counted from: the data, the arena, the status words; behind these
# the inputs, then the outputs.
DATA, ARENA, STATUS, GIVEN = 0, 1, 2, 3


@dataclass(frozen=True)
class ArrayFact:
    """An input or an output.

    Args:
        name: "input", "output", with a number behind it if there are several.
        dtype: of its numbers.
        shape: dense, the last axis fastest.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Stage:
    """One kernel as it is run, or a gate.

    Args:
        symbol: of the kernel; "" for a gate, whose one address is a flag.
        tiles: how many.
        addresses: (what it is counted from, bytes).
        skip: of a gate, how many stages behind it are left out unless the flag is so.
        holds: what the flag must be.
    """

    symbol: str
    tiles: int
    addresses: tuple[tuple[int, int], ...]
    skip: int = 0
    holds: bool = True


@dataclass(frozen=True)
class NativeProgram:
    """All that object code is written from.

    Args:
        target: the processor.
        kernels: the code of the stages.
        stages: in order.
        inputs, outputs: what a caller gives and gets.
        data: weights and constants, as the stages read them.
        arena, scratch: bytes of memory that a run needs.
    """

    target: Target
    kernels: tuple[Kernel, ...]
    stages: tuple[Stage, ...]
    inputs: tuple[ArrayFact, ...]
    outputs: tuple[ArrayFact, ...]
    data: bytes
    arena: int
    scratch: int


def native_program(model: Any, example: tuple[Any, ...], target: Target) -> NativeProgram:
    """The program of one call of a model, for a target.

    Args:
        model: a Module in evaluation mode, a function over Tensors, or what `tt.compile` gave.
        example: its arguments, arrays; their shapes and number types are those of the library.
        target: the processor to write for; without AMX tiles.

    Raises:
        CompileError: it cannot be compiled, changes something when called, or calls Python or
            NumPy in between.
        SettingError: what it gives is not arrays that it computes; or its weights are prepared by
            instructions that this machine lacks.
    """
    recording = recorded_call(model, example)
    graph = recording.graph
    plan, kernels = compile_graph(graph, target)
    _refuse_host_calls(plan)
    slots = results_of(recording)
    memory = _Memory(plan, kernels, recording, target)
    stages = tuple(memory.stage(one) for one in plan.launched)
    names = {stage.symbol for stage in stages}
    used = tuple(kernel for kernel in kernels if kernel.name in names)
    given = [graph.results[i] for i in slots]
    return NativeProgram(
        target, used, stages,
        _facts("input", [(v.dtype, v.shape) for v in graph.arguments]),
        _facts("output", [(v.dtype, v.shape) for v in given]),
        bytes(memory.data), memory.arena, max((kernel.scratch for kernel in used), default=0),
    )  # fmt: skip


def recorded_call(model: Any, example: tuple[Any, ...]) -> Recording:
    """One call of a model, in which its weights are frozen states.

    Args:
        model: a Module in evaluation mode, a function over Tensors, or what `tt.compile` gave.
        example: its arguments, arrays.

    Raises:
        CompileError: it cannot be recorded, or changes something when called.
    """
    function, mode = model, nullcontext()
    if isinstance(model, Compiled):
        function = model.fn
        mode = precision_mode(model.precision) if model.precision else mode
    if not callable(function):
        raise ArgumentTypeError(
            "export: this cannot be called",
            got=type(function).__name__,
            rule="a Module, a function over Tensors, or a compiled one",
            fix="export.native(model, example, folder)",
        )
    arrays = tuple(x if isinstance(x, (Tensor, np.ndarray)) else Tensor(x) for x in example)
    with no_grad(), mode:
        recording = record(function, arrays, {})
    recording.freeze()
    _refuse_changes(recording)
    return recording


def weights_of(recording: Recording) -> list[np.ndarray]:
    """The stored array of each state of a recorded call, in the graph's order."""
    binding = Binding(recording)
    binding.refresh()
    return [binding.array(i) for i in range(len(recording.graph.states))]


def _facts(name: str, of: Sequence[tuple[DType, tuple[int, ...]]]) -> tuple[ArrayFact, ...]:
    names = [name] if len(of) == 1 else [f"{name}{i}" for i in range(len(of))]
    return tuple(ArrayFact(n, *spec) for n, spec in zip(names, of, strict=True))


def _refuse_changes(recording: Recording) -> None:
    graph, escapes = recording.graph, recording.escapes
    found = {
        f"{len(graph.updates)} states are overwritten": graph.updates,
        "arguments are assigned to": recording.assigned,
        "gradients are left": recording.left,
        "Tensors are left in objects": escapes.effects or escapes.adopted or recording.carried,
        escapes.why: not escapes.again,
        "gradients are read": len(graph.frozen) < len(graph.states),
    }
    if problems := [text for text, is_so in found.items() if is_so]:
        raise CompileError(
            "export: a call of this model changes something",
            got="; ".join(problems),
            rule="the output follows from the input: dropout and batch statistics"
            " belong to training, caches to Python",
            fix="model.eval(), or a function that takes and gives what changes",
        )


def results_of(recording: Recording) -> list[int]:
    """The numbers of the graph's results, in the order in which the model gives them."""
    slots: list[Any] = []
    stack = [recording.result]
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack += reversed(x)
        elif isinstance(x, dict):
            stack += reversed(x.values())
        elif x is not None:
            slots.append(x)
    computed = [x.index for x in slots if isinstance(x, Slot) and x.kind == "result"]
    plain = len(computed) == len(slots) == len(set(computed)) == len(recording.graph.results)
    if not plain or not computed:
        shown = [x.kind if isinstance(x, Slot) else repr(x) for x in slots]
        raise SettingError(
            "export: what this model gives is not what it computes alone",
            got=", ".join(shown) or "nothing",
            rule="arrays that it computes, each once; not an input, a weight or a number",
            fix="a function that gives the arrays: lambda x: model(x)[0]",
        )
    return computed


def _refuse_host_calls(plan: LaunchPlan) -> None:
    if called := sorted({t.symbol for t in plan.written if t.host is not None}):
        raise CompileError(
            "export: this model calls NumPy or Python in between",
            got=", ".join(called),
            rule="primitives that have a kernel: `compiled.explain()` counts host calls",
            fix="another operation in its place, or that part of the model outside the library",
        )


class _Memory:
    """Where everything lies in the library: what the plan's storages become.

    Args:
        plan: the launch plan.
        kernels: its code.
        recording: whose weights they are.
        target: what the code is written for.
    """

    def __init__(
        self, plan: LaunchPlan, kernels: Sequence[Kernel], recording: Recording, target: Target
    ):
        self.plan, self.data = plan, bytearray()
        graph = recording.graph
        self._inputs = len(graph.arguments)
        slots = results_of(recording)
        self._output = {
            i: slots.index(first)
            for i, first in enumerate(plan.same)
            if first in slots and i == first
        }
        if len(self._output) < len(slots):
            raise SettingError(
                "export: two outputs of this model are the same numbers",
                got=f"{len(slots)} outputs, {len(self._output)} different ones",
                rule="arrays that it computes, each once",
                fix="a function that gives one of them",
            )
        made = {n for one in plan.derivation for n, _, _ in one.memory}
        self._kept = {n for n in made if plan.storages[n][0] == "temporary"}
        self._binding = Binding(recording)
        self._binding.refresh()
        self._constants = plan.constant_arrays(graph)
        self._derived = self._derive(kernels, recording, target)
        self._places: dict[int, tuple[int, int]] = {}
        read = {n for one in plan.launched for n, _, _ in one.touched}
        holes = sorted((plan.storages[n][2], n) for n in self._kept & read)
        self._holes = [(at, round_up(plan.storages[n][1], ALIGNMENT)) for at, n in holes]
        self.arena = 0  # bytes of what the stages use

    def _derive(self, kernels: Sequence[Kernel], recording: Recording, target: Target) -> bytes:
        """The arena after the tasks that read frozen states and constants alone."""
        plan = self.plan
        if not plan.derived:
            return b""
        first = replace(plan, tasks=plan.tasks[: plan.derived], derived=0)
        symbols = {t.symbol for t in first.tasks}
        try:
            here = target.runnable()
        except SettingError:
            here = Target.host()
        texts = module_texts(k for k in kernels if k.name in symbols)
        try:
            objects = [compile_text(text, here) for text in texts]
        except CompileError as error:
            if here == target:
                raise
            raise SettingError(
                "export: this machine cannot prepare the weights for that target",
                got=f"{target.name} with {target.features}: {error.got}",
                rule="kernels that prepare weights for the target are compiled for this machine",
                fix='one of the names ("avx512"), or the same call on a machine of that kind',
            ) from error
        runner = Program(first, objects, recording.graph, here).runner(1)
        runner.bind_states(self._binding.addresses)
        runner.run([], [])
        return runner.arena.tobytes()

    def stage(self, one: Launched) -> Stage:
        """A task as it is run."""
        addresses = tuple(self._address(n, at) for n, at, _ in one.touched)
        if one.skips:
            ((_, holds),) = one.flags
            return Stage("", 0, addresses, one.skips, holds)
        return Stage(one.task.symbol, one.task.tiles, addresses)

    def _address(self, number: int, offset: int) -> tuple[int, int]:
        if number not in self._places:
            self._places[number] = self._place(number)
        base, start = self._places[number]
        return base, start + offset

    def _place(self, number: int) -> tuple[int, int]:
        kind, size, place = self.plan.storages[number]
        if kind == "argument":
            return GIVEN + place, 0
        if kind == "result":
            return GIVEN + self._inputs + self._output[place], 0
        if kind == "status":
            return STATUS, 0
        if kind == "constant":
            return DATA, self._add(self._constants[place].tobytes())
        if kind == "state":
            return DATA, self._add(np.ascontiguousarray(self._binding.array(place)).tobytes())
        if number in self._kept:
            return DATA, self._add(self._derived[place : place + size])
        start = place - sum(size for at, size in self._holes if at < place)
        self.arena = max(self.arena, start + round_up(size, ALIGNMENT))
        return ARENA, start

    def _add(self, content: bytes) -> int:
        start = round_up(len(self.data), ALIGNMENT)
        self.data += bytes(start - len(self.data)) + content
        return start
