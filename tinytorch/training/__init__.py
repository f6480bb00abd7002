"""How a model is trained, measured and saved."""

from tinytorch.training.checkpoint import load_checkpoint, save_checkpoint
from tinytorch.training.checkpoints import Checkpoints
from tinytorch.training.history import History
from tinytorch.training.metrics import accuracy
from tinytorch.training.restore import gather, restore
from tinytorch.training.trainer import Trainer
from tinytorch.training.weights import load_weights, save_weights

__all__ = [
    "Checkpoints",
    "History",
    "Trainer",
    "accuracy",
    "gather",
    "load_checkpoint",
    "load_weights",
    "restore",
    "save_checkpoint",
    "save_weights",
]
