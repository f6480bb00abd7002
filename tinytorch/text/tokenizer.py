"""Tokenizers: texts to ids and back, one or a batch of them; and the simplest, of characters.

What every tokenizer does, special tokens too, is `Tokenizer`; a batch is sequences of different
lengths as one array, and the mask of what is real in it (`pad`). How a text is cut is what
tokenizers differ in: `ByteTokenizer` has a token for each byte, `CharacterTokenizer` for each
character.

Knows a vocabulary, bytes and characters, never words.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base.arguments import whole
from tinytorch.base.errors import DataError, SettingError
from tinytorch.text.vocabulary import PADDING, Vocabulary, read_lists, write_lists
from tinytorch.text.words import LETTER


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
    def cut(self, text: str) -> Sequence[int] | np.ndarray:
        """The ids of a text without special tokens."""

    @abstractmethod
    def join(self, ids: list[int]) -> str:
        """The text of ids that the vocabulary holds."""

    @abstractmethod
    def border(self, text: str) -> int:
        """The last place where a text may be cut: the ids of both parts are those of the whole,
        whatever follows it; 0 if there is none."""

    def _prepared(self, text: str, first: bool) -> str:
        """What is cut in place of a text, at least one character, that nothing stands before.

        Args:
            text: the text up to the next special token.
            first: whether it is the beginning; else a special token stands before it.
        """
        return text

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load_tokenizer` reads."""

    def special_id(self, name: str) -> int:
        """The id of a special token.

        Args:
            name: as it is written, "<|endoftext|>".

        Raises:
            SettingError: there is no such special token.
        """
        if name not in self.vocabulary.specials:
            raise SettingError(
                f"{type(self).__name__} has no special token {name!r}",
                got=repr(name),
                rule=f"one of the special tokens {self.vocabulary.specials}",
                fix=f"make it with specials=({name!r},), or name another",
            )
        return self.vocabulary.id(name)

    def check_fits(self, vocab: int) -> None:
        """Refuse a model for whose vocabulary this tokenizer has too many tokens.

        Args:
            vocab: number of tokens of the model, V.

        Raises:
            SettingError: an id of this tokenizer would be none of the model's.
        """
        if len(self) > vocab:
            raise SettingError(
                "the vocabulary of this tokenizer does not fit the model",
                got=f"{len(self)} tokens, and a model of {vocab}",
                rule="every id is below the number of tokens of the model",
                fix=f"the tokenizer that the model was trained with, or a model with"
                f" vocab={len(self)}",
            )

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
        if specials:
            return _Encoding(self, specials).ids(text)
        return self._encode_plain(text)

    def _encode_plain(self, text: str) -> np.ndarray:
        """The ids of a text without special tokens."""
        return np.asarray(self.cut(self._prepared(text, True)) if text else (), np.int64)

    def encode_parts(self, parts: Iterable[str], *, specials: bool = False) -> Iterator[np.ndarray]:
        """The token ids of a text that comes in parts: those of all parts joined.

        Args:
            parts: texts; a word may go on from one to the next.
            specials: as in `encode`.

        Returns:
            (T,) int64 arrays, as many as it takes.

        Raises:
            DataError: as in `encode`.

        Cost: what is held is a part, and the word that is not at its end.

        Example:
            >>> t = CharacterTokenizer("abc")
            >>> [ids.tolist() for ids in t.encode_parts(["ab", "ca"])]
            [[0, 1], [2, 0]]
        """
        encoding, held = _Encoding(self, specials), ""
        longest = max(map(len, self.vocabulary.specials), default=0) if specials else 0
        for part in parts:
            held += part
            # A special token that begins before the border is whole, or surely none.
            at = self.border(held[: len(held) - longest]) if len(held) > longest else 0
            for match in self._special.finditer(held, 0) if specials and at else ():
                if match.start() < at < match.end():
                    at = match.end()
            if at:
                yield encoding.ids(held[:at])
                held = held[at:]
        if held:
            yield encoding.ids(held)

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
        filling = self.special_id(pad_token)
        if isinstance(texts, str):  # it would be taken for a list of characters
            raise DataError(
                "encode_batch takes several texts",
                got=f"one text of {len(texts)} characters",
                rule="a list of str",
                fix="tokenizer.encode_batch([text])",
            )
        rows = [self.encode(text, specials=specials) for text in texts]
        return pad(rows, length, filling, side)

    def decode_batch(self, batch: TokenBatch) -> list[str]:
        """The texts of a batch, without what fills its rows.

        Args:
            batch: ids (B, T) and mask (B, T), as `encode_batch` returns them.
        """
        return [self.decode(ids[mask]) for ids, mask in zip(*batch, strict=True)]


