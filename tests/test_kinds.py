"""Every row of the table is one kind of thing to the compiler.

Ground truth: the lists in compiler/plan/kinds.py and compiler/calls/library_calls.py; what is in
none of them is a host call and is named here, so that a new row cannot become one unnoticed.
"""

import pytest

from tinytorch.compiler.calls import library_calls
from tinytorch.compiler.graph.index_rules import INDEX_RULES
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.plan import kinds
from tinytorch.primitives import TABLE

HOST_CALLS = {"sort", "argsort"}  # ordering is no part of the shipped models


def kinds_of(name: str) -> list[str]:
    sets = {  # rewritten: by a rule of indexing into other rows, always
        "arithmetic": kinds.ARITHMETIC | {"take"},
        "movement": kinds.MOVEMENT,
        "source": kinds.SOURCES,
        "reduction": kinds.REDUCTIONS,
        "own kernel": set(library_calls.ROWS),
        "host call": HOST_CALLS,
        "rewritten": set(INDEX_RULES) - set(library_calls.ROWS) - {"take"},
    }
    return [kind for kind, names in sets.items() if name in names]


@pytest.mark.parametrize("name", list(TABLE))
def test_a_row_has_one_kind(name):
    """Invariant: exactly one."""
    assert len(kinds_of(name)) == 1, kinds_of(name)


def test_the_lists_name_rows():
    """Invariant: nothing is listed that the table does not have (aliases of is_nan aside)."""
    aliases = {"is_nan", "is_inf", "is_finite"}
    listed = kinds.ARITHMETIC | kinds.MOVEMENT | kinds.SOURCES | kinds.REDUCTIONS
    assert listed | set(library_calls.ROWS) | HOST_CALLS <= set(TABLE) | aliases


def test_elementwise_rows_have_instructions():
    """Ground truth: the flag of the row."""
    flagged = {name for name, row in TABLE.items() if row.elementwise}
    assert flagged - {"cast", "where"} <= set(elementwise.RULES)
