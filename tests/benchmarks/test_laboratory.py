"""The numbered versions of the kernel laboratory, what is counted of them, and their tables.

Ground truth: products, attention and convolutions in float64; counts by hand; text of llvm-mca.
"""

import shutil

import numpy as np
import pytest

from benchmarks.laboratory import attention, convolution, fusion, matmul, port_model, tables
from benchmarks.laboratory.port_model import ask, cycles_of, flops_of, inner_loop
from benchmarks.laboratory.versions import Version, check, measure, table
from tinytorch.codegen.target import Target, runnable_names


@pytest.mark.parametrize("target", runnable_names())
def test_every_product_is_right(target):
    """Ground truth: float64; sizes that divide by the target's tile."""
    n = 448 if Target.named(target).registers == 32 else 96  # blocks of 14 rows, or of 6
    for version in matmul.versions(Target.named(target), 2, n, 24):
        check(version, matmul.expected(version, n, 24))


def test_every_attention_is_right():
    """Ground truth: all scores in float64."""
    for version in attention.versions(Target.host(), 3, 128):
        check(version, attention.expected(version, 3, 128))


def test_every_convolution_is_right():
    """Ground truth: im2col in float64, and that against loops in Python."""
    shape, small = (2, 8, 10, 12), (1, 3, 5, 6)
    for version in convolution.versions(Target.host(), shape, small):
        check(version, convolution.expected(version, shape, small))


def test_every_chain_is_right_and_moves_less(monkeypatch):
    """Ground truth: eager; bytes by hand for add + ReLU: 3 arrays fused, at least 5 alone."""
    monkeypatch.setattr(fusion, "ROWS", 32)
    monkeypatch.setattr(fusion, "COLUMNS", 48)
    pairs = fusion.pairs(Target.host())
    for pair in pairs:
        check(pair.fused, np.asarray(pair.alone.call(), np.float64))
        assert pair.fused.bytes < pair.alone.bytes
    (added,) = [p for p in pairs if p.name == "add + ReLU"]
    assert added.fused.bytes == 3 * 4 * 32 * 48
    assert added.alone.bytes >= 5 * 4 * 32 * 48


def test_a_wrong_version_is_not_timed():
    """Ground truth: one number that is wrong by a thousandth of the largest."""
    right = np.ones(5)
    wrong = right + np.array([0, 0, 1e-3, 0, 0])
    with pytest.raises(AssertionError, match="a name"):
        measure([Version("a name", lambda: wrong, 5)], lambda _: right, rounds=1)
    (timed,) = measure([Version("a name", lambda: right, 5)], lambda _: right, rounds=1)
    assert timed.seconds > 0 and timed.rate == pytest.approx(5e-9 / timed.seconds)


ASSEMBLY = """
f:
.LBB0_1:
\tvmovups\t(%rsi), %zmm1
\tvfmadd231ps\t(%rax){1to16}, %zmm1, %zmm2
\tvfmadd231ps\t%zmm1, %zmm0, %zmm3 # a remark
\taddq\t$1, %rcx
\tjne\t.LBB0_1
.LBB0_2:
\tvmulss\t%xmm1, %xmm2, %xmm3
\tvaddss\t%xmm1, %xmm2, %xmm3
\tjl\t.LBB0_2
\tret
"""


def test_the_inner_loop_is_the_one_that_computes_most():
    """By hand: two multiply-adds of 16 lanes are 64 operations; a scalar one and one are 2."""
    loop = inner_loop(ASSEMBLY)
    assert loop[0].startswith("vmovups") and loop[-1].startswith("jne") and len(loop) == 5
    assert flops_of(loop) == 64
    assert flops_of(["vmulss\t%xmm1, %xmm2, %xmm3", "addss\t%xmm1, %xmm2"]) == 2
    assert flops_of(["vaddps\t%ymm1, %ymm2, %ymm3", "jne\t.L"]) == 8
    assert inner_loop("f:\n\tret\n") == []


def test_what_the_model_says_is_read(monkeypatch):
    """By hand, from llvm-mca's summary; without the program nothing is said."""
    assert cycles_of("Iterations:        200\nInstructions: 3\nTotal Cycles:      3012\n") == 15.06
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert ask(ASSEMBLY) is None


@pytest.mark.skipif(shutil.which(port_model.LLVM_MCA) is None, reason="llvm-mca is not installed")
def test_the_model_is_of_a_processor_with_such_registers():
    """Bounds: Ice Lake has at most 2 multiply-adds of 16 lanes a cycle: 64 operations."""
    said = ask(ASSEMBLY)
    assert said.model == "icelake-server" and said.flops == 64 and 0 < said.rate <= 64


def rows():
    said = {"model": "m", "cycles": 2.0, "model_flops": 64}
    plain = {"bytes": 40, "limit": "l", "reference": False}
    return [
        {"name": "slow", "seconds": 1.0, "flops": 10, **plain},
        {"name": "fast", "seconds": 0.5, "flops": 20, **plain, **said},
        {"name": "theirs", "seconds": 1.0, "flops": 5, **plain, "bytes": 0, "reference": True},
    ]


def test_a_ladder_says_what_each_version_gained():
    """By hand: 10, 40 and 5 operations a second at a peak of 100."""
    lines = tables.ladder(rows(), 100.0).split("\n")[2:]
    slow, fast, theirs = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert slow[:3] == ["1", "slow", "1 s"] and slow[4:8] == ["10.0%", "", "1", "4"]
    assert fast[4:9] == ["40.0%", "4", "4", "2", "32.0"]
    assert theirs[0] == "-" and theirs[4:9] == ["5.0%", "", "0.5", "", ""]


def test_tables_of_kept_results_name_every_version():
    """Ground truth: the versions' names, where the kept results were measured on such a target."""
    kept = tables.kept_results()
    made = tables.sections(kept)
    for name in tables.LADDERS:
        assert all(row["name"] in made[name] for row in kept[name])
        assert made[name].count("\n") == len(kept[name]) + 1
    assert [row["name"] for row in kept["fusion"]] == list(fusion.chains())
    again = tables.with_tables("<!-- asked: begin -->\nold\n<!-- asked: end -->", kept)
    assert again == tables.marked("asked", made["asked"])


def test_a_table_in_markdown():
    """By hand."""
    assert table([("a", "b", "c"), ("1", "2", "3")]) == (
        "| a | b | c |\n| --- | --- | --: |\n| 1 | 2 | 3 |"
    )