class _Encoding:
    """A text that is encoded part by part: what stands before the next one."""

    def __init__(self, tokenizer: Tokenizer, specials: bool):
        self._tokenizer, self._specials = tokenizer, specials
        self._first = self._fresh = True  # nothing stands before; at most a special token

    def ids(self, text: str) -> np.ndarray:
        """The ids of the next part."""
        if not self._specials:
            return self._cut(text)
        found, start = [], 0
        for match in self._tokenizer._special.finditer(text):
            found += [self._cut(text[start : match.start()])]
            found += [np.array([self._tokenizer.vocabulary.id(match[0])], np.int64)]
            start, self._first, self._fresh = match.end(), False, True
        return np.concatenate([*found, self._cut(text[start:])])

    def _cut(self, text: str) -> np.ndarray:
        if text and self._fresh:
            text = self._tokenizer._prepared(text, self._first)
            self._first = self._fresh = False
        return np.asarray(self._tokenizer.cut(text), np.int64)


def utf8(text: str) -> bytes:
    """The text in UTF-8.

    Raises:
        DataError: half a surrogate pair stands alone.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise no_unicode(text, error) from None


def no_unicode(text: str, error: UnicodeEncodeError) -> DataError:
    """What to say of a text that UTF-8 cannot hold."""
    return DataError(
        "this text is no Unicode: half a surrogate pair stands alone",
        got=f"{text[error.start]!r} at place {error.start}",
        rule="characters that UTF-8 can hold",
        fix="text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
    )


# --- a token for each byte ---

BYTE_KIND = "byte tokenizer"


class ByteTokenizer(Tokenizer):
    """The bytes of a text's UTF-8: a byte is its own token id. No text has unknown characters.

    Lossless for any text, and with `encode_bytes` and `decode_bytes` for any bytes.

    Args:
        specials: special tokens, whose ids follow from 256 on.

    Cost: a copy of the bytes.

    Source: Xue et al. 2022 (ByT5), https://arxiv.org/abs/2105.13626, section 3.1.

    Example:
        >>> t = ByteTokenizer(specials=("<pad>",))
        >>> t.encode("hé"), t.decode([104, 105]), len(t)
        (array([104, 195, 169]), 'hi', 257)
    """

    def __init__(self, specials: Iterable[str] = ()):
        super().__init__(Vocabulary([LETTER[byte] for byte in range(256)], specials))
        names = [name.encode() for name in self.vocabulary.tokens[256:]]
        self._bytes = [*(bytes([byte]) for byte in range(256)), *names]

    def cut(self, text: str) -> np.ndarray:
        """The bytes of a text."""
        return self.encode_bytes(utf8(text))

    def border(self, text: str) -> int:
        """Anywhere: bytes do not depend on each other."""
        return len(text)

    def join(self, ids: list[int]) -> str:
        """The text of the bytes; where they are no UTF-8, U+FFFD stands for them."""
        return b"".join([self._bytes[i] for i in ids]).decode("utf-8", "replace")

    def encode_bytes(self, data: bytes) -> np.ndarray:
        """The token ids of bytes, text or not.

        Args:
            data: any bytes.

        Returns:
            (T,) int64 in 0..255.
        """
        return np.frombuffer(data, np.uint8).astype(np.int64)

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """The bytes of token ids; a special token's are those of its name.

        Args:
            ids: (T,) whole numbers in 0..V-1.

        Raises:
            IndexRangeError: an id outside 0..V-1.
            DataError: not a sequence of whole numbers.
        """
        return b"".join([self._bytes[i] for i in self.vocabulary.checked(ids)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            StorageError: the place cannot be written.
        """
        write_lists(path, BYTE_KIND, {"specials": list(self.vocabulary.specials)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ByteTokenizer:
        """What `save` wrote.

        Args:
            path: the file.

        Raises:
            FileFormatError: the file holds something else.
            StorageError: there is no such file.
        """
        return cls(**read_lists(path, BYTE_KIND, ("specials",)))


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

    Cost: 8 bytes for each code point up to the greatest; 20 bytes for each character of a text.

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
        ids = {ord(c): i for i, c in enumerate(text.tokens) if len(c) == 1}
        # By code point; the last stands for all above.
        self._table = np.full(max(ids, default=0) + 2, -1, np.int64)
        self._table[list(ids)] = list(ids.values())

    def cut(self, text: str) -> np.ndarray:
        """The ids of the characters."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self._table[np.minimum(points, len(self._table) - 1)]
        missing = np.flatnonzero(ids < 0)
        unknown = self.vocabulary.unknown
        if unknown is not None:
            ids[missing] = unknown
        if unknown is not None or not missing.size:
            return ids
        place = int(missing[0])
        known = "".join(c for c in self.vocabulary.tokens if len(c) == 1)
        raise DataError(
            "this character is not in the vocabulary",
            got=f"{text[place]!r} at place {place}",
            rule=f"one of the {len(known)} characters {known!r}",
            fix="make the tokenizer from all texts together, or with specials=('<unk>',)",
        )

    def border(self, text: str) -> int:
        """Anywhere: characters do not depend on each other."""
        return len(text)

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
