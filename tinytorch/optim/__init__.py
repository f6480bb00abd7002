"""Optimizers: how a weight moves."""

from tinytorch.optim.adam import Adam
from tinytorch.optim.adamw import AdamW
from tinytorch.optim.clipping import clip_grad_norm_
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.sgd import SGD

__all__ = ["Adam", "AdamW", "Optimizer", "SGD", "clip_grad_norm_"]
