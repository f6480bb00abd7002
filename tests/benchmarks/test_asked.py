"""What was asked: every row exists, and numbers are read off it the right way round."""

import importlib

import pytest

from benchmarks import asked
from benchmarks.__main__ import CASES
from benchmarks.asked import TABLES, Asked

EVERY = [a for table in TABLES.values() for a in table]
MACHINE = {"limits": {"float32": 100.0, "bf16": 400.0, "bandwidth": 1e9}}


@pytest.mark.parametrize("case", sorted({a.case for a in EVERY}))
def test_every_row_that_is_asked_is_measured(case):
    """Ground truth: the names of the case's settings, and the cases that "all" runs."""
    names = {s["name"] for s in importlib.import_module(f"benchmarks.cases.{case}").settings()}
    assert {a.row for a in EVERY if a.case == case} <= names
    assert case in CASES


def test_no_number_is_asked_twice():
    """Ground truth: counting names."""
    assert len({a.name() for a in EVERY}) == len(EVERY)


def test_the_fastest_peer_counts_whichever_way_it_was_started():
    """Ground truth: the least ratio; a peer that is named counts by its own."""
    row = {"ratios": {
        "eager, unlocked": {"ratio": 1.9, "low": 1.8, "high": 2.0},
        "compile, as installed": {"ratio": 1.5, "low": 1.4, "high": 1.6},
        "jax": {"ratio": 3.0, "low": 2.9, "high": 3.1},
    }}  # fmt: skip
    assert Asked("c", "r", 1.5).value(row) == 1.5 and Asked("c", "r", 1.5).holds(row)
    assert not Asked("c", "r", 1.51).holds(row)
    assert Asked("c", "r", 2.0, asked.than("jax", "than JAX")).holds(row)
    assert Asked("c", "r", 2.0, asked.than("eager", "")).found_text(row) == (
        "1.90 [1.80, 2.00] does not hold"
    )


def test_rows_kept_before_ratios_were_have_the_fastest_of_each_way():
    """Ground truth: the smaller of the two."""
    row = {"against": {"as installed": {"ratio": 2.4}, "unlocked": {"ratio": 2.2}}}
    assert Asked("c", "r", 2.0).value(row) == 2.2


def test_times_memory_and_growth_must_not_exceed_what_is_asked():
    """Ground truth: 0.4 s of 0.5 s, 300 of 600 MB, 8 s to 2 s, and the same the other way."""
    row = {
        "seconds": {"ours, cold": 0.4, "ours, 160 layers": 2.0, "ours, 640 layers": 8.0},
        "megabytes": {"ours": 300.0, "PyTorch eager": 600.0, "PyTorch compile": 700.0},
    }
    cold = Asked("c", "r", 0.5, asked.seconds("ours, cold", "cold"))
    assert (cold.bound_text(), cold.found_text(row)) == ("<= 500 ms", "400.00 ms holds")
    memory = asked.share("ours", "PyTorch", "of PyTorch's")
    assert Asked("c", "r", 0.6, memory).found_text(row) == "50 % holds"
    assert Asked("c", "r", 0.45, memory).found_text(row) == "50 % does not hold"
    assert Asked("c", "r", 4.5, asked.DEEPER).value(row) == 4.0


def test_more_threads_than_cores_are_compared_with_the_best_number():
    """Ground truth: 2.1 s with 16 threads, 2.0 s with 2, the best."""
    row = {"seconds": {"1 threads": 3.9, "2 threads": 2.0, "3 threads": 2.2, "16 threads": 2.1}}
    assert Asked("c", "r", 1.03, asked.THREADS_16).value(row) == pytest.approx(1.05)
    assert not Asked("c", "r", 1.03, asked.THREADS_16).holds(row)


def test_the_peak_is_that_of_the_rows_own_number_type():
    """Ground truth: 100 operations take 1 s at the float32 peak and 0.25 s at that of bfloat16."""
    row = {"seconds": {"ours": 2.0}, "work": {"operations": 100, "bytes": 0}, "machine": MACHINE}
    for precision, share in (("float32", 0.5), ("bf16", 0.125)):
        found = Asked("c", "r", 0.85, asked.PEAK).value(row | {"setting": {"precision": precision}})
        assert found == share


def test_a_number_that_an_earlier_row_does_not_have_is_not_made_up():
    """Ground truth: None, for each kind of reading, from a row that has other numbers."""
    row = {
        "seconds": {"1 threads": 1.0}, "against": {}, "megabytes": {"ours": 1.0},
        "work": {"operations": 0, "bytes": 0}, "machine": MACHINE,
    }  # fmt: skip
    readings = (
        asked.FASTER, asked.PEAK, asked.THREADS_16, asked.DEEPER, asked.than("jax", ""),
        asked.against("2 threads", ""), asked.seconds("ours", ""),
        asked.share("ours", "PyTorch", ""),
    )  # fmt: skip
    for reading in readings:
        question = Asked("c", "r", 1.0, reading)
        assert question.found_text(row) is None and not question.holds(row)
