"""Low rank and few numbers: a weight as a product of two, or as a choice among clusters.

Knows singular values and clusters; how layers compute with them is in `nn/weight_forms`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import SettingError
from tinytorch.compression.replaced import numbers_of, replaced
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.weight_forms import FactoredWeight, SharedWeight
from tinytorch.tensor.tensor import Tensor

ROUNDS = 100  # of k-means; it ends when nothing moves, after 10 to 60 as a rule


def factorize(
    model: Module, rank: int | None = None, *, energy: float | None = None,
    skip: str | Iterable[str] = (),
) -> Module:  # fmt: skip
    """A copy of a model whose weights are products of two of low rank, where that is smaller.

    A linear layer becomes two, a convolution one with few filters and a 1x1 convolution behind it;
    projections of attention and embeddings too. Of a weight (N, ...), seen as N rows, the largest
    singular values are kept:

        |W - left @ right|^2 = sum of the squares of those that are not

    Args:
        model: any module with float weights.
        rank: how many are kept, at least 1; or
        energy: so many that their squares are at least this part of the sum, in (0, 1].
        skip: dotted names of parts that stay as they are.

    Returns:
        the copy, in the mode of the model; it can be trained on (its parameters are new).

    Raises:
        SettingError: not exactly one of rank and energy, one outside its range, no such part; no
            weight gets smaller.

    Cost: a singular value decomposition of each weight: N K min(N, K) operations, about ten times.

    Source: Eckart, Young 1936 (no product of that rank is nearer); Denton et al. 2014,
    https://arxiv.org/abs/1404.0736.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> small = compression.factorize(nn.MLP([64, 64, 10]), 8)
        >>> small.layers[0].weight, small(tt.zeros(2, 64)).shape
        (FactoredWeight((64, 64), rank=8), (2, 10))
    """
    if (rank is None) == (energy is None):
        raise SettingError(
            "factorize: how much is kept?",
            got=f"rank={rank!r}, energy={energy!r}",
            rule="one of the two",
            fix="factorize(model, energy=0.9)",
        )
    if rank is not None:
        whole("factorize", "rank", rank, at_least=1)
    if energy is not None:
        number("factorize", "energy", energy, "(0, 1]")

    def make(name: str, layer: Module, weight: Any) -> FactoredWeight | None:
        grouped = getattr(layer, "groups", 1) > 1
        if not isinstance(weight, Parameter) or len(weight.shape) < 2 or grouped:
            return None
        left, right = _factors(numbers_of(weight), rank, energy)
        if left.size + right.size >= weight.size:
            return None
        parts = [Tensor(x).astype(weight.dtype) for x in (left, right)]
        return FactoredWeight(*parts)

    return replaced("factorize", model, make, skip)


def _factors(
    array: np.ndarray, rank: int | None, energy: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, R) and (R, ...), both of the same size: a root of each singular value in either."""
    flat = array.reshape(len(array), -1).astype(np.float64)
    u, s, v = np.linalg.svd(flat, full_matrices=False)
    if rank is None:
        rising = np.cumsum(s * s)
        enough = (energy or 0.0) * rising[-1] * (1 - 1e-12)
        rank = int(np.searchsorted(rising, enough)) + 1
    r = min(rank, len(s))
    root = np.sqrt(s[:r])
    left, right = u[:, :r] * root, v[:r] * root[:, None]
    return left.astype(np.float32), right.reshape(r, *array.shape[1:]).astype(np.float32)


def share_weights(model: Module, clusters: int = 16, *, skip: str | Iterable[str] = ()) -> Module:
    """A copy of a model in whose weights only so many different numbers are left, each its own.

    The numbers are the means of clusters (k-means). A place then takes 1, 2, 4 or 8 bits. Zeros of
    a pruned weight stay zeros: one of the numbers is 0 where there are any.

    Args:
        model: any module with float weights.
        clusters: different numbers of a weight, in 2 to 256; default 16: 4 bits.
        skip: dotted names of parts that stay as they are.

    Returns:
        the copy, in the mode of the model. The numbers are Parameters: training moves all places of
        one together.

    Raises:
        SettingError: clusters outside their range, no such part, no weight gets smaller.

    Cost: at most 100 passes over the sorted weight.

    Source: Han et al. 2016, https://arxiv.org/abs/1510.00149, section 3, with numbers spread evenly
    from the smallest weight to the largest at first (3.2).

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> small = compression.share_weights(nn.Linear(64, 64), 16)
        >>> small.weight, small(tt.zeros(2, 64)).shape
        (SharedWeight((64, 64), numbers=16), (2, 64))
    """
    count = whole("share_weights", "clusters", clusters, at_least=2)
    if count > 256:
        raise SettingError(
            "share_weights: a number of a cluster takes more than a byte",
            got=f"clusters={clusters}",
            rule="2 to 256",
            fix="clusters=256",
        )

    def make(name: str, layer: Module, weight: Any) -> SharedWeight | None:
        array = numbers_of(weight)
        if not array.size:
            return None
        codebook, codes = clustered(array, count)
        form = SharedWeight(Tensor(codebook).astype(weight.dtype), codes)
        return form if form.nbytes < getattr(weight, "nbytes", 4 * weight.size) else None

    return replaced("share_weights", model, make, skip)


def clustered(array: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The means of clusters, and for each place which is its own.

    Args:
        array: floats of any shape.
        clusters: at most so many; one is exactly 0 where there are zeros.

    Returns:
        (K,) float32, rising, and codes in the array's shape.

    Example:
        >>> codebook, codes = clustered(np.array([1.0, 1.5, 4.0, 0.0]), 3)
        >>> codebook.tolist(), codes.tolist()
        ([0.0, 1.25, 4.0], [1, 1, 2, 0])
    """
    flat = array.ravel().astype(np.float64)
    some_zero = bool((flat == 0).any())
    means = _means(np.sort(flat[flat != 0]), clusters - some_zero)
    means = np.sort(np.append(means, 0.0)) if some_zero else means
    codes = np.searchsorted((means[1:] + means[:-1]) / 2, flat)
    if some_zero:
        codes[flat == 0] = np.searchsorted(means, 0.0)
    return means.astype(np.float32), codes.reshape(array.shape)


def _means(rising: np.ndarray, clusters: int) -> np.ndarray:
    """k-means of numbers that rise: clusters are runs of them."""
    if not len(rising):
        return np.zeros(0)
    distinct = np.unique(rising)
    if len(distinct) <= clusters:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(rising)])
    means = np.linspace(rising[0], rising[-1], clusters)
    for _ in range(ROUNDS):
        edges = np.searchsorted(rising, (means[1:] + means[:-1]) / 2, side="right")
        ends = np.concatenate([[0], edges, [len(rising)]])
        counts = np.diff(ends)
        new = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), means)
        if np.array_equal(new, means):
            break
        means = np.sort(new)
    return means
