"""A compiled step without a finite loss leaves every state as it was, to the last bit."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.models import MLP
from tinytorch.nn.functional import cross_entropy
from tinytorch.training.step import Passes
from tinytorch.training.update import Update


@pytest.mark.parametrize("sizes", [(3, 5, 2), (70, 133, 10)])
def test_states_of_a_step_that_is_left_out(sizes):
    """Invariant: weights, averages and count before and after are the same bits.

    Sizes beside whole vectors and tiles: the guard shares its mask with their ends.
    """
    tt.manual_seed(0)
    model = MLP(sizes)
    adamw = tt.optim.AdamW(model.parameters(), lr=0.1)
    passes = Passes(model, cross_entropy, {}, Update(adamw), "float32", True)
    x = np.random.default_rng(0).standard_normal((16, sizes[0])).astype(np.float32)
    y = np.arange(16) % sizes[-1]
    passes.train((x, y))

    def states():
        found = {**model.state_dict(), **{f"o.{k}": v for k, v in adamw.state_dict().items()}}
        return {name: tensor.numpy().copy() for name, tensor in found.items()}

    before = states()
    spoilt = x.copy()
    spoilt[3, 1] = np.nan
    values, *_ = passes.train((spoilt, y))
    assert np.isnan(values["loss"])
    for name, value in states().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    passes.train((x, y))
    moved = states()
    assert all(np.isfinite(v).all() for v in moved.values())
    assert not np.array_equal(moved["o.exp_avg.0.0"], before["o.exp_avg.0.0"])
