"""A token for each frequent sequence of bytes: byte-pair encoding, as in GPT-2.

The tokenizer, how it is learned from a text, and GPT-2's own vocabulary, from the two files that
OpenAI published.

Knows bytes, merges and those two files, never what a text is for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast, get_args

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base import files
from tinytorch.base.arguments import flag, one_of, whole
from tinytorch.base.errors import DataError, FileFormatError, SettingError, short
from tinytorch.data import official
from tinytorch.text.merges import MergingTokenizer, learn
from tinytorch.text.tokenizer import utf8
from tinytorch.text.vocabulary import LONGEST, Vocabulary, read_lists, read_object, write_lists
from tinytorch.text.words import BYTE, LETTER, Words, spelled, split, unspelled

# --- the tokenizer ---

KIND = "byte-pair tokenizer"


class BytePairTokenizer(MergingTokenizer):
    """Byte-level byte-pair encoding: words are cut into the tokens that the merges make of them.

    Lossless for any text, and with `encode_bytes` and `decode_bytes` for any bytes: each of the 256
    bytes is a token, so nothing is unknown. Made by `train`, `load` or `load_gpt2_tokenizer`.

    Args:
        vocabulary: the tokens, in GPT-2's spelling of bytes (a blank is "Ġ"), and special tokens.
        merges: pairs of tokens, in order of rank, all different; each joins bytes or what earlier
            ones made.
        words: how a text is cut before merging: "gpt2", as Llama 3 ("llama3"), Qwen 2 ("qwen2") or
            GPT-4 ("cl100k") do it, before runs of blanks ("blanks"), or not ("whole").
        whole_words: whether a word that is a token is that token, whatever the merges would make
            of it, as in Llama 3's file; default False.

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

    def __init__(
        self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]], words: Words = "gpt2",
        whole_words: bool = False,
    ):  # fmt: skip
        one_of("BytePairTokenizer", "words", words, get_args(Words))
        self.words: Words = words
        self.whole_words = flag("BytePairTokenizer", "whole_words", whole_words)
        self.merges = tuple((first, second) for first, second in merges)
        id_of = {token: i for i, token in enumerate(vocabulary.tokens)}
        made = set(LETTER.values())
        self._check(made - id_of.keys(), "the token of a byte is missing")
        ranks: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (first, second) in enumerate(self.merges):
            token = first + second
            pair = id_of.get(first), id_of.get(second)
            fits = first in made and second in made and token in id_of and pair not in ranks
            if not fits:
                self._check([f"{first} {second}"], f"merge number {rank} does not fit the others")
            made.add(token)
            ranks[id_of[first], id_of[second]] = rank, id_of[token]
        rest = id_of.keys() - made - set(vocabulary.specials)
        if whole_words:
            made |= {token for token in rest if set(token) <= BYTE.keys()}
            rest -= made
        self._check(rest, "a token is neither special, nor a byte, nor made by a merge")
        self._bytes = [unspelled(t) if t in made else t.encode() for t in vocabulary.tokens]
        whole = {self._bytes[id_of[token]]: id_of[token] for token in made}
        super().__init__(
            vocabulary, ranks, words, [id_of[LETTER[b]] for b in range(256)], None,
            whole if whole_words else None,
        )  # fmt: skip

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
        cls, text: str | Iterable[str], merges: int = 500, specials: Iterable[str] = (),
        words: Words = "gpt2",
    ) -> BytePairTokenizer:  # fmt: skip
        """Learn merges from a text: the most frequent pair of tokens becomes a token, and again.

        Ids: the 256 bytes in GPT-2's order, then the merges, then the special tokens.

        Args:
            text: one text or several.
            merges: how many tokens to make, >= 0; fewer if no pair occurs twice any more.
            specials: special tokens.
            words: how a text is cut before merging.

        Raises:
            SettingError: a number of merges below 0, or no such way to cut.
            DataError: a text that is no Unicode.
        """
        merges = whole("BytePairTokenizer.train", "merges", merges, at_least=0)
        one_of("BytePairTokenizer.train", "words", words, get_args(Words))
        counts: Counter[str] = Counter()
        for one in [text] if isinstance(text, str) else text:
            counts.update(split(one, words))
        pairs = learn({utf8(word): times for word, times in counts.items()}, merges)
        names = [(spelled(first), spelled(second)) for first, second in pairs]
        # Bytes with a letter of their own come first: those below U+0100.
        letters = sorted(LETTER.values())
        return cls(Vocabulary([*letters, *map("".join, names)], specials), names, words)

    def token_bytes(self, id: int) -> bytes:
        """What a token stands for; of a special token its name.

        Args:
            id: in 0..V-1.
        """
        return self._bytes[self.vocabulary.checked([id])[0]]

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
        return self._cut(data.decode("utf-8", "surrogateescape"), "surrogateescape")

    def decode_bytes(self, ids: ArrayLike) -> bytes:
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
            "words": [self.words, *(["whole words"] if self.whole_words else [])],
        }
        write_lists(path, KIND, state)

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
        state = read_lists(path, KIND, ("tokens", "specials", "merges", "words"))
        halves = [str(line).partition(" ") for line in state["merges"]]
        vocabulary = Vocabulary(state["tokens"], state["specials"])
        words, *more = state["words"] or [""]
        pairs = [(first, second) for first, _, second in halves]
        return cls(vocabulary, pairs, cast(Words, words), more == ["whole words"])


