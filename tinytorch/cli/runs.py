"""Run folders and saved models: what belongs to one training, in one place.

Knows file names, settings and the notes of a weights file, never how training is done. A run may be
of somebody else: its settings are checked one by one, and nothing in its folder may be a link.

    runs/mnist-cnn/
        settings.json       what was asked
        checkpoints/        the whole state, after each epoch and at Ctrl-C
        history.jsonl       what each epoch measured
        model.safetensors   the weights of the end, and which network they belong to

The folder of a language model is also one in Hugging Face's layout: config.json, tokenizer.json. If
its text is long, the token ids are in tokens.npy, and what they were made of in tokens.json.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from shlex import quote
from typing import Any

import tinytorch
from tinytorch import models
from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.cli.recipes import DATA_SETS, LANGUAGE_MODELS, NETWORKS, DataSet, build
from tinytorch.models.pretrained import FILES as SHIPPED_FILES
from tinytorch.models.pretrained import NETWORKS as SHIPPED_NETWORKS
from tinytorch.nn import Module
from tinytorch.storage import read
from tinytorch.training import save_weights

RUNS = Path("runs")
FORMAT = 1
SETTINGS = "settings.json"
LONGEST = 1 << 16  # bytes of it; about 300 are usual


@dataclass(frozen=True)
class Settings:
    """What was asked of a run: enough to do it again.

    Args:
        data: name of the data set.
        model: name of the network.
        epochs: passes over the training part.
        batch_size: pictures in a step.
        lr: highest learning rate.
        seed: of the first weights and the order of the pictures.
        precision: "float32" or "bf16".
        eager: whether NumPy runs line by line.
        data_dir: folder of the data files, or None.
    """

    data: str
    model: str
    epochs: int
    batch_size: int
    lr: float
    seed: int = 0
    precision: str = "float32"
    eager: bool = False
    data_dir: str | None = None


@dataclass(frozen=True)
class TextSettings(Settings):
    """What was asked of a run that learns a text: `data` is the text's name, or a file's.

    Args:
        tokenizer: "characters", "bytes" or "bpe".
        vocabulary: tokens that "bpe" learns, at least 256.
        layers, heads, size, length, dropout: of the GPT, see `GPTConfig`.
        digest: SHA-256 of the text, so that a run goes on with the text it began with.
    """

    tokenizer: str = "characters"
    vocabulary: int = 1024
    layers: int = 4
    heads: int = 4
    size: int = 128
    length: int = 64
    dropout: float = 0.0
    digest: str = ""


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_digest(value: Any) -> bool:
    return _is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


# What a value has to be, and how that is said.
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": (_is_text, "a text"),
    "model": (_is_text, "a text"),
    "epochs": (_is_count, "a whole number >= 1"),
    "batch_size": (_is_count, "a whole number >= 1"),
    "lr": (_is_rate, "a number >= 0"),
    "seed": (lambda x: type(x) is int and 0 <= x < 2**63, "a whole number >= 0"),
    "precision": (lambda x: x in ("float32", "bf16"), "float32 or bf16"),
    "eager": (lambda x: type(x) is bool, "true or false"),
    "data_dir": (lambda x: x is None or _is_text(x), "a text or null"),
    "tokenizer": (_is_text, "a text"),
    "vocabulary": (_is_count, "a whole number >= 1"),
    "layers": (_is_count, "a whole number >= 1"),
    "heads": (_is_count, "a whole number >= 1"),
    "size": (_is_count, "a whole number >= 1"),
    "length": (_is_count, "a whole number >= 1"),
    "dropout": (lambda x: _is_rate(x) and x < 1, "a number in [0, 1)"),
    # A run of somebody else names a file of ours; without its digest it gets nowhere.
    "digest": (_is_digest, "64 digits of a SHA-256"),
}


class RunFolder:
    """The folder of one training: `checkpoints`, `history` and `weights` are places in it, and of a
    text `tokenizer` and `tokens`.

    Args:
        path: of the folder.
        settings: what was asked.
    """

    def __init__(self, path: Path, settings: Settings):
        self.path, self.settings = path, settings
        self.checkpoints = path / "checkpoints"
        self.history = path / "history.jsonl"
        self.weights = path / "model.safetensors"
        self.tokenizer, self.tokens = path / "tokenizer.json", path / "tokens.npy"

    @classmethod
    def begin(cls, settings: Settings, path: Path | None = None) -> RunFolder:
        """A new folder with the settings in it.

        Args:
            settings: what is asked.
            path: where; default runs/DATA-MODEL, with a number if that exists.

        Raises:
            SettingError: there is something at `path` already.
        """
        name = Path(settings.data).stem  # a text's data is a file
        chosen = _free(RUNS / f"{name}-{settings.model}") if path is None else path
        if chosen.is_file() or (chosen.is_dir() and any(chosen.iterdir())):
            shown, other = quote(str(chosen)), quote(str(_free(chosen)))
            raise SettingError(
                "there is something in this place already",
                got=f"--run {chosen}",
                rule="a new run has a folder of its own, so that nothing is overwritten",
                fix=f"--resume --run {shown} to go on with it, or --run {other}",
            )
        files.make_folder(chosen)
        written = {"format": FORMAT, "tinytorch": tinytorch.__version__, **asdict(settings)}
        with files.replacing(chosen / SETTINGS) as file:
            file.write((json.dumps(written, indent=1) + "\n").encode())
        return cls(chosen, settings)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A folder that `begin` made.

        Raises:
            FileFormatError: it is none, a later version of TinyTorch made it, a setting is not what
                `begin` writes, or a file in it is a link.
        """
        file = path / SETTINGS
        if not os.path.lexists(file):
            raise FileFormatError(
                "this is not the folder of a run",
                got=f"{path}, without settings.json",
                rule="a folder that tito train made",
                fix="tito train digits; it says where the run lies",
            )
        try:
            found = files.parse_json(files.contents(file, LONGEST))
            return cls(path, _settings(found)).checked()
        except (files.NotStrictError, _WrongError) as error:
            raise FileFormatError(
                "the settings of this run cannot be read",
                got=f"{file}: {error}",
                rule=f"what this version of tito train wrote: a JSON object of format {FORMAT}",
                fix="the version of TinyTorch that made the run, or a new run",
            ) from None

    def checked(self) -> RunFolder:
        """This folder, if what training writes to in it is in it.

        Raises:
            FileFormatError: a file or the folder of checkpoints is a link, or something else.
        """
        for place, kind, what in (
            (self.checkpoints, os.path.isdir, "a folder"),
            (self.history, os.path.isfile, "a file"),
            (self.weights, os.path.isfile, "a file"),
            (self.tokenizer, os.path.isfile, "a file"),
            (self.tokens, os.path.isfile, "a file"),
        ):
            if os.path.lexists(place) and (os.path.islink(place) or not kind(place)):
                raise FileFormatError(
                    f"the {place.name} of this run is elsewhere",
                    got=f"{place}, a link or something else",
                    rule=f"{what} of its own: a run may be of somebody else, and is written to",
                    fix=f"ls -l {quote(str(place))}, and put what belongs there in its place",
                )
        return self

    @classmethod
    def newest(cls, data: str | None = None, model: str | None = None) -> RunFolder:
        """The run in `runs/` that was worked on last, of this data set and network if given.

        Raises:
            FileFormatError: there is none.
        """
        found = [cls.open(p.parent) for p in RUNS.glob(f"*/{SETTINGS}")]
        fitting = [
            run for run in found
            if data in (None, run.settings.data) and model in (None, run.settings.model)
        ]  # fmt: skip
        if not fitting:
            what = " ".join(filter(None, (data, model))) or "any data set"
            raise FileFormatError(
                "there is no such run to go on with",
                got=f"no run of {what} in {RUNS}{os.sep}",
                rule="a run that was begun here",
                fix=f"tito train {quote(data or 'digits')}, or --run FOLDER",
            )
        return max(fitting, key=_last_change)


