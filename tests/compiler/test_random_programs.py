"""Programs drawn at random: compiled = the definition of every primitive in them.

Ground truth: compiler/reference.py, NumPy node by node. Exact programs must agree to the bit; where
a function like exp came in, within a bound that is carried along (see random_programs.py). A longer
run: `python scripts/random_programs --examples 20000`.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.compiler.compiled import program_of, run, targets
from tests.compiler.random_programs import Drawn, differences, programs
from tinytorch.compiler.reference import step_reference

TARGETS = {t.name: t for t in targets()}


def check(drawn: Drawn, target, threads: int) -> None:
    """Two calls of the compiled program against two of the definition, the second on new states."""
    graph = drawn.graph
    program = program_of(graph, target)
    arrays = drawn.arrays
    with np.errstate(all="ignore"):
        wanted, new = step_reference(graph, arrays)
    results, states = run(program, graph, arrays, threads)
    wrong = differences(drawn, results, states, wanted, new)
    assert not wrong, f"{target.name}, {threads} threads\n{graph}\n" + "\n".join(wrong)


@settings(
    max_examples=500, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
)  # fmt: skip
@given(programs(), st.sampled_from(sorted(TARGETS)), st.integers(1, 3))
def test_compiled_is_defined(drawn, target, threads):
    """Ground truth: compiler/reference.py."""
    check(drawn, TARGETS[target], threads)
