"""From a captured graph to a program, by the shortest way: in memory, on disk, or through the passes.

Knows what makes two programs the same; never what a pass does. The key is everything the code depends
on: the graph's text, its constants' bytes, the target, the versions, and the source of the compiler
itself. Where the user's lines are is not part of it: a program found again takes them from the graph
captured a moment ago.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np

from tinytorch.codegen import engine

try:
    from tinytorch.codegen import cache
except ImportError:  # TODO
    class cache:
        read = write = remove = staticmethod(lambda *a: None)
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph import Graph
from tinytorch.compiler.launch import FORMAT, LaunchPlan, launch_plan
from tinytorch.compiler.lower import schedule as lower
from tinytorch.compiler.memory import plan_memory, report
from tinytorch.compiler.program import Program
from tinytorch.compiler.schedule import HostCall, verify_schedule

KEPT = 64  # programs kept in memory; one is its code and its constants, without an arena
_SOURCES = ("base", "primitives", "codegen", "kernels", "compiler")  # floors that shape the code
_programs: OrderedDict[str, Program] = OrderedDict()
_lock = threading.RLock()


def program_for(graph: Graph, target: Target) -> Program:
    """The program of a captured graph.

    Cost: microseconds if this process has it; reading one file if the cache has it; otherwise the
    passes and LLVM, about 1 s for 1 000 kernels.
    """
    key = digest(graph, target)
    with _lock:
        program = _programs.get(key)
        if program is not None:
            _programs.move_to_end(key)
            return program.for_graph(graph)
        program = _from_disk(key, graph, target) or _from_passes(key, graph, target)
        _programs[key] = program
        while len(_programs) > KEPT:
            _programs.popitem(last=False)
        return program


def forget_programs() -> None:
    """Drop the programs kept in memory; those in use go on."""
    with _lock:
        _programs.clear()


def digest(graph: Graph, target: Target) -> str:
    """The key of a graph's program: sha256 in hex."""
    out = hashlib.sha256()
    out.update(f"{FORMAT}|{target.key}|{engine.version()}|{source_digest()}\n".encode())
    out.update(str(graph).encode())
    for array in graph.constants.values():
        out.update(np.ascontiguousarray(array).tobytes())
    return out.hexdigest()


@lru_cache
def source_digest() -> str:
    """A hash of every source file that decides what code is written; 2 ms, once."""
    out = hashlib.sha256()
    package = Path(__file__).parents[1]
    for folder in _SOURCES:
        for path in sorted((package / folder).glob("*.py")):
            out.update(f"{folder}/{path.name}\n".encode())
            out.update(path.read_bytes())
    return out.hexdigest()


def _from_disk(key: str, graph: Graph, target: Target) -> Program | None:
    saved = cache.read(key)
    if saved is None:
        return None
    try:
        image, plan = saved
        return Program(LaunchPlan.from_text(plan.decode()), [image], graph, target)
    except Exception:  # whatever is wrong with an entry, compiling again cures it
        cache.remove(key)
        return None


def _from_passes(key: str, graph: Graph, target: Target) -> Program:
    schedule = verify_schedule(lower(graph, target))
    memory = plan_memory(schedule)
    plan = launch_plan(schedule, memory, report(memory, schedule), graph)
    kernels = [t.kernel for t in schedule.tasks if not isinstance(t.kernel, HostCall)]
    text = engine.module_text(kernels)
    image = engine.compile_text(text, target)
    cache.write(key, (image, plan.to_text().encode()))
    return Program(plan, [image], graph, target)
