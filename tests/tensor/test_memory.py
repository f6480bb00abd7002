"""Memory that cannot be had: an error in four parts, eager and compiled; nothing else changes."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import OutOfMemoryError

MANY = 10**13  # floats: 36 TiB, more than any address space that malloc serves here
COLUMN, ROW = tt.ones(10**7, 1), tt.ones(1, 10**7)  # their sum: 364 TiB
WIDE = tt.broadcast_to(COLUMN, (10**7, 10**7))

TOO_LARGE = {
    "zeros": lambda: tt.zeros(MANY),
    "ones of more bytes than 64 bits count": lambda: tt.ones((2**40, 2**40)),
    "empty": lambda: tt.empty(2**62),
    "full": lambda: tt.full((MANY,), 2.0),
    "arange": lambda: tt.arange(MANY),
    "linspace": lambda: tt.linspace(0, 1, MANY),
    "eye": lambda: tt.eye(10**7),
    "rand": lambda: tt.rand(MANY),
    "randperm": lambda: tt.randperm(MANY),
    "add": lambda: COLUMN + ROW,
    "matmul": lambda: COLUMN @ ROW,
    "where": lambda: tt.where(COLUMN > 0, COLUMN, ROW),
    "astype": lambda: WIDE.astype(tt.float64),
    "clone": lambda: WIDE.clone(),
    "sort": lambda: tt.sort(WIDE),
    "cumulative_sum": lambda: tt.cumulative_sum(WIDE, axis=0),
    "Tensor": lambda: tt.Tensor(np.broadcast_to(np.float32(1), (10**7, 10**7))),
    "one_hot": lambda: nn.functional.one_hot(tt.arange(10**7), 10**7),
    "Linear": lambda: nn.Linear(10**7, 10**7),
    "compiled, its result": lambda: tt.compile(lambda a, b: a + b)(COLUMN, ROW),
    "compiled, its arena": lambda: tt.compile(lambda a, b: ((a + b).cumsum(0) * a).sum())(
        COLUMN, ROW
    ),
}


@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_memory_that_cannot_be_had(name):
    """Ground truth: the sizes; a MemoryError for NumPy's users, a RuntimeError for PyTorch's."""
    with pytest.raises(OutOfMemoryError, match="not enough memory") as caught:
        TOO_LARGE[name]()
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, RuntimeError)
    assert caught.value.got and caught.value.fix


def test_a_step_that_does_not_fit_changes_nothing():
    """Invariant: the state before."""
    n = tt.zeros(3)

    @tt.compile
    def step(a, b):
        n.assign_(n + 1)
        return ((a + b).cumsum(0) * a).sum()

    with pytest.raises(OutOfMemoryError):
        step(COLUMN, ROW)
    assert n.tolist() == [0, 0, 0]
    assert step(tt.ones(2, 1), tt.ones(1, 2)).item() == 12 and n.tolist() == [1, 1, 1]
