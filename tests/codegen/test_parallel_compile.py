"""Ground truth: the same kernels compiled in one process."""

import ctypes
import os
import sys

import numpy as np
import pytest

from tinytorch.base.errors import CompileError
from tinytorch.codegen import engine, parallel_compile
from tinytorch.codegen.kernel import Kernel, build
from tinytorch.codegen.parallel_compile import compile_kernels
from tinytorch.codegen.target import Target


def kernel(i):
    def body(f, p):
        x = f.at(p["x"], f.tile, "i64")
        f.store(f.add(f.load(x, "i64"), f.index(i)), x)

    return build(f"add_{i}", ["x"], body, tiles=4)


@pytest.mark.parametrize("processes", [None, 1, 3])
def test_every_kernel_is_in_one_of_the_objects(processes):
    """Closed form: 0 + 1 + ... + 6, each kernel called once."""
    kernels = [kernel(i) for i in range(7)]
    objects = compile_kernels([*kernels, kernels[0]], Target.host(), processes)
    assert len(objects) == (processes or 1)
    library = engine.load(objects, [k.name for k in kernels])
    x = np.zeros(1, np.int64)
    pointers = np.array([x.ctypes.data], np.uint64)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    for k in kernels:
        run(library[k.name])(pointers.ctypes.data, 0, None)
    assert x[0] == 21


def test_no_kernels_at_all():
    """A program of views only has an empty object."""
    assert len(compile_kernels([], Target.host())) == 1


def test_what_a_helper_refuses_is_raised_here():
    """The helper's own message."""
    good = kernel(1)
    bad = Kernel("bad", "define void @bad() {\n  ret i32\n}", frozenset(), (), 1)
    with pytest.raises(CompileError, match="does not accept the text"):
        compile_kernels([good, bad], Target.host(), processes=2)


def test_a_helper_that_dies_is_a_compile_error(monkeypatch):
    """A process killed by a signal, as LLVM's abort does; this process goes on."""
    script = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    popen = parallel_compile.subprocess.Popen
    monkeypatch.setattr(
        parallel_compile.subprocess,
        "Popen",
        lambda arguments, **how: popen([sys.executable, "-c", script], **how),
    )
    with pytest.raises(CompileError, match="LLVM ended the process"):
        compile_kernels([kernel(1), kernel(2)], Target.host(), processes=2)


def test_ctrl_c_at_the_terminal_does_not_reach_a_helper(monkeypatch):
    """Ground truth: a terminal signals the process group of the program, which is another one."""
    groups, popen = [], parallel_compile.subprocess.Popen

    def noting(*arguments, **how):
        process = popen(*arguments, **how)
        groups.append(os.getpgid(process.pid))
        return process

    monkeypatch.setattr(parallel_compile.subprocess, "Popen", noting)
    compile_kernels([kernel(1), kernel(2)], Target.host(), processes=2)
    assert groups and os.getpgrp() not in groups


def test_large_programs_are_split():
    """Groups of about equal text, every kernel in one."""
    kernels = [kernel(i) for i in range(9)]
    groups = parallel_compile._groups(kernels, 3)
    assert sorted(k.name for g in groups for k in g) == sorted(k.name for k in kernels)
    assert [len(g) for g in groups] == [3, 3, 3]


@pytest.mark.parametrize("given", [None, "", ":", "/somewhere::"])
def test_a_helper_imports_nothing_from_the_present_folder(tmp_path, monkeypatch, given):
    """Ground truth: modules of the names that a helper imports, which say so if they run. The
    folder a program is started in may be a download of somebody else."""
    for name in ("json", "dataclasses", "numpy", "llvmlite", "threading", "tinytorch"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    if given is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", given)
    assert len(compile_kernels([kernel(1), kernel(2)], Target.host(), processes=2)) == 2
    assert not (tmp_path / "ran").exists()
