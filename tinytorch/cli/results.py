"""What a run has come to: `tito evaluate`, `tito predict` and `tito curve`.

How good its model is, class by class, and what it takes for what; what it says of a few pictures;
what each epoch measured. Knows logits, probabilities, counts and rows of a history; the model comes
from `runs`, and curves are drawn by `training`.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from shlex import quote
from typing import cast

import numpy as np
import typer

import tinytorch as tt
from tinytorch import data, inspection
from tinytorch.base.errors import DataError
from tinytorch.cli.figures import write_answers, write_learning
from tinytorch.cli.report import Report, draw, shades_for_output, show_download, side_by_side
from tinytorch.cli.runs import RunFolder, SavedModel, TextSettings, load_model, text_run
from tinytorch.cli.texts import Texts
from tinytorch.nn import Module
from tinytorch.training import History, Trainer
from tinytorch.training.history import Silent

MISTAKES = 5  # shown
LIKELY = 3  # answers named for a picture of the user's own
WHICH = "A run, its model.safetensors, or mnist or cifar10 as they come; default the newest run."
WIDTH, HEIGHT = 60, 12  # of a plot, in characters


# --- what a model says ---


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


# --- tito evaluate ---


def evaluate(
    model: Path = typer.Argument(None, help=WHICH),
    split: str = typer.Option("test", help="test or train: which images."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    figures: Path = typer.Option(None, help="Folder for pictures: confusions, mistakes, filters."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Measure a saved model: accuracy, loss, each class, and the mistakes it makes most often."""
    report = Report(as_json)
    if (text := text_run(model)) is not None:
        _evaluate_text(report, text, data_dir, eager)
        if figures is not None:
            report.facts("written", {"figures": write_learning(figures, text.history)})
        return
    saved = load_model(model)
    known = saved.data_set
    images = known.load(split, data_dir, None if as_json else show_download)
    logits = np.zeros((len(images), len(known.classes)))
    labels = np.zeros(len(images), np.int64)
    for start in range(0, len(images), known.test_batch):
        chosen = np.arange(start, min(start + known.test_batch, len(images)))
        x, labels[chosen] = images.take(chosen)
        logits[chosen] = logits_of(saved, x, eager)
    counts = inspection.confusion_matrix(labels, logits)
    right, total, loss = int(np.trace(counts)), len(labels), _cross_entropy(logits, labels)
    report.facts("measured", {
        "model": f"{saved.model}, trained on {saved.data}",
        "images": f"{total} of the {split} part",
        "accuracy": right / total if as_json else f"{100 * right / total:.2f} % ({right} right)",
        "loss": loss / total if as_json else f"{loss / total:.4f}",
    })  # fmt: skip
    _classes(report, known.classes, counts)
    if figures is not None:
        written = write_answers(figures, saved, images, labels, softmax(logits))
        written += write_learning(figures, saved.path.with_name("history.jsonl"))
        report.text()
        report.facts("written", {"figures": written})


def _evaluate_text(report: Report, run: RunFolder, data_dir: Path | None, eager: bool) -> None:
    """The loss of a language model on what was held back of its text."""
    asked = replace(run.settings, eager=eager, data_dir=None if data_dir is None else str(data_dir))
    downloading = None if report.as_json else show_download
    learning = Texts(cast(TextSettings, asked), Silent(), downloading, begin=lambda _: run)
    learning.restore(run)
    report.facts("measured", {
        **learning.decided(), **learning.found(learning.evaluate(), report.as_json)
    })  # fmt: skip


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


# --- tito predict ---


