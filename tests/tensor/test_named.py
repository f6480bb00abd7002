"""named.py: what may be copied into tensors by name (modules and optimizers test the rest)."""

import numpy as np

import tinytorch as tt
from tinytorch.base.dtypes import bfloat16
from tinytorch.tensor.assignment import copy_named


def test_pairs_of_stored_bits_and_type_are_taken():
    """Closed form: 0x3F80 is 1.0 in bfloat16."""
    own = {"w": tt.zeros(2), "n": tt.zeros(1, dtype="int64")}
    bits = np.array([0x3F80, 0xBF80], np.uint16)
    copy_named(own, {"w": (bits, bfloat16), "n": np.array([3], np.int32)}, owner="X")
    assert own["w"].tolist() == [1.0, -1.0] and own["w"].dtype is tt.float32
    assert own["n"].tolist() == [3] and own["n"].dtype is tt.int64


def test_the_source_stays_what_it_was():
    """Invariant: a copy, not a share."""
    source, own = tt.ones(2), {"w": tt.zeros(2)}
    copy_named(own, {"w": source}, owner="X")
    own["w"] += 1.0
    assert source.tolist() == [1.0, 1.0]
