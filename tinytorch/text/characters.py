"""A token for each character.

Knows characters, never words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from tinytorch.base.errors import DataError
from tinytorch.text.tokenizer import Tokenizer
from tinytorch.text.vocabulary import Vocabulary, read_lists, write_lists

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
