"""Memory of results: never given out while anybody sees it, and given out again afterwards."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.compiler.run.results import LARGEST, ResultMemory
from tinytorch.tensor.memory import from_buffer


def test_two_places_take_turns():
    """Invariant: who holds the last result does not make the next one ask for memory."""
    memory, held, seen = ResultMemory((3,), float32), None, set()
    for _ in range(10):
        held = memory.take()
        seen.add(held.address)
        assert held.array.__array_interface__["data"][0] == held.address
        assert held.address % 64 == 0 and held.array.shape == (3,)
    assert len(seen) == 2


HOLDERS = {
    "the tensor": lambda x: x,
    "its array": lambda x: x.numpy(),
    "a view": lambda x: x[1:],
    "a view of its array": lambda x: x.numpy()[1:],
    "the bytes": lambda x: memoryview(x.numpy()),
    "detached": lambda x: x.detach(),
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_memory_that_somebody_sees_is_not_given_out(hold):
    """Invariant: what is held keeps its numbers, whatever is taken later."""
    memory, holders = ResultMemory((4,), float32), []
    for i in range(6):
        x = from_buffer(memory.take())
        x._buffer.array[...] = i
        holders.append(hold(x))
        del x
    for i, held in enumerate(holders):
        assert (np.asarray(held.numpy() if isinstance(held, tt.Tensor) else held) == i).all()


def test_large_results_are_not_remembered():
    """Invariant: the memory of a large result goes with its last name."""
    memory = ResultMemory((LARGEST // 2 + 1,), bfloat16)
    first = memory.take()
    assert memory._free is None and memory._last is None
    assert first.array.shape == (LARGEST // 2 + 1,)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_of_calls_are_their_own(threads):
    """Closed form: every result that is kept, and views of those that are not, stay as they were;
    writing to one reaches no other."""
    step = tt.compile(lambda x: x + 1, threads=threads)
    kept, views = [], []
    for i in range(8):
        out = step(tt.Tensor([float(i), 0.0]))
        (kept if i % 2 else views).append(out if i % 2 else out[:1])
        out[1] = -1.0
    assert [x[0].item() for x in kept] == [2, 4, 6, 8]
    assert [x[0].item() for x in views] == [1, 3, 5, 7]
    assert step(tt.Tensor([0.0, 0.0])).tolist() == [1, 1]
