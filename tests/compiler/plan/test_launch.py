"""The launch plan: numbers and places, to JSON and back, and what is refused when it is read.

Ground truth: closed forms; each damage makes the plan wrong by construction.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import bfloat16, float32, int64
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.arena import plan_arena
from tinytorch.compiler.plan.launch import (
    FORMAT,
    LaunchBody,
    LaunchPlan,
    LaunchTask,
    host_from_json,
    launch_plan,
)
from tinytorch.compiler.plan.stages import HostCall, Storage, Task, TaskList
from tinytorch.compiler.plan.trips import Choice, Walk, Way
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec


def values(number: int) -> list[Value]:
    return [Value(Spec((4,), float32)) for _ in range(number)]


def graph() -> Graph:
    """Two arguments, one state, three results of which two are one value."""
    results = values(2)
    return Graph(values(2), values(1), {}, [], [results[0], results[0], results[1]], [])


KINDS = [("argument", 16, 1), ("state", 16, 0), ("result", 16, 2), ("constant", 16, 0),
         ("temporary", 64, 64), ("status", 64, 0)]  # fmt: skip


def plan(storages=None, **changes) -> LaunchPlan:
    task = LaunchTask("kernel", 3, [0, 1, 2, 3, 4, 5], "add", 2, details={"size": 4})
    whole = LaunchPlan([task], list(storages or KINDS), 128, 0, False, [0, 0, 2], ["AAAA"], "text")
    return replace(whole, **changes)


def loop(trips=3, **changes) -> LaunchBody:
    """Trips that read rows of 4 bytes of storage 0, and write to one of two places by turns."""
    ways = [Way(Walk(0, 0, 4, trips)), Way(Walk(1, 0, 32, 2), first=None, last=Walk(1, 8))]
    whole = LaunchBody(trips, [LaunchTask("inner", 2, [0, 1])], [4, 8], ways)
    return replace(whole, **changes)


def test_a_loop_is_launched_trip_after_trip():
    """Ground truth: the ways, by hand; a loop in a loop adds them up."""
    inner = LaunchBody(2, [LaunchTask("deep", 1, [1, 0])], [2, 4], [
        Way(Walk(0, 0, 2, 2)), Way(Walk(1)),
    ])  # fmt: skip
    nested = loop(tasks=[LaunchTask("inner", 2, [0, 1]), LaunchTask("loop", 1, [0, 1], body=inner)])
    made = plan(tasks=[LaunchTask("loop", 1, [1, 4], body=nested)])
    assert [t.symbol for t in made.written] == ["inner", "deep"]
    seen = [(one.task.symbol, one.memory) for one in made.launched]
    out = [(4, 0, 8), (4, 32, 8), (4, 8, 8)]  # of storage 4: in turns, and at 8 in the last trip
    wanted = []
    for t in range(3):
        wanted.append(("inner", [(1, 4 * t, 4), out[t]]))
        deep = [[(4, out[t][1], 4), (1, 4 * t + 2 * u, 2)] for u in range(2)]
        wanted += [("deep", memory) for memory in deep]
    assert seen == wanted
    assert made.starts == [0, len(wanted)]


def test_cases_are_launched_behind_gates():
    """Ground truth: by hand; a gate says how many tasks follow, and host calls ask themselves."""
    host = {"primitive": "sort", "params": {"dict": {}}, "inputs": [], "outputs": []}
    ways = [Way(Walk(0)), Way(Walk(1))]
    deep = LaunchBody(1, [LaunchTask("deep", 1, [0])], [4], [Way(Walk(0))], Choice(1, 3, False))
    tasks = [
        LaunchTask("first", 1, [0]), LaunchTask("case", 1, [0, 1], body=deep),
        LaunchTask("numpy.sort", 1, [1], host=host), LaunchTask("last", 1, [0]),
    ]  # fmt: skip
    case = LaunchBody(1, tasks, [4, 8], ways, Choice(1, 5, True))
    made = plan(tasks=[LaunchTask("case", 1, [1, 4], body=case), LaunchTask("after", 1, [1])])
    outer, inner = ((4, 5, 1), True), ((4, 3, 1), False)
    assert [(one.task.symbol, one.flags, one.skips) for one in made.launched] == [
        ("gate", [outer], 3), ("first", [], 0), ("gate", [inner], 1), ("deep", [], 0),
        ("numpy.sort", [outer], 0), ("gate", [outer], 1), ("last", [], 0), ("after", [], 0),
    ]  # fmt: skip
    assert made.launched[4].touched == [(4, 0, 8), (4, 5, 1)]
    assert made.starts == [0, 7, 8]


@pytest.mark.parametrize(
    "changes",
    [
        {"when": Choice(1, 64, True)}, {"when": Choice(0, -1, True)}, {"when": Choice(2, 0, True)},
        {"trips": 0}, {"trips": 5}, {"trips": "3"}, {"sizes": [4]}, {"sizes": [4, 100]},
        {"sizes": [-4, 8]}, {"tasks": [LaunchTask("inner", 2, [2])]},
        {"ways": [Way(Walk(0, -4, 4, 3)), Way(Walk(1))]},
        {"ways": [Way(Walk(2)), Way(Walk(1))]}, {"ways": [Way(Walk(0)), Way(Walk(1, 0, 8, 0))]},
    ],
)  # fmt: skip
def test_a_loop_outside_its_memory_is_refused(changes):
    """Ground truth: each change reaches outside 16 bytes or 64, or names what is not there."""
    good = plan(tasks=[LaunchTask("loop", 1, [1, 4], body=loop())], same=[])
    good.check(
        Graph(arguments=[Value(Spec((4,), float32))] * 3, states=[Value(Spec((4,), float32))])
    )
    wrong = replace(good, tasks=[LaunchTask("loop", 1, [1, 4], body=loop(**changes))])
    with pytest.raises((ValueError, TypeError, IndexError)):
        wrong.check(Graph(states=[Value(Spec((4,), float32))]))


@pytest.mark.parametrize("begins", [[-4, 0], [0, 65], [4], [0, 0, 0]])
def test_a_task_begins_in_its_memory(begins):
    """Ground truth: 16 bytes and 64; and a task is launched where it begins, also one of a loop."""
    graph = Graph(arguments=[Value(Spec((4,), float32))] * 3)
    good = plan(tasks=[LaunchTask("k", 1, [0, 4], begins=[16, 8])], same=[])
    good.check(graph)
    assert good.launched[0].memory == [(0, 16, 0), (4, 8, 56)]
    inner = loop(tasks=[LaunchTask("inner", 2, [0, 1], begins=[0, 4])])
    whole = plan(tasks=[LaunchTask("loop", 1, [1, 4], body=inner)])
    assert [one.memory for one in whole.launched] == [
        [(1, 0, 4), (4, 4, 4)], [(1, 4, 4), (4, 36, 4)], [(1, 8, 4), (4, 12, 4)],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="begin"):
        replace(good, tasks=[LaunchTask("k", 1, [0, 4], begins=begins)]).check(graph)


def test_a_plan_survives_json():
    """Invariant: what is read is what was written, and every field is there."""
    host = {"primitive": "sort", "params": {"dict": {}}, "inputs": [], "outputs": []}
    tasks = [
        *plan().tasks,
        LaunchTask("numpy.sort", 1, [1, 0], check=True, flops=5, bytes=7, host=host),
        LaunchTask("loop", 1, [1, 4], body=loop(), begins=[0, 4]),
    ]
    written = plan(tasks=tasks, tiles=True, scratch=64)
    saved = json.loads(json.dumps(written.to_json()))
    assert LaunchPlan.from_json(saved) == written
    assert saved["format"] == FORMAT and len(saved) == 10
    defaults = LaunchTask("kernel", 1, [])
    assert (defaults.label, defaults.node, defaults.check, defaults.details) == ("", -1, False, {})
    assert (defaults.flops, defaults.bytes, defaults.host) == (0, 0, None)


def test_what_is_no_plan_is_not_read():
    """Another format, a field that is gone, and lists that are something else."""
    saved = plan().to_json()
    with pytest.raises(ValueError, match="another format"):
        LaunchPlan.from_json({**saved, "format": FORMAT + 1})
    for name in saved:
        with pytest.raises((KeyError, TypeError)):
            LaunchPlan.from_json({n: x for n, x in saved.items() if n != name})
    for name in ("tasks", "storages", "same", "constants"):
        with pytest.raises(TypeError, match="is something else"):
            LaunchPlan.from_json({**saved, name: {}})
    assert saved["format"] == FORMAT  # what is given stays as it is


def test_places_at_the_ends_of_their_ranges():
    """Closed form: positions count from 0; a temporary may end where the arena does."""
    plan().check(graph())
    for i, (kind, nbytes, place) in enumerate(KINDS):
        for wrong in ((kind, nbytes, place + 1), (kind, nbytes, -1), (kind, -1, 0)):
            storages = [*KINDS[:i], wrong, *KINDS[i + 1 :]]
            with pytest.raises(ValueError, match="out of its range"):
                plan(storages).check(graph())
        plan([*KINDS[:i], (kind, nbytes, 0), *KINDS[i + 1 :]]).check(graph())
    plan([*KINDS[:4], ("temporary", 128, 0), KINDS[5]]).check(graph())
    plan([*KINDS[:4], ("temporary", 0, 128), KINDS[5]]).check(graph())
    with pytest.raises(ValueError, match="out of its range"):
        plan([*KINDS[:4], ("temporary", 129, 0), KINDS[5]]).check(graph())
    with pytest.raises(IndexError):
        plan(KINDS[:5]).check(graph())
    with pytest.raises(ValueError, match="out of its range"):
        plan(tasks=[replace(plan().tasks[0], arguments=[-1])]).check(graph())


def test_counts_and_names():
    """Counts are whole numbers from 0, True is none; names are texts."""
    (task,) = plan().tasks
    plan(scratch=0, tasks=[replace(task, tiles=0)], arena=128).check(graph())
    for changes in (
        {"scratch": -1}, {"scratch": True}, {"scratch": 1.0}, {"arena": 128.0},
        {"tasks": [replace(task, tiles=-1)]}, {"same": [0, -1, 2]}, {"same": [0, False, 2]},
        {"tasks": [replace(task, symbol=None)]}, {"tasks": [replace(task, label=3)]},
    ):  # fmt: skip
        with pytest.raises(TypeError):
            plan(**changes).check(graph())


def test_results_of_another_graph():
    """For each result the first that is the same: never a later one, and as many as there are."""
    plan(same=[0, 1, 2]).check(graph())
    for same in ([0, 0], [0, 0, 2, 3], [1, 1, 2], [0, 0, 3], []):
        with pytest.raises(ValueError, match="of another graph"):
            plan(same=same).check(graph())


def test_a_host_call_survives_json():
    """Invariant: types, tuples in tuples, names and plain numbers among the parameters."""
    params = {"dtype": bfloat16, "axes": (0, (1, 2)), "axis": -1, "how": {"a": (), "b": None}}
    arrays = (((2, 3), Operand(float32, (1, 2), 5)), ((), Operand(int64, (), 0)))
    call = HostCall(TABLE["sort"], params, arrays, arrays[:1])
    task = Task(call, (), frozenset(), frozenset())
    launch = launch_plan(plan_arena(TaskList([task], [], {}, {}, {}, {}, Graph(), Graph())))
    (made,) = launch.plan.tasks
    assert made.host is not None and made.tiles == 1 and made.symbol == "numpy.sort"
    assert host_from_json(json.loads(json.dumps(made.host))) == call


def test_numbers_and_places_of_a_program():
    """Closed form: storages by their place in the lists of the graph or in the arena; the user's
    line is the first node that came from it; the largest scratch; matrix tiles where one asks."""
    captured, x = Graph(), values(3)
    captured.arguments = x[:2]
    captured.states = x[2:]
    (y,) = captured.add(TABLE["neg"], (x[0],), {}, "a.py:1")
    (z,) = captured.add(TABLE["exp"], (y,), {}, "a.py:2")
    (u,) = captured.add(TABLE["abs"], (y,), {}, "a.py:2")
    captured.results = [z, u, z]
    storages = {
        v: Storage(kind, 16, v)
        for kind, v in (("argument", x[1]), ("state", x[2]), ("result", z), ("result", u))
    }
    first, second = Storage("temporary", 64), Storage("temporary", 64)
    status = Storage("status", 64)
    every = [status, *storages.values(), second, first]
    kernels = [
        Kernel("k", "", frozenset(), ("a", "b"), tiles=2, scratch=64),
        Kernel("l", "", frozenset(["declare void @llvm.x86.tilezero()"]), ("a", "b"), tiles=5),
    ]
    tasks = [
        Task(kernels[0], (storages[x[1]], first), frozenset([storages[x[1]]]), frozenset([first]),
             "one", "a.py:2"),
        Task(kernels[1], (first, second), frozenset([first]), frozenset([second]), "", "b.py:9",
             check=True, details={"size": 3}),
    ]  # fmt: skip
    program = TaskList(
        tasks, every, {x[1]: storages[x[1]]}, {x[2]: storages[x[2]]}, {},
        {z: storages[z], u: storages[u]}, captured, captured,
    )  # fmt: skip
    made = launch_plan(plan_arena(program)).plan
    assert made.storages == [
        ("status", 64, 0), ("argument", 16, 1), ("state", 16, 0), ("result", 16, 0),
        ("result", 16, 1), ("temporary", 64, 64), ("temporary", 64, 0),
    ]  # fmt: skip
    assert [t.arguments for t in made.tasks] == [[1, 6], [6, 5]]
    assert [(t.symbol, t.tiles, t.label, t.node) for t in made.tasks] == [
        ("k", 2, "one", 1), ("l", 5, "l", -1),
    ]  # fmt: skip
    assert [(t.check, t.details) for t in made.tasks] == [(False, {}), (True, {"size": 3})]
    assert (made.scratch, made.tiles, made.arena, made.same) == (64, True, 128, [0, 1, 0])
    plain = replace(program, tasks=tasks[:1])
    assert not launch_plan(plan_arena(plain)).plan.tiles


def test_constants_are_named_where_they_were_captured_and_saved_where_a_pass_made_them():
    """Ground truth: NumPy's bytes."""
    d = Draft()
    x = d.given((20,))
    unused, long, a, b = (Value(Spec((n,), float32)) for n in (5, 20, 2, 2))
    for v in (unused, long, a, b):
        d.graph.constants[v] = np.arange(v.shape[0], dtype=np.float32) + len(d.graph.constants)
    ten = d("pad", d("add", a, b), before=(9,), after=(9,), value=1.0)
    d.graph.results = [d("add", d("add", x, long), ten)]
    made = stage(d.graph, targets()[-1], "launch plan").plan
    assert (
        made.constants[0] == 1 and isinstance(made.constants[1], str) and len(made.constants) == 2
    )
    places = [at for kind, _, at in made.storages if kind == "constant"]
    assert sorted(places) == [0, 1]
    arrays = made.constant_arrays(d.graph)
    assert arrays[0].tobytes() == d.graph.constants[long].tobytes()
    assert arrays[1].tobytes() == np.array([5, 7], np.float32).tobytes()
