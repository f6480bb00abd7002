"""Each pass of the compiler alone: what it makes of ten small programs, and what its check refuses.

The prints of all results are kept in tests/compiler/passes/NAME.txt. If a pass is changed on
purpose, `python -m tests.compiler.test_every_pass` writes them anew; read the difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.nn.functional as F
from tinytorch.base.errors import CompileError
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.axes import plain_axis
from tinytorch.compiler.graph.graph import Graph, step_reference
from tinytorch.compiler.graph.rewriter import Simplified
from tinytorch.compiler.pipeline import PASSES, stages

KEPT = Path(__file__).parent / "passes"
TARGET = Target.named("vector128")
PROGRAMS: dict[str, Callable[[], Graph]] = {}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def program(make: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]) -> Callable[[], Graph]:
    """Record what `make` gives: a function and its arguments."""

    def graph() -> Graph:
        tt.manual_seed(0)
        function, arguments = make()
        compiled = tt.compile(function, target="vector128", threads=1)
        compiled(*arguments)
        return compiled.stages()["capture"].graph

    PROGRAMS[make.__name__] = graph
    return graph


@program
def training_step():
    """A product and its epilogue, reductions over all and over the batch, states in place."""
    w, b = (tt.Tensor(a, requires_grad=True) for a in (numbers(4, 3), numbers(3)))

    def step(x, y):
        w.grad = b.grad = None
        loss = (((x @ w + b).tanh() - y) ** 2).mean()
        loss.backward()
        with tt.no_grad():
            for p in (w, b):
                p.assign_(p - 0.1 * p.grad)
        return loss

    return step, (numbers(5, 4), numbers(5, 3, seed=1))


@program
def softmax():
    """One pass over rows, with two reductions inside."""
    return lambda x: F.softmax(x, -1), (numbers(3, 7),)


@program
def channel_statistics():
    """A reduction that is split in two: over rows and columns of pictures, and over the batch."""
    return lambda x: (x.mean((0, 2, 3)), x.sum((0, 2))), (numbers(2, 3, 4, 5),)


@program
def picture_network():
    """A convolution with its epilogue and a pooling, in channels-last order."""
    w = tt.Tensor(numbers(4, 2, 3, 3))
    return lambda x: F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2), (numbers(1, 2, 6, 6),)


@program
def dilated_and_depthwise():
    """Convolutions that rewrite rules make of plain ones, and of shifted products."""
    w, d = tt.Tensor(numbers(2, 2, 2, 2)), tt.Tensor(numbers(2, 1, 2, 2))

    def run(x):
        return F.conv2d(x, w, dilation=2), F.conv2d(x, d, groups=2)

    return run, (numbers(1, 2, 5, 5),)


@program
def lookup():
    """A check of indices before anything is written, and a state of which rows are added up."""
    table = tt.Tensor(numbers(6, 3), requires_grad=True)

    def step(i):
        table.grad = None
        F.embedding(i, table).sum().backward()
        with tt.no_grad():
            table.assign_(table - table.grad)

    return step, (np.array([1, 4, 1]),)


@program
def attention():
    """A library call with heads side by side in memory."""

    def run(x):
        q, k, v = x.reshape(1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return run, (numbers(1, 4, 48),)


@program
def joined():
    """Parts of a concatenation that are written where they belong, and padding."""
    return lambda x: tt.pad(tt.cat([x.exp(), x.abs()], 1), (1, 0), (0, 2)), (numbers(2, 3),)


@program
def swapped_states():
    """s, t = t, s: neither can be overwritten before the other is read."""
    s, t = tt.Tensor(numbers(4)), tt.Tensor(numbers(4, seed=1))

    def swap():
        old = s * 1.0
        s.assign_(t)
        t.assign_(old)

    return swap, ()


@program
def moved():
    """Views through which numbers are read where they lie, a copy where they cannot, a count."""

    def run(x):
        flipped = x.flip(0)[:, 1:].T
        return flipped.reshape(-1), tt.arange(6).reshape(2, 3) + x.sum(), x.broadcast_to((2, 4, 3))

    return run, (numbers(4, 3),)


def printed(name: str) -> str:
    """Every stage of a program, as text that no machine changes."""
    parts = [f"== {stage}\n{result}" for stage, result in stages(PROGRAMS[name](), TARGET)]
    return re.sub(r"_[0-9a-f]{12}\b", "", "\n\n".join(parts)) + "\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_each_pass_makes(name):
    """Golden: read once by hand; the checks of all passes run on the way."""
    assert printed(name) == (KEPT / f"{name}.txt").read_text()


def test_there_are_ten_programs_and_no_other_prints():
    """Invariant: a print for each program."""
    assert len(PROGRAMS) == 10 and {p.stem for p in KEPT.glob("*.txt")} == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_printed_graphs_run(name, tmp_path):
    """Ground truth: the definition of the graph, node by node. What is printed of the recorded,
    the simplified and the split graph is a Python module that does the same."""
    wanted = None
    for stage, result in stages(PROGRAMS[name](), TARGET):
        if stage not in ("capture", "simplify", "split reductions"):
            continue
        graph = result.graph
        given = {v: made(v, i) for i, v in enumerate((*graph.arguments, *graph.states))}
        results, states = step_reference(graph, given)
        scope: dict[str, Any] = {}
        np.savez(tmp_path / "constants.npz", **graph.long_constants())
        exec(compile(graph.source(str(tmp_path / "constants.npz")), stage, "exec"), scope)
        arrays = {v: a.copy() for v, a in given.items()}
        found = scope["program"](*arrays.values())
        found = found if isinstance(found, tuple) else () if found is None else (found,)
        for a, b in zip(found, results, strict=True):
            np.testing.assert_array_equal(a, b)
        for old, new in states.items():
            np.testing.assert_array_equal(arrays[old], new)
        # rules keep numbers up to rounding: a few operations on numbers of size 1 to 30
        everything = [*results, *(states.get(v, given[v]) for v in graph.states)]
        for a, b in zip(everything, wanted or everything, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        wanted = everything


def made(v, seed: int) -> np.ndarray:
    """An array for a value: small whole numbers for integers, which may be indices."""
    rng = np.random.default_rng(seed)
    if v.dtype.is_float:
        return rng.standard_normal(v.shape).astype(v.dtype.storage)
    return rng.integers(0, 3, v.shape).astype(v.dtype.storage)


# what is handed on


CHANGED = {"Value", "Node", "Graph", "Storage", "_Draft"}  # written while a program is made
SAME_CONTENT = {  # equal ones may stand for each other; all others are themselves alone
    "Access", "Coordinate", "Movement", "Arena", "LaunchTask", "LaunchPlan", "HostCall",
    "Placement", "InnerPlan", "Nest", "OuterPlan", "Image", "Operation", "Pass", "Axis", "Part",
    "Walk", "Way", "Choice", "LaunchBody", "Launched",
    "Needed",
}  # fmt: skip


def test_what_passes_hand_on_is_frozen():
    """Ground truth: the table above. What compares by content is written as a key of kernels, or
    read back from a file; two nodes, groups or expressions that look alike are not one."""
    rooms = [f"tinytorch.compiler.{name}" for name in ("graph", "plan", "loops", "calls")]
    names = ["tinytorch.compiler.operations", "tinytorch.compiler.pipeline"]
    for room in rooms:
        for module in iter_modules(import_module(room).__path__):
            names.append(f"{room}.{module.name}")
    found = {
        name: made.__dataclass_params__
        for module in map(import_module, names)
        for name, made in vars(module).items()
        if isinstance(made, type) and is_dataclass(made) and made.__module__ == module.__name__
    }
    assert {name for name, made in found.items() if not made.frozen} == CHANGED
    assert {name for name, made in found.items() if made.eq} == SAME_CONTENT


# checks


def damaged(name: str, result: Any, before: Any) -> Iterator[tuple[str, Any]]:
    """(phrase of the refusal, a result of the pass that is wrong by construction)."""
    if name == "simplify":
        backwards = replace(result.graph, nodes=result.graph.nodes[::-1])
        yield "read before it is made", replace(result, graph=backwards)
        yield "has changed", replace(result, graph=replace(result.graph, results=[]))
    elif name == "end sums":
        ended = [replace(node, ends=plain_axis(3)) for node in result.graph.nodes]
        yield "a sum cannot end there", replace(result, graph=replace(result.graph, nodes=ended))
    elif name == "recompute":
        again = [replace(node, replay=1) for node in result.graph.nodes]
        graph = replace(result.graph, nodes=again, recompute="none")
        yield "something is computed again", replace(result, graph=graph)
    elif name == "split reductions":
        whole: Simplified = before
        yield "runs over innermost axes and others", whole
    elif name == "choose layouts":
        v = result.graph.arguments[0]
        yield "order of axes is missing", replace(result, orders={**result.orders, v: (0, 0, 1, 2)})
    elif name == "fuse":
        *rest, last = result.groups
        yield "nowhere or twice", replace(result, groups=tuple(rest))
        other = replace(last, axes=frozenset([0, 1, 2]))
        yield "different axes", replace(result, groups=(*rest, other))
    elif name == "materialize":
        for phrase, v in (
            ("wanted in memory has none", result.graph.results[0]),
            ("needs what lies in no memory", result.graph.arguments[0]),
        ):
            yield phrase, replace(result, values=result.values - {v})
    elif name == "assign buffers":
        v = result.graph.results[0]
        off = replace(result.of[v], offset=1)
        yield "outside its memory", replace(result, of={**result.of, v: off})
        without = {u: place for u, place in result.of.items() if u is not v}
        yield "has no memory", replace(result, of=without)
    elif name == "order tasks":
        yield "before it is made", replace(result, items=result.items[::-1])
        yield "twice or never", replace(result, items=result.items[:-1])
    elif name == "lower":
        yield "never written", replace(result, tasks=result.tasks[::-1])
        yield "a result is never written", replace(result, tasks=result.tasks[:-1])
    elif name == "derive":
        yield "never written", replace(result, tasks=result.tasks[::-1])
        yield "what is not there", replace(result, derived=len(result.tasks))
    elif name == "plan the arena":
        yield "two temporaries overlap", replace(result, offsets=dict.fromkeys(result.offsets, 0))
    else:
        tasks = [replace(t, arguments=[99]) for t in result.plan.tasks]
        yield "index out of range", replace(result, plan=replace(result.plan, tasks=tasks))
        yield "of another graph", replace(result, plan=replace(result.plan, same=[]))


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.name)
def test_a_check_refuses_what_is_wrong(step):
    """Ground truth: each damage makes the result wrong by construction; the undamaged one passes.
    A new pass has its damages in `damaged`, in this file."""
    found = dict(stages(two_temporaries(), TARGET))
    names = list(found)
    before = found[names[names.index(step.name) - 1]]
    step.check(found[step.name])
    refused = 0
    for phrase, wrong in damaged(step.name, found[step.name], before):
        with pytest.raises((CompileError, IndexError, ValueError), match=phrase):
            step.check(wrong)
        refused += 1
    assert refused


def two_temporaries() -> Graph:
    """A split reduction of pictures behind a sort, a library call: all passes have work."""

    def run(x):
        return tt.sort(tt.sort(x.exp(), 3)[0], 3)[0].sum((0, 1, 3))

    compiled = tt.compile(run, target="vector128", threads=1)
    return compiled.stages(numbers(2, 3, 4, 5))["capture"].graph


if __name__ == "__main__":
    KEPT.mkdir(exist_ok=True)
    for program_name in PROGRAMS:
        (KEPT / f"{program_name}.txt").write_text(printed(program_name))
