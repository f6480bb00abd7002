"""`tito train`: learn a data set, measure, keep everything, and say how to go on.

Knows the order of these and how the parts of a training are put together; the recipe knows the
numbers and the Trainer the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from shlex import quote

import typer

import tinytorch as tt
from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.base.settings import num_threads
from tinytorch.cli.recipes import WARMUP, WEIGHT_DECAY, build, data_set, nearest, recipe_for
from tinytorch.cli.report import JsonProgress, Report, show_download, without_python
from tinytorch.cli.runs import SETTINGS, RunFolder, Settings, save_model
from tinytorch.data import DataLoader
from tinytorch.training import Checkpoints, History, Trainer
from tinytorch.training.history import Progress, Silent, best_for_output
from tinytorch.training.trainer import Callback

KEPT = 2  # checkpoints: the newest, and the one before it


class KeepHistory(Callback):
    """Writes the history beside each checkpoint, so that it can be looked at during the run."""

    file: Path | None = None  # JSON lines, one an epoch

    def saved(self, trainer: Trainer, place: Path) -> None:
        """Write all rows."""
        if self.file is not None:
            trainer.run.history.save(self.file)


class Learning:
    """Everything a run needs, made from its settings alone.

    Args:
        settings: what was asked.
        progress: who shows it, or None for the best that the output can do.
        downloading: told about downloads, or None.
    """

    def __init__(
        self, settings: Settings, progress: Progress | None = None,
        downloading: Callable | None = None,
    ):  # fmt: skip
        self.known = known = data_set(settings.data)
        folder = None if settings.data_dir is None else Path(settings.data_dir)
        self.parts = {split: known.load(split, folder, downloading) for split in ("train", "test")}
        tt.manual_seed(settings.seed)
        self.settings, self.keep_history = settings, KeepHistory()
        self.model = build(settings.model, known.shape)
        # Every batch has one shape: one compiled program serves the whole run.
        size = min(settings.batch_size, len(self.parts["train"]))
        self.loader = DataLoader(
            self.parts["train"], size, shuffle=True, seed=settings.seed, drop_last=True,
            transform=known.transform(), prefetch=2,
        )  # fmt: skip
        self.test_loader = DataLoader(self.parts["test"], known.test_batch)
        self.optimizer = tt.optim.AdamW(
            self.model.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY
        )
        steps = max(1, settings.epochs * len(self.loader))
        self.trainer = Trainer(
            self.model, self.optimizer, precision=settings.precision, compile=not settings.eager,
            schedule=tt.optim.WarmupCosineLR(self.optimizer, int(WARMUP * steps), steps),
            schedule_every="step", progress=progress, callbacks=[self.keep_history],
        )  # fmt: skip

    def learn(self, folder: RunFolder, resume: bool) -> History:
        """Train, from the beginning or from the newest checkpoint; the folder gets the state."""
        self.keep_history.file = folder.checked().history
        kept = Checkpoints(folder.checkpoints, keep=KEPT)
        return self.trainer.train(
            self.loader, self.settings.epochs, validation=self.test_loader, checkpoint=kept,
            resume=resume,
        )  # fmt: skip

    def evaluate(self) -> dict[str, float]:
        """Loss and accuracy on the test part."""
        return self.trainer.evaluate(self.test_loader)


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
