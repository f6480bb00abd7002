"""Targets and challenges: what is read of them, and what is refused."""

from dataclasses import replace

import pytest

from tinytorch import capstone
from tinytorch.base.errors import SettingError
from tinytorch.capstone.challenge import METRICS, STEPS, Target, in_order


def test_the_documents_metrics():
    """Ground truth: the founding document's dictionary; 75 is enough, 10 ms is too long."""
    targets = {t.name: t for t in capstone.targets_of(METRICS)}
    assert {name: str(t) for name, t in targets.items()} == {
        "accuracy_target": ">= 75 %", "inference_time": "< 10 ms", "memory_usage": "< 100 MB",
        "model_size": "< 10 MB",
    }  # fmt: skip
    assert targets["accuracy_target"].met(75.0) and not targets["accuracy_target"].met(74.99)
    assert targets["inference_time"].met(9.99) and not targets["inference_time"].met(10.0)


@pytest.mark.parametrize(
    ("given", "bound"),
    [("<2s", 2000.0), ("< 250 us", 0.25), (7, 7.0), ("<0.5ms", 0.5)],
)
def test_units(given, bound):
    """Closed form: a second has 1000 ms, a ms 1000 us; a bare number is in ms."""
    (target,) = capstone.targets_of({"inference_time": given})
    assert target == Target("inference_time", bound, "ms", False)


@pytest.mark.parametrize(
    ("metrics", "phrase"),
    [
        ({"accuracy": 75}, "nothing is measured under this name"),
        ({"accuracy_target": 101}, "accuracy_target is outside its range"),
        ({"accuracy_target": "high"}, "accuracy_target is outside its range"),
        ({"inference_time": "10ms"}, "this target is no bound"),
        ({"inference_time": "<10MB"}, "this target is no bound"),
        ({"model_size": "<ten MB"}, "this target is no bound"),
        ({"model_size": 0}, "model_size is outside its range"),
        ({"memory_usage": None}, "memory_usage is outside its range"),
    ],
)
def test_targets_that_say_nothing(metrics, phrase):
    """Ground truth: the message, with its four parts."""
    with pytest.raises(SettingError, match=phrase) as caught:
        capstone.targets_of(metrics)
    assert caught.value.got and caught.value.rule and caught.value.fix


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"epochs": 0}, "epochs is not a whole number"),
        ({"again": 1.5}, "again is not a whole number"),
        ({"pictures": 0}, "pictures is not a whole number"),
        ({"calibration": 0}, "calibration is not a whole number"),
        ({"ratio": 1.0}, "ratio is outside its range"),
        ({"ratio": {"layer1": 0.5, "layer2": -1}}, "ratio is outside its range"),
        ({"lr": 0}, "lr is outside its range"),
        ({"alpha": 2}, "alpha is outside its range"),
        ({"temperature": 0}, "temperature is outside its range"),
        ({"steps": ("pruning", "luck")}, "there is no such step"),
        ({"metrics": {"speed": 1}}, "nothing is measured under this name"),
    ],
)
def test_settings_outside_their_range(settings, phrase):
    """Ground truth: the message names the setting."""
    with pytest.raises(SettingError, match=phrase):
        replace(capstone.DIGITS, **settings)


def test_steps_are_done_in_the_order_of_the_table():
    """Ground truth: STEPS; a step is done once."""
    assert in_order(reversed(list(STEPS))) == tuple(STEPS)
    assert in_order(["pruning", "pruning"]) == ("pruning",) and in_order(()) == ()


def test_a_part_of_the_data_is_its_beginning():
    """Ground truth: the whole data set."""
    whole, part = capstone.DIGITS.part(False), replace(capstone.DIGITS, tests=3).part(False)
    assert len(part) == 3 and len(whole) == 355
    assert all(part[i][1] == whole[i][1] for i in range(3))
    quick = capstone.quick(capstone.CIFAR10)
    assert quick.pictures < 50_000 and quick.epochs < capstone.CIFAR10.epochs
    assert replace(quick, ratio={"a": 0.5}).settings()["ratio"] == {"a": 0.5}
    assert quick.settings()["tests"] == 1000 and "transform" not in quick.settings()