class _WrongError(ValueError):
    """What is wrong with the settings."""


def _settings(found: Any) -> Settings:
    if not isinstance(found, dict):
        raise _WrongError(f"{short(found)} is no object")
    written = found.get("format")
    if type(written) is not int or written != FORMAT:
        raise _WrongError(f"format {short(written)}, not {FORMAT}")
    kind = TextSettings if found.get("model") in LANGUAGE_MODELS else Settings
    needed = {field.name for field in fields(kind)}
    given = {name: value for name, value in found.items() if name in needed}
    for name, value in given.items():
        fits, rule = _VALUES[name]
        if not fits(value):
            raise _WrongError(f"{name} is {short(value)}, not {rule}")
    try:
        if kind is TextSettings and "digest" not in given:
            raise _WrongError("digest is missing")
        return kind(**given)
    except TypeError as error:  # one is missing
        raise _WrongError(str(error)) from None


def _last_change(run: RunFolder) -> float:
    return max(p.stat().st_mtime for p in (run.path, run.path / SETTINGS, run.history)
               if p.exists())  # fmt: skip


def _free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... at which there is nothing."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def text_run(path: Path | None) -> RunFolder | None:
    """The run at a place, by default the newest, if it learned a text."""
    if path is not None and not os.path.lexists(path / SETTINGS):
        return None
    if path is None and not any(RUNS.glob(f"*/{SETTINGS}")):
        return None
    run = RunFolder.newest() if path is None else RunFolder.open(path)
    return run if isinstance(run.settings, TextSettings) else None


