"""The step of `cnn`, eager on both sides, PyTorch in its default layout."""

from __future__ import annotations

from benchmarks.cases import Side, cnn

TITLE = (
    "eager training step, CNN of 4 convolutions 3x3 (32-32-64-64) with batch norm, batch 64, AdamW"
)
inputs, tolerance, work = cnn.inputs, cnn.tolerance, cnn.work
peer = cnn.peer


def settings() -> list[dict]:
    """float32."""
    return [{"name": "eager cnn float32", "precision": "float32"}]


def ours(setting: dict, arrays: dict) -> Side:
    """Operation by operation, in NumPy."""
    return cnn.ours(setting, arrays, compiled=False)


def variants(setting: dict) -> list[str]:
    """As a newcomer writes it."""
    return ["eager"]
