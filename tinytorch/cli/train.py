"""`tito train`: learn a data set, measure, keep everything, and say how to go on.

Knows the order of these; the recipe knows the numbers and the Trainer the loop.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from shlex import quote

import typer

from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.base.settings import num_threads
from tinytorch.cli.data_sets import nearest
from tinytorch.cli.learning import Learning
from tinytorch.cli.recipe import recipe_for
from tinytorch.cli.report import JsonProgress, Report, show_download, without_python
from tinytorch.cli.run_folder import SETTINGS, RunFolder, Settings
from tinytorch.cli.saved_model import save_model
from tinytorch.training import History
from tinytorch.training.progress import Silent, best_for_output

PRECISIONS = ("float32", "bf16")
COMPARED_STEPS = 10  # steps timed for --compare: enough for a median, 0.3 s of eager digits
STOPPED = 130  # exit code after Ctrl-C: 128 + SIGINT, as shells report it


class AccuracyError(TinyTorchError, RuntimeError):
    """The trained model is not as good as the user required."""


def train(
    data: str = typer.Argument(None, metavar="DATA", help="digits, mnist, fashion or cifar10."),
    model: str = typer.Option(None, help="mlp, lenet, cnn (default), resnet20 or vit."),
    epochs: int = typer.Option(None, help="Passes over the training images.", min=1),
    batch_size: int = typer.Option(None, help="Images in a step.", min=1),
    lr: float = typer.Option(None, help="Highest learning rate; it rises to it and falls to 0."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    seed: int = typer.Option(None, help="Of first weights and order; default 0.", min=0),
    precision: str = typer.Option(None, help="float32 (default) or bf16."),
    eager: bool = typer.Option(None, "--eager", help="Run NumPy line by line, not compiled."),
    compare: bool = typer.Option(False, "--compare", help="Also time a step of both ways."),
    require: float = typer.Option(None, help="Fail below this test accuracy, in %.", max=100),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    run: Path = typer.Option(None, help="Folder of the run.", show_default="runs/DATA-MODEL"),
    resume: bool = typer.Option(False, "--resume", help="Go on where a run stopped."),
) -> None:
    """Train a network, measure it on the test images, keep all of it in a folder. Ctrl-C stops."""
    report = Report(as_json)
    asked = {
        "data": data, "model": model, "epochs": epochs, "batch_size": batch_size, "lr": lr,
        "seed": seed, "precision": precision, "eager": eager,
        "data_dir": None if data_dir is None else str(data_dir),
    }  # fmt: skip
    asked = {name: value for name, value in asked.items() if value is not None}
    folder = _begun(asked, run) if resume else None
    settings = folder.settings if folder else decided(asked)
    progress = JsonProgress(report) if as_json else without_python(best_for_output())
    learning = Learning(settings, progress, None if as_json else show_download)
    folder = folder or RunFolder.begin(settings, run)
    _announce(report, learning, folder)
    began = time.perf_counter()
    history = learning.learn(folder, resume)
    seconds = time.perf_counter() - began
    found = learning.evaluate()
    notes = {"seed": str(settings.seed), "test accuracy": f"{found['accuracy']:.4f}"}
    save_model(learning.model, settings.data, settings.model, folder.weights, notes)
    result = _result(report, found["accuracy"], learning, seconds, history, folder)
    if compare:
        result |= _compared(report, settings)
    report.text()
    report.facts("done", result)
    _what_next(report, folder, history)
    if history.stopped:
        raise typer.Exit(STOPPED)
    _check_required(found["accuracy"], require, settings)


def decided(asked: dict) -> Settings:
    """The settings of a new run: what was asked, and the recipe for the rest."""
    if "data" not in asked:
        raise SettingError(
            "tito train: which data set?",
            got="neither a name nor --resume",
            rule="digits, mnist, fashion or cifar10",
            fix="tito train digits",
        )
    model = asked.get("model", "cnn")
    if (precision := asked.get("precision", PRECISIONS[0])) not in PRECISIONS:
        raise SettingError(
            "tito train: no such precision",
            got=f"--precision {precision}",
            rule="one of " + ", ".join(PRECISIONS),
            fix=f"--precision {nearest(precision, PRECISIONS)}",
        )
    recipe = asdict(recipe_for(asked["data"], model))
    return Settings(**{**recipe, "model": model, **asked})


def _begun(asked: dict, run: Path | None) -> RunFolder:
    """The run to go on with; what is asked again must be what was asked then."""
    found = RunFolder.newest(asked.get("data"), asked.get("model")) if run is None else None
    folder = found or RunFolder.open(run or Path())
    before = asdict(folder.settings)
    changed = {k: v for k, v in asked.items() if before[k] != v and k != "data_dir"}
    if changed:
        name, value = next(iter(changed.items()))
        raise SettingError(
            "this run was begun with other settings",
            got=f"{name} = {value}, then {before[name]}",
            rule="a run goes on as it was begun, or its numbers would mean nothing",
            fix=f"tito train --resume --run {quote(str(folder.path))}, or a new run without "
            "--resume",
        )
    named = folder.settings.data_dir
    if named is not None and "data_dir" not in asked:
        raise SettingError(
            "this run read its data from a folder that has to be named again",
            got=f"data_dir {named!r} in {folder.path / SETTINGS}",
            rule="files are fetched into that folder if they are missing, and a run may be of "
            "somebody else",
            fix=_resuming(folder),
        )
    folder.settings = replace(folder.settings, data_dir=asked.get("data_dir"))
    return folder


def _resuming(folder: RunFolder) -> str:
    """The command that goes on with a run."""
    named = folder.settings.data_dir
    data = "" if named is None else f" --data-dir {quote(named)}"
    return f"tito train --resume --run {quote(str(folder.path))}{data}"


def _announce(report: Report, learning: Learning, folder: RunFolder) -> None:
    settings, parts = learning.settings, learning.parts
    weights = sum(parameter.size for parameter in learning.model.parameters())
    channels, height, width = learning.known.shape
    report.facts("decided", {
        "data": learning.known.title,
        "images": f"{len(parts['train'])} to train, {len(parts['test'])} to test, {height}x{width}",
        "model": f"{settings.model}, {weights} weights",
        "optimizer": f"AdamW, lr up to {settings.lr:g}, then falling to 0",
        "epochs": settings.epochs,
        "batch size": settings.batch_size,
        "seed": settings.seed,
        "precision": settings.precision,
        "runs": "eager, NumPy" if settings.eager else f"compiled, {num_threads()} threads",
        "kept in": str(folder.path),
    })  # fmt: skip
    report.text()


def _result(
    report: Report, accuracy: float, learning: Learning, seconds: float, history: History,
    folder: RunFolder,
) -> dict:  # fmt: skip
    test = learning.parts["test"]
    if report.as_json:
        return {"test accuracy": accuracy, "seconds": seconds, "stopped": history.stopped,
                "epochs": len(history), "saved": folder.path}  # fmt: skip
    epochs = f"{len(history)} of {learning.settings.epochs} epochs"
    return {
        "test accuracy": f"{100 * accuracy:.2f} % ({round(accuracy * len(test))} of "
        f"{len(test)} images)",
        "training": f"{seconds:.1f} s, {epochs}{', stopped' if history.stopped else ''}",
        "saved": str(folder.path),
    }


def _compared(report: Report, settings: Settings) -> dict:
    compiled, eager = (_step_seconds(replace(settings, eager=eager)) for eager in (False, True))
    if report.as_json:
        return {"compiled step seconds": compiled, "eager step seconds": eager}
    return {
        "speed": f"{1e3 * compiled:.2f} ms a step compiled, {1e3 * eager:.2f} ms eager: "
        f"{eager / compiled:.1f} times as fast"
    }


def _step_seconds(settings: Settings) -> float:
    """Least mean time of a step in three short epochs, after one that warms up."""
    learning = Learning(settings, Silent())
    batches = list(islice(learning.loader, COMPARED_STEPS))
    history = learning.trainer.train(batches, epochs=4)
    return min(history["seconds"][1:]) / len(batches)


def _what_next(report: Report, folder: RunFolder, history: History) -> None:
    place = quote(str(folder.path))
    verbs = {"evaluate": "each class", "predict": "a few images", "curve": "what it learned when"}
    commands = {verb: f"tito {verb} {place}" for verb in verbs}
    if history.stopped:
        commands = {"resume": _resuming(folder)} | commands
    if report.as_json:
        report.facts("next", commands)
        return
    report.text()
    for verb, command in commands.items():
        report.text(f"{verbs.get(verb, 'go on').ljust(22)}{command}")


def _check_required(accuracy: float, require: float | None, settings: Settings) -> None:
    if require is not None and 100 * accuracy < require:
        raise AccuracyError(
            f"the test accuracy is below {require:g} %",
            got=f"{100 * accuracy:.2f} %",
            rule=f"--require {require:g}",
            fix=f"more epochs: --epochs {2 * settings.epochs}",
        )
