"""The files of vocabularies and tokenizers: JSON that says what it is.

Knows a kind, a version and lists of texts, never what they mean.
"""

from __future__ import annotations

import errno
import json
import os
from shlex import quote
from typing import Any

from tinytorch.base import files, strict_json
from tinytorch.base.errors import FileFormatError, StorageError, short

VERSION = 1
LONGEST = 64 << 20  # bytes; a vocabulary of 250,000 tokens has about 10 million


def write(path: str | os.PathLike[str], kind: str, state: dict[str, list[Any]]) -> None:
    """Write the file whole, or leave what was there.

    Raises:
        StorageError: the place cannot be written, or there is a link or a device in it.
    """
    path = files.user_path(path)
    # ASCII only: a vocabulary may hold half a surrogate pair, which UTF-8 cannot.
    text = json.dumps({"kind": kind, "version": VERSION, **state}, indent=0)
    if not path.parent.is_dir():
        raise StorageError(
            f"the {kind} cannot be written",
            got=f"{path}, and there is no such folder",
            rule="a file in a folder that is there and may be written",
            fix=f"mkdir -p {quote(str(path.parent))}",
            errno=errno.ENOENT,
        )
    with files.replacing(path) as file:
        file.write((text + "\n").encode("ascii"))


def read(path: str | os.PathLike[str], kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The lists called `names` of a file of this kind.

    Raises:
        FileFormatError: the file holds something else.
        StorageError: there is no such file; then it is a NotFoundError.
    """
    state = parsed(path)
    found = state.get("kind"), state.get("version")
    lists = all(_are_texts(state.get(name)) for name in names)
    if found != (kind, VERSION) or type(found[1]) is not int or not lists:
        held = f"kind {short(found[0])}, version {short(found[1])}, {short(sorted(state))}"
        raise FileFormatError(
            f"this file is no {kind} that can be read",
            got=f"{path}: {held}",
            rule=f"kind {kind!r}, version {VERSION}, the lists of texts {', '.join(names)}",
            fix=f"write it with the save method of a {kind}, or read it with what wrote it",
        )
    return {name: state[name] for name in names}


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def parsed(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileFormatError: the file is no JSON in UTF-8, says a name twice, or is not one object.
        StorageError: there is no such file; then it is a NotFoundError.
    """
    path = files.user_path(path)
    try:
        value = strict_json.parse(files.contents(path, LONGEST, links=True))
    except strict_json.NotStrictError as error:
        value = error
    if isinstance(value, dict):
        return value
    raise FileFormatError(
        "this file is not a JSON object",
        got=f"{path}: {short(str(value))}",
        rule='text that begins with "{" and ends with "}", every name in it once',
        fix="copy or save the file again",
    )
