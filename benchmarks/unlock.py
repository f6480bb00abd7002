"""Makes the library that lifts MKL's restriction on processors that are not Intel's.

Knows the C compiler of the machine, if there is one. MKL asks `mkl_serv_intel_cpu_true` whether it
may use its fast kernels; a preloaded library that says yes doubles PyTorch's matmul on AMD and
changes nothing on Intel. Comparisons show the peer both ways.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def unlocking_library(folder: Path) -> Path | None:
    """The library's path, or None where there is no C compiler or no preloading."""
    compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None or os.name != "posix":
        return None
    source, library = folder / "unlock.c", folder / "libunlock.so"
    source.write_text(_SOURCE)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, check=False)
    return library if done.returncode == 0 else None


def preloading(library: Path) -> dict[str, str]:
    """The environment variable that loads it before everything else."""
    return {"LD_PRELOAD": str(library)}
