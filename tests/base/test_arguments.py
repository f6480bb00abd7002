"""arguments.py: ranges at their borders. What no check foresaw: test_wrong_arguments.py."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.arguments import explain_methods, fitted, flag, number, one_of, pair, whole
from tinytorch.base.errors import SettingError
from tinytorch.tensor.interpreter import user_line


@pytest.mark.parametrize(
    ("value", "interval", "inside"),
    [
        (0.0, "[0, 1)", True),
        (1.0, "[0, 1)", False),
        (1, "(0, 1]", True),
        (0, "(0, 1]", False),
        (np.float32(0.5), "[0, 1]", True),
        (float("nan"), "[0, inf)", False),
        (float("inf"), "[0, inf)", False),
        (True, "[0, 1]", False),
        ("1", "[0, 1]", False),
    ],
)
def test_number_knows_its_borders(value, interval, inside):
    """Ground truth: the mathematical notation."""
    if inside:
        assert number("Owner", "x", value, interval) == value
    else:
        with pytest.raises(SettingError, match="Owner: x is outside its range"):
            number("Owner", "x", value, interval)


@pytest.mark.parametrize("value", [0, 1.0, True, "3", None])
def test_whole_refuses_what_is_not_a_size(value):
    """Ground truth: whole numbers >= 1."""
    with pytest.raises(SettingError, match="whole number >= 1"):
        whole("Owner", "n", value, at_least=1)


def test_pair_takes_one_or_two():
    """Ground truth: its docstring."""
    assert pair("Owner", "k", np.int64(3), at_least=1) == (3, 3)
    assert pair("Owner", "k", [1, 2], at_least=1) == (1, 2)
    with pytest.raises(SettingError, match="two image axes"):
        pair("Owner", "k", (1, 2, 3), at_least=1)
    with pytest.raises(SettingError, match="whole number >= 1"):
        pair("Owner", "k", (1, 0), at_least=1)


def test_flag_takes_bools_alone():
    """Ground truth: its docstring."""
    assert flag("Owner", "on", False) is False
    with pytest.raises(SettingError, match="yes or no"):
        flag("Owner", "on", 1)


@pytest.mark.parametrize("value", ["sum", 1, None, ["mean"]])
def test_one_of_takes_its_texts_alone(value):
    """Ground truth: its docstring."""
    assert one_of("Owner", "kind", "mean", ("mean", "max")) == "mean"
    with pytest.raises(SettingError, match="no such kind[\\s\\S]*one of 'mean', 'max'"):
        one_of("Owner", "kind", value, ("mean", "max"))


def test_methods_without_self_are_explained_too():
    """Invariant: who takes an argument is wrapped; who takes none is left as it is."""

    class Owner:
        @staticmethod
        def root(x):
            return x**0.5

        def nothing(self):
            return 1

    before = vars(Owner)["nothing"]
    explain_methods(Owner, ["root", "nothing"])
    held = vars(Owner)["root"]
    assert isinstance(held, staticmethod) and hasattr(held.__func__, "__explained__")
    assert Owner.root(4) == 2 and vars(Owner)["nothing"] is before


def test_a_door_is_not_the_users_line():
    """Ground truth: this file, in which the method is called; the door is code of the package."""
    seen = []

    def look(x):
        seen.append(user_line())

    fitted(look)(1)
    assert seen[0].startswith("test_arguments.py:")
    t = tt.Tensor([1.0, 2.0])
    compiled = tt.compile(lambda: t.tanh() + tt.tanh(t))
    compiled()
    lines = {n.where.partition(":")[0] for n in compiled.stages()["capture"].graph.nodes}
    assert lines == {"test_arguments.py"}
