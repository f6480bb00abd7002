"""Rows and slices of a state written in place: right whoever else reads the state."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import IndexRangeError
from tinytorch.tensor.indexing import put_rows, slice_update, take


def write_rows(table, index, rows):
    return put_rows(table, index, rows)


def write_slice(table, index, rows):
    start = tt.concat([index[:1], tt.zeros(1, dtype="int64")])
    return slice_update(table, rows, start)


def plain(write, table, index, rows):
    table.assign_(write(table, index, rows))


def old_is_read(write, table, index, rows):
    old = table.sum(0)
    table.assign_(write(table, index, rows))
    return old, table * 2.0


def rows_from_the_table(write, table, index, rows):
    table.assign_(write(table, index, take(table, index, 0) * 0.5 + rows))


def a_view_of_the_table(write, table, index, rows):
    table.assign_(write(table, index, table[1:4]))


def a_flipped_view_of_the_table(write, table, index, rows):
    table.assign_(write(table, index, table[:3].flip([0])))


def twice(write, table, index, rows):
    table.assign_(write(table, index, rows))
    table.assign_(write(table, index, take(table, index, 0) + 1.0))


def not_the_table_itself(write, table, index, rows):
    table.assign_(write(table + 1.0, index, rows))


def then_more(write, table, index, rows):
    table.assign_(write(table, index, rows) * 3.0)


def kept_elsewhere(write, table, index, rows):
    new = write(table, index, rows)
    other = write(table, index, rows + 1.0)
    table.assign_(new)
    return other


PROGRAMS = (
    plain, old_is_read, rows_from_the_table, a_view_of_the_table, a_flipped_view_of_the_table,
    twice, not_the_table_itself, then_more, kept_elsewhere,
)  # fmt: skip


@pytest.mark.parametrize("write", [write_rows, write_slice])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_compiled_is_eager(program, write):
    """Ground truth: eager NumPy, exactly, after two calls; small whole numbers, so sums are too."""
    found = []
    for through in (lambda f: f, tt.compile):
        table = tt.Tensor(np.arange(21.0).reshape(7, 3))
        index = tt.tensor([3, 1, 3] if write is write_rows else [2, 0, 0])
        rows = tt.Tensor(np.arange(9.0).reshape(3, 3) * 10)
        call = through(lambda i, r, table=table: program(write, table, i, r))
        with tt.no_grad():
            results = [call(index, rows) for _ in range(2)]
        flat = [x for r in results for x in (r if isinstance(r, tuple) else (r,)) if x is not None]
        found.append([table.numpy().copy(), *(x.numpy() for x in flat)])
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("write", [write_rows, write_slice])
def test_a_wrong_place_leaves_the_state_as_it_was(write):
    """Invariant: indices are checked before anything is written."""
    table = tt.Tensor(np.arange(21.0).reshape(7, 3))
    other = tt.zeros(3)
    before = table.numpy().copy()

    @tt.compile
    def step(index, rows):
        other.assign_(other + 1.0)
        table.assign_(write(table, index, rows))

    with pytest.raises(IndexRangeError):
        step(tt.tensor([7, 0, 0]), tt.ones(3, 3).double())
    assert np.array_equal(table.numpy(), before) and not other.numpy().any()


def test_only_the_named_rows_are_moved():
    """Ground truth: bytes that the program says it moves: 3 rows of 4 KiB, not 2000 of them."""
    table = tt.zeros(2000, 1024)

    @tt.compile
    def step(index, rows):
        table.assign_(put_rows(table, index, rows))

    step(tt.tensor([5, 1, 1999]), tt.ones(3, 1024))
    assert table.numpy().sum() == 3 * 1024
    assert "copy" not in str(step.explain()) and "put_rows" in str(step.explain())
