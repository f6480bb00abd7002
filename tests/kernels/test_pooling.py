"""Max pooling kernels against the table's definition, on every target this machine runs."""

import numpy as np
import pytest

from tests.compiler.graph_runner import GraphRun, assert_defined, new_graph
from tests.kernels.lowered_runner import element_strides, run_kernel, untouched
from tinytorch.base.dtypes import bfloat16, float32, int32, round_to_bfloat16
from tinytorch.codegen.kernel import Operand
from tinytorch.codegen.target import Target, runnable_names
from tinytorch.kernels.pooling import PoolSpec, max_pool, max_pool_gradient
from tinytorch.primitives import TABLE

TARGETS = runnable_names()
NONE = ((0, 0), (0, 0))
# image, kernel, stride, padding: even, odd sizes with edges left over, overlapping, padded, gaps
POOLINGS = [
    ((2, 32, 8, 6), (2, 2), (2, 2), NONE),
    ((1, 3, 7, 5), (2, 2), (2, 2), NONE),
    ((3, 17, 5, 9), (3, 2), (3, 2), NONE),
    ((2, 5, 7, 8), (3, 3), (2, 2), ((1, 1), (1, 0))),
    ((1, 1, 6, 6), (3, 3), (1, 1), ((2, 1), (0, 2))),
    ((2, 4, 9, 7), (1, 2), (3, 3), NONE),
    ((1, 2, 11, 11), (5, 5), (5, 5), NONE),
    ((2, 17, 9, 8), (2, 3), (2, 2), NONE, (3, 2)),
    ((1, 5, 8, 9), (3, 2), (2, 1), ((1, 2), (1, 0)), (2, 3)),
    ((1, 3, 7, 7), (2, 2), (2, 2), NONE, (2, 2)),
]


def image(shape, dtype, seed=0):
    """Small whole numbers, so that windows hold equal ones; a few NaN and infinities in floats."""
    generator = np.random.Generator(np.random.PCG64(seed))
    x = generator.integers(-3 if np.dtype(dtype).kind != "u" else 0, 4, shape).astype(dtype)
    if x.dtype.kind == "f":
        x[generator.random(shape) < 0.05] = np.nan
        x[generator.random(shape) < 0.05] = -np.inf
        x[generator.random(shape) < 0.05] = -0.0
    return x


def window(kernel, stride, padding, *dilation):
    more = {"dilation": dilation[0]} if dilation else {}
    return {"kernel": kernel, "stride": stride, "padding": padding, **more}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(POOLINGS)))
def test_winners_and_places(case, target):
    """Ground truth: the definition, exactly; images with channels last and first."""
    shape, *how = POOLINGS[case]
    for channels_last in ((0,), ()):
        x = image(shape, "float32", case)
        assert_defined(
            "max_pool2d", [x], window(*how), Target.named(target), channels_last=channels_last
        )


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint8", "int64", "bfloat16"])
def test_winners_of_every_kind_of_number(dtype):
    """Ground truth: the definition, exactly; equal elements, NaN and -inf among them."""
    shape, *how = POOLINGS[3]
    x = image(shape, "float32" if dtype == "bfloat16" else dtype)
    narrow = dtype == "bfloat16"
    assert_defined(
        "max_pool2d", [round_to_bfloat16(x) if narrow else x], window(*how), Target.host(),
        dtypes=[bfloat16] if narrow else None, channels_last=(0,),
    )  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(POOLINGS)))
def test_gradient_of_a_pooling_of_the_program(case, target):
    """Ground truth: the definition's scatter; sums of whole numbers are exact."""
    shape, *how = POOLINGS[case]
    x = image(shape, "float32", case)
    params = window(*how)
    best, index = TABLE["max_pool2d"].numpy(x, **params)
    g = image(best.shape, "float32", case + 1)
    want = TABLE["max_pool2d_gradient"].numpy(g, index, input_shape=shape)
    graph, (a, b) = new_graph(x, g)
    _, place = graph.add(TABLE["max_pool2d"], (a,), params)
    graph.results = list(
        graph.add(TABLE["max_pool2d_gradient"], (b, place), {"input_shape": shape})
    )
    run = GraphRun(graph, Target.named(target))
    assert not run.host_calls
    first = run(x, g)[0]
    assert first.tobytes() == run(x, g, threads=2)[0].tobytes() == run(x, g, threads=3)[0].tobytes()
    np.testing.assert_array_equal(first, want)


