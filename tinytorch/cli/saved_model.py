"""Saved models: weights in a file that says which network they belong to.

Knows the notes in the file; the network is made by `networks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tinytorch.base.errors import FileFormatError, short
from tinytorch.cli.data_sets import DATA_SETS, DataSet
from tinytorch.cli.networks import NETWORKS, build
from tinytorch.cli.run_folder import RunFolder
from tinytorch.nn import Module
from tinytorch.storage import read
from tinytorch.training import save_weights


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


def save_model(network: Module, data: str, model: str, path: Path, facts: dict[str, str]) -> None:
    """Write the weights, and in the file's notes what they are."""
    save_weights(network, path, {"data": data, "model": model, **facts})


def load_model(path: Path | None = None) -> SavedModel:
    """A model that `save_model` wrote.

    Args:
        path: the file, or the folder of a run; default the newest run in runs/.

    Raises:
        FileFormatError: there is no such file, it is damaged, or `tito train` did not write it.
    """
    path = RunFolder.newest().path if path is None else path
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
