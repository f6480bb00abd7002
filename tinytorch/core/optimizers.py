"""Chapter "optimizers": how a weight moves, and how its step size changes."""

from tinytorch.optim import (
    SGD,
    Adam,
    AdamW,
    CosineAnnealingLR,
    Lion,
    Muon,
    RMSprop,
    StepLR,
    clip_grad_norm_,
    clip_grad_value_,
)

__all__ = [
    "Adam", "AdamW", "CosineAnnealingLR", "Lion", "Muon", "RMSprop", "SGD", "StepLR",
    "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
