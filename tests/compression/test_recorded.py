"""Recordings of models: in evaluation mode, and nothing changed."""

import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import ArgumentTypeError
from tinytorch.compression.recorded import evaluating, inputs_of, recorded


def test_a_recording_is_of_the_evaluation_and_changes_nothing():
    """Ground truth: dropout adds no operation in evaluation; each part has its mode of before."""
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))
    model[2].eval()
    with_dropout = recorded(model, inputs_of("test", tt.zeros(2, 3))).graph
    assert len(with_dropout.nodes) == len(
        recorded(nn.Sequential(model[0], model[2]), (tt.zeros(2, 3),)).graph.nodes
    )
    assert [part.training for part in model.modules()] == [True, True, True, False]


def test_modes_come_back_after_an_error():
    """Ground truth: the mode before."""
    model = nn.Dropout(0.5)
    with pytest.raises(KeyError), evaluating(model):
        assert not model.training
        raise KeyError
    assert model.training


def test_an_example_is_arrays():
    """Ground truth: a shape is none."""
    with pytest.raises(ArgumentTypeError, match="not what a model is given"):
        inputs_of("report", ())