def test_a_window_with_only_one_pixel_inside():
    """Ground truth: padding never wins, whatever is under the window: the pixel itself."""
    x = np.full((1, 1, 1, 1), -np.inf, np.float32)
    how = window((3, 3), (1, 1), ((2, 2), (2, 2)))
    got, place = assert_defined("max_pool2d", [x], how, Target.host())
    assert (got == -np.inf).all() and not place.any()


@pytest.mark.parametrize("target", TARGETS)
def test_a_pooling_and_its_gradient_need_no_host_call(target):
    """The index of a pooling in the program is not scattered to: ground truth, the definition."""
    shape, *how = POOLINGS[0]
    params = window(*how)
    x = image(shape, "float32")
    graph, values = new_graph(x)
    out, index = graph.add(TABLE["max_pool2d"], tuple(values), params)
    (g_x,) = graph.add(TABLE["max_pool2d_gradient"], (out, index), {"input_shape": shape})
    graph.results = [out, index, g_x]
    run = GraphRun(graph, Target.named(target))
    assert not run.host_calls
    best, places = TABLE["max_pool2d"](x, **params)
    np.testing.assert_array_equal(run(x)[0], best)
    wanted = TABLE["max_pool2d_gradient"](best, places, input_shape=shape)
    np.testing.assert_array_equal(run(x)[2], wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", range(len(POOLINGS)))
@pytest.mark.parametrize("channels_last", [False, True])
def test_kernels_alone(case, target, channels_last):
    """Ground truth: the definition, exactly, and its scatter; arrays do not begin at their start,
    and what lies beside them stays."""
    target = Target.named(target)
    shape, *how = POOLINGS[case]
    params = window(*how)
    x = image(shape, "float32", case)
    best, index = TABLE["max_pool2d"].numpy(x, **params)
    g = image(best.shape, "float32", case + 1)
    spec = PoolSpec(shape, best.shape, **params)

    def laid_out(array, dtype):
        order = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
        memory = untouched(array.size + 7, array.dtype)
        view = memory[3 : 3 + array.size].reshape([array.shape[d] for d in order])
        view = view.transpose(np.argsort(order))
        view[...] = array
        return memory, view, Operand(dtype, element_strides(view), 3)

    def outside(memory):
        return (memory[:3] == 77).all() and (memory[-4:] == 77).all()

    places = index.astype(np.int32)
    source, _, at = laid_out(x, float32)
    out, got, at_out = laid_out(np.zeros_like(best), float32)
    where, got_index, at_index = laid_out(np.full_like(places, -1), int32)
    kernel = max_pool(target, spec, at, at_out, at_index)
    run_kernel(target, kernel, {"x": source, "out": out, "index": where})
    np.testing.assert_array_equal(got, best)
    np.testing.assert_array_equal(got_index, places)
    assert kernel.flops == best.size * np.prod(params["kernel"])
    assert kernel.bytes == x.nbytes + best.nbytes + places.nbytes
    assert outside(out) and outside(where)
    gradient, got_gradient, at_gradient = laid_out(np.zeros_like(x), float32)
    cotangent, _, at_g = laid_out(g, float32)
    kernel = max_pool_gradient(target, spec, at_g, at_index, at_gradient)
    run_kernel(target, kernel, {"g": cotangent, "index": where, "out": gradient})
    expected = TABLE["max_pool2d_gradient"].numpy(g, index, input_shape=shape)
    np.testing.assert_array_equal(got_gradient, expected)
    assert outside(gradient)
    assert kernel.flops == g.size and kernel.bytes == g.nbytes + places.nbytes + x.nbytes
