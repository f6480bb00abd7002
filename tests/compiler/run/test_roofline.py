"""The measured limits of the machine."""

import pytest

from tinytorch.codegen.target import Target
from tinytorch.compiler.run.explain import measure


def test_the_roofline_is_plausible():
    """Bounds any machine of this century meets: 1 GFLOP/s to 100 TFLOP/s, 0.5 to 2000 GB/s."""
    limit = measure(Target.host(), 1)
    assert 1e9 < limit.flops < 1e14
    assert 0.5e9 < limit.bandwidth < 2e12
    assert limit.seconds(int(limit.flops), 0) == pytest.approx(1)
    assert limit.seconds(0, int(limit.bandwidth)) == pytest.approx(1)
