"""How a model is trained, measured and saved."""

from tinytorch.training.history import History
from tinytorch.training.metrics import accuracy
from tinytorch.training.trainer import Trainer
from tinytorch.training.weights import load_weights, save_weights

__all__ = ["History", "Trainer", "accuracy", "load_weights", "save_weights"]
