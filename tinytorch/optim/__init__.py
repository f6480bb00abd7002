"""Optimizers, learning-rate schedules, clipping, penalties: how a weight moves."""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.optim.adam import Adam, AdamW
from tinytorch.optim.group import Group
from tinytorch.optim.lion import Lion
from tinytorch.optim.muon import Muon
from tinytorch.optim.norms import (
    clip_grad_norm_,
    clip_grad_value_,
    l1_penalty,
    l2_penalty,
    renorm_,
)
from tinytorch.optim.optimizer import Optimizer, Together
from tinytorch.optim.rmsprop import RMSprop
from tinytorch.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
)
from tinytorch.optim.sgd import SGD

__all__ = [
    "Adam", "AdamW", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts",
    "ExponentialLR", "Group", "LambdaLR", "LinearLR", "Lion", "MultiStepLR", "Muon",
    "OneCycleLR", "Optimizer", "PolynomialLR", "RMSprop", "ReduceLROnPlateau", "SGD",
    "Schedule", "SequentialLR", "StepLR", "Together", "WarmupCosineLR", "clip_grad_norm_",
    "clip_grad_value_", "l1_penalty", "l2_penalty", "renorm_",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("optim", lambda: __all__)
