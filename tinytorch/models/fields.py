"""The settings of a model in another program's file, asked for one by one.

Knows kinds of values and how a wrong one is refused, never what a setting means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from tinytorch.base.errors import FileFormatError, short


class Fields:
    """The settings of a file, each with its kind and default; null stands for the default.

    Args:
        table: names and values.
        where: what messages call the file.
        prefix: what every name in the file begins with.
    """

    def __init__(self, table: Mapping[str, Any], where: str, prefix: str = ""):
        self.table, self.where, self.prefix = table, where, prefix

    def value(self, name: str, default: Any = None) -> Any:
        """What the file says, whatever it is."""
        found = self.table.get(self.prefix + name)
        return default if found is None else found

    def refuse(self, name: str, rule: str) -> NoReturn:
        """Raise the error of a setting that cannot be used."""
        raise FileFormatError(
            f"{self.where}: {self.prefix}{name} cannot be used",
            got=f"{self.prefix}{name} = {short(self.value(name))}",
            rule=rule,
            fix="another model, or the same one saved again with such a setting",
        )

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1; without a default it must be there."""
        value = self.value(name, default)
        if type(value) is not int or not 1 <= value < 2**31:
            self.refuse(name, "a whole number >= 1")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number >= 0."""
        value = self.value(name, default)
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            self.refuse(name, "a number >= 0")
        return float(value)

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite number > 0; without a default it must be there."""
        value = self.value(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            self.refuse(name, "a number > 0")
        return float(value)

    def factors(self, name: str, count: int) -> tuple[float, ...]:
        """Finite numbers > 0, one for each rotary pair."""
        found = self.value(name)
        fits = isinstance(found, list) and len(found) == count
        if not fits or not all(type(x) in (int, float) and 0 < x < float("inf") for x in found):
            self.refuse(name, f"{count} numbers > 0, one for each rotary pair")
        return tuple(map(float, found))

    def flag(self, name: str, default: bool) -> bool:
        """A yes or no."""
        value = self.value(name, default)
        if type(value) is not bool:
            self.refuse(name, "true or false")
        return value

    def one_of(self, name: str, default: str, choices: Mapping[str, str]) -> str:
        """What a text stands for."""
        value = self.value(name, default)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, "one of " + ", ".join(map(repr, choices)))
        return choices[value]

    def must_be(self, name: str, only: Any) -> None:
        """A setting of which one value is supported; missing, it has that value."""
        value = self.table.get(self.prefix + name, only)
        if type(value) is not type(only) or value != only:
            self.refuse(
                name, f"{self.prefix}{name} = {json.dumps(only)}: nothing else is supported"
            )
