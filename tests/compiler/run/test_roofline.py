"""What a machine can do at most, and how far apart a program's visits of its memory are.

Ground truth: bounds that any machine of this century meets; distances counted by hand.
"""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.codegen.target import Target
from tinytorch.compiler.plan.launch import LaunchPlan, LaunchTask
from tinytorch.compiler.run import roofline
from tinytorch.compiler.run.roofline import Bound, Roofline, bounds, measure, reuse_distances

MADE_UP = Roofline({"fp32": 1e9, "bf16": 4e9}, ((1000, 1e10), (100_000, 1e9)), empty=1e-7)


def plan_of(*tasks: LaunchTask, sizes: tuple[int, ...]) -> LaunchPlan:
    storages = [("state", n, i) for i, n in enumerate(sizes)]
    return LaunchPlan(list(tasks), storages, 0, 0, False, [], [], "")


def task(*arguments: int, flops: int = 0, bytes: int = 0, unit: str = "fp32") -> LaunchTask:
    return LaunchTask("k", 1, list(arguments), flops=flops, bytes=bytes, unit=unit)


def test_the_roofline_is_plausible():
    """Bounds any machine of this century meets: 1 GFLOP/s to 100 TFLOP/s, 0.5 to 2000 GB/s (1000
    times that from a first cache); float64 has half the lanes, bfloat16 at least as many."""
    limit = measure(Target.host(), 1)
    assert 1e9 < limit.peaks["fp32"] < 1e14
    assert limit.peaks["fp64"] < limit.peaks["fp32"] < 3 * limit.peaks["fp64"]
    if Target.host().has_bf16_dot:
        assert limit.peaks["bf16"] > limit.peaks["fp32"]
    if Target.host().has_int8_dot:
        assert limit.peaks["int8"] > 2 * limit.peaks["fp32"]
    assert 0.5e9 < limit.bandwidth < 2e12
    sizes, rates = zip(*limit.reads, strict=True)
    assert list(sizes) == sorted(sizes) and list(rates) == sorted(rates, reverse=True)
    assert rates[0] < 2e15
    assert 0 < limit.empty < 1e-4
    assert limit.seconds(int(limit.peaks["fp32"]), 0) == pytest.approx(1)
    assert limit.seconds(0, int(limit.bandwidth)) == pytest.approx(1)
    assert str(limit).endswith("GB/s read") and "fp32" in str(limit)


def test_what_is_read_was_written():
    """Ground truth: memory that was never written is one page of zeros, in a cache."""
    memory = roofline._written()
    assert memory.nbytes == roofline._READ_BYTES
    assert memory[::4096].size == memory.nbytes // 4096
    assert (memory.view(np.float32)[::1024] == 1.0).all()


def test_distances_are_what_was_touched_meanwhile():
    """By hand: a, b, a over buffers of 10, 20 and 40 bytes: 0 comes back after 0 and 1, then after
    0, 1 and 2; each task's own buffer counts."""
    plan = plan_of(
        task(0, 1, bytes=100), task(0, bytes=100), task(2, bytes=100), sizes=(10, 20, 40)
    )
    assert reuse_distances(plan) == [[(10, 50), (20, 70)], [(10, 30)], [(40, 70)]]


def test_of_a_table_as_much_counts_as_is_read():
    """By hand: a task that moves 5 bytes touches 5 of 1000."""
    plan = plan_of(task(0, 1, bytes=5), task(1, bytes=9), sizes=(1000, 9))
    (table, rows), (again,) = reuse_distances(plan)
    assert table == (5, 5 + 9) and rows == (5, 9 - 4) and again == (9, 9 + 5 - 5)


def test_what_is_touched_once_a_run_comes_back_in_the_next():
    """Invariant: nothing has an endless distance in a program that runs again and again."""
    f = tt.compile(lambda x: (x @ x.T).tanh().sum(0), threads=1)
    f(np.ones((40, 30), np.float32))
    found = reuse_distances(f._last.program.plan)
    assert found and all(0 < d < inf for touched in found for _, d in touched)


def test_each_kind_of_bound():
    """By hand, at 1 GFLOP/s fp32, 4 bf16, 10 GB/s near, 1 far, 100 ns for nothing."""
    far = 10**9
    plan = plan_of(
        task(0, flops=10_000, bytes=500),
        task(0, flops=10_000, bytes=500, unit="bf16"),
        task(0, flops=10, bytes=800_000),
        task(1, flops=10, bytes=far),
        task(0, flops=10, bytes=500),
        sizes=(500, far),
    )
    got = bounds(plan, MADE_UP)
    assert [b.by for b in got] == ["fp32", "bf16", "cache", "memory", "memory"]
    assert got[0].seconds == pytest.approx(1e-5)
    assert got[1].seconds == pytest.approx(0.25e-5)
    assert got[2].seconds == pytest.approx(800_000 / 1e10)
    assert got[3].seconds == pytest.approx(1)
    near = plan_of(task(0, flops=10, bytes=500), sizes=(500,))
    assert bounds(near, MADE_UP) == [Bound(1e-7, "start")]
    host = replace(near.tasks[0], host={})
    assert bounds(replace(near, tasks=[host]), MADE_UP) == [Bound(0.0, "numpy")]


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [("float32", "fp32"), ("float64", "fp64"), ("bfloat16", "bf16"), ("int8", "int8")],
)
def test_a_product_is_measured_by_its_unit(dtype, unit):
    """Ground truth: the number type; narrow ones have a unit where the processor has one."""
    x = tt.ones((64, 64), dtype=dtype)
    f = tt.compile(lambda x: x @ x)
    f(x)
    target = Target.host()
    has = {"bf16": target.has_bf16_dot, "int8": target.has_int8_dot}
    if not (target.has_amx or has.get(unit, True)):
        unit = "fp32"
    (product,) = [t for t in f._last.program.plan.tasks if t.symbol.startswith("gemm")]
    assert product.unit == unit
