"""How a model is trained, measured and saved."""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.training.callbacks import Alerts, EarlyStopping, HistoryFile, MemoryWatch
from tinytorch.training.checkpoint import (
    Checkpoints,
    ModelCheckpointer,
    gather,
    load_checkpoint,
    load_weights,
    restore,
    save_checkpoint,
    save_weights,
)
from tinytorch.training.detection import MeanAveragePrecision, average_precision
from tinytorch.training.finders import find_learning_rate, overfit_one_batch
from tinytorch.training.history import History
from tinytorch.training.metrics import (
    ConfusionMatrix,
    Perplexity,
    accuracy,
    mean_absolute_error,
    top_k,
)
from tinytorch.training.shortcuts import OptimizedTrainer, TrainingConfig, train_epoch
from tinytorch.training.trainer import Callback, Trainer
from tinytorch.training.update import EMA, LossScaler
from tinytorch.training.views import mean_over_views

__all__ = [
    "Alerts",
    "Callback",
    "Checkpoints",
    "ConfusionMatrix",
    "EMA",
    "EarlyStopping",
    "History",
    "HistoryFile",
    "LossScaler",
    "ModelCheckpointer",
    "MeanAveragePrecision",
    "MemoryWatch",
    "OptimizedTrainer",
    "Perplexity",
    "Trainer",
    "TrainingConfig",
    "accuracy",
    "average_precision",
    "find_learning_rate",
    "gather",
    "load_checkpoint",
    "load_weights",
    "mean_absolute_error",
    "mean_over_views",
    "overfit_one_batch",
    "restore",
    "save_checkpoint",
    "save_weights",
    "top_k",
    "train_epoch",
]

_explain_all(globals(), __all__)
