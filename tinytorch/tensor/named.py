"""Named tensors: copying values into them by name, all or nothing.

Knows names, shapes and dtypes, never what the tensors are for: modules and optimizers load with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinytorch.base.dtypes import DType
from tinytorch.base.errors import DTypeError, SettingError, ShapeError, printable, short
from tinytorch.tensor.base import from_buffer
from tinytorch.tensor.buffer import Buffer
from tinytorch.tensor.modes import no_grad
from tinytorch.tensor.tensor import Tensor


def copy_named(
    own: Mapping[str, Tensor], given: Mapping, *, owner: str, strict: bool = True
) -> tuple[list[str], list[str]]:
    """Copy the given values into `own` by name; everything is checked before anything is changed.

    Args:
        own: the tensors that receive, by name.
        given: name -> Tensor, NumPy array, or (array in storage form, DType). Floats are converted
            to the receiving float type, integers to the receiving integer type.
        owner: whose tensors they are, for messages.
        strict: both must have the same names.

    Returns:
        names missing in `given`, names of `given` that were not used.

    Raises:
        SettingError: names differ (if strict).
        ShapeError: a shape differs.
        DTypeError: floats given for integers or the reverse.
    """
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    if strict and (missing or unexpected):
        raise _names_differ(owner, own, missing, unexpected)
    values = {name: _as_tensor(given[name]) for name in own if name in given}
    for name, value in values.items():
        _check(owner, name, own[name], value)
    with no_grad():
        for name, value in values.items():
            own[name].assign_(value.astype(own[name].dtype))
    return missing, unexpected


def _as_tensor(x) -> Tensor:
    if isinstance(x, Tensor):
        return x.detach()
    if isinstance(x, tuple) and len(x) == 2 and isinstance(x[1], DType):
        return from_buffer(Buffer.of_outside(np.asarray(x[0]), x[1]))
    try:
        return Tensor(np.asarray(x))
    except (ValueError, TypeError):  # ragged, or of something else than numbers
        raise DTypeError(
            "a state that is no array of numbers",
            got=f"a {type(x).__name__}: {short(x)}",
            rule="a Tensor, an array, or (array in storage form, DType)",
            fix="what state_dict() gave",
        ) from None


def _check(owner: str, name: str, own: Tensor, value: Tensor) -> None:
    if tuple(own.shape) != tuple(value.shape):
        raise ShapeError(
            f"{owner}: {name!r} has another shape",
            got=f"{tuple(value.shape)} for {name} {tuple(own.shape)}",
            rule="each array has the shape of the tensor it is loaded into",
            fix="build it with the sizes it was saved with",
        )
    if own.dtype.is_float is not value.dtype.is_float:
        raise DTypeError(
            f"{owner}: {name!r} has another kind of number",
            got=f"{value.dtype.name} for {name} {own.dtype.name}",
            rule="floats load into floats, whole numbers into whole numbers",
            fix=f"convert it first, for example array.astype({own.dtype.name!r})",
        )


def _names_differ(
    owner: str, own: Mapping, missing: list[str], unexpected: list[str]
) -> SettingError:
    from difflib import get_close_matches  # here: it takes a while to load, for errors alone

    parts = [
        f"{kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("unknown", unexpected))
        if names
    ]
    near = get_close_matches(unexpected[0], list(own), n=1) if unexpected else []
    fix = f"rename {unexpected[0]!r} to {near[0]!r}, or " if near else ""
    return SettingError(
        f"{owner}: the names in this state are not its names",
        got="; ".join(parts),
        rule=f"exactly the {len(own)} names of state_dict()",
        fix=fix + "strict=False to load what fits",
    )


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name) for name in names[:most]) + more
