"""One checker for settings: is this number in its range, and if not, which one is wrong?

Knows numbers and intervals, never what they are for. A message names owner, argument, range and
value.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import cast

from tinytorch.base.errors import SettingError, short


def number(owner: str, name: str, value: object, interval: str) -> float:
    """`value` as a float if it lies in `interval`, else a SettingError.

    Args:
        owner: who has the setting, for the message.
        name: the setting.
        value: what was given.
        interval: as in mathematics: "[0, 1)" holds 0 and not 1; "inf" is allowed as a bound.

    >>> number("SGD", "momentum", 0.9, "[0, 1)")
    0.9
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    x = math.nan
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        x = float(value)
    if not math.isnan(x):
        above = x >= low if interval[0] == "[" else x > low
        below = x <= high if interval[-1] == "]" else x < high
        if above and below:
            return x
    raise SettingError(
        f"{owner}: {name} is outside its range",
        got=f"{name}={short(value)}",
        rule=f"a number in {interval}",
        fix=f"{owner}(..., {name}={_inside(low, high):g})",
    )


def _inside(low: float, high: float) -> float:
    """Some number between the bounds, to show in a message."""
    if math.isinf(high):
        return low + 1 if math.isfinite(low) else 0.0
    return (low + high) / 2


def whole(owner: str, name: str, value: object, at_least: int) -> int:
    """`value` as an int if it is a whole number >= `at_least`, else a SettingError.

    >>> whole("Linear", "in_features", 784, at_least=1)
    784
    """
    if (
        not isinstance(value, bool)
        and isinstance(value, numbers.Integral)
        and int(value) >= at_least
    ):
        return int(value)
    raise SettingError(
        f"{owner}: {name} is not a whole number in its range",
        got=f"{name}={short(value)}",
        rule=f"a whole number >= {at_least}",
        fix=f"{owner}(..., {name}={at_least})",
    )


def pair(owner: str, name: str, value: object, at_least: int) -> tuple[int, int]:
    """One whole number for both image axes, or a pair (vertical, horizontal), each >= `at_least`.

    >>> pair("Conv2d", "stride", 2, at_least=1), pair("Conv2d", "padding", (0, 1), at_least=0)
    ((2, 2), (0, 1))
    """
    listed = _listed(value)
    values = (value, value) if listed is None else listed
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise SettingError(
            f"{owner}: {name} does not fit the two image axes",
            got=f"{name}={short(value)}",
            rule="one whole number, or two (vertical, horizontal)",
            fix=f"{owner}(..., {name}={at_least})",
        )
    return whole(owner, name, values[0], at_least), whole(owner, name, values[1], at_least)


def single(owner: str, name: str, value: object, at_least: int) -> int:
    """One whole number for the axis of a signal, alone or as the only one of a tuple.

    >>> single("conv1d", "stride", (2,), at_least=1)
    2
    """
    values = _listed(value)
    return whole(owner, name, values[0] if values and len(values) == 1 else value, at_least)


def _listed(value: object) -> tuple[object, ...] | None:
    """What is in a list or a tuple; None for anything else."""
    return tuple(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else None


def flag(owner: str, name: str, value: object) -> bool:
    """`value` if it is True or False, else a SettingError.

    >>> flag("SGD", "nesterov", True)
    True
    """
    if isinstance(value, bool):
        return value
    raise SettingError(
        f"{owner}: {name} is a yes or no",
        got=f"{name}={short(value)}",
        rule="True or False",
        fix=f"{owner}(..., {name}=True)",
    )
