"""Training whose checkpoints cannot be written or read: a clear error, and nothing is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import FileFormatError, ShapeError, StorageError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.storage import FutureVersionError
from tinytorch.storage.folder import checksum_of
from tinytorch.training import Checkpoints, Trainer
from tinytorch.training.history import Silent
from tinytorch.training.trainer import Callback

X = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def loader() -> DataLoader:
    return DataLoader(ArrayDataset(X, Y), 4, shuffle=True, seed=1)


def trainer(width: int = 4, callbacks=()) -> Trainer:
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)
    return Trainer(model, optimizer, compile=False, progress=Silent(), callbacks=callbacks)


def bits(run: Trainer) -> list[bytes]:
    return [p.numpy().tobytes() for p in run.model.parameters()]


class Steps(Callback):
    """Counts batches."""

    def __init__(self):
        self.batches = 0

    def after_batch(self, trainer, values):
        self.batches += 1


def test_an_unwritable_folder_is_told_before_the_first_step(tmp_path):
    """Ground truth: no batch was trained. (A file in the way stops a superuser too.)"""
    (tmp_path / "file").write_bytes(b"")
    steps = Steps()
    with pytest.raises(StorageError, match="could not be written") as told:
        trainer(callbacks=[steps]).train(loader(), 2, checkpoint=tmp_path / "file" / "run")
    assert steps.batches == 0 and "another folder" in told.value.fix


FULL = """
import resource, sys
from tests.training.test_bad_storage import loader, trainer
from tinytorch.base.errors import StorageError
run = trainer(width=4)
run.train(loader(), 1, checkpoint=sys.argv[1])
# From here on the system lets no file grow beyond 600 bytes, as on a disk that is nearly full.
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
again = trainer(width=4)
try:
    again.train(loader(), 3, checkpoint=sys.argv[1], resume=True)
except StorageError as error:
    print(error)
"""


def test_a_disk_that_fills_up_keeps_what_was_saved(tmp_path):
    """Ground truth: the system's own refusal in another process; the rest of the run, resumed here
    when there is room again, ends with the bits of a run that was never stopped."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "run")],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "could not be written" in done.stdout and "free some space" in done.stdout, done.stderr
    assert os.listdir(tmp_path / "run") == ["step-000003"]
    run, whole = trainer(), trainer()
    run.train(loader(), 3, checkpoint=tmp_path / "run", resume=True)
    whole.train(loader(), 3)
    assert bits(run) == bits(whole)


def test_another_architecture_changes_neither_model_nor_files(tmp_path):
    """Ground truth: weights before and after, the folder before and after; the weight is named."""
    trainer(width=4).train(loader(), 1, checkpoint=tmp_path)
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    wider = trainer(width=5)
    before = bits(wider)
    with pytest.raises(ShapeError, match="'0.weight' has another shape"):
        wider.train(loader(), 2, checkpoint=tmp_path, resume=True)
    assert bits(wider) == before
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_future_version_is_told_apart_and_kept(tmp_path):
    """Ground truth: a manifest of version 2 made here: no older checkpoint is taken in silence."""
    trainer().train(loader(), 2, checkpoint=tmp_path)
    path = Checkpoints(tmp_path).path(6) / "manifest.json"
    table = json.loads(path.read_text())["manifest"] | {"version": 2}
    path.write_text(json.dumps({"manifest": table, "sha256": checksum_of(table)}))
    with pytest.raises(FutureVersionError, match="newer TinyTorch"):
        trainer().train(loader(), 3, checkpoint=tmp_path, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["step-000003", "step-000006"]


def test_damage_costs_one_checkpoint(tmp_path):
    """Ground truth: the run that was never stopped; the newest checkpoint has a changed bit."""
    trainer().train(loader(), 2, checkpoint=tmp_path)
    path = Checkpoints(tmp_path).path(6) / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    run, whole = trainer(), trainer()
    with pytest.warns(RuntimeWarning, match="step-000006 .* Going on from step 3"):
        run.train(loader(), 3, checkpoint=tmp_path, resume=True)
    whole.train(loader(), 3)
    assert bits(run) == bits(whole) and run.steps == 9
    for step in Checkpoints(tmp_path).steps():
        (Checkpoints(tmp_path).path(step) / "manifest.json").write_text("{}")
    with pytest.raises(FileFormatError, match="no checkpoint in .* is whole"):
        trainer().train(loader(), 4, checkpoint=tmp_path, resume=True)
