"""What is measured of a model."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import capstone, compression, models, nn
from tinytorch.base.errors import ArgumentTypeError
from tinytorch.capstone import measurement as measuring
from tinytorch.capstone.measurement import Measurement, answers, digest_of, median_seconds
from tinytorch.data import ArrayDataset


@pytest.fixture
def hurried(monkeypatch):
    """Timings of five calls."""
    monkeypatch.setattr(measuring, "SECONDS", 0.0)


def sums():
    """A model whose answers are known: the index of the largest of three inputs."""
    net = nn.Linear(3, 3, bias=False)
    net.weight.data = tt.Tensor(np.eye(3, dtype=np.float32))
    return net


def test_accuracy_counts_each_sample_once(hurried, monkeypatch):
    """Closed form: 7 of 10 labels fit, though batches hold 4 and the last one is filled up."""
    monkeypatch.setattr(measuring, "BATCH", 4)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 2, 0, 1])
    x = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2, 0, 0, 1, 2]]
    found = capstone.evaluate(sums(), ArrayDataset(x, labels))
    assert found.accuracy == pytest.approx(70.0)
    logits, known = answers(sums(), ArrayDataset(x, labels))
    np.testing.assert_array_equal(logits, x)
    np.testing.assert_array_equal(known, labels)


def test_bytes_flops_and_memory(hurried):
    """Closed form: 9 numbers of 4 bytes, 2 operations each; of a program the memory is the weights
    and what it says that it works in."""
    data = ArrayDataset(np.eye(3, dtype=np.float32), np.arange(3))
    net = sums()
    fast = compression.apply_acceleration(net)
    eager, found = capstone.evaluate(net, data), capstone.evaluate(fast, data)
    assert (found.bytes, found.flops) == (eager.bytes, eager.flops) == (36, 18)
    assert found.memory == 36 + fast.workspace(tt.Tensor(np.eye(3, dtype=np.float32)[:1]))
    assert eager.memory > 36 and found.weights == eager.weights


def test_the_digest_is_of_every_number():
    """Invariant: one changed bit is another digest, a copy the same."""
    net, same = sums(), sums()
    assert digest_of(net) == digest_of(same) and len(digest_of(net)) == 12
    values = np.eye(3, dtype=np.float32)
    values[2, 2] = np.nextafter(np.float32(1), np.float32(2))
    same.weight.data = tt.Tensor(values)
    assert digest_of(net) != digest_of(same)


def test_speedup_and_targets():
    """Closed form: 20 ms over 4 ms; each number against its own bound, in its unit."""
    slow = Measurement(80.0, 20.0, 200_000_000, 20_000_000, 10, "")
    fast = Measurement(74.0, 4.0, 99_000_000, 9_000_000, 5, "")
    assert fast.speedup(slow) == 5.0
    targets = capstone.targets_of(capstone.METRICS)
    assert list(fast.met(targets).values()) == [False, True, True, True]
    assert list(slow.met(targets).values()) == [True, False, False, False]


def test_the_median_of_calls(monkeypatch):
    """Closed form: calls of 1, 5, 2, 4, 3 ticks after one that warms up and does not count."""
    ticks = iter(np.cumsum([0, 1, 0, 5, 0, 2, 0, 4, 0, 3]))
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert median_seconds(lambda: calls.append(1)) == 3 and len(calls) == 6


def test_what_is_no_model():
    """Ground truth: the message."""
    for wrong in (3, lambda x: x, tt.compile(lambda x: x)):
        with pytest.raises(ArgumentTypeError, match="evaluate: this is no model"):
            capstone.evaluate(wrong)


@pytest.mark.data
def test_the_documents_first_calls(hurried):
    """Ground truth: what the file of the shipped network says of itself, on the official test
    pictures; the founding document's lines as they stand."""
    baseline = capstone.build_baseline_model()
    baseline_metrics = capstone.evaluate(baseline)
    said = 100 * float(models.pretrained_facts("cifar10")["accuracy"])
    assert baseline_metrics.accuracy == pytest.approx(said, abs=0.011)
    met = baseline_metrics.met(capstone.targets_of(capstone.METRICS))
    assert met["accuracy_target"] and met["memory_usage"] and met["model_size"]
    bottlenecks = capstone.profile_system(baseline)
    assert "convolution" in bottlenecks[0].what
