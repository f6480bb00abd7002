"""Every row of the table is one kind of thing to the compiler.

Ground truth: the op class of the row and the tables of the compiler; what is in none of them is
a host call and is named here, so that a new row cannot become one unnoticed.
"""

import ast

import numpy as np
import pytest

from tests.floors import PACKAGE
from tinytorch.base.dtypes import float32, float64
from tinytorch.codegen.builder import Function
from tinytorch.compiler.graph.simplify import INDEX_RULES
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.operations import OPERATIONS
from tinytorch.primitives import TABLE, Spec, dtype_of
from tinytorch.primitives.primitive import OpClass

CALLS = {name for name, row in OPERATIONS.items() if row.call is not None}
HOST_CALLS = {"host_call"}  # a function of the user


def of_class(*classes: OpClass) -> set[str]:
    return {name for name, row in TABLE.items() if row.op_class in classes}


def kinds_of(name: str) -> list[str]:
    sets = {  # rewritten: by a rule of indexing into other rows, always
        "arithmetic": of_class(OpClass.ELEMENTWISE, OpClass.LOOKUP),
        "movement": of_class(OpClass.MOVEMENT),
        "source": of_class(OpClass.SOURCE),
        "reduction": of_class(OpClass.REDUCTION),
        "library call": CALLS,
        "host call": HOST_CALLS,
        "rewritten": set(INDEX_RULES) - CALLS - {"take"},
    }
    return [kind for kind, names in sets.items() if name in names]


@pytest.mark.parametrize("name", list(TABLE))
def test_a_row_has_one_kind(name):
    """Invariant: exactly one."""
    assert len(kinds_of(name)) == 1, (
        f"{kinds_of(name)}: a row has an op class (its row in primitives/), a library call "
        "(compiler/operations.py), a rule of indexing (compiler/graph/simplify.py), or stands in "
        "HOST_CALLS of tests/test_kinds.py"
    )


def test_the_lists_name_rows():
    """Invariant: nothing is listed that the table does not have."""
    listed = set(elementwise.RULES)
    assert listed | set(OPERATIONS) | HOST_CALLS <= set(TABLE)


def test_elementwise_rows_have_instructions():
    """Ground truth: the op class of the row."""
    without = [n for n in of_class(OpClass.ELEMENTWISE) if not elementwise.has_instructions(n)]
    assert not without, f"RULES of compiler/loops/elementwise.py: {without}"


def test_reductions_say_what_combines():
    """Ground truth: the elementwise rows, and NumPy over nothing, where it does not refuse."""
    for name in of_class(OpClass.REDUCTION):
        row = TABLE[name]
        assert row.combines is not None
        combination, start = row.combines
        assert TABLE[combination].elementwise and TABLE[combination].commutes
        if np.isfinite(start):
            kind = bool if isinstance(start, bool) else float
            found = row.numpy(np.zeros(0, kind), axes=(0,), keepdims=False)
            assert found == start and found.dtype == np.dtype(kind)


# A division or a square root takes several times as long as any other instruction.
SLOW = ("fdiv", "sdiv", "udiv", "frem", "srem", "urem", "sqrt")
MOST_INSTRUCTIONS = 16


@pytest.mark.parametrize("name", sorted(of_class(OpClass.ELEMENTWISE)))
def test_a_row_that_costs_more_than_a_few_instructions_says_so(name):
    """Ground truth: the instructions written for it. Else it is computed again in each loop."""
    row = TABLE[name]
    sample = next(s for s in row.samples() if s.inputs and s.inputs[-1].dtype != np.float16)
    dtypes = [float32 if d is float64 else d for d in map(dtype_of, sample.inputs)]
    out = row.infer(*(Spec((), d) for d in dtypes), **sample.params).dtype
    f = Function("cost", [(f"x{i}", f"<8 x {d.llvm}>") for i, d in enumerate(dtypes)])
    inputs = [getattr(f, f"x{i}") for i in range(len(dtypes))]
    elementwise.emit(f, name, inputs, dtypes, out)
    slow = any(word in line for line in f.lines for word in SLOW)
    assert row.expensive == (slow or len(f.lines) > MOST_INSTRUCTIONS), (
        f"expensive= of the row {name!r} in primitives/: {len(f.lines)} instructions"
    )


# Where the compiler may tell primitives apart by name: its table, the rules of the graph, and the
# instructions of each elementwise row.
BY_NAME = (
    "operations.py",
    "graph/simplify.py",
    "graph/convolution_rules.py",
    "graph/frozen.py",
    "graph/parts.py",
    "loops/elementwise.py",
)


def told_apart(source: str) -> set[str]:
    """Names of primitives that a source compares something with, or looks for in a collection."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            for side in ast.walk(node):
                if isinstance(side, ast.Constant) and side.value in TABLE:
                    found.add(side.value)
    return found


def test_names_of_primitives_are_compared_in_the_table_alone():
    """Ground truth: the comparisons in compiler/, but for record/, which knows no primitives."""
    found = set()
    for path in sorted((PACKAGE / "compiler").rglob("*.py")):
        name = path.relative_to(PACKAGE / "compiler").as_posix()
        if name not in BY_NAME and not name.startswith("record/"):
            found |= {(name, primitive) for primitive in told_apart(path.read_text())}
    assert not found, (
        "what an operation is to the compiler stands in its row (op_class) or in "
        f"compiler/operations.py: {sorted(found)}"
    )


@pytest.mark.parametrize(
    "source",
    [
        "node.primitive.name == 'matmul'",
        "node.primitive.name in ('sum', 'max')",
        "match name:\n    case 'matmul': pass",
    ],
)
def test_a_compared_name_is_seen(source):
    """Ground truth: comparisons made by hand."""
    assert told_apart(source)
