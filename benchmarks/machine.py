"""What a result was measured on: processor, versions, date, commit, and the measured limits.

Knows the operating system's files; never cases.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Kinds of machines, as far as kernels tell them apart, and the flag of /proc/cpuinfo that says so.
KINDS = {
    "AVX-512 with AMX": "amx_bf16",
    "AVX-512 with BF16": "avx512_bf16",
    "AVX-512": "avx512f",
    "AVX2": "avx2",
}
OTHER_KIND = "128-bit vectors"


def describe(threads: int) -> dict:
    """The circumstances of a measurement, as plain values. Cost: a second, for the limits."""
    return circumstances(threads) | {"limits": _limits(threads)}


def kind(machine: dict) -> str:
    """Which kind of machine a description is of: a key of KINDS, or OTHER_KIND."""
    has = machine["processor"].get("has", ())
    return next((name for name, flag in KINDS.items() if flag in has), OTHER_KIND)


def heading(threads: int) -> str:
    """The circumstances of a log in one line, without measuring anything."""
    facts = circumstances(threads)
    return (
        f"commit {facts['commit']}, {facts['date']}, python {facts['python']}, "
        f"llvmlite {facts['versions']['llvmlite']}, {facts['processor']['name']}, "
        f"{facts['system']}, {threads} threads or processes"
    )


def circumstances(threads: int) -> dict:
    """What `describe` gives, but for the measured limits."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in ("numpy", "llvmlite", "torch", "onnxruntime", "jax")
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
    }


def _processor() -> dict:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {"name": platform.processor()}
    rows = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in rows}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return {
        "name": facts.get("model name", platform.processor()),
        "family": f"{facts.get('cpu family')}/{facts.get('model')}/{facts.get('stepping')}",
        "has": [flag for flag in wanted if flag in facts.get("flags", "").split()],
    }


def _limits(threads: int) -> dict:
    """Operations and bytes a second, measured now."""
    from tinytorch.codegen.target import Target
    from tinytorch.compiler.run.roofline import measure

    limits = measure(Target.host(), threads)
    return {
        "float32": limits.peaks["fp32"],
        "bf16": limits.peaks.get("bf16", 0.0),
        "bandwidth": limits.bandwidth,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
