"""tt.debug.print, eager and compiled. Ground truth: what Python's print and format give."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import ArgumentError


def test_it_prints_each_run_in_program_order(capsys):
    """Closed form: the lines, by hand; values of one number take a format."""

    def f(x, note="n"):
        tt.debug.print("x = {}, {:>3}", x, note)
        y = (x * x).sum()
        tt.debug.print("sum {total:.2f} of {0}", 2, total=y)
        return y

    compiled = tt.compile(f)
    for k in (1.0, 2.0):
        for run in (f, compiled):
            assert run(tt.Tensor([k, k])).item() == 2 * k * k
            lines = [f"x = [{k:g}. {k:g}.],   n", f"sum {2 * k * k:.2f} of 2"]
            assert capsys.readouterr().out.splitlines() == lines
    assert "host calls: 2 (python.print)" in compiled.explain()
    assert not capsys.readouterr().out


def test_gradients_are_those_without_it(capsys):
    """Closed form: d/dx x^2 = 2 x; the forward pass prints once."""
    f = tt.compile(tt.grad(lambda x: (tt.debug.print("{}", x) or x * x).sum()))
    assert f(tt.Tensor([3.0])).tolist() == [6.0]
    assert capsys.readouterr().out == "[3.]\n"


def test_new_states_are_printed_and_a_bad_index_later_changes_nothing(capsys):
    """Ground truth: the state before; what was printed before the error stays printed."""
    n, table = tt.Tensor(0.0), tt.Tensor([1.0, 2.0])

    @tt.compile
    def f(i):
        n.assign_(n + 1)
        tt.debug.print("n = {}", n)
        return table.take(i, 0)

    f(np.array([0]))
    with pytest.raises(IndexError):
        f(np.array([5]))
    assert n.item() == 1 and capsys.readouterr().out.startswith("n = 1.0\n")


@pytest.mark.parametrize("format, values", [("{} {}", (1,)), ("{a}", (1,)), ("{", (1,))])
def test_a_format_that_does_not_fit_is_refused_when_it_is_met(format, values):
    """The message names format and values."""
    for run in (lambda: tt.debug.print(format, *values), tt.compile(
        lambda: tt.debug.print(format, *values)
    )):  # fmt: skip
        with pytest.raises(ArgumentError, match="does not fit") as caught:
            run()
        assert repr(format) in caught.value.got
