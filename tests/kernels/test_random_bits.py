"""Philox 4x32-10 in native code. Ground truth: the paper's known answer, its rounds in Python."""

import numpy as np
import pytest

from tests.kernels.lowered_runner import VECTOR_TARGETS, run_kernel
from tinytorch.kernels.random_bits import BLOCKS_PER_TILE, random_bits

MASK = 0xFFFFFFFF
WIDEST = next(iter(VECTOR_TARGETS))


def philox(key, counter):
    """The four words of one block, as section 3 of the paper defines them."""
    c = [counter & MASK, counter >> 32, 0, 0]
    k = list(key)
    for _ in range(10):
        first, second = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [second >> 32 ^ c[1] ^ k[0], second & MASK, first >> 32 ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def bits(target, n, key=(0, 0), counter=0, threads=(1,)):
    state = np.array([*key, counter & MASK, counter >> 32], np.uint32)
    out, new = np.full(n + 1, 77, np.uint32), np.zeros(4, np.uint32)
    buffers = {"state": state, "bits": out, "new": new}
    run_kernel(VECTOR_TARGETS[target], random_bits(VECTOR_TARGETS[target], n), buffers, threads)
    assert out[n] == 77
    return out[:n], new


def test_the_known_answer():
    """Ground truth: Random123's kat_vectors, philox4x32 10, all zero."""
    assert philox((0, 0), 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("target", VECTOR_TARGETS)
@pytest.mark.parametrize("n", [1, 4, 7, 130])
@pytest.mark.parametrize("counter", [0, 5, 2**32 - 3, 2**63])
def test_words_of_blocks(target, n, counter):
    """Ground truth: `philox`; element i is word i // nb of block i % nb, the state moves by nb."""
    key, blocks = (0x12345678, 0x9ABCDEF0), -(-n // 4)
    got, new = bits(target, n, key, counter)
    words = [philox(key, (counter + i % blocks) % 2**64)[i // blocks] for i in range(n)]
    assert got.tolist() == words
    after = (counter + blocks) % 2**64
    assert new.tolist() == [*key, after & MASK, after >> 32]


def test_several_tiles_by_any_team():
    """Invariant: the same bits; ground truth at the tiles' ends: `philox`."""
    n = 4 * (BLOCKS_PER_TILE + 9)
    runs = [bits(WIDEST, n, (1, 2), 3, (threads,))[0] for threads in (1, 2, 3)]
    assert all((run == runs[0]).all() for run in runs[1:])
    for block in (0, BLOCKS_PER_TILE - 1, BLOCKS_PER_TILE, BLOCKS_PER_TILE + 8):
        assert runs[0][block :: n // 4].tolist() == philox((1, 2), 3 + block)


def test_no_numbers():
    """Closed form: nothing is written, the state stays."""
    got, new = bits(WIDEST, 0, (1, 2), 3)
    assert not len(got) and new.tolist() == [1, 2, 3, 0]
