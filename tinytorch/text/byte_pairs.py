"""A token for each frequent sequence of bytes: byte-pair encoding, as in GPT-2.

Knows bytes and merges, never whose vocabulary it is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from tinytorch.base.checks import whole
from tinytorch.base.errors import DataError, SettingError
from tinytorch.text import json_files
from tinytorch.text.merging import learn, merged
from tinytorch.text.splitting import LETTER, spelled, split, unspelled
from tinytorch.text.tokenizer import Tokenizer
from tinytorch.text.vocabulary import Vocabulary

KIND = "byte-pair tokenizer"
# Words whose ids are kept: more than English has in use. 172 bytes each (measured on Shakespeare).
KEPT = 100_000


class BytePairTokenizer(Tokenizer):
    """Byte-level byte-pair encoding: words are cut into the tokens that the merges make of them.

    Lossless for any text, and with `encode_bytes` and `decode_bytes` for any bytes: each of the 256
    bytes is a token, so nothing is unknown. Made by `train`, `load` or `load_gpt2_tokenizer`.

    Args:
        vocabulary: the tokens, in GPT-2's spelling of bytes (a blank is "Ġ"), and special tokens.
        merges: pairs of tokens, in order of rank; each joins bytes or what earlier ones made, and
            no two make the same token.

    Raises:
        SettingError: a byte, or a token that a merge makes, is missing from the vocabulary; a merge
            out of order; a token that is neither special nor made.

    Cost: a dictionary look-up for each word seen before, n log n for a new one of n bytes.

    Source: Sennrich, Haddow & Birch 2016, https://arxiv.org/abs/1508.07909; bytes instead of
    characters: Radford et al. 2019 (GPT-2), section 2.2.

    Example:
        >>> t = BytePairTokenizer.train("low lower lowest low", merges=3)
        >>> ids = t.encode("slow \N{SNOWMAN}")
        >>> [t.vocabulary.token(i) for i in ids], t.decode(ids)
        (['s', 'low', 'Ġ', 'â', 'ĺ', 'ĥ'], 'slow ☃')
    """

    def __init__(self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]]):
        super().__init__(vocabulary)
        self.merges = tuple((first, second) for first, second in merges)
        id_of = {token: i for i, token in enumerate(vocabulary.tokens)}
        made = set(LETTER.values())
        self._check(made - id_of.keys(), "the token of a byte is missing")
        self._ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (first, second) in enumerate(self.merges):
            token = first + second
            if not {first, second} <= made or token in made or token not in id_of:
                self._check([f"{first} {second}"], f"merge number {rank} does not fit the others")
            made.add(token)
            self._ranks[id_of[first], id_of[second]] = rank, id_of[token]
        rest = id_of.keys() - made - set(vocabulary.specials)
        self._check(rest, "a token is neither special, nor a byte, nor made by a merge")
        self._byte_ids = [id_of[LETTER[b]] for b in range(256)]
        self._bytes = [unspelled(t) if t in made else t.encode() for t in vocabulary.tokens]
        self._words: dict[str, list[int]] = {}

    @staticmethod
    def _check(wrong: Iterable[str], what: str) -> None:
        """Raise if there is anything wrong."""
        for token in sorted(wrong)[:1]:
            raise SettingError(
                f"BytePairTokenizer: {what}",
                got=repr(token),
                rule="256 bytes, the merges' tokens in order, special tokens",
                fix="BytePairTokenizer.train(text), or load a vocabulary with its own merges",
            )

    @classmethod
    def train(
        cls, text: str | Iterable[str], merges: int = 500, specials: Iterable[str] = ()
    ) -> BytePairTokenizer:
        """Learn merges from a text: the most frequent pair of tokens becomes a token, and again.

        Ids: the 256 bytes in GPT-2's order, then the merges, then the special tokens.

        Args:
            text: one text or several.
            merges: how many tokens to make, >= 0; fewer if no pair occurs twice any more.
            specials: special tokens.

        Raises:
            SettingError: a number of merges below 0.
            DataError: a text that is no Unicode.
        """
        merges = whole("BytePairTokenizer.train", "merges", merges, at_least=0)
        words: Counter[str] = Counter()
        for one in [text] if isinstance(text, str) else text:
            words.update(split(_unicode(one)))
        pairs = learn({word.encode(): times for word, times in words.items()}, merges)
        names = [(spelled(first), spelled(second)) for first, second in pairs]
        # Bytes with a letter of their own come first: those below U+0100.
        letters = sorted(LETTER.values())
        return cls(Vocabulary([*letters, *map("".join, names)], specials), names)

    def cut(self, text: str) -> list[int]:
        """The ids of a text's tokens, word by word."""
        return self._cut(_unicode(text))

    def _cut(self, text: str) -> list[int]:
        words, ids = self._words, []
        for word in split(text):
            known = words.get(word)
            if known is None:
                data = word.encode("utf-8", "surrogateescape")
                known = merged([self._byte_ids[b] for b in data], self._ranks)
                if len(words) >= KEPT:
                    words.clear()
                if len(word) <= 64:  # longer ones hardly come twice
                    words[word] = known
            ids += known
        return ids

    def join(self, ids: list[int]) -> str:
        """The text of the tokens' bytes; where they are no UTF-8, U+FFFD stands for them."""
        return b"".join([self._bytes[i] for i in ids]).decode("utf-8", "replace")

    def encode_bytes(self, data: bytes) -> np.ndarray:
        """The token ids of bytes, text or not.

        Args:
            data: any bytes; of valid UTF-8 the ids are those of the text.

        Returns:
            (T,) int64 in 0..V-1.
        """
        # Python gives each byte that is no UTF-8 a character of its own, and takes it back again.
        return np.array(self._cut(data.decode("utf-8", "surrogateescape")), np.int64)

    def decode_bytes(self, ids) -> bytes:
        """The bytes of token ids.

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
        state = {
            "tokens": list(self.vocabulary.tokens),
            "specials": list(self.vocabulary.specials),
            "merges": [" ".join(pair) for pair in self.merges],
        }
        json_files.write(path, KIND, state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BytePairTokenizer:
        """What `save` wrote.

        Args:
            path: the file.

        Raises:
            FileFormatError: the file holds something else.
            SettingError: its merges do not fit its tokens.
            StorageError: there is no such file.
        """
        state = json_files.read(path, KIND, ("tokens", "specials", "merges"))
        halves = [str(line).partition(" ") for line in state["merges"]]
        vocabulary = Vocabulary(state["tokens"], state["specials"])
        return cls(vocabulary, [(first, second) for first, _, second in halves])


def _unicode(text: str) -> str:
    """The text, if UTF-8 can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "this text is no Unicode: half a surrogate pair stands alone",
            got=f"{text[error.start]!r} at place {error.start}",
            rule="characters that UTF-8 can hold",
            fix="text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace'), or give the"
            " bytes to encode_bytes",
        ) from None
    return text
