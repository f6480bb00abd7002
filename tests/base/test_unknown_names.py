"""Names that are not there: what the message says is true.

Ground truth: Python (the name is missing; the code that is proposed runs), PyTorch (it has it).
"""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch

import tinytorch as tt
from tinytorch import data, nn, optim
from tinytorch.base.errors import UnknownNameError
from tinytorch.base.unknown_names import INSTEAD

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from_pytorch.md"
OWNERS = {
    "tinytorch": (tt, torch),
    "Tensor": (tt.ones(2, 2), torch.ones(2, 2)),
    "Module": (nn.Sequential(nn.Linear(2, 2)), torch.nn.Linear(2, 2)),
    "nn": (nn, torch.nn),
    "nn.functional": (nn.functional, torch.nn.functional),
    "optim": (optim, torch.optim),
    "data": (data, torch.utils.data),
}
ROWS = [(owner, name) for owner, names in INSTEAD.items() for name in names]
OTHER_HABITS = {"compile", "fit", "predict"}  # Keras, scikit-learn


@pytest.mark.parametrize(("owner", "name"), ROWS)
def test_a_row_is_needed_and_its_code_runs(owner, name, tmp_path):
    """Python and PyTorch; a row for a name that exists by now has to go."""
    ours, theirs = OWNERS[owner]
    assert not hasattr(ours, name), "it is there: remove the row"
    assert hasattr(theirs, name) or name in OTHER_HABITS
    with pytest.raises(UnknownNameError, match=re.escape(repr(name))) as caught:
        getattr(ours, name)
    assert caught.value.fix == INSTEAD[owner][name] and "from_pytorch" in caught.value.rule
    if not caught.value.fix.startswith("leave it out"):
        x, y, model = tt.rand(2, 2), tt.rand(2, 2), nn.Linear(2, 2)
        path = tmp_path / "model.safetensors"
        tt.training.save_weights(model, path)
        known = {"tt": tt, "nn": nn, "x": x, "y": y, "model": model, "a": x, "b": y, "path": path}
        eval(caught.value.fix, known)  # what the message tells to type


def test_the_page_shows_the_table():
    """The table of the module."""
    text = PAGE.read_text()
    shown = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \| (.*) \|$", text, re.M)
    wanted = [
        (owner, name, said if said.startswith("leave") else f"`{said}`")
        for owner, names in INSTEAD.items()
        for name, said in sorted(names.items())
    ]
    assert sorted((o, n, s.replace("\\|", "|")) for o, n, s in shown) == sorted(wanted)


@pytest.mark.parametrize(
    ("ask", "fix"),
    [
        (lambda: tt.sofmax, "softmax"),
        (lambda: nn.Lineer, "Linear"),
        (lambda: nn.functional.cross_entropi, "cross_entropy"),
        (lambda: optim.AdamX, "Adam"),
        (lambda: data.DataLoder, "DataLoader"),
        (lambda: tt.masked_fill_, "x.masked_fill_(...)"),
        (lambda: tt.cross_entropy, "nn.functional.cross_entropy"),
        (lambda: tt.zzzzzz, "dir()"),
    ],
)
def test_the_nearest_names_and_other_places(ask, fix):
    """Spelling: the name that was meant, or the place where it is."""
    with pytest.raises(AttributeError) as caught:
        ask()
    assert fix in caught.value.fix and fix in str(caught.value)
    assert all(getattr(caught.value, part) for part in ("what", "got", "rule", "fix"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


def test_names_of_python_and_of_the_user_are_as_ever():
    """Python: hasattr, copies, attributes and methods of the user's under a name of the table."""
    x = tt.ones(2)
    with pytest.raises(AttributeError, match="no attribute 'reshpe'"):
        x.reshpe  # noqa: B018
    with pytest.raises(AttributeError) as caught:
        tt.__no_such__  # noqa: B018
    assert not isinstance(caught.value, UnknownNameError)
    assert not hasattr(x, "is_cuda") and getattr(x, "is_cuda", False) is False

    class Model(nn.Module):
        def __init__(self):
            self.compile = 3

        def predict(self):
            return self.compile

    assert Model().predict() == 3 and not hasattr(Model(), "fit")
    assert copy.deepcopy(Model()).compile == 3


def test_attributes_are_read_without_a_detour():
    """CPython: a class with `__getattr__` reads every attribute more slowly."""
    for kind in (tt.Tensor, nn.Module):
        assert not any("__getattr__" in vars(base) for base in kind.__mro__)
