"""What `import tinytorch` costs. Ground truth: a fresh process's modules and clock."""

import json
import statistics
import subprocess
import sys

LIMIT = 0.060  # seconds more than numpy: issue 2
ROUNDS = 7

MODULES = """
import json, sys
import numpy
before = set(sys.modules)
import tinytorch
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""

CLOCK = """
import time
start = time.perf_counter()
import numpy
middle = time.perf_counter()
import tinytorch
print(time.perf_counter() - middle)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_numpy_is_all_that_is_loaded():
    """Ground truth: sys.modules: nothing from outside the standard library but NumPy."""
    loaded = set(json.loads(run(MODULES)))
    assert loaded - set(sys.stdlib_module_names) <= {"tinytorch"}


def test_the_import_is_quick():
    """Ground truth: the clock of fresh processes; the least of several, since a busy machine only
    ever adds."""
    run(CLOCK)  # writes the byte code
    times = sorted(float(run(CLOCK)) for _ in range(ROUNDS))
    assert times[0] <= LIMIT, f"least {times[0]:.3f} s, median {statistics.median(times):.3f} s"
