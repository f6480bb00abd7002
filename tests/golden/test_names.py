"""The public names that later versions honour."""

import pytest

from tests.golden import names
from tests.golden.names import arguments, broken, listed


def test_every_listed_name_is_honoured():
    """Ground truth: public_names.txt: each name is there and takes the arguments it took."""
    problems = [p for name, promised in listed().items() if (p := broken(name, promised))]
    fix = "give the old name back, or: python scripts/public_names --rewrite, and the CHANGELOG"
    assert not problems, "\n".join([*problems, fix])


def test_the_list_is_no_empty_promise():
    """Ground truth: names that every user of the framework types, and their number."""
    found = listed()
    for name in ("Tensor", "Tensor.backward", "compile", "nn.Linear", "nn.Module.state_dict",
                 "optim.AdamW", "data.DataLoader", "training.Trainer.train"):  # fmt: skip
        assert f"tinytorch.{name}" in found
    assert "in_features" in found["tinytorch.nn.Linear"]
    assert len(found) > 300


def test_each_way_to_break_a_promise_is_seen(monkeypatch):
    """Ground truth: functions made here, one for each way."""

    def made(a, b, *, c=1):
        pass

    monkeypatch.setattr(names, "resolve", lambda name: (made, False))
    assert arguments(made) == ["a", "b", "c="]
    assert broken("f", ["a", "b", "c="]) is None and broken("f", ["a"]) is None
    assert broken("f", []) is None
    assert broken("f", ["b"]) == "f takes its arguments in another order: a, b"
    assert broken("f", ["a", "d="]) == "f no longer takes d"
    monkeypatch.setattr(names, "resolve", lambda name: (3, False))
    assert broken("f", ["a"]) == "f cannot be called any more"
    monkeypatch.setattr(names, "resolve", lambda name: (made, True))
    assert broken("C.f", ["b", "c="]) is None, "a method's first argument is its object"
    monkeypatch.undo()
    assert broken("tinytorch.nn.Lineer", []) == "tinytorch.nn.Lineer is gone"
    assert broken("tinytorch.no_folder.Thing", []) == "tinytorch.no_folder.Thing is gone"
    with pytest.raises(AttributeError):
        names.resolve("tinytorch.Tensor.no_such_method")
