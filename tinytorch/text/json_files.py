"""The files of vocabularies and tokenizers: JSON that says what it is.

Knows a kind, a version and lists of texts, never what they mean.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tinytorch.base.errors import FileFormatError, StorageError

VERSION = 1


def write(path: str | os.PathLike[str], kind: str, state: dict[str, list[Any]]) -> None:
    """Write the file whole, or leave what was there.

    Raises:
        StorageError: the place cannot be written.
    """
    path = Path(path).expanduser()
    half = path.with_name(f"{path.name}.{os.getpid()}.part")
    # ASCII only: a vocabulary may hold half a surrogate pair, which UTF-8 cannot.
    text = json.dumps({"kind": kind, "version": VERSION, **state}, indent=0)
    try:
        half.write_text(text + "\n", encoding="ascii")
        os.replace(half, path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise StorageError(
            f"the {kind} cannot be written",
            got=f"{path}: {error.strerror}",
            rule="a file in a folder that is there and may be written",
            fix=f"mkdir -p {path.parent}",
            errno=error.errno,
        ) from None


def read(path: str | os.PathLike[str], kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The lists called `names` of a file of this kind.

    Raises:
        FileFormatError: the file holds something else.
        StorageError: there is no such file.
    """
    state = parsed(path)
    found = state.get("kind"), state.get("version")
    lists = all(isinstance(state.get(name), list) for name in names)
    if found != (kind, VERSION) or not lists:
        raise FileFormatError(
            f"this file is no {kind} that can be read",
            got=f"{path}: kind {found[0]!r}, version {found[1]!r}, {', '.join(sorted(state))}",
            rule=f"kind {kind!r}, version {VERSION}, the lists {', '.join(names)}",
            fix=f"write it with the save method of a {kind}, or read it with what wrote it",
        )
    return {name: state[name] for name in names}


def parsed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileFormatError: the file is no JSON, or not one object.
        StorageError: there is no such file.
    """
    path = Path(path).expanduser()
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(
            "this file cannot be read",
            got=f"{path}: {error.strerror}",
            rule="a file that is there",
            fix=f"ls {path.parent}",
            errno=error.errno,
        ) from None
    except (ValueError, RecursionError) as error:
        value = error
    if isinstance(value, dict):
        return value
    raise FileFormatError(
        "this file is not a JSON object",
        got=f"{path}: {str(value)[:80]}",
        rule='text that begins with "{" and ends with "}"',
        fix="copy or save the file again",
    )
