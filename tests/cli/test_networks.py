"""Networks for pictures of every data set's shape."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.cli.recipes import DATA_SETS, NETWORKS, build

SHAPES = sorted({known.shape for known in DATA_SETS.values()})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_every_data_set(name, shape):
    """Ground truth: ten finite numbers for each of two pictures."""
    tt.manual_seed(0)
    network = build(name, shape).eval()
    found = network(tt.Tensor(np.full((2, *shape), 0.5, np.float32))).numpy()
    assert found.shape == (2, 10) and np.isfinite(found).all()