def predict(
    model: Path = typer.Argument(None, help=WHICH),
    pictures: list[Path] = typer.Argument(None, help="Pictures of your own; default test images."),
    count: int = typer.Option(6, help="Test images to show.", min=1),
    seed: int = typer.Option(0, help="Which test images.", min=0),
    invert: bool = typer.Option(False, "--invert", help="Exchange light and dark of your own."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Draw pictures of your own, or a few test images, with the model's answer, and how sure it is.

    tito predict cifar10 cat.jpg asks the network that comes trained. A picture's middle is resized
    to what the network takes.
    """
    report, saved = Report(as_json), load_model(model)
    if pictures:
        _own(report, saved, pictures, invert, eager)
        return
    names = saved.data_set.classes
    test = saved.data_set.load("test", data_dir, None if as_json else show_download)
    chosen = _chosen(len(test), count, seed)
    images, labels = test.take(chosen)
    probabilities = softmax(logits_of(saved, images, eager))
    answers = probabilities.argmax(1)
    accuracy = saved.facts.get("test accuracy", "unknown")
    report.text(f"{saved.path}: {saved.data_set.title}, test accuracy {accuracy}\n")
    if as_json:
        for i, number in enumerate(chosen):
            report.facts("prediction", {
                "image": int(number), "answer": int(answers[i]), "truth": int(labels[i]),
                "named": names[answers[i]], "probability": float(probabilities[i, answers[i]]),
            })  # fmt: skip
        return
    shades = shades_for_output()
    blocks = [draw(image.mean(0), shades) for image in images]  # colours become their mean
    captions = [
        f"{names[a]}, {100 * p[a]:.0f} % sure" + ("" if a == y else f"; it is {names[y]}")
        for a, p, y in zip(answers, probabilities, labels, strict=True)
    ]
    report.text(side_by_side(blocks, captions, shutil.get_terminal_size().columns))
    report.text(f"\n{int((answers == labels).sum())} of {len(labels)} right")
    again = quote(str(model or saved.path.parent))
    report.text(f"others   tito predict {again} --seed {seed + 1}")


def _own(report: Report, saved: SavedModel, paths: list[Path], invert: bool, eager: bool) -> None:
    """The user's own pictures, what was done to them, and the answers."""
    names, shape = saved.data_set.classes, saved.data_set.shape
    loaded = [data.load_image(path, shape, invert=invert) for path in paths]
    shares = softmax(logits_of(saved, np.stack([image.pixels for image in loaded]), eager))
    order = np.argsort(-shares, axis=1, kind="stable")[:, :LIKELY]
    if report.as_json:
        for path, image, p, best in zip(paths, loaded, shares, order, strict=True):
            report.facts("prediction", {
                "file": str(path), "done": image.done, "answer": int(best[0]),
                "probabilities": {names[i]: float(p[i]) for i in best},
            })  # fmt: skip
        return
    shades = shades_for_output()
    for path, image, p, best in zip(paths, loaded, shares, order, strict=True):
        report.text("\n".join(draw(image.pixels.mean(0), shades)))
        report.text(f"{path}: {image.done}")
        if shape[0] == 1 and not invert and _edge(image.pixels[0]) > 0.5:
            report.text(f"{saved.data} is light on dark, this picture's edge is light: --invert")
        report.text(", ".join(f"{names[i]} {100 * p[i]:.1f} %" for i in best) + "\n")


def _edge(image: np.ndarray) -> float:
    """The mean of the outermost pixels."""
    inside = np.zeros(image.shape, bool)
    inside[1:-1, 1:-1] = True
    return float(image[~inside].mean())


def _chosen(n: int, count: int, seed: int) -> np.ndarray:
    """`count` different sample numbers below n, evenly spread; another seed moves them all."""
    count = min(count, n)
    return np.sort(
        (np.arange(count) * n // count + seed * 7) % n
    )  # 7: other images, not neighbours


# --- tito curve ---


def curve(
    run: Path = typer.Argument(None, help="The folder of a run; default the newest in runs/."),
    svg: Path = typer.Option(None, help="Also write the losses as a picture, SVG."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Show the history of a run, also of one that is still going on."""
    report = Report(as_json)
    folder = RunFolder.newest() if run is None else RunFolder.open(run)
    history = History.load(folder.history) if folder.history.is_file() else History()
    if not len(history):
        raise DataError(
            "this run has no history yet",
            got=str(folder.path),
            rule="at least one whole epoch",
            fix=f"tito train --resume --run {quote(str(folder.path))}",
        )
    if as_json:
        for row in history:
            report.facts("epoch", row)
    else:
        settings = folder.settings
        report.text(f"{folder.path}: {settings.model} on {settings.data}, seed {settings.seed}\n")
        report.text(str(history))
        for kind in ("loss", "accuracy"):
            names = [name for name in history.names() if name.endswith(kind)]
            if names and len(history) > 1:
                report.text("\n" + history.plot(*names, width=WIDTH, height=HEIGHT))
    if svg is not None:
        history.save_plot(svg)
        report.facts("written", {"picture": str(svg)})
