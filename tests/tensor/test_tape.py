"""Looking at the tape. Ground truth: counting by hand."""

import pytest

import tinytorch as tt
from tinytorch.base.errors import GradientError


def test_operations_are_listed_oldest_first():
    """By hand: x w + w, summed; w is one leaf though it is read twice."""
    w = tt.ones(2, requires_grad=True)
    x = tt.full((2,), 3.0)
    recorded = tt.tape((x * w + w).sum())
    assert [op.name for op in recorded.operations] == ["mul", "add", "sum"]
    assert [op.reads for op in recorded.operations] == [(None, "leaf"), (0, "leaf"), (1,)]
    assert recorded.operations[2].inputs == ((2,),) and recorded.operations[2].shape == ()
    assert len(recorded) == 3 and recorded.leaves == 1
    assert recorded.counts() == {"mul": 1, "add": 1, "sum": 1}


def test_memory_is_counted_once_for_each_array():
    """By hand: exp keeps its result (12 bytes), views are the same memory, the sum 4 bytes."""
    w = tt.ones(3, requires_grad=True)
    assert tt.tape(w.exp().reshape(3, 1)[:, 0].sum()).nbytes == 12 + 4


def test_nothing_recorded_or_freed():
    """Ground truth: the messages."""
    with pytest.raises(GradientError, match="no tape behind"):
        tt.tape(tt.ones(1))
    loss = (tt.ones(2, requires_grad=True) * 2).sum()
    loss.backward()
    with pytest.raises(GradientError, match="was freed"):
        tt.tape(loss)


def test_printing_stops_somewhere():
    """Stated: forty operations, then how many more."""
    x = tt.ones(1, requires_grad=True)
    for _ in range(50):
        x = x + 1.0
    text = str(tt.tape(x))
    assert text.startswith("50 operations, 1 leaves") and "and 10 more" in text
    assert len(text.splitlines()) == 42


def test_several_outputs_are_one_operation():
    """By hand: max pooling gives values and positions."""
    x = tt.ones(1, 1, 4, 4, requires_grad=True)
    assert [op.name for op in tt.tape(tt.max_pool2d(x, 2)).operations] == ["max_pool2d"]
