"""A new elementwise primitive is a row and its instructions; all else follows from them.

The test adds `softsign` to a copy of the package, as docs/extending.md says, and uses it there.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.floors import ROOT

ROW = """

def _softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


softsign = _row(
    "softsign", ieee_steps(_softsign),
    lambda g, out, x, *, final=False: (
        divided(g, mul(add(full_like(g, 1.0), abs_(x)), add(full_like(g, 1.0), abs_(x))), final),
    ),
    "x / (1 + |x|).",
)  # fmt: skip
"""
INSTRUCTIONS = """RULES: dict[str, Rule] = {
    "softsign": lambda f, a, d: f.div(a[0], f.add(_abs(f, a, d), f.const(a[0].type, 1.0))),
"""
TRUTH = """TRUTHS = {
    "softsign": (elementwise(lambda x: x / (1 + np.abs(x))), 2),
"""
# What the person who adds it opens beside what is changed: the class of a row, its helpers, the
# instructions there are, the test that asks all rows.
CHANGED = {
    "tinytorch/primitives/transcendental.py",
    "tinytorch/compiler/loops/elementwise.py",
    "tests/primitives/truths.py",
    "tinytorch/tensor/row_functions.pyi",  # by scripts/make_row_stub
}
USED = """
import numpy as np, tinytorch as tt
from tinytorch.base.errors import TinyTorchError

x = tt.Tensor([-3.0, -0.5, 0.0, 2.0, float("inf")])
numbers = x.numpy()
with np.errstate(all="ignore"):
    wanted = numbers / (1 + abs(numbers))
assert np.array_equal(tt.softsign(x).numpy(), wanted, equal_nan=True)
assert np.array_equal(x.softsign().numpy(), wanted, equal_nan=True)
assert tt.softsign(tt.tensor([1, 3])).tolist() == [0.5, 0.75]
compiled = tt.compile(lambda x: x.softsign() * 2)
assert np.allclose(compiled(x).numpy(), 2 * wanted, rtol=1e-6, atol=0, equal_nan=True)
assert "host calls: 0" in str(compiled.explain())
slope = tt.grad(lambda x: tt.softsign(x).sum())(tt.Tensor([1.0, -3.0]))
assert slope.tolist() == [0.25, 0.0625]
assert tt.softsign.__doc__ == tt.Tensor.softsign.__doc__ == "x / (1 + |x|)."
assert "softsign" in tt.__all__ and "softsign" in dir(tt)
for wrong in (lambda: tt.softsign("text"), lambda: tt.softsign(), lambda: x.softsign(1)):
    try:
        wrong()
    except TinyTorchError as error:
        assert all((error.what, error.got, error.rule, error.fix)), error
    else:
        raise AssertionError("a wrong call passed")
"""


def replaced(path: Path, old: str, new: str) -> None:
    """The file with one place changed."""
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The package and what tests every row, with the new one."""
    root = tmp_path_factory.mktemp("copy")
    without = shutil.ignore_patterns("__pycache__", "files")
    for name in ("tinytorch", "tests", "scripts", "docs", "pyproject.toml"):
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        place(ROOT / name, root / name, **({"ignore": without} if place is shutil.copytree else {}))
    row = root / "tinytorch/primitives/transcendental.py"
    row.write_text(row.read_text() + ROW)
    replaced(row, "    divided,\n", "    abs_,\n    add,\n    divided,\n")
    loops = root / "tinytorch/compiler/loops/elementwise.py"
    replaced(loops, INSTRUCTIONS.splitlines(keepends=True)[0], INSTRUCTIONS)
    truths = root / "tests/primitives/truths.py"
    replaced(truths, TRUTH.splitlines(keepends=True)[0], TRUTH)
    run(root, sys.executable, "scripts/make_row_stub")
    return root


def run(root: Path, *command: str) -> str:
    """The output of a command in the copy; it must succeed."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_it_is_there(copy):
    """Ground truth: NumPy's x / (1 + |x|), its derivative 1 / (1 + |x|)^2, the row's sentence."""
    run(copy, sys.executable, "-c", USED)


def test_it_is_asked_what_every_row_is_asked(copy):
    """Ground truth: the contract of the table, the classes of the compiler, the stub."""
    files = (
        "tests/test_every_primitive.py",
        "tests/test_kinds.py",
        "tests/tensor/test_row_functions.py",
    )
    said = run(
        copy, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files,
        "-k", "softsign or stub or lists or instructions or each_elementwise",
    )  # fmt: skip
    assert "passed" in said


def test_four_files_change(copy):
    """Ground truth: the copy against the original."""
    changed = set()
    for path in [*copy.glob("tinytorch/**/*.py*"), *copy.glob("tests/**/*.py")]:
        name = path.relative_to(copy)
        original = ROOT / name
        if path.suffix in (".py", ".pyi") and path.read_text() != original.read_text():
            changed.add(str(name))
    assert changed == CHANGED
