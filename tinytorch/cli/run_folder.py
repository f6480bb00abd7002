"""Run folders: what belongs to one training, in one place.

Knows file names and settings, never how training is done.

    runs/mnist-cnn/
        settings.json       what was asked
        checkpoints/        the whole state, after each epoch and at Ctrl-C
        history.jsonl       what each epoch measured
        model.safetensors   the weights of the end
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import tinytorch
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.storage import replacing

RUNS = Path("runs")
FORMAT = 1


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


class RunFolder:
    """The folder of one training.

    Args:
        path: of the folder.
        settings: what was asked.
    """

    def __init__(self, path: Path, settings: Settings):
        self.path, self.settings = path, settings

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        """The file of the history."""
        return self.path / "history.jsonl"

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.path / "model.safetensors"

    @classmethod
    def begin(cls, settings: Settings, path: Path | None = None) -> RunFolder:
        """A new folder with the settings in it.

        Args:
            settings: what is asked.
            path: where; default runs/DATA-MODEL, with a number if that exists.

        Raises:
            SettingError: there is something at `path` already.
        """
        chosen = _free(RUNS / f"{settings.data}-{settings.model}") if path is None else path
        if chosen.is_file() or (chosen.is_dir() and any(chosen.iterdir())):
            raise SettingError(
                "there is something in this place already",
                got=f"--run {chosen}",
                rule="a new run has a folder of its own, so that nothing is overwritten",
                fix=f"--resume --run {chosen} to go on with it, or --run {_free(chosen)}",
            )
        chosen.mkdir(parents=True, exist_ok=True)
        written = {"format": FORMAT, "tinytorch": tinytorch.__version__, **asdict(settings)}
        with replacing(chosen / "settings.json") as file:
            file.write((json.dumps(written, indent=1) + "\n").encode())
        return cls(chosen, settings)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A folder that `begin` made.

        Raises:
            FileFormatError: it is none, or a later version of TinyTorch made it.
        """
        file = path / "settings.json"
        if not file.is_file():
            raise FileFormatError(
                "this is not the folder of a run",
                got=f"{path}, without settings.json",
                rule="a folder that tito train made",
                fix="tito train digits; it says where the run lies",
            )
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            known = {field.name for field in fields(Settings)}
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']}, not {FORMAT}")
            return cls(path, Settings(**{k: v for k, v in found.items() if k in known}))
        except (ValueError, KeyError, TypeError) as error:
            raise FileFormatError(
                "the settings of this run cannot be read",
                got=f"{file}: {error}",
                rule=f"what this version of tito train wrote: a JSON object of format {FORMAT}",
                fix="the version of TinyTorch that made the run, or a new run",
            ) from error

    @classmethod
    def newest(cls, data: str | None = None, model: str | None = None) -> RunFolder:
        """The run in `runs/` that was worked on last, of this data set and network if given.

        Raises:
            FileFormatError: there is none.
        """
        found = [cls.open(p.parent) for p in RUNS.glob("*/settings.json")]
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
                fix=f"tito train {data or 'digits'}, or --run FOLDER",
            )
        return max(fitting, key=_last_change)


def _last_change(run: RunFolder) -> float:
    return max(p.stat().st_mtime for p in (run.path, run.path / "settings.json", run.history)
               if p.exists())  # fmt: skip


def _free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... at which there is nothing."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
