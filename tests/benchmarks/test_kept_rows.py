"""Kept measurements: one row for each name and kind of machine."""

from benchmarks.kept_rows import keep, kept
from benchmarks.machine import KINDS, OTHER_KIND, circumstances, kind

AMX = {"processor": {"has": ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]}, "commit": "old"}
BF16 = {"processor": {"has": ["avx2", "avx512f", "avx512_bf16"]}, "commit": "new"}


def test_a_run_on_one_kind_of_machine_leaves_the_rows_of_the_other(tmp_path):
    """Ground truth: the rows as they were written, by name and commit of the machine."""
    keep("made", AMX, [{"name": "a", "n": 1}, {"name": "b", "n": 2}], tmp_path)
    keep("made", BF16, [{"name": "a", "n": 3}], tmp_path)
    assert kept("made", tmp_path) == [
        {"name": "a", "n": 1, "machine": AMX},
        {"name": "b", "n": 2, "machine": AMX},
        {"name": "a", "n": 3, "machine": BF16},
    ]


def test_a_row_measured_again_on_its_kind_of_machine_is_replaced_and_others_stay(tmp_path):
    """Ground truth: of each name and kind the last one is left."""
    later = BF16 | {"commit": "later"}
    keep("made", BF16, [{"name": "a", "n": 1}, {"name": "b", "n": 2}], tmp_path)
    keep("made", later, [{"name": "a", "n": 3}], tmp_path)
    found = [(row["name"], row["n"], row["machine"]["commit"]) for row in kept("made", tmp_path)]
    assert found == [("b", 2, "new"), ("a", 3, "later")]


def test_without_rows_nothing_is_written(tmp_path):
    """Ground truth: the empty folder; a case that was never kept has no rows."""
    keep("made", BF16, [], tmp_path)
    assert kept("made", tmp_path) == [] and not list(tmp_path.iterdir())


def test_a_machine_is_of_the_best_kind_whose_flag_it_has():
    """Ground truth: AMX comes with AVX-512 and BF16, those with AVX2; the flags of cpuinfo."""
    assert kind(AMX) == "AVX-512 with AMX"
    assert kind(BF16) == "AVX-512 with BF16"
    assert kind({"processor": {"has": ["avx2", "avx512f"]}}) == "AVX-512"
    assert kind({"processor": {"has": ["avx2"]}}) == "AVX2"
    assert kind({"processor": {"name": "arm"}}) == OTHER_KIND
    assert kind(circumstances(1)) in (*KINDS, OTHER_KIND)
