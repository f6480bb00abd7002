"""The public names of TinyTorch with their arguments, and the list that later versions honour.

Public is what `tinytorch` and its folders list in `__all__`, and the public methods and properties
of the classes among it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tinytorch
from tests.floors import PACKAGE
from tinytorch.base.unknown_names import MissingName

LIST = Path(__file__).resolve().parent / "public_names.txt"
# Folders whose names users type; what the others list is for the floors above them.
FOLDERS = (
    "", "capstone", "compression", "data", "export", "generation", "inspection", "models", "nn",
    "nn.boxes", "nn.functional", "optim", "text", "training",
)  # fmt: skip


def public() -> dict[str, list[str]]:
    """Each public name with the arguments it can be called with."""
    objects = {f"{place}.{name}": x for place in places() for name, x in _offered(place)}
    classes = {x for x in objects.values() if inspect.isclass(x)}
    found = {name: arguments(x) for name, x in objects.items()}
    first = {id(x): name for name, x in reversed(objects.items())}
    for name, x in objects.items():
        if inspect.isclass(x) and first[id(x)] == name:  # under its other names it is the same
            found |= {f"{name}.{member}": a for member, a in _members(x, classes)}
    return found


def places() -> list[str]:
    """The modules whose names are listed."""
    folders = [f for f in FOLDERS if "." in f or (PACKAGE / f / "__init__.py").exists()]
    chapters = [f"core.{p.stem}" for p in sorted((PACKAGE / "core").glob("[a-z]*.py"))]
    return [f"tinytorch.{folder}".rstrip(".") for folder in [*folders, *chapters]]


def _offered(place: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(place)
    for name in getattr(module, "__all__", None) or _functions(module):
        if not inspect.ismodule(x := getattr(module, name)):
            yield name, x


def _functions(module: Any) -> list[str]:
    """Of a module without a list: the functions it defines or hands on."""
    return [n for n, x in vars(module).items() if inspect.isfunction(x) and not n.startswith("_")]


def _members(kind: type, listed: set[type]) -> Iterator[tuple[str, list[str]]]:
    """Public members with their arguments, without those of a base class that is listed itself."""
    for name in dir(kind):
        if name.startswith("_"):
            continue
        definer = next(c for c in kind.__mro__ if name in vars(c))
        if isinstance(vars(definer)[name], MissingName):
            continue
        if not definer.__module__.startswith("tinytorch"):  # what Exception or dict brings
            continue
        if definer is kind or definer not in listed:
            yield name, arguments(getattr(kind, name), drop=inspect.isfunction(vars(definer)[name]))


def arguments(x: Any, drop: bool = False) -> list[str]:
    """Names of the arguments; those that can only be given by name end in "=".

    Args:
        x: anything.
        drop: leave out the first, which a method is given by its object.
    """
    if not callable(x):
        return []
    try:
        signature = inspect.signature(x)
    except (TypeError, ValueError):
        return []
    kinds = inspect.Parameter
    marks = {kinds.KEYWORD_ONLY: "{}=", kinds.VAR_POSITIONAL: "*{}", kinds.VAR_KEYWORD: "**{}"}
    return [
        marks.get(p.kind, "{}").format(p.name) for p in list(signature.parameters.values())[drop:]
    ]


def listed() -> dict[str, list[str]]:
    """The list as it stands in the file."""
    rows = (line.split() for line in LIST.read_text().splitlines())
    return {name: rest for name, *rest in rows}


def resolve(name: str) -> tuple[Any, bool]:
    """The object of a dotted name, and whether it is a method; AttributeError if it is gone."""
    x: Any = tinytorch
    owner: Any = None
    parts = name.split(".")[1:]
    for i, part in enumerate(parts):
        owner = x
        try:
            x = getattr(x, part)
        except AttributeError:
            if not inspect.ismodule(x):
                raise
            try:
                x = importlib.import_module(".".join(["tinytorch", *parts[: i + 1]]))
            except ImportError as error:
                raise AttributeError(name) from error
    is_method = inspect.isclass(owner) and inspect.isfunction(
        inspect.getattr_static(owner, parts[-1])
    )
    return x, is_method


def broken(name: str, promised: list[str]) -> str | None:
    """What a caller of a listed name would stumble over; None if nothing."""
    try:
        x, is_method = resolve(name)
    except AttributeError:
        return f"{name} is gone"
    if not promised:
        return None
    now = arguments(x, drop=is_method)
    if not now:
        return f"{name} cannot be called any more"
    plain = {a.strip("=*") for a in now}
    takes_any = any(a.startswith("**") for a in now)
    for argument in promised:
        if not argument.startswith("*") and argument.rstrip("=") not in plain and not takes_any:
            return f"{name} no longer takes {argument.rstrip('=')}"
    by_place = [a for a in promised if a.isidentifier()]
    by_place_now = [a for a in now if a.isidentifier()]
    if by_place_now[: len(by_place)] != by_place and not any(a[:1] == "*" for a in now):
        return f"{name} takes its arguments in another order: {', '.join(by_place_now)}"
    return None
