"""Programs drawn at random: eager and compiled = defined.

Two kinds: graphs of primitives, and steps over the public API with their gradients and optimizers.
A longer run: `python scripts/random_programs --target avx512 --examples 20000`.
"""

from __future__ import annotations

import pytest

from tests.compiler.compiled import targets
from tests.compiler.error_bounds import RULES
from tests.compiler.random_runs import KINDS, failures
from tinytorch.primitives import TABLE

EXAMPLES = {"graphs": 95, "steps": 40}  # for each target


@pytest.mark.parametrize("target", [t.name for t in targets()])
@pytest.mark.parametrize("kind", KINDS)
def test_random_programs_are_as_defined(kind, target):
    """Ground truth: the NumPy definition of each primitive, in float64, with error_bounds.py."""
    found, *_ = failures(kind, target, range(EXAMPLES[kind]))
    assert not found, "\n\n".join(map(str, found))


def test_every_row_has_a_bound():
    """A row that is added is drawn and compared, or this says so."""
    without = [n for n, row in TABLE.items() if not (row.elementwise or n in RULES)]
    assert sorted(without) == ["all", "any"]  # of truth alone: the definition itself
