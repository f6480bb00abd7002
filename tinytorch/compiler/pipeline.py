"""The passes of the compiler, in order: from a recorded program to one that can be launched.

Knows the list, never what a pass does. Each pass takes one frozen result and gives one; its check
runs after it and works its answer out anew; each result prints itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tinytorch.codegen.kernel import Kernel
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Captured, Graph, check_captured
from tinytorch.compiler.graph.simplify import check_simplified, simplify
from tinytorch.compiler.plan.arena import check_arena, plan_arena
from tinytorch.compiler.plan.buffers import assign_buffers, check_buffers
from tinytorch.compiler.plan.derive import check_derived, derive
from tinytorch.compiler.plan.ends import check_ends, end_sums
from tinytorch.compiler.plan.fuse import check_groups, fuse
from tinytorch.compiler.plan.launch import LaunchPlan, check_launch, launch_plan
from tinytorch.compiler.plan.layout import (
    check_layouts,
    check_split,
    choose_layouts,
    split_reductions,
)
from tinytorch.compiler.plan.lower import check_tasks, lower
from tinytorch.compiler.plan.materialize import check_materialized, materialize
from tinytorch.compiler.plan.order import check_order, order_tasks
from tinytorch.compiler.plan.recompute import check_recompute, recompute


@dataclass(frozen=True)
class Pass:
    """One step.

    Args:
        name: for messages and pages.
        meaning: what its result is, and the file, in one sentence.
        run: the result of the step before -> its own.
        check: raises a CompileError if the result is not what the next step relies on.
    """

    name: str
    meaning: str
    run: Callable[[Any], Any]
    check: Callable[[Any], None]


PASSES = (
    Pass(
        "simplify",
        "Equal computations are done once, cheaper equals stand in their places; each rule keeps"
        " the numbers (`graph/simplify.py`).",
        simplify,
        check_simplified,
    ),
    Pass(
        "end sums",
        "Where a length is known when it runs, products end there, and masks that made zeros beyond"
        " it are gone (`plan/ends.py`).",
        end_sums,
        check_ends,
    ),
    Pass(
        "recompute",
        "What is computed again where it is needed late, in place of being kept till then"
        " (`plan/recompute.py`).",
        recompute,
        check_recompute,
    ),
    Pass(
        "split reductions",
        "Reductions over innermost axes and others become two steps (`plan/layout.py`).",
        split_reductions,
        check_split,
    ),
    Pass(
        "choose layouts",
        "In which order the axes of each value would lie in memory (`plan/layout.py`).",
        choose_layouts,
        check_layouts,
    ),
    Pass(
        "fuse",
        "Which operations become one kernel (`plan/fuse.py`).",
        fuse,
        check_groups,
    ),
    Pass(
        "materialize",
        "Which values get memory; the others stay in registers, or are computed again"
        " (`plan/materialize.py`).",
        materialize,
        check_materialized,
    ),
    Pass(
        "assign buffers",
        "Which memory that is; new states lie where the old ones lay, where that can be"
        " (`plan/buffers.py`).",
        assign_buffers,
        check_buffers,
    ),
    Pass(
        "order tasks",
        "What is done after what (`plan/order.py`).",
        order_tasks,
        check_order,
    ),
    Pass(
        "lower",
        "Loops and library calls as kernels, with the memory they read and write"
        " (`plan/lower.py`).",
        lower,
        check_tasks,
    ),
    Pass(
        "derive",
        "What follows from frozen states alone comes first, to be done once for their numbers"
        " (`plan/derive.py`).",
        derive,
        check_derived,
    ),
    Pass(
        "plan the arena",
        "Where temporaries lie in one piece of memory that they share (`plan/arena.py`).",
        plan_arena,
        check_arena,
    ),
    Pass(
        "launch plan",
        "What the runtime is told, and what the disk cache keeps (`plan/launch.py`).",
        launch_plan,
        check_launch,
    ),
)
# what each stage is, in one sentence: the recording, then the passes
MEANINGS = {
    "capture": "The function is called once with values that record (`record/recording.py`);"
    " backward pass and update are operations like any others.",
    **{step.name: step.meaning for step in PASSES},
}


def stages(graph: Graph, target: Target, checks: int = 0) -> Iterator[tuple[str, Any]]:
    """(name, result) of the recording and of each pass, checked, one after the other.

    Args:
        graph: as recorded; it stays as it is.
        target: the machine to write code for.
        checks: of indices that come before, if the graph is the body of a loop.

    Raises:
        CompileError: a pass made an invalid program, which is a fault of the compiler.
    """

    def lowered(body: Graph, checks: int) -> Any:
        """A loop's body goes through the same passes, as a program of its own."""
        return stage(body, target, "lower", checks)

    result: Any = Captured(graph, target, lowered, checks)
    check_captured(result)
    yield "capture", result
    for step in PASSES:
        result = step.run(result)
        step.check(result)
        yield step.name, result


def stage(graph: Graph, target: Target, name: str, checks: int = 0) -> Any:
    """The checked result of one pass."""
    return next(result for found, result in stages(graph, target, checks) if found == name)


def compile_graph(graph: Graph, target: Target) -> tuple[LaunchPlan, list[Kernel]]:
    """The plan of a recorded program, and its kernels, equal ones as often as they run.

    Cost: 0.2 to 1 s for a training step of a small model.
    """
    launch = stage(graph, target, "launch plan")
    return launch.plan, launch.arena.program.kernels
