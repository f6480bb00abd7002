"""Tokens and their numbers, and the files that hold them: JSON that says what it is.

Knows texts and places in a list, never how a text is cut into tokens.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from shlex import quote
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base import files
from tinytorch.base.errors import (
    DataError,
    FileFormatError,
    IndexRangeError,
    SettingError,
    StorageError,
    short,
)

VERSION = 1
LONGEST = 64 << 20  # bytes; a vocabulary of 250,000 tokens has about 10 million
_FEW = 8  # ids that are looked at one by one: NumPy takes as long for one as for hundreds


def write_lists(path: str | os.PathLike[str], kind: str, state: dict[str, list[Any]]) -> None:
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


def read_lists(path: str | os.PathLike[str], kind: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The lists called `names` of a file of this kind.

    Raises:
        FileFormatError: the file holds something else.
        StorageError: there is no such file; then it is a NotFoundError.
    """
    state = read_object(path)
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
    return isinstance(value, list) and all(
        isinstance(text, str) for text in cast("list[object]", value)
    )


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        FileFormatError: the file is no JSON in UTF-8, says a name twice, or is not one object.
        StorageError: there is no such file; then it is a NotFoundError.
    """
    path = files.user_path(path)
    try:
        value = files.parse_json(files.contents(path, LONGEST, links=True))
    except files.NotStrictError as error:
        value = error
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise FileFormatError(
        "this file is not a JSON object",
        got=f"{path}: {short(str(value))}",
        rule='text that begins with "{" and ends with "}", every name in it once',
        fix="copy or save the file again",
    )


UNKNOWN = "<unk>"
PADDING = "<pad>"


class Vocabulary:
    """A list of different tokens; a token's id is its place.

    Special tokens stand for something that is no text. Two of them have a meaning here: `<unk>`
    stands for every token that the vocabulary does not hold, `<pad>` fills the rows of a batch.

    Args:
        tokens: the tokens by id, texts of at least one character, all different.
        specials: the special tokens; those not among `tokens` follow them in this order.

    Raises:
        SettingError: no token, an empty one, one that is no text, or one that stands twice.

    Cost: V entries of a list and of a dictionary.

    Example:
        >>> v = Vocabulary(["to", "be", "or"], specials=("<pad>", "<unk>"))
        >>> len(v), v.id("be"), v.id("question"), v.token(3)
        (5, 1, 4, '<pad>')
    """

    def __init__(self, tokens: Iterable[str], specials: Iterable[str] = ()):
        listed, self.specials = list(tokens), tuple(specials)
        wrong = [t for t in (*listed, *self.specials) if not isinstance(t, str) or not t]
        if not wrong:
            known = set(listed)
            self.tokens = (*listed, *(s for s in self.specials if s not in known))
            self._ids = {token: i for i, token in enumerate(self.tokens)}
            wrong = [t for i, t in enumerate(self.tokens) if self._ids[t] != i]
        if wrong or not self.tokens:
            raise SettingError(
                "a vocabulary needs at least one token, all of them different texts",
                got=f"among the tokens {wrong[0]!r}" if wrong else "no token",
                rule="texts of at least one character, none of them twice",
                fix="Vocabulary(sorted(set(tokens)))",
            )
        self.unknown = self._ids[UNKNOWN] if UNKNOWN in self.specials else None

    def __len__(self) -> int:
        """Number of tokens with the special ones, V."""
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.tokens, self.specials) == (other.tokens, other.specials)

    def __hash__(self) -> int:
        return hash((self.tokens, self.specials))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, specials={self.specials})"

    def id(self, token: str) -> int:
        """The id of a token, or that of `<unk>`.

        Args:
            token: a text.

        Raises:
            DataError: the vocabulary holds neither.
        """
        found = self._ids.get(token, self.unknown)
        if found is None:
            raise DataError(
                f"{token!r} is not in the vocabulary",
                got=repr(token),
                rule=f"one of {len(self)} tokens: {_some(self.tokens)}",
                fix=f"make the vocabulary from all texts together, or with specials=({UNKNOWN!r},)",
            )
        return found

    def token(self, id: int) -> str:
        """The token with an id.

        Args:
            id: in 0..V-1.

        Raises:
            IndexRangeError: an id outside 0..V-1.
        """
        return self.tokens[self.checked(np.array([id]))[0]]

    def checked(self, ids: ArrayLike) -> list[int]:
        """Ids as a list of numbers, all of them in 0..V-1.

        Args:
            ids: (T,) whole numbers.

        Raises:
            IndexRangeError: an id outside 0..V-1.
            DataError: not a sequence of whole numbers.
        """
        if type(ids) is list and len(ids) <= _FEW:  # text that is streamed asks at every token
            size = len(self.tokens)
            if all([type(i) is int and 0 <= i < size for i in ids]):
                return ids.copy()
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise DataError(
                "token ids are a sequence of whole numbers",
                got=f"shape {array.shape}, dtype {array.dtype}",
                rule="shape (T,), an integer dtype; a batch is decoded with decode_batch",
                fix="tokenizer.decode(ids[0])",
            )
        outside = array[(array < 0) | (array >= len(self))]
        if outside.size:
            raise IndexRangeError(
                "there is no token with this id",
                got=int(outside[0]),
                rule=f"0 <= id < {len(self)}, the size of the vocabulary",
                fix="decode with the tokenizer that encoded, or that the model was trained with",
            )
        return array.tolist()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            StorageError: the place cannot be written.
        """
        state = {"tokens": list(self.tokens), "specials": list(self.specials)}
        write_lists(path, "vocabulary", state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """What `save` wrote.

        Args:
            path: the file.

        Raises:
            FileFormatError: the file holds something else.
            StorageError: there is no such file.
        """
        return cls(**read_lists(path, "vocabulary", ("tokens", "specials")))


def _some(tokens: tuple[str, ...], shown: int = 20) -> str:
    """The first tokens, for a message."""
    return " ".join(map(repr, tokens[:shown])) + (" ..." if len(tokens) > shown else "")
