"""From tables of tokens to native encoding: the arrays that merge_kernel.py reads, and its code.

The code is compiled once for each kind of tokenizer and kept in the cache of programs. Knows
numbers of tokens and bytes, never texts or vocabularies.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache

import numpy as np

from tinytorch.base.errors import CompileError
from tinytorch.text import merge_kernel
from tinytorch.text.flow import Fields
from tinytorch.text.merge_kernel import CHARACTER, END, ENTRY, NODE, NONE, PADDING, SLACK
from tinytorch.text.words import Words, classes

KEPT_BITS = 15  # 2^15 words, 2 MiB: all of Shakespeare has 15,000 (measured: 14 to 17 are alike)
FIRST_CAPACITY = 1 << 10  # symbols of a word for which there is memory from the beginning
SHORT_TEXT = 1 << 12  # bytes of a text whose ids need no new memory
FULL = 0.5  # how full a table of pairs is at most

Pair = tuple[int, int]

_ZEROS = bytes(PADDING)


@cache
def _function(words: Words, by_characters: bool, whole_words: bool) -> Callable[..., int]:
    """The compiled code of one kind of tokenizer; from the cache of programs if it is there."""
    from tinytorch.codegen import cache as programs
    from tinytorch.codegen import engine
    from tinytorch.codegen.target import Target

    target, folder = Target.host(), programs.open_cache()
    text = merge_kernel.module_text(words, by_characters, whole_words)
    key = programs.program_key(target.key, text)
    saved = folder.get(key) if folder is not None else None
    library = None
    if saved is not None:
        with suppress(CompileError):  # another writer put it there: it is compiled again
            library = engine.load(saved[0], [merge_kernel.NAME])
    if library is None:
        image = engine.compile_text(text, target)
        if folder is not None:
            folder.put(key, [image], {})
        library = engine.load([image], [merge_kernel.NAME])
    library.keep()
    number = ctypes.c_int64
    kind = ctypes.CFUNCTYPE(number, ctypes.c_char_p, number, ctypes.c_void_p)
    return kind(library[merge_kernel.NAME])


class _Work:
    """What one call writes: the words it has seen, memory for one word, the fields, a short text's
    ids. Addresses are asked for once: NumPy takes a microsecond for each."""

    def __init__(self, fields: np.ndarray):
        self.fields = fields.copy()
        self.kept = np.zeros((1 << KEPT_BITS) * ENTRY + ENTRY, np.uint8)
        start = self.kept.ctypes.data
        self.fields[Fields.KEPT] = start + -start % ENTRY  # on cache lines
        self.fields[Fields.KEPT_SHIFT] = 64 - KEPT_BITS
        self.out = np.empty(SHORT_TEXT + SLACK, np.int32)
        self.fields[Fields.OUT] = self.out.ctypes.data
        self.address = self.fields.ctypes.data
        self.grow(FIRST_CAPACITY)

    def grow(self, symbols: int) -> None:
        """Make room for a word of so many symbols."""
        self.memory = np.empty(merge_kernel.work_bytes(symbols), np.uint8)
        self.fields[Fields.WORK] = self.memory.ctypes.data
        self.fields[Fields.CAPACITY] = self.capacity = symbols


class NativeMerges:
    """Merges as native code: bytes of a text to ids.

    Args:
        words: how a text is cut into words, as in merge_kernel.py.
        byte_ids: the token of each byte.
        ranks: for a pair of tokens its rank and the token it becomes.
        characters: where words are not made of bytes: the token of each code point that has one.
        whole: the token that a word is where merges would make these tokens of it; None: no such.

    Cost: 12 bytes a place of a table at most half full; compiling takes 0.1 s, once.
    """

    def __init__(
        self, words: Words, byte_ids: Sequence[int], ranks: Mapping[Pair, tuple[int, int]],
        characters: Mapping[int, int] | None = None,
        whole: Mapping[tuple[int, ...], int] | None = None,
    ):  # fmt: skip
        self._encode = _function(words, characters is not None, whole is not None)
        pairs = np.array(list(ranks), np.int64).reshape(-1, 2)
        found = np.array(list(ranks.values()), np.int64).reshape(-1, 2)
        letters = np.array(list((characters or {}).items()), np.int64).reshape(-1, 2)
        of_characters = (CHARACTER << 32) - (1 << 64) | letters[:, 0]
        ways = _ways(whole or {})
        keys = np.concatenate([pairs[:, 0] << 32 | pairs[:, 1], of_characters, ways[0]])
        values = np.concatenate([found[:, 0] << 32 | found[:, 1], letters[:, 1], ways[1]])
        bits = max(4, int(len(keys) / FULL).bit_length())
        places = _places(keys, bits)
        self._tables = (
            classes() if words not in ("blanks", "whole") else np.zeros(1, np.uint8),
            np.array(byte_ids, np.int32),
            np.full(1 << bits, NONE, np.int64),
            np.full(1 << bits, NONE, np.int64),
        )
        self._tables[2][places], self._tables[3][places] = keys, values
        self._fields = np.zeros(len(Fields), np.int64)
        self._fields[: len(self._tables)] = [table.ctypes.data for table in self._tables]
        self._fields[Fields.PAIR_SHIFT] = 64 - bits
        self._fields[Fields.PAIR_MASK] = (1 << bits) - 1
        self._idle: list[_Work] = []  # taken out while a thread uses one: a call has its own

    def __call__(self, data: bytes) -> np.ndarray:
        """The ids of a text's bytes, (T,) int64.

        Cost: about 10 ns a word that was seen lately, 10 ns a byte of others; 5 bytes a byte.
        """
        try:
            work = self._idle.pop()
        except IndexError:
            work = _Work(self._fields)
        n, out = len(data), work.out
        if n > SHORT_TEXT:
            out = np.empty(n + SLACK, np.int32)
            work.fields[Fields.OUT] = out.ctypes.data
        padded = data + _ZEROS
        while (count := self._encode(padded, n, work.address)) < 0:
            work.grow(-count)
        found = out[:count].astype(np.int64)
        if out is not work.out:
            work.fields[Fields.OUT] = work.out.ctypes.data
            if work.capacity > FIRST_CAPACITY:
                work.grow(FIRST_CAPACITY)
        self._idle.append(work)
        return found


def _ways(tokens: Mapping[tuple[int, ...], int]) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of the ways to tokens: Note [words that are tokens] in merge_kernel.py."""
    found: dict[int, int] = {}
    nodes = 1
    for ids, token in tokens.items():
        node = NODE
        for id in ids:
            step = found.setdefault(node << 32 | id, NODE + nodes)
            nodes += step == NODE + nodes
            node = step
        found[node << 32 | END] = token
    keys = np.array(list(found), np.uint64).view(np.int64)
    return keys, np.array(list(found.values()), np.int64)


def _places(keys: np.ndarray, bits: int) -> np.ndarray:
    """Where each key lies in a table of 2^bits places: behind its own one, where that is taken."""
    mixed = keys.astype(np.uint64) * np.uint64(merge_kernel.MIXERS[0])
    places = (mixed >> np.uint64(64 - bits)).astype(np.int64)
    taken = np.zeros(1 << bits, bool)
    left = np.arange(len(keys))
    while len(left):
        free = left[~taken[places[left]]]
        _, first = np.unique(places[free], return_index=True)
        placed = free[first]
        taken[places[placed]] = True
        left = np.setdiff1d(left, placed, assume_unique=True)
        places[left] = (places[left] + 1) & ((1 << bits) - 1)
    return places
