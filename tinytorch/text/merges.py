"""Merges: how they are learned from words, applied to one, and what tokenizers made of them share.

The merges are defined here in Python; longer texts go through the same in native code
(native_merges.py). Knows numbers of tokens and pairs of them, never how tokens are spelled.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import pairwise

import numpy as np

from tinytorch.text.tokenizer import Tokenizer, no_unicode
from tinytorch.text.vocabulary import Vocabulary
from tinytorch.text.words import Words, last_border, split

Pair = tuple[int, int]


def merged(ids: list[int], ranks: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Apply the merges to a word: always the pair of lowest rank, the leftmost first.

    Tokens are a linked list, pairs that can be merged a heap; a pair whose tokens are gone when its
    turn comes is passed over.

    Args:
        ids: tokens of the word, n of them.
        ranks: for a pair of tokens its rank and the token it becomes.

    Cost: n log n, where scanning the word for every merge costs n^2.

    >>> merged([0, 1, 0, 1, 1], {(0, 1): (0, 2), (2, 2): (1, 3)})
    [3, 1]
    """
    n = len(ids)
    tokens, right, left = [*ids, -1], [*range(1, n + 1), n], [*range(-1, n)]
    heap = [
        (ranks[pair][0], at, *pair, ranks[pair][1])
        for at, pair in enumerate(pairwise(ids))
        if pair in ranks
    ]
    heapify(heap)
    while heap:
        _, at, first, second, new = heappop(heap)
        after = right[at]
        if tokens[at] != first or tokens[after] != second:
            continue
        tokens[at], tokens[after] = new, -1
        after = right[at] = right[after]
        left[after] = at
        for place, following in ((left[at], at), (at, after)):
            pair = (tokens[place], tokens[following])
            if place >= 0 and (found := ranks.get(pair)):
                heappush(heap, (found[0], place, *pair, found[1]))
    return [token for token in tokens if token >= 0]


