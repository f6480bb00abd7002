"""`tito evaluate`: how good a saved model is, class by class, and what it takes for what.

Knows logits, probabilities and counts, never pictures on a terminal; the model comes from `runs`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import typer

import tinytorch as tt
from tinytorch.cli.report import Report, show_download
from tinytorch.cli.runs import SavedModel, load_model
from tinytorch.nn import Module
from tinytorch.training import Trainer
from tinytorch.training.progress import Silent


def logits_of(saved: SavedModel, images: np.ndarray, eager: bool = False) -> np.ndarray:
    """(N, C, H, W) -> (N, K), compiled or line by line."""
    return _asked(saved.network, eager).predict(images, batch_size=max(1, len(images))).numpy()


@cache
def _asked(network: Module, eager: bool) -> Trainer:
    sgd = tt.optim.SGD(network.parameters(), lr=0.0)  # nothing is trained
    return Trainer(network, sgd, compile=not eager, progress=Silent())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row.

    Example:
        >>> softmax(np.zeros((1, 4)))
        array([[0.25, 0.25, 0.25, 0.25]])
    """
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


MISTAKES = 5  # shown


def evaluate(
    model: Path = typer.Argument(None, help="A run or its model.safetensors; default the newest."),
    split: str = typer.Option("test", help="test or train: which images."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Measure a saved model: accuracy, loss, each class, and the mistakes it makes most often."""
    report, saved = Report(as_json), load_model(model)
    known = saved.data_set
    images = known.load(split, data_dir, None if as_json else show_download)
    counts, loss = np.zeros((len(known.classes),) * 2, np.int64), 0.0
    for start in range(0, len(images), known.test_batch):
        x, labels = images.take(np.arange(start, min(start + known.test_batch, len(images))))
        logits = logits_of(saved, x, eager).astype(np.float64)
        loss += _cross_entropy(logits, labels)
        np.add.at(counts, (labels, logits.argmax(1)), 1)
    right, total = int(np.trace(counts)), int(counts.sum())
    report.facts("measured", {
        "model": f"{saved.model}, trained on {saved.data}",
        "images": f"{total} of the {split} part",
        "accuracy": right / total if as_json else f"{100 * right / total:.2f} % ({right} right)",
        "loss": loss / total if as_json else f"{loss / total:.4f}",
    })  # fmt: skip
    _classes(report, known.classes, counts)


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The sum over the rows of logsumexp(logits) - logits[label]."""
    largest = logits.max(1)
    sums = np.log(np.exp(logits - largest[:, None]).sum(1)) + largest
    return float((sums - logits[np.arange(len(labels)), labels]).sum())


def _classes(report: Report, names: tuple[str, ...], counts: np.ndarray) -> None:
    """Accuracy of each class, and the most frequent confusions."""
    shares = {
        name: counts[i, i] / max(1, counts[i].sum()) for i, name in enumerate(names)
    }  # fmt: skip
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    mistakes = [(int(i) // len(names), int(i) % len(names)) for i in order if wrong.flat[i]]
    if report.as_json:
        report.facts("classes", {name: float(share) for name, share in shares.items()})
        for truth, said in mistakes:
            report.facts("mistake", {
                "truth": names[truth], "said": names[said], "times": int(wrong[truth, said]),
            })  # fmt: skip
        return
    report.text()
    report.facts("classes", {name: f"{100 * share:.1f} %" for name, share in shares.items()})
    if mistakes:
        report.text("\nmost frequent mistakes")
    for truth, said in mistakes:
        report.text(f"  {names[truth]} taken for {names[said]}: {wrong[truth, said]} times")
