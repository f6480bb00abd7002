"""Sequences of different lengths as one array, and the mask of what is real in it.

Knows token ids, never texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError


class TokenBatch(NamedTuple):
    """Rows of token ids, and where they are real.

    Args:
        ids: (B, T) int64.
        mask: (B, T) bool, True for a token of the text and False for filling.
    """

    ids: np.ndarray
    mask: np.ndarray


def pad(
    sequences: Sequence, length: int | None = None, pad_id: int = 0, side: str = "right"
) -> TokenBatch:
    """Fill short sequences and cut long ones, so that all of them have one length.

    Args:
        sequences: B sequences of token ids, each of any length.
        length: T >= 1; None for that of the longest sequence.
        pad_id: what short sequences are filled with, default 0.
        side: where is filled and cut: "right", or "left", which keeps the end of a prompt
            where generation goes on.

    Returns:
        ids (B, T) int64 and mask (B, T) bool.

    Raises:
        SettingError: a setting outside its range.

    Cost: 9 B T bytes.

    Differs from PyTorch's `pad_sequence`: batch first, cuts too, and returns the mask.

    Example:
        >>> ids, mask = pad([[1, 2, 3], [4]], pad_id=9)
        >>> ids, mask.sum(1)
        (array([[1, 2, 3], [4, 9, 9]]), array([3, 1]))
    """
    if side not in ("right", "left"):
        raise SettingError(
            "pad: side is neither left nor right",
            got=f"side={side!r}",
            rule="'right' or 'left'",
            fix="pad(..., side='right')",
        )
    if length is None:
        length = max(map(len, sequences), default=0)
    else:
        length = whole("pad", "length", length, at_least=1)
    ids = np.full((len(sequences), length), pad_id, np.int64)
    mask = np.zeros(ids.shape, bool)
    for row, sequence in enumerate(sequences):
        n = min(len(sequence), length)
        to = slice(0, n) if side == "right" else slice(length - n, length)
        kept = sequence[:n] if side == "right" else sequence[len(sequence) - n :]
        ids[row, to], mask[row, to] = kept, True
    return TokenBatch(ids, mask)
