"""Byte-pair merges: which to learn from a text, and how they are applied to a word.

Knows numbers of tokens and pairs of them, never texts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise

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
