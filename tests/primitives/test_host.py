"""A user's function as a row: what it is given, and what it may give."""

import numpy as np
import pytest

from tinytorch.base.dtypes import float32, int64
from tinytorch.base.errors import DTypeError, ShapeError
from tinytorch.primitives.host import HostFunction
from tinytorch.primitives.primitive import Spec

TWO = (Spec((2,), float32),)


def test_a_function_is_given_arrays_of_its_own():
    """Invariant: what it writes reaches nobody; of nothing asked, what it gives is dropped."""
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    kept = []

    def spoil(a):
        kept.append(a)
        a[...] = -1
        return "anything"

    assert HostFunction(spoil)((x,), ()) == []
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]] and kept[0].flags.c_contiguous


def test_what_it_gives_becomes_what_was_asked():
    """Closed form: Python numbers in a tuple, wider numbers made narrower."""
    (out,) = HostFunction(lambda: np.array([1, 2.5]))((), TWO)
    assert out.dtype == np.float32 and out.tolist() == [1, 2.5]
    a, b = HostFunction(lambda: (3, 2.5))((), (Spec((), int64), Spec((), float32)))
    assert (a.dtype, b.dtype) == (np.int64, np.float32) and (a, b) == (3, 2.5)


@pytest.mark.parametrize(
    "given, error, phrase",
    [
        (lambda: np.zeros(3), ShapeError, "other shapes"),
        (lambda: (np.zeros(2), np.zeros(2)), ShapeError, "other shapes"),
        (lambda: None, ShapeError, "other shapes"),
        (lambda: np.zeros(2, complex), DTypeError, "another kind"),
        (lambda: np.array(["a", "b"]), DTypeError, "another kind"),
    ],
)
def test_what_does_not_fit_is_refused_in_four_parts(given, error, phrase):
    """Ground truth: what the call asked for."""
    with pytest.raises(error, match=phrase) as caught:
        HostFunction(given, "theirs")((), TWO)
    assert "'theirs'" in caught.value.what and all(
        (caught.value.got, caught.value.rule, caught.value.fix)
    )


def test_a_program_knows_it_by_name_alone():
    """Invariant: equal text for functions of one name, so that programs are shared."""
    assert repr(HostFunction(len)) == "<function len>" == repr(HostFunction(max, "len"))
