"""`tito train`: learn a data set, measure, save, and say how to do it again.

Knows the order of these; the recipe knows the numbers and the Trainer the loop.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from shlex import quote

import typer

import tinytorch as tt
from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.base.settings import num_threads
from tinytorch.cli.recipe import CoolingLoader, Recipe, build, load_data, recipe_named, save_model
from tinytorch.cli.report import JsonProgress, Report, show_download
from tinytorch.data import DataLoader, ImageDataset
from tinytorch.training import History, Trainer
from tinytorch.training.progress import Silent

PRECISIONS = ("float32", "bf16")
COMPARED_STEPS = 10  # steps timed for --compare: enough for a median, 0.3 s of eager digits


class AccuracyError(TinyTorchError, RuntimeError):
    """The trained model is not as good as the user required."""


def train(
    name: str = typer.Argument(..., metavar="DATA", help="digits or mnist"),
    epochs: int = typer.Option(None, help="Passes over the training images.", min=1),
    batch_size: int = typer.Option(None, help="Images in a step.", min=1),
    lr: float = typer.Option(None, help="First learning rate; it falls to 0."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    seed: int = typer.Option(0, help="Of the first weights and the order of the images.", min=0),
    precision: str = typer.Option("float32", help="float32 or bf16."),
    eager: bool = typer.Option(False, "--eager", help="Run NumPy line by line, not compiled."),
    compare: bool = typer.Option(False, "--compare", help="Also time a step of both ways."),
    require: float = typer.Option(None, help="Fail below this test accuracy, in %.", max=100),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    save: Path = typer.Option(None, help="File of the weights.", show_default="DATA.safetensors"),
) -> None:
    """Train a small convolutional network, measure it on the test images, save its weights."""
    recipe = _decided(recipe_named(name), epochs, batch_size, lr)
    _check_precision(precision)
    report, save = Report(as_json), _place(save or Path(f"{recipe.name}.safetensors"))
    show = None if as_json else show_download
    parts = {split: load_data(recipe, split, data_dir, show) for split in ("train", "test")}
    tt.manual_seed(seed)
    model = build(recipe)
    _announce(report, recipe, model, parts, seed, precision, eager)
    trainer = _trainer(model, recipe, precision, eager, JsonProgress(report) if as_json else None)
    loader = _loader(recipe, parts["train"], seed)
    began = time.perf_counter()
    cooling = CoolingLoader(loader, trainer.optimizer, recipe.epochs)
    history = trainer.train(cooling, epochs=recipe.epochs)
    seconds = time.perf_counter() - began
    accuracy = trainer.evaluate(DataLoader(parts["test"], recipe.test_batch))["accuracy"]
    save_model(model, recipe, save, {"seed": str(seed), "test accuracy": f"{accuracy:.4f}"})
    report.text()
    result = _result(report, accuracy, parts["test"], seconds, history, save)
    if compare:
        result |= _compared(report, recipe, parts["train"], seed, precision)
    report.facts("done", result)
    again = ["tito train", recipe.name, f"--epochs {recipe.epochs}"]
    again += [f"--batch-size {recipe.batch_size}", f"--lr {recipe.lr:g}", f"--seed {seed}"]
    again += [f"--precision {precision}"] if precision != "float32" else []
    again += [f"--data-dir {quote(str(data_dir))}"] if data_dir is not None else []
    again += ["--eager"] if eager else []
    again += [f"--save {quote(str(save))}"]
    _what_next(report, " ".join(again), save)
    _check_required(accuracy, require, recipe)


def _check_required(accuracy: float, require: float | None, recipe: Recipe) -> None:
    if require is not None and 100 * accuracy < require:
        raise AccuracyError(
            f"the test accuracy is below {require:g} %",
            got=f"{100 * accuracy:.2f} %",
            rule=f"--require {require:g}",
            fix=f"more epochs: --epochs {2 * recipe.epochs}",
        )


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise SettingError(
            "tito train: no such precision",
            got=f"--precision {precision}",
            rule="one of " + ", ".join(PRECISIONS),
            fix="--precision float32",
        )


def _decided(
    recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None
) -> Recipe:
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    return replace(recipe, **{name: x for name, x in given.items() if x is not None})


def _place(save: Path) -> Path:
    """`save`, if a file can be there; asked before the training, not after it."""
    if save.is_dir():
        raise SettingError(
            "the weights cannot be saved here",
            got=f"--save {save}, a folder",
            rule="a file name",
            fix=f"--save {save / 'model.safetensors'}",
        )
    save.parent.mkdir(parents=True, exist_ok=True)
    return save


def _trainer(model, recipe: Recipe, precision: str, eager: bool, progress) -> Trainer:
    optimizer = tt.optim.AdamW(model.parameters(), lr=recipe.lr)
    return Trainer(model, optimizer, compile=not eager, precision=precision, progress=progress)


def _loader(recipe: Recipe, data: ImageDataset, seed: int) -> DataLoader:
    # Every batch has one shape: one compiled program serves the whole run.
    size = min(recipe.batch_size, len(data))
    return DataLoader(data, size, shuffle=True, seed=seed, drop_last=True)


def _announce(
    report: Report, recipe: Recipe, model, parts: dict, seed: int, precision: str, eager: bool
) -> None:
    weights = sum(parameter.size for parameter in model.parameters())
    threads = num_threads()
    sides = f"{recipe.image_size}x{recipe.image_size}"
    report.facts(
        "decided",
        {
            "data": recipe.title,
            "images": f"{len(parts['train'])} to train, {len(parts['test'])} to test, {sides}",
            "model": f"CNN, stages {', '.join(map(str, recipe.widths))}, {weights} weights",
            "optimizer": f"AdamW, lr {recipe.lr:g} falling to 0",
            "epochs": recipe.epochs,
            "batch size": recipe.batch_size,
            "seed": seed,
            "precision": precision,
            "runs": "eager, NumPy" if eager else f"compiled, {threads} threads",
        },
    )
    report.text()


def _result(
    report: Report,
    accuracy: float,
    test: ImageDataset,
    seconds: float,
    history: History,
    save: Path,
) -> dict:
    right = round(accuracy * len(test))
    if report.as_json:
        return {"test accuracy": accuracy, "seconds": seconds, "stopped": history.stopped,
                "saved": save}  # fmt: skip
    how = "stopped early" if history.stopped else f"{len(history)} epochs"
    return {
        "test accuracy": f"{100 * accuracy:.2f} % ({right} of {len(test)} images)",
        "training": f"{seconds:.1f} s, {how}",
        "saved": str(save),
    }


def _compared(
    report: Report, recipe: Recipe, data: ImageDataset, seed: int, precision: str
) -> dict:
    compiled, eager = (
        _step_seconds(recipe, data, seed, precision, eager) for eager in (False, True)
    )
    if report.as_json:
        return {"compiled step seconds": compiled, "eager step seconds": eager}
    return {
        "speed": f"{1e3 * compiled:.2f} ms a step compiled, {1e3 * eager:.2f} ms eager: "
        f"{eager / compiled:.1f} times as fast"
    }


def _step_seconds(
    recipe: Recipe, data: ImageDataset, seed: int, precision: str, eager: bool
) -> float:
    """Least mean time of a step in three short epochs, after one that warms up."""
    tt.manual_seed(seed)
    trainer = _trainer(build(recipe), recipe, precision, eager, Silent())
    batches = list(islice(_loader(recipe, data, seed), COMPARED_STEPS))
    history = trainer.train(batches, epochs=4)
    return min(history["seconds"][1:]) / len(batches)


def _what_next(report: Report, again: str, save: Path) -> None:
    if report.as_json:
        report.facts("next", {"again": again, "predict": f"tito predict {quote(str(save))}"})
        return
    report.text("\nthe same again   " + again)
    report.text(f"ask the model    tito predict {quote(str(save))}")
    report.text("this machine     tito doctor")
