"""`tito predict`: show a saved model a few test images and draw what it says.

Knows pictures and probabilities; the recipe knows the model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import typer

from tinytorch.base.errors import FileFormatError
from tinytorch.cli.picture import draw, shades_for_output, side_by_side
from tinytorch.cli.recipe import load_data, load_model
from tinytorch.cli.report import Report, show_download
from tinytorch.training import Trainer
from tinytorch.training.progress import Silent


def predict(
    model: Path = typer.Argument(..., help="A file that `tito train` saved."),
    count: int = typer.Option(6, help="Images to show.", min=1),
    seed: int = typer.Option(0, help="Which images.", min=0),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Draw a few test images with the model's answer, how sure it is, and the truth."""
    if not model.is_file():
        raise FileFormatError(
            "there is no such model file",
            got=model,
            rule="a file that tito train saved",
            fix="tito train digits",
        )
    report = Report(as_json)
    net, recipe, facts = load_model(model)
    test = load_data(recipe, "test", data_dir, None if as_json else show_download)
    chosen = _chosen(len(test), count, seed)
    images, labels = test.take(chosen)
    probabilities = _softmax(_logits(net, images, eager))
    answers = probabilities.argmax(1)
    report.text(f"{model}: {recipe.title}, test accuracy {facts.get('test accuracy', 'unknown')}\n")
    if as_json:
        for i, number in enumerate(chosen):
            report.facts("prediction", {
                "image": int(number), "answer": int(answers[i]), "truth": int(labels[i]),
                "probability": float(probabilities[i, answers[i]]),
            })  # fmt: skip
        return
    shades = shades_for_output()
    blocks = [draw(image[0], shades) for image in images]
    captions = [
        f"{a}, {100 * p[a]:.0f} % sure" + ("" if a == y else f"; it is {y}")
        for a, p, y in zip(answers, probabilities, labels, strict=True)
    ]
    report.text(side_by_side(blocks, captions, shutil.get_terminal_size().columns))
    report.text(f"\n{int((answers == labels).sum())} of {len(labels)} right")
    report.text(f"others   tito predict {model} --seed {seed + 1}")


def _chosen(n: int, count: int, seed: int) -> np.ndarray:
    """`count` different sample numbers below n, evenly spread; another seed moves them all."""
    count = min(count, n)
    return np.sort(
        (np.arange(count) * n // count + seed * 7) % n
    )  # 7: other images, not neighbours


def _logits(net, images: np.ndarray, eager: bool) -> np.ndarray:
    import tinytorch as tt

    asked = Trainer(
        net, tt.optim.SGD(net.parameters(), lr=0.0), compile=not eager, progress=Silent()
    )
    return asked.predict(images).numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
