"""Variants of a baseline: made once, the same again, kept, and what each step is."""

import copy
import signal
from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.capstone.made import SMALL
from tinytorch import capstone, compression
from tinytorch.base.errors import FileFormatError
from tinytorch.capstone.measurement import digest_of
from tinytorch.capstone.workshop import Workshop, build_baseline_model
from tinytorch.compiler.compile import Compiled
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.training import Trainer

MODELS = (
    (), ("pruning",), ("distillation",), ("quantisation",), ("pruning", "distillation"),
    ("pruning", "distillation", "quantisation"),
)  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """One that has made everything, and keeps it in a folder."""
    made = Workshop(SMALL, 3, tmp_path_factory.mktemp("workshop"))
    for steps in MODELS:
        made.model(steps)
    return made


def test_the_same_seed_gives_the_same_models_bit_for_bit(workshop):
    """Ground truth: another workshop, in another order; another seed differs."""
    again = Workshop(SMALL, 3)
    for steps in reversed(MODELS):
        assert digest_of(again.model(steps)) == digest_of(workshop.model(steps)), steps
    assert digest_of(Workshop(SMALL, 4).baseline) != digest_of(workshop.baseline)
    assert digest_of(build_baseline_model(SMALL, 3)) == digest_of(workshop.baseline)


def test_a_kept_workshop_trains_nothing_again(workshop, monkeypatch):
    """Ground truth: a Trainer that refuses; the weights are those that were kept."""

    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "train", refuse)
    again = Workshop(SMALL, 3, workshop.folder)
    for steps in MODELS:
        assert digest_of(again.model(steps)) == digest_of(workshop.model(steps)), steps
    with pytest.raises(AssertionError, match="trained again"):
        _ = Workshop(SMALL, 3).baseline


def test_each_step_is_the_function_of_compression(workshop):
    """Ground truth: the functions called here, in the order of the table, bit for bit."""
    whole, picture = workshop.baseline, workshop.picture
    half = compression.prune_channels(whole, picture, SMALL.ratio)
    pruned = workshop.model(["pruning"])
    assert [p.shape for p in pruned.parameters()] == [p.shape for p in half.parameters()]
    assert digest_of(pruned) != digest_of(half), "trained again"
    shown = np.stack([workshop.train[i][0] for i in range(SMALL.calibration)])
    rounded = compression.quantize(pruned, calibration=[shown])
    found = workshop.model(["quantisation", "pruning"])
    assert digest_of(rounded) == digest_of(found)
    assert any(isinstance(m, QuantizedWeight) for m in found.modules())
    assert digest_of(whole) == digest_of(workshop.model(["acceleration", "caching"]))


def test_the_teacher_is_the_baseline(workshop):
    """Ground truth: with alpha = 0 the teacher says nothing, and the student is the pruned one
    trained on labels alone, to the rounding of two programs."""
    untaught = Workshop(replace(SMALL, alpha=0.0), 3, None)
    student = untaught.model(["pruning", "distillation"])
    for a, b in zip(student.parameters(), workshop.model(["pruning"]).parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=0, atol=1e-3)
    taught = workshop.model(["pruning", "distillation"])
    assert digest_of(taught) != digest_of(student)


def test_how_a_model_is_run(workshop):
    """Ground truth: types and settings of what is handed out."""
    assert workshop.program() is workshop.baseline
    assert workshop.program(["caching"]) is workshop.baseline
    plain, kept = workshop.program(["acceleration"]), workshop.program(["acceleration", "caching"])
    assert isinstance(plain, Compiled) and not plain.freeze and kept.freeze


def test_ctrl_c_keeps_nothing_half_done(tmp_path, monkeypatch):
    """Ground truth: the folder, and the weights of a run that was never stopped."""
    real = Trainer._end_epoch

    def then_stop(self, validation):
        real(self, validation)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_end_epoch", then_stop)
    with pytest.raises(KeyboardInterrupt):
        _ = Workshop(SMALL, 3, tmp_path).baseline
    assert not (tmp_path / "baseline.safetensors").exists() and (tmp_path / "baseline").is_dir()
    monkeypatch.setattr(Trainer, "_end_epoch", real)
    on, whole = Workshop(SMALL, 3, tmp_path), Workshop(SMALL, 3)
    assert digest_of(on.baseline) == digest_of(whole.baseline)


def test_damaged_weights_are_refused(workshop, tmp_path):
    """Ground truth: a file cut short."""
    whole = (workshop.folder / "baseline.safetensors").read_bytes()
    (tmp_path / "baseline.safetensors").write_bytes(whole[:-1])
    with pytest.raises(FileFormatError):
        _ = Workshop(SMALL, 3, tmp_path).baseline


def test_the_baseline_that_comes_trained():
    """Ground truth: the shipped network; no training, no data."""
    shipped = tt.models.pretrained("cifar10")
    assert digest_of(capstone.build_baseline_model()) == digest_of(shipped)
    assert copy.deepcopy(shipped).training is False
