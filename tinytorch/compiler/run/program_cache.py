"""From a captured graph to a program: found in memory, found on disk, or made by the passes.

Knows what makes two programs the same; never what a pass does. The key is everything the code
depends on: the graph's text, its constants' bytes, the target, and the compiler with its versions.
Where the user's lines are is not part of it: a program found again takes them from the new
recording.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from tinytorch.base.locks import ForkSafeLock
from tinytorch.codegen import cache, engine
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import Graph
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.compiler.plan.launch import LaunchPlan
from tinytorch.compiler.run.program import Program

KEPT = 64  # programs kept in memory; one is its code and its constants, without an arena
_programs: OrderedDict[str, Program] = OrderedDict()
_lock = ForkSafeLock()


def program_for(graph: Graph, target: Target) -> Program:
    """The program of a captured graph.

    Cost: microseconds if this process has it; reading one file if the cache has it; otherwise the
    passes and LLVM, about 1 s for 200 different kernels.
    """
    key = key_of(graph, target)
    with _lock.lock:
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
    with _lock.lock:
        _programs.clear()


def key_of(graph: Graph, target: Target) -> str:
    """What two graphs have in common if one program serves both."""
    constants = hashlib.sha256()
    for array in graph.constants.values():
        constants.update(np.ascontiguousarray(array).tobytes())
    return cache.program_key(target.key, str(graph), constants.hexdigest())


def _from_disk(key: str, graph: Graph, target: Target) -> Program | None:
    folder = cache.open_cache()
    saved = folder.get(key) if folder is not None else None
    if saved is None:
        return None
    objects, fields = saved
    try:
        plan = LaunchPlan.from_json(fields)
        plan.check(graph)
        return Program(plan, objects, graph, target)
    except Exception:  # whatever another writer put there: compiling again replaces it
        return None


def _from_passes(key: str, graph: Graph, target: Target) -> Program:
    plan, kernels = compile_graph(graph, target)
    objects = [engine.compile_text(engine.module_text(kernels), target)]
    folder = cache.open_cache()
    if folder is not None:
        folder.put(key, objects, plan.to_json())
    return Program(plan, objects, graph, target)
