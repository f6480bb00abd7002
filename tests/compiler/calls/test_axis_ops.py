"""Which library calls along axes there are kernels for, and what they copy. Ground truth: counts
by hand, and the definition."""

from __future__ import annotations

import pytest

from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch.base.dtypes import float16, float32, int64
from tinytorch.compiler.pipeline import stage

TARGET = targets()[-1]


def labels(d: Draft, *results) -> list[str]:
    """What each task does."""
    d.graph.results = list(results)
    return [t.shown for t in stage(d.graph, TARGET, "lower").tasks]


@pytest.mark.parametrize(("dtype", "size", "name"), [
    (float16, 1 << 22, "scatter_along"), (float16, (1 << 22) + 1, "numpy.scatter_along"),
    (float32, (1 << 22) + 1, "scatter_along"),
])  # fmt: skip
def test_sums_that_a_thread_has_room_for(dtype, size, name):
    """Closed form: 16 MiB of float32 for the sums of narrow floats; beyond it NumPy adds."""
    d = Draft()
    g, i = d.given((2,), dtype), d.given((2,), int64)
    assert name in labels(d, d("scatter_along", g, i, axis=0, size=size))


def test_nothing_is_done_for_nothing():
    """Closed form: no kernel for a result without elements that no rule has removed."""
    d = Draft()
    i = d.given((0,), int64)
    assert labels(d, d("scatter_add", d.given((0, 0)), i, axis=0, size=3)) == []
    d = Draft()
    assert "put_rows" not in labels(
        d, d("put_rows", d.given((3, 4)), d.given((0, 4)), d.given((0,), int64))
    )


def test_what_is_joined_and_padded():
    """Closed form: a copy of each operand that does not lie where it belongs; a fill and a copy of
    what is padded, of nothing the fill alone."""
    d = Draft()
    x = d.given((3, 4))
    out = d("concatenate", x, d("neg", x), x, axis=1)
    assert labels(d, out) == ["neg", "concatenate", "concatenate"]
    d.check(out)
    d = Draft()
    x = d("permute", d.given((2, 3, 4)), axes=(1, 0, 2))
    joined = d("concatenate", d("neg", x), d("abs", x), axis=0)
    out = d("reshape", d("permute", joined, axes=(1, 0, 2)), shape=(2, 24))
    assert labels(d, out) == ["neg", "abs", "copy"]  # as x lies, and in order as a result
    d.check(out)
    out = d("matmul", out, d.given((24, 5)))
    assert labels(d, out) == ["neg", "abs", "matmul"]
    d = Draft()
    out = d("concatenate", d.given((3, 4)), d.given((0, 4)), axis=0)
    assert labels(d, out) == ["concatenate"]
    d = Draft()
    out = d("pad", d.given((3, 4)), before=(1, 0), after=(0, 2), value=5.0)
    assert labels(d, out) == ["pad", "pad"]
    d.check(out)
    d = Draft()
    out = d("pad", d.given((0, 4)), before=(1, 0), after=(1, 2), value=5.0)
    assert labels(d, out) == ["pad"]
    d.check(out)


def test_parts_written_at_run_time():
    """Ground truth: the definition: a state is not copied; another table is, and a number."""
    d = Draft()
    s, y, i = d.given((5, 4), state=True), d.given((2, 4)), d.given((2,), int64)
    d.graph.updates = [(s, d("put_rows", s, y, i))]
    assert labels(d) == ["check put_rows", "put_rows"]
    d = Draft()
    x, y, i = d.given((5, 4)), d.given((2, 4)), d.given((2,), int64)
    out = d("put_rows", x, y, i)
    assert labels(d, out) == ["check put_rows", "put_rows", "put_rows"]
    d.check(out)
    d = Draft()
    x, turned = d.given((5, 2, 4)), d("permute", d.given((4, 2, 2)), axes=(1, 2, 0))
    out = d("put_rows", x, turned, d.given((2,), int64))
    assert labels(d, out).count("copy") == 1  # rows that are no rows of a matrix
    d.check(out)
    d = Draft()
    out = d("slice_update", d.given(()), d.given(()), d.given((0,), int64))
    assert labels(d, out) == ["slice_update"] * 2
    d.check(out)
