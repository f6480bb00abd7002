"""The measuring harness: what it refuses, what it computes, and its own worker protocol."""

import importlib
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import harness, kept_rows
from benchmarks.__main__ import CASES
from benchmarks.statistics import ratio, typical


def test_a_ratio_lies_in_its_interval_and_noise_that_hits_both_cancels():
    """Ground truth: the second side takes half as long, whatever a neighbour does to a round."""
    draw = random.Random(0)
    slow, fast = [], []
    for _ in range(20):
        neighbour = draw.uniform(1.0, 1.5)
        slow.append([2.0 * neighbour * draw.uniform(0.99, 1.01) for _ in range(5)])
        fast.append([1.0 * neighbour * draw.uniform(0.99, 1.01) for _ in range(5)])
    found = ratio(slow, fast)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert found["ratio"] == pytest.approx(2.0, rel=0.1)
    assert found["high"] - found["low"] < 0.2
    assert typical([[1.0, 9.0, 1.0], [3.0], [2.0]]) == 2.0


def test_sides_that_do_not_agree_are_not_timed():
    """Ground truth: the rule that correctness comes first."""

    class Case:
        @staticmethod
        def tolerance(setting):
            return 1e-3

    x = {"loss": np.array([1.0, 2.0])}
    assert harness.difference(x, {"loss": np.array([1.0, 2.002])}) == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(RuntimeError, match="results differ"):
        harness.check(Case, {"name": "made"}, {"peer": 2e-3})
    peers = [
        harness.Player("a way", None, shown={"loss": np.array([1.0, at])})
        for at in (2.0, 2.0, 2.003)
    ]
    assert harness.spread(peers) == pytest.approx(1.5e-3, rel=0.01)
    harness.check(Case, {"name": "made"}, {"peer": 2e-3}, harness.spread(peers))
    with pytest.raises(RuntimeError, match="results differ"):
        harness.check(Case, {"name": "made"}, {"peer": 4e-3}, harness.spread(peers))
    with pytest.raises(RuntimeError, match="not finite"):
        harness.difference(x, {"loss": np.array([1.0, np.nan])})
    with pytest.raises(RuntimeError, match="different things"):
        harness.difference(x, {"other": np.zeros(2)})


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_what_the_harness_asks_for(name):
    """Ground truth: the list in benchmarks/cases/__init__.py."""
    case = importlib.import_module(f"benchmarks.cases.{name}")
    assert case.TITLE
    settings = case.settings()
    assert len({s["name"] for s in settings}) == len(settings) > 0
    if not hasattr(case, "measure"):
        for setting in settings:
            assert case.variants(setting) and case.tolerance(setting) >= 0
            assert len(case.work(setting)) == 2


def test_a_worker_answers_and_reports_faults(tmp_path):
    """Ground truth: the protocol in benchmarks/worker.py, on our side of the smallest case."""
    case = importlib.import_module("benchmarks.cases.overhead")
    setting = case.settings()[0]
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, **case.inputs(setting))
    player = harness.start("ours", 1, {"TINYTORCH_CACHE": str(tmp_path / "cache")})
    try:
        order = {"case": "overhead", "setting": setting, "variant": "ours"}
        player.ask(do="prepare", inputs=str(inputs), shown=str(tmp_path / "shown.npz"), **order)
        given = case.inputs(setting)
        with np.load(tmp_path / "shown.npz") as shown:
            np.testing.assert_array_equal(shown["state"], given["state"] + given["x"])
        times = player.ask(do="block", seconds=0.01)["times"]
        assert len(times) >= 3 and min(times) > 0
        with pytest.raises(RuntimeError, match="ours: "):
            player.ask(do="prepare", inputs="nowhere.npz", **order)
    finally:
        player.close()
    assert player.process.returncode == 0


def test_peers_that_are_far_behind_leave_and_the_fastest_of_each_way_stays():
    """Ground truth: 1.5 times the fastest of the same way; ours never leaves, nor does a peer that
    is alone in its way."""

    class Process:
        def poll(self):
            return 0

        class stdout:
            @staticmethod
            def close():
                pass

    def player(name, seconds):
        return harness.Player(name, Process(), [[seconds]])  # pyright: ignore

    players = [
        player("ours", 9.0),
        player("ours again", 9.0),
        player("eager, as installed", 4.0),
        player("compile, as installed", 7.0),
        player("eager, unlocked", 1.4),
        player("compile, unlocked", 1.0),
        player("jax", 8.0),
    ]
    left = {p.name for p in players} - {p.name for p in harness.contenders(players)}
    assert left == {"compile, as installed"}


def test_variants_without_mkl_are_started_one_way(monkeypatch):
    """Ground truth: the rule in `harness.sides`, where there is a library that unlocks."""
    monkeypatch.setattr(harness, "unlocking_library", lambda folder: folder / "made.so")

    class Case:
        WITHOUT_MKL = ("jax",)

        @staticmethod
        def variants(setting):
            return ["eager", "jax"]

    found = {name: extra for name, _, extra in harness.sides(Case, {}, Path("/nowhere"))}
    assert list(found) == ["ours", "ours again", "eager, as installed", "eager, unlocked", "jax"]
    assert [name for name, extra in found.items() if extra] == ["eager, unlocked"]


def test_the_duration_is_what_the_rows_took_on_this_kind_of_machine(monkeypatch):
    """Ground truth: 60 s here, 600 s on another kind for a row that was not measured here, and one
    row that nobody measured."""
    here = {"processor": {"has": ["avx2"]}}
    rows = [
        {"name": "a", "took": 60.0, "machine": here},
        {"name": "a", "took": 999.0, "machine": {"processor": {"has": ["amx_bf16"]}}},
        {"name": "b", "took": 600.0, "machine": {"processor": {"has": ["amx_bf16"]}}},
        {"name": "c", "machine": here},
    ]
    monkeypatch.setattr(kept_rows, "kept", lambda case: rows)
    text = command.duration({"made": [{"name": n} for n in "abc"]}, "AVX2")
    assert text == "about 11 min, and 1 measurements that were not timed before"