# --- GPT-2's own vocabulary ---

PART = "gpt2-bpe"
# What OpenAI called the two files, and what models are published with since.
FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))


def load_gpt2_tokenizer(folder: str | os.PathLike[str] | None = None) -> BytePairTokenizer:
    """GPT-2's tokenizer: 50,257 tokens, of which "<|endoftext|>" is special.

    Any other vocabulary in the same two files is read too.

    Args:
        folder: where `encoder.json` and `vocab.bpe` are, or `vocab.json` and `merges.txt`. None: in
            TINYTORCH_DATA or the user's cache, there or in the subfolder "gpt2-bpe".

    Raises:
        DataError: a file is missing.
        FileFormatError: a file holds something else.
        SettingError: the two files do not belong together.

    Source: Radford et al. 2019, https://openaipublic.blob.core.windows.net/gpt-2/models/124M/.
    """
    encoder, merges = _found(folder)
    ids = read_object(encoder)
    whole_numbers = all(type(n) is int for n in ids.values())
    tokens = sorted(ids, key=ids.__getitem__) if whole_numbers else list(ids)
    if not whole_numbers or [ids[token] for token in tokens] != list(range(len(tokens))):
        raise FileFormatError(
            "the ids of this vocabulary are not the numbers from 0 on",
            got=f"{encoder}: {len(tokens)} tokens, the first {short(tokens[:3])}",
            rule='{"token": id, ...} with each of 0..V-1 once',
            fix="copy the file again",
        )
    pairs = _pairs(merges)
    made = {first + second for first, second in pairs} | set(LETTER.values())
    specials = [token for token in tokens if token not in made]
    return BytePairTokenizer(Vocabulary(tokens, specials), pairs)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """The merges in a text file: two tokens on each line, after a line with the version."""
    try:
        lines = files.contents(path, LONGEST, links=True).decode("utf-8").split("\n")
        wrong = None
    except UnicodeDecodeError as error:
        lines, wrong = [], f"no UTF-8 at byte {error.start}"
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        if not line or (number == 0 and line.startswith("#version")):
            continue
        first, _, second = line.partition(" ")
        if not second or " " in second:
            wrong = f"line {number + 1}: {short(line)}"
            break
        pairs.append((first, second))
    if wrong:
        raise FileFormatError(
            "this file is not a list of merges",
            got=f"{path}, {wrong}",
            rule="UTF-8, two tokens with a blank between them on each line",
            fix="copy the file again",
        )
    return pairs


def _found(folder: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    """Where the two files are."""
    looked = official.folders(folder)
    for names in FILES:
        tokens, merges = (official.find(name, PART, looked) for name in names)
        if tokens is not None and merges is not None:
            return tokens, merges
    pairs = " or ".join(" and ".join(names) for names in FILES)
    raise DataError(
        "GPT-2's vocabulary is not there",
        got=f"looked in {', '.join(map(str, looked))}",
        rule=f"{pairs} in one of these folders, or in its subfolder {PART}",
        fix="fetch both from https://openaipublic.blob.core.windows.net/gpt-2/models/124M/",
    )
