"""indices.py: labels and tokens outside their range, in eager and in captured code."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import IndexRangeError
from tinytorch.compiler.graph.reference import step_reference
from tinytorch.compiler.record.recording import record
from tinytorch.nn import functional as F
from tinytorch.nn.embedding import inside


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_captured_program_refuses_too(wrong):
    """Ground truth: [0, K). NumPy counts -1 from the end; the graph must not."""
    logits, labels = np.zeros((2, 4), np.float32), np.array([0, wrong])
    graph = record(F.cross_entropy, (logits, labels), {}).graph
    with pytest.raises(IndexRangeError):
        step_reference(graph, dict(zip(graph.arguments, (logits, labels), strict=True)))


def test_small_unsigned_labels_are_taken():
    """Ground truth: bytes as read from a file are labels like any other."""
    labels = tt.Tensor(np.array([0, 3], np.uint8))
    assert inside("f", "label", labels, 4).dtype is tt.int64
    assert F.cross_entropy(tt.zeros(2, 4), labels).item() == pytest.approx(np.log(4))
