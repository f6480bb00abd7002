"""Where data files lie on this computer.

Knows folders and names, never contents.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tinytorch.base.files import user_path
from tinytorch.base.settings import cache_folder

VARIABLE = "TINYTORCH_DATA"


def user_cache() -> Path:
    """The folder in which downloads are kept for this user; it may not exist yet."""
    return cache_folder() / "data"


def folders(folder: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where to look, first to last: the folder asked for, `TINYTORCH_DATA`, the user's cache.

    Args:
        folder: asked for by the user; then it is the only place, so that nothing else is taken
            by mistake.
    """
    if folder is not None:
        return [user_path(folder)]
    named = os.environ.get(VARIABLE)
    return [*([user_path(named)] if named else []), user_cache()]


def find(name: str, part: str, places: list[Path]) -> Path | None:
    """The file `name` of the data set `part`, or None.

    Looks in each place for `part/name` and `name`, so a folder of many data sets and the folder
    of one both work.
    """
    return next((path for path in _candidates(name, part, places) if path.is_file()), None)


def _candidates(name: str, part: str, places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield place / part / name
        yield place / name
