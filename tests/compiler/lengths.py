"""Compiled once for all lengths of a dim = eager at each of them, for tests.

Between two calls every number that a program keeps for itself is made NaN (every index the number
-1): what lies beyond a length must never reach a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import tinytorch as tt
from tests.kernels.lowered_runner import plant_scratch

MOST = 9


def floats(n: int, *shape: int, low: float = -2.0, high: float = 2.0) -> tt.Tensor:
    """Distinct numbers, others for each n."""
    line = (np.arange(1, 1 + int(np.prod(shape))) * 0.618033988749895 + n * 0.7548776662466927) % 1
    return tt.Tensor((low + (high - low) * line).reshape(shape).astype(np.float32))


def wholes(n: int, below: int, *shape: int) -> tt.Tensor:
    """Whole numbers from 0 to below - 1."""
    return tt.Tensor(np.floor(floats(n, *shape, low=0, high=below).numpy()).astype(np.int64))


def plant(compiled: Any) -> None:
    """NaN in all memory that a program keeps for itself, or its threads."""
    plant_scratch()
    for runners in compiled._last.program.idle.values():
        for runner in runners:
            runner.arena[...] = 0xFF


def arrays(out: Any) -> list[np.ndarray]:
    """The numbers of a result."""
    return [x.numpy() for x in (out if isinstance(out, (tuple, list)) else (out,))]


def check(
    f: Callable[..., Any],
    given: Callable[[int], tuple[Any, ...]],
    shapes: dict[str, Any],
    lengths: Iterable[int] = (*range(1, MOST + 1), 3, 1, MOST),
    tolerance: float = 2e-5,
    **settings: Any,
) -> Any:
    """Eager = compiled at each length, by one program; gives what tt.compile gave.

    Args:
        f: the function.
        given: its arguments for a length.
        shapes: dynamic_shapes.
        lengths: in the order in which they are called.
        tolerance: relative, and absolute of numbers around 1: float32 sums of up to 100 numbers
            in another order (each rounds by 6e-8), through a function or two.
        settings: of tt.compile.
    """
    compiled = tt.compile(f, dynamic_shapes=shapes, **settings)
    for n in lengths:
        arguments = given(n)
        wanted, got = arrays(f(*arguments)), arrays(compiled(*arguments))
        assert [x.shape for x in got] == [x.shape for x in wanted], n
        for x, y in zip(got, wanted, strict=True):
            assert x.dtype == y.dtype
            if x.dtype.kind == "f":
                np.testing.assert_allclose(x, y, tolerance, tolerance, err_msg=f"length {n}")
            else:
                np.testing.assert_array_equal(x, y, err_msg=f"length {n}")
        plant(compiled)
    assert compiled.captures == 1
    return compiled


def trained(
    make: Callable[[], Any], step_of: Callable[[Any], Any], batches: Sequence[tuple[Any, ...]],
    shapes: dict[str, Any], tolerance: float = 2e-4, **settings: Any,
) -> Any:  # fmt: skip
    """Two equal models, one trained eagerly and one by one program for all batches: still equal.

    The first step finds no gradients and is a program of its own.
    """
    models = []
    for _ in range(2):
        tt.manual_seed(0)
        models.append(make())
    eager, compiled = (
        step_of(models[0]),
        tt.compile(step_of(models[1]), dynamic_shapes=shapes, **settings),
    )
    for batch in batches:
        losses = []
        for step in (eager, compiled):
            tt.manual_seed(5)
            losses.append(step(*batch).numpy())
        np.testing.assert_allclose(losses[1], losses[0], tolerance, 1e-5)
        states = [m.state_dict() for m in models]
        for name, x in states[0].items():
            np.testing.assert_allclose(
                states[1][name].numpy(), x.numpy(), tolerance, 2e-5, err_msg=name
            )
        plant(compiled)
    assert compiled.captures <= 2
    return compiled
