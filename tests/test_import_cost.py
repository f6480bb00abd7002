"""What `import tinytorch` and a first compiled call load and cost.

Ground truth: a fresh process's modules and processor time.
"""

import json
import os
import subprocess
import sys

LIMIT = 0.060  # seconds more than numpy: what a command may wait before its first line
ROUNDS = 7

MODULES = """
import json, sys
import numpy
before = set(sys.modules)
import tinytorch
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""

COMPILED = """
import json, sys
import tinytorch as tt
tt.compile(lambda x: x + 1)(tt.ones(3))
print(json.dumps([name for name in sys.modules if name.startswith("tinytorch.compiler.run.")]))
"""

CLOCK = """
import time
import numpy
middle = time.process_time()  # not the clock: other work on this machine does not count
import tinytorch
print(time.process_time() - middle)
"""


def run(code: str, byte_code) -> str:
    """What a fresh process prints; it keeps its byte code, as an installed package has it."""
    environment = dict(os.environ, PYTHONPYCACHEPREFIX=str(byte_code))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_numpy_is_all_that_is_loaded(tmp_path):
    """Ground truth: sys.modules: nothing from outside the standard library but NumPy."""
    loaded = set(json.loads(run(MODULES, tmp_path)))
    assert loaded - set(sys.stdlib_module_names) <= {"tinytorch"}


def test_a_compiled_call_loads_nothing_that_only_shows_programs(tmp_path):
    """Ground truth: sys.modules: what runs a program is there, how it is looked at is not."""
    loaded = {name.rpartition(".")[2] for name in json.loads(run(COMPILED, tmp_path))}
    assert loaded == {"executable", "lengths", "program", "results"}


def test_the_import_is_quick(tmp_path):
    """Ground truth: the processor time of fresh processes; the least of several, as what runs
    beside it only adds, after one that writes the byte code."""
    run(CLOCK, tmp_path)
    times = [float(run(CLOCK, tmp_path)) for _ in range(ROUNDS)]
    assert min(times) <= LIMIT, times
