"""Distillation: a small model learns what a large one thinks of each sample, not the label alone.

Knows two models and the Trainer, never what they are models of: the teacher's answer is computed in
the same program as the student's, in evaluation mode and without a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tinytorch.base.arguments import number
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.nn.functional import cross_entropy, kl_div, log_softmax
from tinytorch.nn.module import Module, evaluating
from tinytorch.optim.adam import AdamW
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.checkpoint import Checkpoints
from tinytorch.training.history import History
from tinytorch.training.metrics import named_metrics
from tinytorch.training.trainer import Trainer


def distillation_loss(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 4.0,
    alpha: float = 0.9, loss: Callable = cross_entropy,
) -> Tensor:  # fmt: skip
    """alpha * T^2 * KL(teacher || student, both softened) + (1 - alpha) * loss(student, target).

        p = softmax(teacher / T),  q = softmax(student / T)
        KL = mean over samples of sum(p * (log p - log q))

    T^2 keeps the soft part's gradient as large as the hard one's whatever T is.

    Args:
        student: logits (..., K).
        teacher: logits of the same shape; no gradient goes there.
        target: what `loss` is given.
        temperature: T, in (0, inf); default 4.
        alpha: share of the soft part, in [0, 1]; default 0.9.
        loss: function of (student, target); default cross-entropy, which takes (N, K). Of language
            models (B, T, V): `models.next_token_loss`.

    Returns:
        0-d.

    Raises:
        ShapeError: teacher and student do not know the same classes.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2.

    Example:
        >>> import tinytorch as tt
        >>> x, y = tt.Tensor([[2.0, 0.0]]), tt.tensor([0])
        >>> distillation_loss(x, x, y, alpha=1.0).item()        # it thinks as its teacher does
        0.0
    """
    if student.shape != teacher.shape or not student.shape:
        raise ShapeError(
            "distill: teacher and student do not give the same",
            got=f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}",
            rule="logits (..., K) of the same classes",
            fix="a student with as many outputs as the teacher",
        )
    t = number("distill", "temperature", temperature, "(0, inf)")
    share = number("distill", "alpha", alpha, "[0, 1]")
    log_q = log_softmax(student * (1.0 / t), -1)
    log_p = log_softmax(teacher.detach().astype(student.dtype) * (1.0 / t), -1)
    k = student.shape[-1]
    soft = kl_div(
        log_q.reshape(-1, k), log_p.reshape(-1, k), reduction="batchmean", log_target=True
    )
    if share == 1.0:
        return soft * (t * t)
    return soft * (share * t * t) + loss(student, target) * (1.0 - share)


class Taught(Module):
    """A student beside its teacher: gives both answers in training, the student's in evaluation.

    The teacher is no part of the tree: it is not trained, saved or switched to training mode.

    Args:
        student: is trained.
        teacher: any module, or several of which the mean probability is taken: `Ensemble`.
    """

    def __init__(self, student: Module, teacher: Module):
        self.student = student
        self._teacher = _Held(teacher)

    def forward(self, *inputs: Tensor) -> Any:
        """(student's answer, teacher's answer), or the student's alone."""
        answer = self.student(*inputs)
        if not self.training:
            return answer
        with no_grad():
            return answer, self._teacher.module(*inputs)


class _Held:
    """Keeps a module out of the tree in which it is used."""

    def __init__(self, module: Module):
        self.module = module


class _Loss:
    """The loss of what `Taught` gives."""

    def __init__(self, temperature: float, alpha: float, loss: Callable):
        self.temperature = number("distill", "temperature", temperature, "(0, inf)")
        self.alpha = number("distill", "alpha", alpha, "[0, 1]")
        self.loss = loss

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        if isinstance(output, tuple):
            student, teacher = output
            settings = self.temperature, self.alpha, self.loss
            return distillation_loss(student, teacher, target, *settings)
        return self.loss(output, target)


def _of_student(metric: Callable) -> Callable:
    def measure(output: Any, target: Tensor) -> Any:
        return metric(output[0] if isinstance(output, tuple) else output, target)

    return measure


def distill(
    student: Module, teacher: Module, loader: Iterable, epochs: int = 1, *,
    temperature: float = 4.0, alpha: float = 0.9, loss: Callable = cross_entropy,
    optimizer: Optimizer | None = None, lr: float = 1e-3, validation: Iterable | None = None,
    checkpoint: str | Path | Checkpoints | None = None, resume: bool = False, **settings: Any,
) -> History:  # fmt: skip
    """Train a student on data and on what a teacher says of them; `distillation_loss` is the loss.

    One compiled program computes both answers, the gradient and the update. The teacher is put in
    evaluation mode for the time and does not change.

    Args:
        student: is trained in place.
        teacher: a module with the same inputs and outputs; `Ensemble(models)` for several.
        loader: gives batches (input, ..., target), as the Trainer takes them.
        epochs: passes over the data; default 1.
        temperature: T, in (0, inf); default 4.
        alpha: share of the teacher, in [0, 1]; default 0.9. 0 is training without one.
        loss: function of (answer, target) for the other part; default cross-entropy.
        optimizer: default AdamW with `lr`.
        lr: step size of the default optimizer, in (0, inf); default 1e-3.
        validation: batches to measure after each epoch, by `loss` and metrics of the student alone.
        checkpoint: folder (or `Checkpoints`) of the run's states, of the student alone.
        resume: go on from the newest whole checkpoint, if there is one, as `Trainer.train` does.
        **settings: of the Trainer: metrics, schedule, ema, precision, callbacks, progress, ...

    Returns:
        the history; its "loss" is that of the distillation.

    Raises:
        ArgumentTypeError: one of them is no model.
        SettingError: a setting outside its range; teacher and student are one.
        ShapeError: they do not give the same shape.

    Cost: a step costs the teacher's forward pass more than without it.

    Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531; the defaults are within its
    experiments' (T = 1 to 20, "considerably lower weight" on the labels).

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> from tinytorch.training.history import Silent
        >>> teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> data = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))] * 60
        >>> history = compression.distill(
        ...     student, teacher, data, alpha=1.0, lr=0.1, compile=False, progress=Silent())
        >>> x = tt.Tensor(data[0][0])
        >>> gap = student(x).softmax(-1) - teacher(x).softmax(-1)
        >>> abs(gap).max().item() < 0.02
        True
    """
    for name, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, Module):
            raise ArgumentTypeError(
                f"distill: the {name} is no model",
                got=type(model).__name__,
                rule="two Modules with the same inputs and outputs",
                fix="distill(student, teacher, loader); Ensemble([...]) makes one of several",
            )
    if {id(m) for m in student.modules()} & {id(m) for m in teacher.modules()}:
        raise SettingError(
            "distill: teacher and student share a part",
            got="one module in both",
            rule="the teacher stays as it is while the student is trained",
            fix="copy.deepcopy(teacher)",
        )
    taught = Taught(student, teacher)
    metrics = named_metrics(settings.pop("metrics", None), loss)
    trainer = Trainer(
        taught, optimizer or AdamW(lr=number("distill", "lr", lr, "(0, inf)")),
        _Loss(temperature, alpha, loss),
        metrics={name: _of_student(metric) for name, metric in metrics.items()}, **settings,
    )  # fmt: skip
    with evaluating(teacher):
        return trainer.train(
            loader, epochs, validation=validation, checkpoint=checkpoint, resume=resume
        )
