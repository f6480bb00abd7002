"""`dynamic_shapes`: how it is said, what is found at each call, what is refused."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError

T, B = tt.dim("T", max=6), tt.dim("B", max=4, min=2)


def double(x, y=None):
    return x * 2 if y is None else x * 2 + y


@pytest.mark.parametrize(
    ("shapes", "arguments"),
    [
        ({"x": (None, T)}, lambda n: (tt.ones(2, n),)),
        ({"x": {1: T}}, lambda n: (tt.ones(2, n),)),
        ({"x": {-1: T}}, lambda n: (np.ones((2, n), np.float32),)),
        ({"x": (T,), "y": (T,)}, lambda n: (tt.ones(n), np.ones(n, np.float32))),
    ],
)
def test_the_ways_to_say_it(shapes, arguments):
    """Closed form; one program for all of them."""
    f = tt.compile(double, dynamic_shapes=shapes)
    for n in (1, 6, 3):
        given = arguments(n)
        np.testing.assert_array_equal(f(*given).numpy(), double(*map(tt.asarray, given)).numpy())
    assert f.captures == 1 and f(*arguments(2)).shape[-1] == 2


def test_arrays_in_containers_and_by_name():
    """Closed form: *args, a dict, a keyword."""
    several = tt.compile(lambda *xs: xs[0] + xs[1], dynamic_shapes={"xs": ((T,), (T,))})
    batch = tt.compile(lambda batch: batch["a"] * 3, dynamic_shapes={"batch": {"a": (T,)}})
    named = tt.compile(double, dynamic_shapes={"y": (T,)})
    for n in (2, 5):
        assert several(tt.ones(n), tt.ones(n)).tolist() == [2.0] * n
        assert batch({"a": tt.ones(n)}).tolist() == [3.0] * n
        assert named(tt.ones(1), y=tt.ones(n)).tolist() == [3.0] * n
    assert several.captures == batch.captures == named.captures == 1


def test_other_shapes_are_other_programs():
    """Invariant: only the axes that were declared may differ."""
    f = tt.compile(double, dynamic_shapes={"x": (None, T)})
    f(tt.ones(2, 3)), f(tt.ones(2, 4)), f(tt.ones(3, 4))
    assert f.captures == 2


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ((tt.ones(7), tt.ones(7)), "too long"),
        ((tt.ones(0), tt.ones(0)), "too short"),
        ((tt.ones(3), tt.ones(4)), "disagree"),
        ((tt.tensor(1.0), tt.ones(4)), "no axis 0"),
    ],
)
def test_calls_that_do_not_fit_are_refused(arguments, phrase):
    """Ground truth: the four-part error."""
    f = tt.compile(double, dynamic_shapes={"x": (T,), "y": (T,)})
    with pytest.raises(ShapeError, match=phrase):
        f(*arguments)


def test_a_length_on_no_array_is_refused():
    """Ground truth: the four-part error."""
    with pytest.raises(ShapeError, match="on no array"):
        tt.compile(double, dynamic_shapes={"y": (T,)})(tt.ones(3))


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"z": (T,)},
        {"x": (3,)},
        {"x": None},
        [(T,)],
        {"x": (T,), "y": (tt.dim("T", max=3),)},
    ],
)
def test_declarations_that_say_nothing_are_refused(shapes):
    """Ground truth: the four-part error, when it is declared."""
    with pytest.raises(SettingError, match="dynamic_shapes"):
        tt.compile(double, dynamic_shapes=shapes)


def test_a_module_is_known_by_the_arguments_of_its_forward():
    """Closed form."""
    layer = tt.nn.Linear(3, 2)
    f = tt.compile(layer, dynamic_shapes={"x": (B,)})
    with tt.no_grad():
        for n in (2, 4, 3):
            x = tt.ones(n, 3)
            np.testing.assert_allclose(f(x).numpy(), layer(x).numpy(), 1e-6)
    assert f.captures == 1
    with pytest.raises(ShapeError, match="too short"):
        f(tt.ones(1, 3))
