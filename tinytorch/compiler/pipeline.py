"""The passes of the compiler, in order: from a recorded program to one that can be launched.

Knows the list, never what a pass does. Each pass takes one frozen result and gives one; its check
runs after it and works its answer out anew; each result prints itself.

    simplify           graph/simplify.py     equal computations once, cheaper equals in place
    split reductions   plan/layout.py        over innermost axes first, then over the others
    choose layouts     plan/layout.py        in which order the axes of each value lie
    fuse               plan/fuse.py          which operations become one kernel
    materialize        plan/materialize.py   which values get memory
    assign buffers     plan/buffers.py       which memory that is, and which states stay in place
    order tasks        plan/order.py         what is done before what
    lower              plan/lower.py         loops and library calls as kernels
    plan the arena     plan/arena.py         where temporaries lie in one piece of memory
    launch plan        plan/launch.py        what the runtime needs, in a form that can be saved
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


@dataclass(frozen=True)
class Pass:
    """One step.

    Args:
        name: for messages and pages.
        run: the result of the step before -> its own.
        check: raises a CompileError if the result is not what the next step relies on.
    """

    name: str
    run: Callable[[Any], Any]
    check: Callable[[Any], None]


PASSES = (
    Pass("simplify", simplify, check_simplified),
    Pass("split reductions", split_reductions, check_split),
    Pass("choose layouts", choose_layouts, check_layouts),
    Pass("fuse", fuse, check_groups),
    Pass("materialize", materialize, check_materialized),
    Pass("assign buffers", assign_buffers, check_buffers),
    Pass("order tasks", order_tasks, check_order),
    Pass("lower", lower, check_tasks),
    Pass("plan the arena", plan_arena, check_arena),
    Pass("launch plan", launch_plan, check_launch),
)


def stages(graph: Graph, target: Target) -> Iterator[tuple[str, Any]]:
    """(name, result) of the recording and of each pass, checked, one after the other.

    Args:
        graph: as recorded; it stays as it is.
        target: the machine to write code for.

    Raises:
        CompileError: a pass made an invalid program, which is a fault of the compiler.
    """
    result: Any = Captured(graph, target)
    check_captured(result)
    yield "capture", result
    for step in PASSES:
        result = step.run(result)
        step.check(result)
        yield step.name, result


def stage(graph: Graph, target: Target, name: str) -> Any:
    """The checked result of one pass."""
    return next(result for found, result in stages(graph, target) if found == name)


def compile_graph(graph: Graph, target: Target) -> tuple[LaunchPlan, list[Kernel]]:
    """The plan of a recorded program, and its kernels, equal ones as often as they run.

    Cost: 0.2 to 1 s for a training step of a small model.
    """
    launch = stage(graph, target, "launch plan")
    return launch.plan, launch.arena.program.kernels
