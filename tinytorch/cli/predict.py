"""`tito predict`: show a saved model a few test images and draw what it says.

Knows pictures and probabilities; the model comes from `runs`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from shlex import quote

import numpy as np
import typer

from tinytorch.cli.evaluate import logits_of, softmax
from tinytorch.cli.report import Report, draw, shades_for_output, show_download, side_by_side
from tinytorch.cli.runs import load_model


def predict(
    model: Path = typer.Argument(None, help="A run or its model.safetensors; default the newest."),
    count: int = typer.Option(6, help="Images to show.", min=1),
    seed: int = typer.Option(0, help="Which images.", min=0),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Draw a few test images with the model's answer, how sure it is, and the truth."""
    report, saved = Report(as_json), load_model(model)
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


def _chosen(n: int, count: int, seed: int) -> np.ndarray:
    """`count` different sample numbers below n, evenly spread; another seed moves them all."""
    count = min(count, n)
    return np.sort(
        (np.arange(count) * n // count + seed * 7) % n
    )  # 7: other images, not neighbours
