"""A token for each frequent sequence of bytes: byte-pair encoding, as in GPT-2.

Four parts in this order: GPT-2's rule for cutting a text into words and its spelling of bytes as
characters; the merges, how they are learned from words and applied to one; the tokenizer; GPT-2's
own vocabulary, from the two files that OpenAI published.

Knows bytes, merges and those two files, never what a text is for.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.base import files
from tinytorch.base.arguments import whole
from tinytorch.base.errors import DataError, FileFormatError, SettingError, short
from tinytorch.data import official
from tinytorch.text.tokenizer import Tokenizer
from tinytorch.text.vocabulary import LONGEST, Vocabulary, read_lists, read_object, write_lists

# --- words of a text, and bytes as characters ---

# Unicode's White_Space. Python's own \s also takes the four separators U+001C..U+001F.
SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _spelling() -> str:
    """GPT-2's order of the bytes: first those with a printable Latin-1 character, then the rest."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    return "".join(map(chr, shown))


# Note [bytes are spelled with printable characters]
# A vocabulary file is text, a token any bytes. GPT-2 writes a byte as the Latin-1 character of that
# number where that can be seen, and the 68 others as the characters from U+0100 on: a blank is "Ġ".
# Source: Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py, bytes_to_unicode.
_SHOWN = _spelling()
_HIDDEN = [b for b in range(256) if chr(b) not in _SHOWN]
LETTER = {**{ord(c): c for c in _SHOWN}, **{b: chr(256 + i) for i, b in enumerate(_HIDDEN)}}
BYTE = {letter: byte for byte, letter in LETTER.items()}


def spelled(data: bytes) -> str:
    """Bytes in GPT-2's letters.

    >>> spelled(b" to be\\n")
    'ĠtoĠbeĊ'
    """
    return "".join([LETTER[b] for b in data])


def unspelled(token: str) -> bytes:
    """The bytes that were spelled so; KeyError for a character that spells none."""
    return bytes([BYTE[c] for c in token])


def split(text: str) -> list[str]:
    """Words with the blank before them, runs of digits, of other signs, and of white space.

    Joined they are the text again.

    Source: Radford et al. 2019, github.com/openai/gpt-2, src/encoder.py. Its pattern asks the
    library `regex` for the classes letter, number and white space; here they are made from Python's
    own Unicode tables.

    >>> split("I've 2 cats,  no?")
    ['I', "'ve", ' 2', ' cats', ',', ' ', ' no', '?']
    """
    rule = _rule("a-zA-Z", "0-9") if text.isascii() else _rule(_class("L"), _class("N"))
    return rule.findall(text)


@cache
def _rule(letters: str, numbers: str) -> re.Pattern[str]:
    """The pattern, given what letters and numbers are; for ASCII it is twice as fast."""
    endings = "'(?:[sdmt]|re|ve|ll)"
    other = f"[^{SPACES}{letters}{numbers}]+"
    # White space before a word leaves its last blank to the word.
    blank = f"[{SPACES}]+(?![^{SPACES}])|[{SPACES}]+"
    return re.compile(f"{endings}| ?[{letters}]+| ?[{numbers}]+| ?{other}|{blank}")


@cache
def _class(category: str) -> str:
    """All characters whose general category begins with a letter, as ranges of a pattern."""
    points = range(sys.maxunicode + 1)
    runs = groupby(points, key=lambda point: unicodedata.category(chr(point))[0] == category)
    ranges = [list(run) for inside, run in runs if inside]
    return "".join(f"{chr(r[0])}-{chr(r[-1])}" for r in ranges)


# --- merges: numbers of tokens and pairs of them ---

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


# --- the tokenizer ---

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
        words = self._words
        ids: list[int] = []
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
        state = read_lists(path, KIND, ("tokens", "specials", "merges"))
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


# --- GPT-2's own vocabulary ---

PART = "gpt2-bpe"
TOKENS, MERGES = "encoder.json", "vocab.bpe"


def load_gpt2_tokenizer(folder: str | os.PathLike[str] | None = None) -> BytePairTokenizer:
    """GPT-2's tokenizer: 50,257 tokens, of which "<|endoftext|>" is special.

    Any other vocabulary in the same two files is read too.

    Args:
        folder: where `encoder.json` and `vocab.bpe` are. None: in TINYTORCH_DATA or the user's
            cache, there or in the subfolder "gpt2-bpe".

    Raises:
        DataError: a file is missing.
        FileFormatError: a file holds something else.
        SettingError: the two files do not belong together.

    Source: Radford et al. 2019, https://openaipublic.blob.core.windows.net/gpt-2/models/124M/.
    """
    encoder, merges = _found(TOKENS, folder), _found(MERGES, folder)
    ids = read_object(encoder)
    tokens = sorted(ids, key=lambda token: short(ids[token]).zfill(9))  # ids may be no numbers yet
    numbers = [ids[token] for token in tokens]
    if numbers != list(range(len(tokens))) or any(type(n) is not int for n in numbers):
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


def _found(name: str, folder: str | os.PathLike[str] | None) -> Path:
    """Where a file is."""
    looked = official.folders(folder)
    path = official.find(name, PART, looked)
    if path is None:
        raise DataError(
            f"{name} of GPT-2's vocabulary is not there",
            got=f"looked in {', '.join(map(str, looked))}",
            rule=f"{TOKENS} and {MERGES} in one of these folders, or in its subfolder {PART}",
            fix="fetch both from https://openaipublic.blob.core.windows.net/gpt-2/models/124M/",
        )
    return path
