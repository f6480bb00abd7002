"""Runs that are killed with SIGKILL and resumed. A hundred kills: python scripts/killed_runs."""

import os
import random

import pytest

from tests.training.kills import Reference, killed_run, start


@pytest.fixture(scope="module")
def references():
    return {compiled: Reference(compiled) for compiled in (False, True)}


@pytest.mark.parametrize(
    ("loader", "compiled"), [("none", False), ("threads", True), ("processes", False)]
)
def test_a_killed_run_ends_as_if_nothing_had_happened(references, loader, compiled):
    """Ground truth: the digest of a run that was never killed: every bit of its state.

    Killed at two moments drawn at random, each time resumed from what lay on the disk.
    """
    choose = random.Random(f"{loader} {compiled}")
    assert killed_run(references[compiled], loader, 2, choose, clock=False) >= 1


@pytest.mark.parametrize("die", ["write:400", "fsync:51", "rename:20", "remove:25"])
def test_killed_in_the_middle_of_a_save(references, tmp_path, die):
    """Ground truth: as above; the moments are inside a save: a file, a rename, a removal."""
    folder = tmp_path / "run"
    assert start(folder, "none", False, die).code == -9
    ended = start(folder, "none", False)
    assert ended.answer is not None, ended.errors
    assert ended.answer["digest"] == references[False].digest
    assert all(name.startswith("step-") for name in os.listdir(folder))
