"""Rotary positions of models that read longer texts than they were first trained on.

Knows waves, their lengths and formulas, never files.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinytorch.base.arguments import flag, number, whole

Stretched = tuple[tuple[float, ...], float]  # factors, and the scale of what is turned


class Rotary(NamedTuple):
    """Settings of rotary positions, by their names in `GPTConfig` without "rotary_"."""

    base: float
    factors: tuple[float, ...] | None = None
    scale: float = 1.0


def llama3_factors(
    head_size: int, base: float = 500000.0, factor: float = 8.0, low: float = 1.0,
    high: float = 4.0, length: int = 8192,
) -> tuple[float, ...]:  # fmt: skip
    """How much longer the rotary waves of Llama 3.1 and later are: `GPTConfig.rotary_factors`.

    Waves that are short beside the texts of the first training stay (1), long ones become `factor`
    times as long, and those between a part of it.

    Args:
        head_size: D, features of a head; even.
        base: of the rotary positions.
        factor: of the long waves, > 0; default 8 (Llama 3.2: 32).
        low: waves longer than length / low are long ones, > 0; default 1.
        high: waves shorter than length / high stay, > low; default 4.
        length: of the first training's texts; default 8192.

    Returns:
        D / 2 numbers.

    Source: `_compute_llama3_parameters` of transformers' modeling_rope_utils.py, which is Meta's
    `apply_scaling` in https://github.com/meta-llama/llama-models.

    Example:
        >>> [round(x, 2) for x in llama3_factors(16)]
        [1.0, 1.0, 1.0, 1.0, 2.69, 8.0, 8.0, 8.0]
    """
    owner = "llama3_factors"
    size = whole(owner, "head_size", head_size, at_least=2)
    for name, value in (("base", base), ("factor", factor), ("low", low), ("length", length)):
        number(owner, name, value, "(0, inf)")
    number(owner, "high", high, f"({low}, inf)")
    waves = 2 * np.pi * base ** (np.arange(0, size, 2) / size)
    kept = np.clip((length / waves - low) / (high - low), 0.0, 1.0)  # 1 of short waves, 0 of long
    return tuple((1.0 / (kept + (1.0 - kept) / factor)).tolist())


def yarn_factors(
    head_size: int, base: float = 10000.0, factor: float = 4.0, fast: float = 32.0,
    slow: float = 1.0, length: int = 2048, whole_pairs: bool = True,
) -> tuple[float, ...]:  # fmt: skip
    """How much longer YaRN makes rotary waves: `GPTConfig.rotary_factors`.

    Waves that turn often within a text of the first training stay (1), those that hardly turn
    become `factor` times as long, and between the two the mean of both frequencies goes from one
    to the other, pair by pair.

    Args:
        head_size: D, features of a head; even.
        base: of the rotary positions, > 1.
        factor: of the long waves, > 0; default 4.
        fast: turns within `length` from which on a wave stays, > 0; default 32.
        slow: turns up to which it becomes `factor` times as long, > 0; default 1.
        length: of the first training's texts; default 2048.
        whole_pairs: whether the two borders are rounded outwards to pairs; default True.

    Returns:
        D / 2 numbers.

    Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.2, and
    `_compute_yarn_parameters` of transformers' modeling_rope_utils.py.

    Example:
        >>> [round(x, 2) for x in yarn_factors(16, length=64)]
        [1.0, 1.33, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    """
    owner = "yarn_factors"
    size = whole(owner, "head_size", head_size, at_least=2)
    number(owner, "base", base, "(1, inf)")
    for name, value in (("factor", factor), ("fast", fast), ("slow", slow), ("length", length)):
        number(owner, name, value, "(0, inf)")
    low, high = (
        size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))
        for turns in (fast, slow)
    )
    if flag(owner, "whole_pairs", whole_pairs):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    kept = 1.0 - np.clip((np.arange(size // 2) - low) / (high - low), 0.0, 1.0)
    return tuple((1.0 / (kept + (1.0 - kept) / factor)).tolist())


def yarn_scale(factor: float, weight: float = 1.0) -> float:
    """How much larger YaRN makes queries and keys: `GPTConfig.rotary_scale`.

    Args:
        factor: how much longer the texts are.
        weight: of its logarithm; default 1.

    Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071, equation 22.

    Example:
        >>> round(yarn_scale(4.0), 4), yarn_scale(0.5)
        (1.1386, 1.0)
    """
    return 1.0 if factor <= 1.0 else 0.1 * weight * math.log(factor) + 1.0
