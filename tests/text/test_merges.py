"""Merges: how they are learned from words, and applied to one."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.text.merges import learn, merged

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 9), max_size=8)


def slow_learn(words: dict, merges: int) -> list:
    """Count everything anew for each merge (Sennrich et al. 2016, algorithm 1)."""
    order = [bytes([b]) for b in range(256)]
    pieces = {word: [bytes([b]) for b in word] for word in words}
    learned = []
    while len(learned) < merges:
        counts = Counter()
        for word, tokens in pieces.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        left = [(-n, *map(order.index, p)) for p, n in counts.items() if n > 1]
        if not left:
            break
        _, a, b = min(left)
        pair = order[a], order[b]
        learned.append(pair)
        order.append(pair[0] + pair[1])
        pieces = {w: slow_replace(t, pair) for w, t in pieces.items()}
    return learned


def slow_replace(tokens: list, pair: tuple) -> list:
    """Two tokens become one, from left to right."""
    out, at = [], 0
    while at < len(tokens):
        both = tuple(tokens[at : at + 2]) == pair
        out.append(pair[0] + pair[1] if both else tokens[at])
        at += 1 + both
    return out


@settings(deadline=None)
@given(WORDS, st.integers(0, 12))
def test_the_most_frequent_pair_is_learned(words, merges):
    """Ground truth: the algorithm of the paper with all counts made anew for each merge."""
    data = {word.encode(): times for word, times in words.items()}
    pairs = learn(data, merges)
    assert pairs == slow_learn(data, merges)
    assert len({a + b for a, b in pairs}) == len(pairs), "a token twice"


@settings(deadline=None)
@given(WORDS, st.text("abc", max_size=40))
def test_merges_are_applied_in_order(words, text):
    """Ground truth: each merge over the whole word, first to last."""
    pairs = learn({word.encode(): times for word, times in words.items()}, 12)
    tokens = [bytes([b]) for b in range(256)] + [a + b for a, b in pairs]
    ranks = {
        (tokens.index(a), tokens.index(b)): (rank, 256 + rank) for rank, (a, b) in enumerate(pairs)
    }
    expected = [bytes([b]) for b in text.encode()]
    for pair in pairs:
        expected = slow_replace(expected, pair)
    assert [tokens[i] for i in merged(list(text.encode()), ranks)] == expected


def test_one_letter_many_times():
    """Closed form: aa, aaaa, ... halve a run of 2^k letters each; leftmost first for the rest."""
    ranks = {(i, i): (i, i + 1) for i in range(10)}
    assert merged([0] * 1024, ranks) == [10]
    assert merged([0] * 7, ranks) == [2, 1, 0]
    assert merged([], ranks) == [] and merged([5], ranks) == [5]
