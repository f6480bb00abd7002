"""Runs a Lowered operation on NumPy arrays through the engine and the thread team."""

import numpy as np

from tinytorch.codegen.engine import compile_text, load, module_text
from tinytorch.codegen.team import StageTable, Team, aligned_bytes


def run_lowered(target, lowered, buffers, threads=(1,)):
    """Run once for each number of threads; the outputs after the last run are in `buffers`."""
    kernels = [step.kernel for step in lowered.steps]
    library = load([compile_text(module_text(kernels), target)], [k.name for k in kernels])
    memory = {name: aligned_bytes(size) for name, size in lowered.temporaries.items()}
    for array in memory.values():
        array[:] = 0xFF  # NaN: what is read before it is written shows
    memory.update(buffers)
    stages = [
        (library[s.kernel.name], s.kernel.tiles, [memory[n].ctypes.data for n in s.arguments])
        for s in lowered.steps
    ]
    scratch = max((k.scratch for k in kernels), default=0)
    table = StageTable(stages, scratch_bytes=scratch, tiles_config=target.has_amx)
    for n in threads:
        assert Team().run(table, threads=n) == 0


def element_strides(array) -> tuple[int, ...]:
    """NumPy's strides counted in elements."""
    return tuple(s // array.itemsize for s in array.strides)


def untouched(shape, dtype) -> np.ndarray:
    """An array of a number no kernel gives, so that what was not written shows."""
    return np.full(shape, 77, dtype)
