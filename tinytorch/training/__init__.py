"""How a model is trained, measured and saved."""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.training.alerts import Alerts
from tinytorch.training.callback import Callback
from tinytorch.training.checkpoint import load_checkpoint, save_checkpoint
from tinytorch.training.checkpoints import Checkpoints
from tinytorch.training.confusion import ConfusionMatrix
from tinytorch.training.early_stopping import EarlyStopping
from tinytorch.training.ema import EMA
from tinytorch.training.history import History
from tinytorch.training.history_file import HistoryFile
from tinytorch.training.memory_watch import MemoryWatch
from tinytorch.training.metrics import Perplexity, accuracy, mean_absolute_error, top_k
from tinytorch.training.model_checkpointer import ModelCheckpointer
from tinytorch.training.optimized_trainer import OptimizedTrainer, TrainingConfig
from tinytorch.training.overfit import overfit_one_batch
from tinytorch.training.rate_finder import find_learning_rate
from tinytorch.training.restore import gather, restore
from tinytorch.training.scaler import LossScaler
from tinytorch.training.train_epoch import train_epoch
from tinytorch.training.trainer import Trainer
from tinytorch.training.weights import load_weights, save_weights

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
    "MemoryWatch",
    "OptimizedTrainer",
    "Perplexity",
    "Trainer",
    "TrainingConfig",
    "accuracy",
    "find_learning_rate",
    "gather",
    "load_checkpoint",
    "load_weights",
    "mean_absolute_error",
    "overfit_one_batch",
    "restore",
    "save_checkpoint",
    "save_weights",
    "top_k",
    "train_epoch",
]

_explain_all(globals(), __all__)
