"""Random numbers that are decided by what they are for, not by who asked first.

Knows a bit generator and distributions, never images. NumPy fixes the raw words of a bit generator
for ever, but not its distributions (NEP 19); these are made here from the words.
"""

from __future__ import annotations

import math

import numpy as np

from tinytorch.base.arguments import number as check_number

ROUNDS = 10  # of the Feistel network: four are enough for one key (Luby & Rackoff 1988)
ORDER, AUGMENTATION, SPLIT, SCENES = 0, 1, 2, 3  # what a stream is for: streams never share a word


class Stream:
    """A source of random numbers named by (seed, epoch, batch): the same on every machine.

    Philox counts: the words of a name are the encryptions of 0, 1, 2, ... under it (Salmon et al.
    2011, Parallel random numbers: as easy as 1, 2, 3). So a batch made by any worker, in any order,
    before or after a restart, gets the same numbers.

    Args:
        seed: 0 <= seed < 2**64.
        epoch: likewise.
        batch: which batch of the epoch.
        purpose: what the numbers are for; another purpose gives other numbers.

    Cost: about 20 us to make; 4 ns a word.

    Example:
        >>> Stream(seed=7).whole(6, 3).tolist(), Stream(seed=7).whole(6, 3).tolist()
        ([0, 3, 5], [0, 3, 5])
    """

    def __init__(self, seed: int = 0, epoch: int = 0, batch: int = 0, purpose: int = AUGMENTATION):
        self._key = np.array([seed, epoch], np.uint64)
        self._name = (batch, purpose)
        self.go_to(0)

    @property
    def epoch(self) -> int:
        """The number of the pass that it is for."""
        return int(self._key[1])

    def go_to(self, word: int) -> Stream:
        """Go on with this word of the stream, 0 <= word < 2**66; gives itself.

        Cost: that of a new stream, wherever the word is: each four are made from their number.
        """
        # The lowest word of the counter counts on; it is raised before the first four are made.
        counter = np.array([word // 4, *self._name, 0], np.uint64)
        self._philox = np.random.Philox(key=self._key, counter=counter)
        if word % 4:
            self._philox.random_raw(word % 4)
        return self

    def words(self, n: int) -> np.ndarray:
        """n raw words, (n,) uint64."""
        return self._philox.random_raw(n)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """n numbers in [low, high), (n,) float64, from the upper 53 bits of a word each."""
        return low + (high - low) * ((self.words(n) >> np.uint64(11)) * 2.0**-53)

    def whole(self, below: int, n: int) -> np.ndarray:
        """n whole numbers in 0..below-1, (n,) int64, for below < 2**62; each takes one word.

        The upper 32 bits of a word times `below`, divided by 2**32 (Lemire 2019): no number is
        more likely than another by more than below / 2**32. From 2**31 on the upper 63 bits,
        divided by 2**63.
        """
        if below >= 2**31:
            return _part_of(self.words(n) >> np.uint64(1), below)
        return ((self.words(n) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(int)

    def chance(self, probability: float, n: int) -> np.ndarray:
        """n answers, each yes with this probability, (n,) bool."""
        return self.uniform(n) < probability

    def permutation(self, n: int) -> np.ndarray:
        """The numbers 0..n-1 in random order, (n,) int64.

        Sorts raw words; two of them are equal once in about 2**64 / n**2 calls, and then keep
        their order.
        """
        return np.argsort(self.words(n), kind="stable")

    def scattered(self, n: int, start: int, stop: int) -> np.ndarray:
        """Places start..stop-1 of a random order of 0..n-1, (stop - start,) int64; n <= 2**62.

        The whole order is never made: each number is enciphered within the n numbers, so that none
        comes twice (Black & Rogaway 2002, Ciphers with arbitrary finite domains: a Feistel network
        over the next even number of bits, applied again to what falls outside). The keys of its
        rounds are the stream's next words.

        Cost: about 1 us a number.

        Example:
            >>> sorted(Stream(1).scattered(5, 0, 5).tolist())
            [0, 1, 2, 3, 4]
            >>> len(Stream(1).scattered(10**12, 7, 9))
            2
        """
        half = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
        keys, mask = self.words(ROUNDS), (np.uint64(1) << half) - np.uint64(1)
        out = np.arange(start, stop, dtype=np.uint64)
        outside = np.arange(len(out))
        while len(outside):
            left, right = out[outside] >> half, out[outside] & mask
            for key in keys:
                left, right = right, left ^ (mixed(right + key) & mask)
            out[outside] = (left << half) | right
            outside = outside[out[outside] >= np.uint64(n)]
        return out.astype(np.int64)

    def normal(self) -> float:
        """One normal number (Box & Muller 1958)."""
        u, v = self.uniform(2)
        return math.sqrt(-2 * math.log1p(-u)) * math.cos(2 * math.pi * v)

    def gamma(self, shape: float) -> float:
        """One number of the gamma distribution with scale 1 (Marsaglia & Tsang 2000)."""
        check_number("gamma", "shape", shape, "(0, inf)")
        if shape < 1:  # their section 6: a larger shape's number times a power of a uniform one
            return self.gamma(shape + 1) * float(1 - self.uniform(1)[0]) ** (1 / shape)
        d = shape - 1 / 3
        c = 1 / math.sqrt(9 * d)
        while True:
            x = self.normal()
            v = (1 + c * x) ** 3
            u = 1 - float(self.uniform(1)[0])  # in (0, 1]
            if v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return d * v

    def beta(self, a: float, b: float) -> float:
        """One number of the beta distribution: x / (x + y) of two gamma numbers."""
        x, y = self.gamma(a), self.gamma(b)
        return x / (x + y) if x + y > 0 else 0.5  # both under the smallest float: shapes near 0


def _part_of(fraction: np.ndarray, below: int) -> np.ndarray:
    """fraction * below / 2**63, rounded down, of 63-bit fractions and below <= 2**62.

    Both are cut at bit 31: no sum of products is above 2**64.
    """
    cut, ones = np.uint64(31), np.uint64(2**31 - 1)
    high, low = fraction >> cut, fraction & ones
    large, small = np.uint64(below >> 31), np.uint64(below & (2**31 - 1))
    top = high * large
    middle = high * small + low * large + ((low * small) >> cut) + ((top & np.uint64(1)) << cut)
    return ((top >> np.uint64(1)) + (middle >> np.uint64(32))).astype(np.int64)


def mixed(x: np.ndarray) -> np.ndarray:
    """Each number made into one that depends on all its bits (Steele et al. 2014, SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
