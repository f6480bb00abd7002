"""What is known of masks, and of what they make 0."""

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tests.compiler.lengths import floats
from tinytorch.base.lengths import Length
from tinytorch.compiler.graph.axes import Axis, Part, plain_axis
from tinytorch.compiler.plan.masks import Masks, ragged_rows

T, B = tt.dim("T", max=128), tt.dim("B", max=6)
RAGGED_T, RAGGED_B = Part(128, Length.of(T)), Part(6, Length.of(B))


def masks_of(f, shapes, *arguments):
    """The masks of a program, and its nodes by primitive."""
    compiled = tt.compile(f, dynamic_shapes=shapes, target=targets()[0].name)
    compiled(*arguments)
    simplified = compiled.stages()["simplify"]
    return Masks(simplified), simplified.graph


@pytest.mark.parametrize(
    ("shape", "shapes", "parts"),
    [
        ((2, 7, 16), {"x": (None, T)}, (Part(2, 2), RAGGED_T)),
        ((4, 3, 16), {"x": (B,)}, (RAGGED_B, Part(3, 3))),
        ((4, 7, 16), {"x": (B, T)}, (RAGGED_B, RAGGED_T)),
        ((4, 16), {"x": (B,)}, (RAGGED_B,)),
    ],
)
def test_rows_joined_of_several_axes(shape, shapes, parts):
    """Ground truth: the places that the mask is put over, in the order in which they lie."""
    masks, graph = masks_of(
        lambda x: (x * 2 + 1).reshape(-1, 16).T @ x.reshape(-1, 16), shapes, floats(1, *shape)
    )
    product = next(n for n in graph.nodes if n.primitive.name == "matmul")
    for v, d in zip(product.inputs, (-1, -2), strict=True):
        axes = masks.zero_beyond(v)
        assert axes is not None and axes[d] == Axis(parts)


def test_what_is_not_masked_is_not_known():
    """Closed form: an exponential of 0 is 1; a number is one everywhere, an argument is not."""
    masks, graph = masks_of(lambda x: tt.where(x > 0, x, 3.0).exp(), {"x": (T,)}, floats(1, 7))
    assert all(masks.zero_beyond(n.outputs[0]) is None for n in graph.nodes if n.inputs)
    numbers = [masks.number(n.outputs[0]) for n in graph.nodes if n.primitive.name == "where"]
    assert numbers == [None]
    (x, length) = graph.arguments
    assert masks.zero_beyond(x) == (Axis((RAGGED_T,)),) and masks.length_of(length) == (T, 1)


def test_rows_as_kernels_are_told_them():
    """Closed form; a length that is no dim's own is told to none."""
    assert [(r.bound, r.inner, r.rows) for r in ragged_rows(Axis((RAGGED_B, RAGGED_T)))] == [
        (6, 128, 768), (128, 1, 768),
    ]  # fmt: skip
    assert ragged_rows(plain_axis(5)) == []
    assert ragged_rows(Axis((Part(129, Length.of(T) + 1),))) == []
    assert np.prod([r.is_prefix for r in ragged_rows(Axis((RAGGED_B, RAGGED_T)))]) == 0
