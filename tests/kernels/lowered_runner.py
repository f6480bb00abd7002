"""Runs a Lowered operation on NumPy arrays through the engine and the thread team."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from tests.kernels.amx_emulator import emulated_text
from tinytorch.base.errors import SettingError
from tinytorch.codegen.engine import Library, compile_text, load, module_text
from tinytorch.codegen.kernel import Lowered, build
from tinytorch.codegen.target import Target, amx_permitted, runnable_names
from tinytorch.codegen.team import StageTable, Team, aligned_bytes

# AMX tiles are emulated where the processor has none; a test on a target that this machine cannot
# run is skipped.
AVX512 = Target.named("avx512", "x86_64")
AVX2 = Target.named("avx2", "x86_64")
WITHOUT_AMX = replace(AVX512, has_amx=False)
AMX = replace(AVX512, has_amx=True)
# what AVX-512 is everywhere
PLAIN = replace(WITHOUT_AMX, has_bf16_dot=False, has_int8_dot=False)
NEON = Target.named("neon", "aarch64")
# Every target this machine runs, without its tiles.
VECTOR_TARGETS = {n: replace(Target.named(n), has_amx=False) for n in runnable_names()}
HERE = next(iter(VECTOR_TARGETS.values()))  # the widest
# Those that multiply bfloat16.
PAIR_TARGETS = [AMX, *(t for t in VECTOR_TARGETS.values() if t.has_bf16_dot)]
# The same with fewer instructions for bytes: pairs of int16, and those of the same sign alone.
FEWER_BYTES = {
    name: target
    for name, target in {
        "plain": PLAIN,
        "avx2 in shorts": replace(AVX2, has_int8_dot=False),
        "neon in shorts": replace(NEON, has_int8_dot=False),
        "neon of the same sign": replace(NEON, has_mixed_dot=False),
    }.items()
    if target.name in VECTOR_TARGETS
}


@lru_cache(maxsize=256)
def library_of(text: str, names: tuple[str, ...], target: Target) -> Library:
    """The code of a module; tests run the same one with several numbers of threads and inputs."""
    return load([compile_text(text, target)], names)


def skip_unless_runnable(target):
    """What is written for another processor cannot be carried out by this one."""
    try:
        target.runnable()
    except SettingError as no:
        pytest.skip(str(no.got))


def run_lowered(target, lowered, buffers, threads=(1,)):
    """Run once for each number of threads; the outputs after the last run are in `buffers`.

    A target with AMX tiles on a processor without: they are emulated, by one thread only.
    """
    kernels = [step.kernel for step in lowered.steps]
    emulated = target.has_amx and not amx_permitted()
    if emulated:
        target = replace(target, has_amx=False)
        if threads != (1,):
            pytest.skip("AMX tiles are emulated here, by one thread")
    skip_unless_runnable(target)
    text = emulated_text(kernels) if emulated else module_text(kernels)
    library = library_of(text, tuple(k.name for k in kernels), target)
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
        plant_scratch()
        assert Team().run(table, threads=n) == 0


def plant_scratch():
    """NaN in the memory that threads have for themselves: what it held before is nobody's."""
    for crew in Team.crews:
        crew._scratch[...] = 0xFF


def run_kernel(target, kernel, buffers, threads=(1,)):
    """The same for one kernel."""
    run_lowered(target, Lowered.of(kernel), buffers, threads)


def run_body(target, body, buffers, scratch=1 << 16):
    """Runs code that is no kernel of its own: `body(f, pointers)` once, on some scratch memory."""
    run_kernel(
        target, build("code_under_test", tuple(buffers), body, tiles=1, scratch=scratch), buffers
    )


def element_strides(array) -> tuple[int, ...]:
    """NumPy's strides counted in elements."""
    return tuple(s // array.itemsize for s in array.strides)


def untouched(shape, dtype) -> np.ndarray:
    """An array of a number no kernel gives, so that what was not written shows."""
    return np.full(shape, 77, dtype)
