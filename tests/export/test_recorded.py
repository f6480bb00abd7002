"""Models as programs without Python: what is recorded, what is refused.

Ground truth: what a library can do: outputs that follow from inputs, and nothing else.
"""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.export.networks import picture, pictures_network
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, CompileError, SettingError
from tinytorch.codegen.target import Target
from tinytorch.export.recorded import native_program


def program(model, *example):
    return native_program(model, example, Target.host().without_amx())


def test_weights_are_prepared_and_counted_once():
    """Ground truth: the numbers of the weights; packing adds less than a vector a row."""
    made = program(pictures_network(), picture())
    weights = sum(p.size * 4 for p in pictures_network().parameters())
    assert weights <= len(made.data) <= 4 * weights
    assert not any("pack" in stage.symbol and "weight" in stage.symbol for stage in made.stages)
    assert [a.shape for a in (*made.inputs, *made.outputs)] == [(1, 3, 8, 8), (1, 10)]


def test_a_network_in_training_mode_is_refused():
    """Ground truth: batch norm overwrites its statistics, dropout the state of its generator."""
    for layer in (nn.BatchNorm1d(4), nn.Dropout(0.5)):
        with pytest.raises(CompileError, match="changes something") as caught:
            program(nn.Sequential(nn.Linear(4, 4), layer).train(), tt.ones(2, 4))
        assert "model.eval()" in caught.value.fix


def test_what_calls_numpy_is_refused():
    """Ground truth: a host call is Python's."""

    def function(x):
        return tt.host_call(np.tanh, x, x)

    with pytest.raises(CompileError, match="calls NumPy or Python"):
        program(function, tt.ones(2))


@pytest.mark.parametrize(
    "function",
    [lambda x: x, lambda x: (x + 1, 3), lambda x: None, lambda x: (lambda y: (y, y))(x + 1)],
)
def test_outputs_that_are_not_computed_are_refused(function):
    """Ground truth: an input, a number, nothing, an array twice."""
    with pytest.raises(SettingError, match="not what it computes"):
        program(function, tt.ones(2))


def test_weights_that_this_machine_cannot_prepare_are_refused():
    """Ground truth: sums of int8 weights for VNNI are made by VNNI, which few machines have."""
    wide = Target.named("avx512", "x86_64", portable=True)
    wide = replace(wide, features=f"{wide.features},+avx512vnni", has_int8_dot=True)
    model = compression.quantize(nn.Linear(64, 64), "int8")
    try:
        wide.runnable()
    except SettingError:
        with pytest.raises(SettingError, match="cannot prepare the weights"):
            native_program(model, (tt.zeros(32, 64),), wide)
    else:
        assert native_program(model, (tt.zeros(32, 64),), wide).data


def test_what_is_no_function_is_refused():
    """Ground truth: a number cannot be called."""
    with pytest.raises(ArgumentTypeError, match="cannot be called"):
        program(3, tt.ones(2))
