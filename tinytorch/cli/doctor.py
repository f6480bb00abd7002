"""`tito doctor`: what this machine offers, and whether a compiled program works on it.

Knows versions, folders and one tiny function; each check says what it found and, if that is bad,
what to do.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer

import tinytorch as tt
from tinytorch.base import files
from tinytorch.base.errors import TinyTorchError
from tinytorch.base.settings import available_cores, cache_folder, num_threads
from tinytorch.cli.report import Report

PROBLEM = 1  # exit code when a check fails
LEAST_FREE = 1 << 30  # bytes of memory; training the shipped models takes less than half of it


@dataclass(frozen=True)
class Check:
    """One finding.

    Args:
        name: what was looked at.
        found: what is there.
        fix: what to do about it; empty if all is well.
    """

    name: str
    found: str
    fix: str = ""


def doctor(
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Look at Python, libraries, processor, memory and cache, and compile a small function."""
    report = Report(as_json)
    checks = [_guarded(name, look) for name, look in LOOKS.items()]
    if as_json:
        for check in checks:
            report.facts("check", {**vars(check), "ok": not check.fix})
    else:
        report.facts("checks", {c.name: c.found for c in checks})
        for check in checks:
            if check.fix:
                report.text(f"\nproblem: {check.name}: {check.found}\n  fix:  {check.fix}")
    if any(check.fix for check in checks):
        raise typer.Exit(PROBLEM)
    report.text("\nall is well")


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    """The check, or one that reports why it could not be made: the others still run."""
    try:
        return look()
    except TinyTorchError as error:
        return Check(name, error.what, error.fix)
    except (OSError, ImportError, RuntimeError) as error:
        return Check(
            name, f"{type(error).__name__}: {error}", "tito --traceback doctor shows where"
        )


def _python() -> Check:
    kind = platform.python_implementation()
    return Check("python", f"{kind} {platform.python_version()} at {sys.executable}")


def _tinytorch() -> Check:
    return Check("tinytorch", f"{tt.__version__} at {Path(tt.__file__).parent}")


def _numpy() -> Check:
    return Check("numpy", np.__version__)


def _llvmlite() -> Check:
    from tinytorch.codegen import engine

    return Check("llvmlite", engine.version())


def _target() -> Check:
    from tinytorch.codegen.target import Target

    target = Target.host()
    optional = ("has_bf16_dot", "has_int8_dot", "has_fp16", "has_amx")
    extras = [name[4:] for name in optional if getattr(target, name)]
    also = f", with {', '.join(extras)}" if extras else ""
    return Check("target", f"{target.name} on {target.architecture}{also}")


def _threads() -> Check:
    threads, cores = num_threads(), available_cores()
    found = f"{threads} of {cores} cores"
    too_many = "a number of threads above the cores makes programs wait; TINYTORCH_NUM_THREADS"
    return Check("threads", found, f"{too_many}={cores}" if threads > cores else "")


def _memory() -> Check:
    free = free_memory()
    if free is None:
        return Check("free memory", "unknown on this system")
    fix = "close other programs: training may be slow" if free < LEAST_FREE else ""
    return Check("free memory", f"{free / 2**30:.1f} GiB", fix)


def free_memory() -> int | None:
    """Bytes that a new program can use without swapping, or None where the system does not say."""
    try:
        lines = files.contents("/proc/meminfo", 1 << 16).decode("ascii").splitlines()
    except OSError:
        return None
    rows = dict(line.split(":", 1) for line in lines if ":" in line)
    kilobytes = rows.get("MemAvailable", "").split()
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _cache() -> Check:
    folder = cache_folder()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        fix = "make it writable, or name another folder: TINYTORCH_CACHE=FOLDER"
        return Check("cache", f"{folder} cannot be written", fix)
    used = sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())
    free = shutil.disk_usage(there).free
    return Check("cache", f"{folder}, {used / 2**20:.1f} MiB used, {free / 2**30:.1f} GiB free")


def _compiled() -> Check:
    """Ground truth: the same function run by NumPy."""

    def sums(x):
        return (x * 2.0 + 1.0).sum(1)

    x = tt.Tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
    began = time.perf_counter()
    found = tt.compile(sums)(x).numpy()
    milliseconds = 1e3 * (time.perf_counter() - began)
    # 4 additions of numbers below 4: each rounds by half a unit in the last place of 4
    right = np.abs(found - sums(x).numpy()).max() <= 4 * 4 * np.finfo(np.float32).eps
    if not right:
        return Check("compiler", "a compiled sum is wrong", "report it, with this output")
    return Check("compiler", f"works; a small function took {milliseconds:.0f} ms")


LOOKS: dict[str, Callable[[], Check]] = {
    "python": _python,
    "tinytorch": _tinytorch,
    "numpy": _numpy,
    "llvmlite": _llvmlite,
    "target": _target,
    "threads": _threads,
    "free memory": _memory,
    "cache": _cache,
    "compiler": _compiled,
}