@dataclass(frozen=True)
class SavedModel:
    """A network with its weights, and what was noted of them.

    Args:
        path: the file.
        network: in evaluation mode.
        data: name of the data set it learned.
        model: name of the network.
        facts: all notes of the file.
    """

    path: Path
    network: Module
    data: str
    model: str
    facts: dict[str, str]

    @property
    def data_set(self) -> DataSet:
        """What it learned."""
        return DATA_SETS[self.data]


def shipped(path: Path) -> str:
    """The name of a network that comes trained, if a path is one and nothing lies there; or ""."""
    name = str(path)
    return name if name in SHIPPED_NETWORKS and not os.path.lexists(path) else ""


def save_model(network: Module, data: str, model: str, path: Path, facts: dict[str, str]) -> None:
    """Write the weights, and in the file's notes what they are."""
    save_weights(network, path, {"data": data, "model": model, **facts})


def load_model(path: Path | None = None) -> SavedModel:
    """A model that `save_model` wrote.

    Args:
        path: the file, the folder of a run, or, where there is neither, the name of a network that
            comes trained; default the newest run in runs/.

    Raises:
        FileFormatError: there is no such file, it is damaged, or `tito train` did not write it.
    """
    path = RunFolder.newest().path if path is None else path
    if (name := shipped(path)) in DATA_SETS:
        facts = models.pretrained_facts(name)
        facts["test accuracy"] = facts["accuracy"]
        file = SHIPPED_FILES / f"{name}.safetensors"
        return SavedModel(file, models.pretrained(name), name, "the network that ships", facts)
    if (text := text_run(path)) is not None:
        raise FileFormatError(
            "this model writes texts, and knows no pictures",
            got=f"{text.path}, {text.settings.model} on {text.settings.data}",
            rule="a run that learned pictures",
            fix=f"tito generate {quote(str(text.path))}",
        )
    file = RunFolder.open(path).weights if path.is_dir() else path
    if not file.is_file():
        raise FileFormatError(
            "there is no such model file",
            got=file,
            rule="a file or a run that tito train saved",
            fix=f"tito train --resume --run {quote(str(path))}"
            if path.is_dir()
            else "tito train digits",
        )
    found = read(file)
    facts = found.metadata
    data, model = facts.get("data", ""), facts.get("model", "")
    if data not in DATA_SETS or model not in NETWORKS:
        raise FileFormatError(
            "this file does not say which model it belongs to",
            got=f"{file} with the notes {short(facts)}",
            rule='tito reads files whose notes name "data" and "model", as tito train writes them',
            fix="tinytorch.training.load_weights(model, path), with a model of your own making",
        )
    network = build(model, DATA_SETS[data].shape)
    network.load_state_dict(found.arrays)
    network.eval()
    return SavedModel(file, network, data, model, facts)
