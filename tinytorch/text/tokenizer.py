"""Tokenizers: texts to ids and back, one or a batch of them; and the simplest, of characters.

What every tokenizer does, special tokens too, is `Tokenizer`; a batch is sequences of different
lengths as one array, and the mask of what is real in it (`pad`). How a text is cut is what
tokenizers differ in: `CharacterTokenizer` has a token for each character.

Knows a vocabulary and characters, never words.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base.arguments import whole
from tinytorch.base.errors import DataError, SettingError
from tinytorch.text.vocabulary import PADDING, Vocabulary, read_lists, write_lists


class TokenBatch(NamedTuple):
    """Rows of token ids, and where they are real.

    Args:
        ids: (B, T) int64.
        mask: (B, T) bool, True for a token of the text and False for filling.
    """

    ids: np.ndarray
    mask: np.ndarray


def pad(
    sequences: Sequence[Sequence[int] | np.ndarray],
    length: int | None = None,
    pad_id: int = 0,
    side: str = "right",
) -> TokenBatch:
    """Fill short sequences and cut long ones, so that all of them have one length.

    Args:
        sequences: B sequences of token ids, each of any length.
        length: T >= 1; None for that of the longest sequence.
        pad_id: what short sequences are filled with, default 0.
        side: where is filled and cut: "right", or "left", which keeps the end of a prompt
            where generation goes on.

    Returns:
        ids (B, T) int64 and mask (B, T) bool.

    Raises:
        SettingError: a setting outside its range.

    Cost: 9 B T bytes.

    Differs from PyTorch's `pad_sequence`: batch first, cuts too, and returns the mask.

    Example:
        >>> ids, mask = pad([[1, 2, 3], [4]], pad_id=9)
        >>> ids, mask.sum(1)
        (array([[1, 2, 3], [4, 9, 9]]), array([3, 1]))
    """
    if side not in ("right", "left"):
        raise SettingError(
            "pad: side is neither left nor right",
            got=f"side={side!r}",
            rule="'right' or 'left'",
            fix="pad(..., side='right')",
        )
    if length is None:
        length = max(map(len, sequences), default=0)
    else:
        length = whole("pad", "length", length, at_least=1)
    ids = np.full((len(sequences), length), pad_id, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, sequence in enumerate(sequences):
        n = min(len(sequence), length)
        to = slice(0, n) if side == "right" else slice(length - n, length)
        kept = sequence[:n] if side == "right" else sequence[len(sequence) - n :]
        ids[row, to], mask[row, to] = kept, True
    return TokenBatch(ids, mask)


class Tokenizer(ABC):
    """Cuts a text into tokens; a subclass says how (`cut` and `join`).

    Args:
        vocabulary: the tokens and their ids.
    """

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        # The longest first: where two special tokens fit, the longer one is meant.
        names = sorted(vocabulary.specials, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names)) if names else r"(?!)")
        self._special_ids = {vocabulary.id(name) for name in names}

    def __len__(self) -> int:
        """Number of tokens, V."""
        return len(self.vocabulary)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens)"

    @abstractmethod
    def cut(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""

    @abstractmethod
    def join(self, ids: list[int]) -> str:
        """The text of ids that the vocabulary holds."""

    def encode(self, text: str, *, specials: bool = False) -> np.ndarray:
        """The token ids of a text.

        Args:
            text: any text.
            specials: whether the name of a special token in the text means that token. False by
                default: a text that somebody else wrote must not be able to end a conversation.

        Returns:
            (T,) int64 in 0..V-1.

        Raises:
            DataError: not a text, or it holds what the vocabulary does not.
        """
        if not isinstance(text, str):
            raise DataError(
                "encode takes one text",
                got=type(text).__name__,
                rule="a str; a list of them goes to encode_batch",
                fix="tokenizer.encode_batch(texts)",
            )
        if not specials:
            return np.array(self.cut(text), np.int64)
        ids: list[int] = []
        start = 0
        for match in self._special.finditer(text):
            ids += self.cut(text[start : match.start()])
            ids.append(self.vocabulary.id(match[0]))
            start = match.end()
        return np.array(ids + self.cut(text[start:]), np.int64)

    def decode(self, ids: ArrayLike, *, skip_specials: bool = False) -> str:
        """The text of token ids.

        Args:
            ids: (T,) whole numbers in 0..V-1.
            skip_specials: leave out special tokens; else they are written by name.

        Raises:
            IndexRangeError: an id outside 0..V-1.
            DataError: not a sequence of whole numbers.
        """
        listed = self.vocabulary.checked(ids)
        if skip_specials:
            listed = [i for i in listed if i not in self._special_ids]
        return self.join(listed)

    def encode_batch(
        self,
        texts: Iterable[str],
        length: int | None = None,
        *,
        pad_token: str = PADDING,
        side: str = "right",
        specials: bool = False,
    ) -> TokenBatch:
        """Several texts as one array, filled and cut to one length.

        Args:
            texts: B texts.
            length: T >= 1; None for that of the longest text.
            pad_token: the special token that fills; GPT-2 has none, "<|endoftext|>" is used there.
            side: where is filled and cut, "right" or "left".
            specials: as in `encode`.

        Returns:
            ids (B, T) int64 and mask (B, T) bool, True where a token is of the text.

        Raises:
            SettingError: there is no such special token, or a setting is outside its range.
            DataError: as in `encode`.
        """
        if pad_token not in self.vocabulary.specials:
            raise SettingError(
                f"{type(self).__name__} has no special token {pad_token!r} to fill with",
                got=f"pad_token={pad_token!r}",
                rule=f"one of the special tokens {self.vocabulary.specials}",
                fix=f"make it with specials=({PADDING!r},), or name another pad_token",
            )
        if isinstance(texts, str):  # it would be taken for a list of characters
            raise DataError(
                "encode_batch takes several texts",
                got=f"one text of {len(texts)} characters",
                rule="a list of str",
                fix="tokenizer.encode_batch([text])",
            )
        rows = [self.encode(text, specials=specials) for text in texts]
        return pad(rows, length, self.vocabulary.id(pad_token), side)

    def decode_batch(self, batch: TokenBatch) -> list[str]:
        """The texts of a batch, without what fills its rows.

        Args:
            batch: ids (B, T) and mask (B, T), as `encode_batch` returns them.
        """
        return [self.decode(ids[mask]) for ids, mask in zip(*batch, strict=True)]


# --- a token for each character ---

KIND = "character tokenizer"


class CharacterTokenizer(Tokenizer):
    """The characters of a text in sorted order; a character's token id is its place.

    Lossless: `decode(encode(text)) == text`, as long as no character is unknown.

    Args:
        text: every character that shall be known; or a Vocabulary of characters.
        specials: special tokens, whose ids follow; with "<unk>" among them an unknown character
            becomes that token instead of an error.

    Raises:
        SettingError: no character at all.

    Cost: V entries; T dictionary look-ups for a text of T characters.

    Example:
        >>> t = CharacterTokenizer("hello", specials=("<pad>", "<unk>"))
        >>> len(t), t.encode("hole"), t.decode([1, 0])
        (6, array([1, 3, 2, 0]), 'he')
        >>> t.encode_batch(["hell", "ox"]).ids
        array([[1, 0, 2, 2], [3, 5, 4, 4]])
    """

    def __init__(self, text: str | Vocabulary, specials: Iterable[str] = ()):
        if isinstance(text, str):
            text = Vocabulary(sorted(set(text)), specials)
        super().__init__(text)
        self._ids = {c: i for i, c in enumerate(text.tokens) if len(c) == 1}

    def cut(self, text: str) -> list[int]:
        """The ids of the characters."""
        try:
            return [self._ids[c] for c in text]
        except KeyError as error:
            character = error.args[0]
        unknown = self.vocabulary.unknown
        if unknown is not None:
            return [self._ids.get(c, unknown) for c in text]
        known = "".join(self._ids)
        raise DataError(
            "this character is not in the vocabulary",
            got=f"{character!r} at place {text.index(character)}",
            rule=f"one of the {len(known)} characters {known!r}",
            fix="make the tokenizer from all texts together, or with specials=('<unk>',)",
        )

    def join(self, ids: list[int]) -> str:
        """The characters one after the other."""
        return "".join([self.vocabulary.tokens[i] for i in ids])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            StorageError: the place cannot be written.
        """
        v = self.vocabulary
        write_lists(path, KIND, {"tokens": list(v.tokens), "specials": list(v.specials)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharacterTokenizer:
        """What `save` wrote.

        Args:
            path: the file.

        Raises:
            FileFormatError: the file holds something else.
            StorageError: there is no such file.
        """
        return cls(Vocabulary(**read_lists(path, KIND, ("tokens", "specials"))))