def learn(words: Mapping[bytes, int], merges: int, minimum: int = 2) -> list[tuple[bytes, bytes]]:
    """The merges that byte-pair encoding learns: again and again the most frequent pair.

    Of equally frequent pairs the one with the smaller numbers wins (a byte's is its value, a merge
    comes after those before it). A merge changes only the words that hold its pair, and raises only
    counts of pairs with the new token: so a heap of counts is corrected when a count is taken.

    No two merges make the same token: what happened between two borders of tokens depends on the
    bytes between them alone, so equal bytes are cut equally everywhere.

    Args:
        words: how often each word occurs; no merge crosses the border of a word.
        merges: how many at most.
        minimum: end when no pair occurs so often.

    Returns:
        the pairs of tokens, in order.

    Cost: the pairs of all different words once, then for each merge those of the words it changes.

    Source: Sennrich, Haddow & Birch 2016, https://arxiv.org/abs/1508.07909, algorithm 1.

    >>> learn({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, 3)
    [(b'e', b's'), (b'es', b't'), (b'l', b'o')]
    """
    tokens = [bytes([b]) for b in range(256)]
    learned: list[tuple[bytes, bytes]] = []
    pieces, times = [list(word) for word in words], list(words.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for at, ids in enumerate(pieces):
        for pair in pairwise(ids):
            counts[pair] += times[at]
            where[pair].add(at)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    while heap and len(learned) < merges:
        count, pair = heappop(heap)
        if -count != counts[pair]:  # it was more once
            heappush(heap, (-counts[pair], pair))
            continue
        if -count < minimum:
            break
        first, second = tokens[pair[0]], tokens[pair[1]]
        new = len(tokens)
        tokens.append(first + second)
        learned.append((first, second))
        fresh: set[Pair] = set()
        for at in where.pop(pair):
            old, pieces[at] = pieces[at], _joined(pieces[at], pair, new)
            for lost in pairwise(old):
                counts[lost] -= times[at]
            for found in pairwise(pieces[at]):
                counts[found] += times[at]
                if new in found:
                    fresh.add(found)
                    where[found].add(at)
        for found in fresh:
            heappush(heap, (-counts[found], found))
    return learned


def _joined(ids: list[int], pair: Pair, new: int) -> list[int]:
    """The word with every occurrence of the pair replaced, from left to right."""
    out: list[int] = []
    at, last = 0, len(ids) - 1
    while at <= last:
        if at < last and ids[at] == pair[0] and ids[at + 1] == pair[1]:
            out.append(new)
            at += 2
        else:
            out.append(ids[at])
            at += 1
    return out


# --- what tokenizers made of merges share ---

# Words whose ids are kept: more than English has in use. 172 bytes each (measured on Shakespeare).
KEPT = 100_000
# Characters after which a tokenizer has native code made: Python takes 20 ms for as many, the
# tables and the code, once compiled, 50.
NATIVE_FROM = 1 << 16
LONGEST_PART = 1 << 28  # characters that native code is given at once: its places are 32-bit


class MergingTokenizer(Tokenizer):
    """A tokenizer that cuts a text into words, and words into tokens by merging.

    What both kinds of it share; made by `BytePairTokenizer` and `SentencePieceTokenizer`.

    Args:
        vocabulary: the tokens.
        ranks: for a pair of tokens its rank and the token it becomes; merges of lower rank come
            first, of equal rank the leftmost.
        words: how a text is cut before merging.
        byte_ids: the token of each byte.
        characters: the token of each code point that has one, where words are made of characters;
            None: of bytes.
        whole: the token of each word that is one, whatever the merges make of it; None: merges
            alone say what a word becomes.
    """

    def __init__(
        self, vocabulary: Vocabulary, ranks: Mapping[Pair, tuple[int, int]], words: Words,
        byte_ids: Sequence[int], characters: Mapping[int, int] | None = None,
        whole: Mapping[bytes, int] | None = None,
    ):  # fmt: skip
        super().__init__(vocabulary)
        self._ranks = dict(ranks)
        self._kind: Words = words
        self._byte_ids, self._characters, self._whole = list(byte_ids), characters, whole
        self._words: dict[str, list[int]] = {}
        self._made: Callable[[bytes], np.ndarray] | None = None
        self._seen = 0  # characters

    def __getstate__(self) -> dict:
        # Native code stays in its process; elsewhere it is made again.
        return self.__dict__ | {"_words": {}, "_made": None}

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """What a token stands for."""

    def cut(self, text: str) -> np.ndarray:
        """The ids of a text's tokens, word by word."""
        return self._cut(text, "strict")

    def _encode_plain(self, text: str) -> np.ndarray:
        # What every text goes through: a call less is a tenth of a short one's time.
        if self._made is None or not 0 < len(text) <= LONGEST_PART:
            return super()._encode_plain(text)
        try:
            return self._made(self._prepared(text, True).encode())
        except UnicodeEncodeError as error:
            raise no_unicode(text, error) from None

    def border(self, text: str) -> int:
        """Before white space, unless the words can go on there."""
        return last_border(text, self._kind)

    def _cut(self, text: str, errors: str) -> np.ndarray:
        """The ids of a text.

        Args:
            text: any text; with "surrogateescape" half surrogate pairs stand for bytes that are no
                UTF-8.
            errors: as of `str.encode`.
        """
        self._seen += len(text)
        found: list[np.ndarray] = []
        while len(text) > LONGEST_PART and (at := self.border(text[:LONGEST_PART])):
            found.append(self._cut(text[:at], errors))
            text = text[at:]
        try:
            data = text.encode("utf-8", errors)
        except UnicodeEncodeError as error:
            raise no_unicode(text, error) from None
        if self._seen < NATIVE_FROM or not _has_llvm():
            rest = np.array(self._defined(text), np.int64)
        else:
            rest = self._native(data)
        return np.concatenate([*found, rest]) if found else rest

    @property
    def _native(self) -> Callable[[bytes], np.ndarray]:
        """Encodes UTF-8 as `_defined` does, in native code."""
        if self._made is None:
            # Imported here: short texts need no LLVM.
            from tinytorch.text.native_merges import NativeMerges

            whole = None
            if self._whole is not None:
                made = ((merged([self._byte_ids[b] for b in w], self._ranks), token)
                        for w, token in self._whole.items())  # fmt: skip
                whole = {tuple(ids): token for ids, token in made if ids != [token]}
            self._made = NativeMerges(
                self._kind, self._byte_ids, self._ranks, self._characters, whole
            )
        return self._made

    def _defined(self, text: str) -> list[int]:
        """The ids of a text by definition, in Python."""
        words = self._words
        ids: list[int] = []
        for word in split(text, self._kind):
            known = words.get(word)
            if known is None:
                known = self._merged(word)
                if len(words) >= KEPT:
                    words.clear()
                if len(word) <= 64:  # longer ones hardly come twice
                    words[word] = known
            ids += known
        return ids

    def _merged(self, word: str) -> list[int]:
        """What a word becomes."""
        if self._whole is not None:
            token = self._whole.get(word.encode("utf-8", "surrogateescape"))
            if token is not None:
                return [token]
        return merged(self._symbols(word), self._ranks)

    def _symbols(self, word: str) -> list[int]:
        """What a word is before merging."""
        known, out = self._characters or {}, []
        for character in word if known else [word]:
            id = known.get(ord(character)) if known else None
            data = b"" if id is not None else character.encode("utf-8", "surrogateescape")
            out += [self._byte_ids[b] for b in data] if id is None else [id]
        return out


@cache
def _has_llvm() -> bool:
    return importlib.util.find_spec("llvmlite") is not None
