"""Philox 4x32-10 against its authors' vectors, and the order in which its words are handed out."""

import numpy as np
import pytest

from tinytorch.primitives import random_bits
from tinytorch.primitives.creation import philox

# Random123 1.14, tests/kat_vectors, lines "philox4x32 10": counter, key, result
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> np.ndarray:
    return np.array([int(w, 16) for w in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter, key, result):
    """Ground truth: the known-answer vectors of the authors' library Random123."""
    found = philox(words(counter)[:, None], words(key))
    np.testing.assert_array_equal(found[:, 0], words(result))


def test_state_zero_gives_the_first_vector():
    """Ground truth: the first vector; four words are one block."""
    bits, after = random_bits(np.zeros(4, np.uint32), shape=(4,))
    np.testing.assert_array_equal(bits, words(KNOWN[0][2]))
    np.testing.assert_array_equal(after, [0, 0, 1, 0])


def test_stream_goes_on_where_it_stopped():
    """Invariant: word j of the blocks is the same, however many blocks are asked for at once."""
    state = np.array([5, 6, 0xFFFFFFFF, 7], np.uint32)  # the low word overflows inside
    together, end = random_bits(state, shape=(4, 6))
    first, middle = random_bits(state, shape=(4, 2))
    second, last = random_bits(middle, shape=(4, 4))
    np.testing.assert_array_equal(together, np.concatenate([first, second], axis=1))
    np.testing.assert_array_equal(end, last)


def test_bits_are_balanced():
    """Closed form: the share of ones in n fair bits is 1/2 within 5 / (2 sqrt(n)), 5 deviations."""
    bits, _ = random_bits(np.array([1, 0, 0, 0], np.uint32), shape=(20000,))
    share = np.unpackbits(bits.view(np.uint8)).mean()
    assert abs(share - 0.5) < 2.5 / np.sqrt(32 * 20000)
