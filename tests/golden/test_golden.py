"""Checkpoints that earlier versions wrote: read, and gone on with."""

import json
import os
import shutil

import numpy as np
import pytest

import tinytorch as tt
from tests.golden.made import ENDED, RUN, VALUES, ended, loader, trainer, values
from tests.storage.test_tree import same
from tinytorch.nn.module import Module
from tinytorch.training import Checkpoints, load_checkpoint, load_weights
from tinytorch.training.checkpoint import about_checkpoint


def plain(x):
    """Tensors as (dtype, array), for comparing."""
    if isinstance(x, tt.Tensor):
        return (x.dtype.name, x.numpy())
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return type(x)(map(plain, x)) if isinstance(x, (list, tuple)) else x


def test_every_kind_of_value_is_read():
    """Ground truth: the values, written down in made.py; the folder is that of version 1."""
    assert json.loads((VALUES / "manifest.json").read_text())["manifest"]["version"] == 1
    assert same(plain(load_checkpoint(VALUES)), plain(values()))
    assert repr(about_checkpoint(VALUES)) == "{'step': 1, 'metrics': {'loss': nan}}"


@pytest.fixture
def copied(tmp_path):
    """The golden run where it may be written to."""
    return shutil.copytree(RUN, tmp_path / "run")


def test_a_run_of_version_1_goes_on(copied):
    """Ground truth: the run that was not stopped, written down when the checkpoint was.

    Another machine orders sums otherwise: a gradient differs by about 1e-7 of its parts, up to 1 %
    of one that nearly vanishes. AdamW divides by its size, so that a weight then moves by 1 % of
    the learning rate, 0.01, to another place; in seven updates 7e-4 at most.
    """
    run = trainer()
    run.train(loader(), 3, checkpoint=copied, resume=True)
    found, expected = ended(run), json.loads(ENDED.read_text())
    assert found["steps"] == expected["steps"] == 15
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        assert np.allclose(found["weights"][name], weight, rtol=0, atol=7e-4), name


def test_its_weights_load_by_themselves():
    """Ground truth: the checkpoint's own model state, by name; and it computes."""
    kept = Checkpoints(RUN)
    (step,) = kept.steps()
    model = trainer().model
    load_weights(model, kept.path(step) / "weights.safetensors")
    state = load_checkpoint(kept.path(step))["model"]
    for name, x in model.state_dict().items():
        assert x.numpy().tobytes() == state[name].numpy().tobytes()
    assert isinstance(model, Module) and model.eval()(tt.zeros(3, 6)).shape == (3, 2)


def test_the_golden_files_are_small_and_all_here():
    """Ground truth: the folders in the repository; a few kilobytes each."""
    files = [p for folder in (VALUES, RUN) for p in folder.rglob("*") if p.is_file()]
    assert len(files) == 8 and sum(os.path.getsize(p) for p in files) < 40_000
