"""How a model is trained, measured and saved."""

from tinytorch.training.callback import Callback
from tinytorch.training.checkpoint import load_checkpoint, save_checkpoint
from tinytorch.training.checkpoints import Checkpoints
from tinytorch.training.ema import EMA
from tinytorch.training.history import History
from tinytorch.training.metrics import accuracy
from tinytorch.training.restore import gather, restore
from tinytorch.training.scaler import LossScaler
from tinytorch.training.trainer import Trainer
from tinytorch.training.weights import load_weights, save_weights

__all__ = [
    "Callback",
    "Checkpoints",
    "EMA",
    "History",
    "LossScaler",
    "Trainer",
    "accuracy",
    "gather",
    "load_checkpoint",
    "load_weights",
    "restore",
    "save_checkpoint",
    "save_weights",
]
