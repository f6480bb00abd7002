"""Public names are listed once, in each folder's __init__.py."""

import importlib
import inspect
import typing

import pytest

import tinytorch
from tests.floors import PACKAGE

FOLDERS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_lists_what_it_offers(folder):
    """Ground truth: what the folder's __init__.py imports or defines, without modules."""
    module = importlib.import_module(f"tinytorch.{folder}")
    offered = {
        name
        for name, x in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(x) and name != "annotations"
    }
    listed = list(getattr(module, "__all__", []))
    assert len(set(listed)) == len(listed), f"a name stands twice: __all__ of {folder}/__init__.py"
    missing = [name for name in listed if not hasattr(module, name)]
    assert not missing, f"__all__ of tinytorch/{folder}/__init__.py lists {missing}, not there"
    modules = {name for name in listed if inspect.ismodule(getattr(module, name))}
    place = f"tinytorch/{folder}/__init__.py"
    unlisted = sorted(offered - set(listed))
    assert not unlisted, f"{place} offers without listing in __all__: {unlisted}"
    assert set(listed) - modules <= offered | {n for n in listed if hasattr(module, n)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_public_name_is_explained(folder):
    """Ground truth: the object's own docstring; a folder's says what it knows and does not."""
    module = importlib.import_module(f"tinytorch.{folder}")
    assert module.__doc__, f"tinytorch/{folder}/__init__.py says nothing about itself"
    silent = []
    for name in getattr(module, "__all__", []):
        x = getattr(module, name)
        explains = inspect.isclass(x) or inspect.isfunction(x)
        if explains and not typing.get_origin(x) and not x.__doc__:
            silent.append(name)
    assert not silent, f"without a docstring, offered by tinytorch/{folder}/__init__.py: {silent}"


def test_the_top_offers_what_it_lists():
    """Ground truth: tinytorch.__all__; each resolves, dir() shows it, a wrong one does not."""
    for name in tinytorch.__all__:
        assert hasattr(tinytorch, name), name
    assert set(tinytorch.__all__) <= set(dir(tinytorch))
    with pytest.raises(AttributeError):
        tinytorch.no_such_name  # noqa: B018
