"""Frozen states: what is moved in front of convolutions, and what is left. Ground truth: the eager
function in float64, the bound stated in graph/frozen.py, and counts by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch import nn
from tinytorch.compiler.graph.frozen import folded, frozen_nodes
from tinytorch.compiler.graph.simplify import remove_unused

TARGETS = targets()


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def captured(function, *arguments):
    """The recorded graph, all its states frozen."""
    compiled = tt.compile(function, freeze=True, target="vector128", threads=1)
    return compiled.stages(*arguments)["capture"].graph


def names(graph) -> list[str]:
    frozen = frozen_nodes(graph)
    return [n.primitive.name for n in graph.nodes if n not in frozen and not n.is_movement]


def with_norm(channels: int, filters: int, groups: int = 1, seed: int = 0) -> nn.Module:
    """A convolution and a batch norm in evaluation, with statistics that are neither 0 nor 1."""
    model = nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1, groups=groups), nn.BatchNorm2d(filters)
    )
    for i, x in enumerate(model.state_dict().values()):
        if x.dtype.is_float:
            x.assign_(tt.Tensor((numbers(*x.shape, seed=seed + i) * 0.5).astype(np.float32)))
    norm = model[1]
    norm.running_var.assign_(norm.running_var.abs() + 0.1)
    return model.eval()


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(("channels", "filters", "groups"), [(3, 16, 1), (16, 32, 1), (8, 8, 2)])
def test_a_batch_norm_is_folded_within_the_stated_bound(channels, filters, groups, target):
    """Ground truth: float64, eager; (K + 6) / 2^24 times the magnitudes, Winograd's bound where 3 x
    3 filters take it: (C + 11) / 2^24 times those of 4 x 4 pixels, 16 numbers for 9."""
    model = with_norm(channels, filters, groups)
    x = tt.Tensor(numbers(2, channels, 8, 8, seed=9).astype(np.float32))

    def run(x):
        with tt.no_grad():
            return model(x)

    found = tt.compile(run, freeze=True, target=target)(x).numpy()
    wide = with_norm(channels, filters, groups).to(tt.float64)
    wide.load_state_dict({n: v.astype(v.dtype if not v.dtype.is_float else tt.float64)
                          for n, v in model.state_dict().items()})  # fmt: skip
    with tt.no_grad():
        exact = wide(x.astype(tt.float64)).numpy()
        for p in wide.state_dict().values():
            if p.dtype.is_float:
                p.assign_(p.abs())
        wide[1].running_mean.assign_(-wide[1].running_mean)
        magnitude = wide(x.astype(tt.float64).abs()).numpy()
    most = (9 * channels // groups + 6) * 16 / 9 * magnitude.max() / 2**24
    assert np.abs(found - exact).max() <= most
    assert np.abs(found - run(x).numpy()).max() <= 2 * most


def test_one_convolution_and_one_sum_are_left():
    """Ground truth: by hand: filters times factors, and one shift, are computed beforehand."""
    model = with_norm(3, 4)
    graph = captured(lambda x: model(x), tt.zeros(1, 3, 4, 4))
    assert names(graph)[:2] == ["convolution", "add"] and len(names(graph)) > 3
    assert names(remove_unused(folded(graph))) == ["convolution", "add"]


def test_what_somebody_else_reads_is_not_folded():
    """Ground truth: by hand: the convolution's result is wanted as it is, too."""
    model = with_norm(3, 4)

    def both(x):
        y = model[0](x)
        return y, model[1](y)

    graph = captured(both, tt.zeros(1, 3, 4, 4))
    folded_names = names(remove_unused(folded(graph)))
    assert folded_names.count("convolution") == 1 and "mul" in folded_names


def test_numbers_for_each_pixel_are_not_folded():
    """Ground truth: by hand: a factor for each column is none for each filter."""
    w, scale = tt.Tensor(np.ones((4, 3, 3, 3))), tt.Tensor(np.ones((1, 1, 1, 2)))
    x = tt.zeros(1, 3, 4, 4, dtype="float64")
    graph = captured(lambda x: nn.functional.conv2d(x, w) * scale, x)
    assert "mul" in names(remove_unused(folded(graph)))


def test_nothing_is_folded_that_is_not_frozen():
    """Ground truth: the graph itself."""
    model = with_norm(3, 4)
    graph = replace(captured(lambda x: model(x), tt.zeros(1, 3, 4, 4)), frozen=[])
    assert folded(graph) is graph and not frozen_nodes(graph)


def test_rounded_filters_are_scaled_before_they_are_rounded():
    """Ground truth: by hand: with bfloat16 products there is still one convolution and one sum."""
    model = with_norm(4, 8)
    compiled = tt.compile(lambda x: model(x), freeze=True, precision="bf16")
    graph = compiled.stages(tt.zeros(1, 4, 6, 6))["capture"].graph
    left = names(remove_unused(folded(graph)))
    assert left.count("convolution") == 1 and "mul" not in left and "sub" not in left


def test_weights_of_few_bits_are_not_unpacked_beforehand():
    """Ground truth: sizes: float32 numbers of bytes take four times the memory."""
    w = tt.Tensor(np.ones((64, 64), np.int8))
    graph = captured(lambda x: x @ w.astype(tt.float32), tt.zeros(2, 64))
    assert names(graph) == ["cast", "matmul"]


def test_states_that_are_updated_are_not_frozen():
    """Ground truth: by hand; a graph that says otherwise is refused."""
    w, count = tt.Tensor(np.ones(3)), tt.Tensor(np.zeros(()))

    def step(x):
        count.assign_(count + 1.0)
        return x * w * count

    graph = captured(step, tt.zeros(3, dtype="float64"))
    assert len(graph.states) == 2 and [v.shape for v in graph.frozen] == [(3,)]
