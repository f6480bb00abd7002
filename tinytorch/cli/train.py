"""`tito train`: learn a data set or a text, measure, keep everything, and say how to go on.

Knows the order of these; the recipe knows the numbers, `learning` and `texts` what a run is made of
and the Trainer the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from shlex import quote

import typer

from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.base.settings import num_threads
from tinytorch.cli.learning import Learning, Pictures
from tinytorch.cli.recipes import LANGUAGE_MODELS, nearest, recipe_for
from tinytorch.cli.report import STOPPED, JsonProgress, Report, show_download, without_python
from tinytorch.cli.runs import SETTINGS, RunFolder, Settings, TextSettings
from tinytorch.cli.texts import DEFAULT_TEXT, TEXTS, Texts
from tinytorch.training import History
from tinytorch.training.history import Progress, Silent, best_for_output

PRECISIONS = ("float32", "bf16")
COMPARED_STEPS = 10  # steps timed for --compare: enough for a median, 0.3 s of eager digits
# What is asked of a text's run alone, and with pictures would have no meaning.
OF_TEXTS = ("tokenizer", "vocabulary", "layers", "heads", "size", "length", "dropout")


class AccuracyError(TinyTorchError, RuntimeError):
    """The trained model is not as good as the user required."""


def learning_of(
    settings: Settings, progress: Progress | None = None, downloading: Callable | None = None,
    report: Report | None = None, begin: Callable[[TextSettings], RunFolder] | None = None,
) -> Learning:  # fmt: skip
    """What a run with these settings is made of; for `begin` see `Texts`."""
    if isinstance(settings, TextSettings):
        return Texts(settings, progress, downloading, report, begin)
    return Pictures(settings, progress, downloading)


def train(
    what: str = typer.Argument(
        None, metavar="DATA", help="digits, mnist, fashion, cifar10 or gpt."
    ),
    data: str = typer.Option(None, help="Of gpt: a text file, python (default) or shakespeare."),
    model: str = typer.Option(None, help="mlp, lenet, cnn (default), resnet20, vit; of texts gpt."),
    epochs: int = typer.Option(None, help="Passes over the training data.", min=1),
    batch_size: int = typer.Option(None, help="Images, or windows of a text, in a step.", min=1),
    lr: float = typer.Option(None, help="Highest learning rate; it rises to it and falls to 0."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    seed: int = typer.Option(None, help="Of first weights and order; default 0.", min=0),
    precision: str = typer.Option(None, help="float32 (default) or bf16."),
    tokenizer: str = typer.Option(None, help="Of gpt: characters (default), bytes or bpe."),
    vocabulary: int = typer.Option(None, help="Of bpe: different tokens; default 1024.", min=1),
    layers: int = typer.Option(None, help="Of gpt: blocks; default 4.", min=1),
    heads: int = typer.Option(None, help="Of gpt: attention heads; default 4.", min=1),
    size: int = typer.Option(None, help="Of gpt: numbers for each token; default 128.", min=1),
    length: int = typer.Option(None, help="Of gpt: tokens of its context; default 64.", min=1),
    dropout: float = typer.Option(None, help="Of gpt: share of zeros in training; default 0."),
    eager: bool = typer.Option(None, "--eager", help="Run NumPy line by line, not compiled."),
    compare: bool = typer.Option(False, "--compare", help="Also time a step of both ways."),
    require: float = typer.Option(None, help="Fail below this test accuracy, in %.", max=100),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
    run: Path = typer.Option(None, help="Folder of the run.", show_default="runs/DATA-MODEL"),
    resume: bool = typer.Option(False, "--resume", help="Go on where a run stopped."),
) -> None:
    """Train a network, measure it on what it has not seen, keep all in a folder. Ctrl-C stops.

    tito train digits learns pictures; tito train gpt --data FILE learns to write like a text.
    """
    report = Report(as_json)
    asked = _asked(
        what, model=model, data=data, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed,
        precision=precision, eager=eager, data_dir=None if data_dir is None else str(data_dir),
        tokenizer=tokenizer, vocabulary=vocabulary, layers=layers, heads=heads, size=size,
        length=length, dropout=dropout,
    )  # fmt: skip
    folder = _begun(asked, run) if resume else None
    settings = folder.settings if folder else decided(asked)
    _check_asks_accuracy(require, settings)
    progress = JsonProgress(report) if as_json else without_python(best_for_output())
    begun = [] if folder is None else [folder]

    def begin(settings: Settings) -> RunFolder:
        if not begun:
            begun.append(RunFolder.begin(settings, run))
        return begun[0]

    learning = learning_of(settings, progress, None if as_json else show_download, report, begin)
    folder = begin(learning.settings)
    _announce(report, learning, folder)
    began = time.perf_counter()
    history = learning.learn(folder, resume)
    seconds = time.perf_counter() - began
    found = learning.evaluate()
    learning.save(folder, found)
    result = _result(report, found, learning, seconds, history, folder)
    if compare:
        result |= _compared(report, settings, folder)
    report.text()
    report.facts("done", result)
    _what_next(report, folder, learning.verbs, history.stopped)
    if history.stopped:
        raise typer.Exit(STOPPED)
    _check_required(found, require, settings)


def _asked(what: str | None, **given: object) -> dict:
    """What was asked, by the names of the settings: `what` is a data set, a text or a model."""
    asked = {name: value for name, value in given.items() if value is not None}
    if what in LANGUAGE_MODELS:
        return {**asked, "model": what}
    if what is None:
        return asked
    if "data" in asked:
        raise SettingError(
            "tito train: two data sets",
            got=f"{what} and --data {asked['data']}",
            rule="pictures by their name alone; --data is the text that gpt learns",
            fix=f"tito train gpt --data {quote(str(asked['data']))}",
        )
    return {**asked, "data": what, **({"model": "gpt"} if what in TEXTS else {})}


def decided(asked: dict) -> Settings:
    """The settings of a new run: what was asked, and the recipe for the rest."""
    is_text = asked.get("model") in LANGUAGE_MODELS
    if "data" not in asked and not is_text:
        raise SettingError(
            "tito train: which data set?",
            got="neither a name nor --resume",
            rule="digits, mnist, fashion or cifar10; or gpt, which learns a text",
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
    if is_text:
        recipe = asdict(recipe_for("", model))
        return TextSettings(**{**recipe, "data": DEFAULT_TEXT, **asked})
    recipe = asdict(recipe_for(asked["data"], model))
    unfit = next((name for name in OF_TEXTS if name in asked), None)
    if unfit is not None:
        raise SettingError(
            f"tito train: pictures have no {unfit}",
            got=f"--{unfit} {asked[unfit]} with {asked['data']}",
            rule=f"--{unfit} is of gpt, which learns a text",
            fix=f"tito train gpt --{unfit} {asked[unfit]}",
        )
    return Settings(**{**recipe, "model": model, **asked})


def _begun(asked: dict, run: Path | None) -> RunFolder:
    """The run to go on with; what is asked again must be what was asked then."""
    found = RunFolder.newest(asked.get("data"), asked.get("model")) if run is None else None
    folder = found or RunFolder.open(run or Path())
    before = asdict(folder.settings)
    changed = {k: v for k, v in asked.items() if before.get(k) != v and k != "data_dir"}
    if changed:
        name, value = next(iter(changed.items()))
        raise SettingError(
            "this run was begun with other settings",
            got=f"{name} = {value}, then {before.get(name, 'without it')}",
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
    settings = learning.settings
    report.facts("decided", {
        **learning.decided(),
        "epochs": settings.epochs,
        "batch size": settings.batch_size,
        "seed": settings.seed,
        "precision": settings.precision,
        "runs": "eager, NumPy" if settings.eager else f"compiled, {num_threads()} threads",
        "kept in": str(folder.path),
    })  # fmt: skip
    report.text()


def _result(
    report: Report, found: dict[str, float], learning: Learning, seconds: float, history: History,
    folder: RunFolder,
) -> dict:  # fmt: skip
    result = learning.found(found, report.as_json)
    if report.as_json:
        return {**result, "seconds": seconds, "stopped": history.stopped, "epochs": len(history),
                "saved": folder.path}  # fmt: skip
    epochs = f"{len(history)} of {learning.settings.epochs} epochs"
    return {
        **result,
        "training": f"{seconds:.1f} s, {epochs}{', stopped' if history.stopped else ''}",
        "saved": str(folder.path),
    }


def _compared(report: Report, settings: Settings, folder: RunFolder) -> dict:
    compiled, eager = (
        _step_seconds(replace(settings, eager=eager), folder) for eager in (False, True)
    )
    if report.as_json:
        return {"compiled step seconds": compiled, "eager step seconds": eager}
    return {
        "speed": f"{1e3 * compiled:.2f} ms a step compiled, {1e3 * eager:.2f} ms eager: "
        f"{eager / compiled:.1f} times as fast"
    }


def _step_seconds(settings: Settings, folder: RunFolder) -> float:
    """Least mean time of a step in three short epochs, after one that warms up."""
    learning = learning_of(settings, Silent(), begin=lambda _: folder)
    batches = list(islice(learning.loader, COMPARED_STEPS))
    history = learning.trainer.train(batches, epochs=4)
    return min(history["seconds"][1:]) / len(batches)


def _what_next(report: Report, folder: RunFolder, verbs: Mapping[str, str], again: bool) -> None:
    """The commands that look at the result, and the one that goes on."""
    place = quote(str(folder.path))
    commands = {verb: f"tito {verb} {place}" for verb in verbs}
    if again:
        commands = {"resume": _resuming(folder)} | commands
    if report.as_json:
        report.facts("next", commands)
        return
    report.text()
    for verb, command in commands.items():
        report.text(f"{verbs.get(verb, 'go on').ljust(22)}{command}")


def _check_asks_accuracy(require: float | None, settings: Settings) -> None:
    if require is not None and isinstance(settings, TextSettings):
        raise SettingError(
            "tito train: a text has no accuracy",
            got=f"--require {require:g} with {settings.model}",
            rule="--require is a least accuracy on test pictures",
            fix="leave it out; --json prints the validation loss",
        )


def _check_required(found: dict[str, float], require: float | None, settings: Settings) -> None:
    if require is not None and 100 * found["accuracy"] < require:
        raise AccuracyError(
            f"the test accuracy is below {require:g} %",
            got=f"{100 * found['accuracy']:.2f} %",
            rule=f"--require {require:g}",
            fix=f"more epochs: --epochs {2 * settings.epochs}",
        )
