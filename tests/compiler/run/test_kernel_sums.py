"""Tasks of a timed run that are equal, taken together.

Ground truth: sums by hand, of a plan and a run made by hand.
"""

import pytest

from tinytorch.compiler.plan.launch import LaunchPlan, LaunchTask
from tinytorch.compiler.run.kernel_sums import KernelSum, kernel_sums, short_name
from tinytorch.compiler.run.program import Span
from tinytorch.compiler.run.roofline import Bound
from tinytorch.compiler.run.timing import TimedRun


def test_equal_tasks_are_taken_together_in_order_of_first_use():
    """By hand: tasks 0 and 2 are equal, 1 has other operations; a clock that did not move counts
    as one nanosecond."""
    again = LaunchTask("b", 4, [], "sum", flops=10, bytes=6)
    plan = LaunchPlan([again, LaunchTask("b", 4, [], "max"), again], [], 0, 0, False, [], [], "")
    spans = (Span(0, 0, 100, 130, 4), Span(1, 0, 130, 130, 4), Span(2, 0, 140, 160, 4))
    bounds = [Bound(4e-9, "memory"), Bound(0.0, "numpy"), Bound(6e-9, "fp32")]
    first, second = kernel_sums(plan, TimedRun(90, 170, spans, 1), bounds)
    assert (first.symbol, first.label, first.tasks) == ("b", "sum", [0, 2])
    assert (first.flops, first.bytes) == (20, 12)
    assert (first.seconds, first.least) == pytest.approx((50e-9, 10e-9))
    assert (second.label, second.tasks, second.seconds) == ("max", [1], 1e-9)
    assert (first.limit, second.limit) == ("fp32", "numpy")


def test_the_limit_is_what_sets_most_of_the_least_time():
    """By hand: three tasks of 1 ns that memory limits weigh less than one of 9 ns."""
    task = LaunchTask("a", 1, [])
    plan = LaunchPlan([task] * 4, [], 0, 0, False, [], [], "")
    spans = tuple(Span(i, 0, 10 * i, 10 * i + 10, 1) for i in range(4))
    bounds = [*[Bound(1e-9, "memory")] * 3, Bound(9e-9, "fp32")]
    (kernel,) = kernel_sums(plan, TimedRun(0, 50, spans, 1), bounds)
    assert isinstance(kernel, KernelSum) and kernel.limit == "fp32"


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("gemm_0123456789ab", "gemm"),
        ("a_b_ffffffffffff", "a_b"),
        ("gemm_0123456789", "gemm_0123456789"),
        ("gemm_0123456789xy", "gemm_0123456789xy"),
        ("_0123456789ab", "_0123456789ab"),
        ("numpy.sort", "numpy.sort"),
    ],
)
def test_a_hash_at_the_end_is_left_out(symbol, name):
    """By hand: twelve hexadecimal digits after a name; nothing else is a hash."""
    assert short_name(symbol) == name
