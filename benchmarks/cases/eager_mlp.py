"""The step of `mlp`, eager on both sides, PyTorch in its default layout."""

from __future__ import annotations

from benchmarks.cases import Side, mlp

TITLE = "eager training step, MLP 784-256-128-10, batch 64, AdamW"
inputs, tolerance, work = mlp.inputs, mlp.tolerance, mlp.work
peer = mlp.peer


def settings() -> list[dict]:
    """float32."""
    return [{"name": "eager mlp float32", "precision": "float32"}]


def ours(setting: dict, arrays: dict) -> Side:
    """Operation by operation, in NumPy."""
    return mlp.ours(setting, arrays, compiled=False)


def variants(setting: dict) -> list[str]:
    """As a newcomer writes it."""
    return ["eager"]
