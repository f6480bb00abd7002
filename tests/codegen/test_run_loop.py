"""The text of the native loop: what it asks the system, how shared memory is laid out."""

import dataclasses

import llvmlite.binding as llvm
import pytest

from tinytorch.codegen import engine, run_loop
from tinytorch.codegen.target import Target


@pytest.mark.parametrize("architecture, number", [("x86_64", 202), ("aarch64", 98)])
def test_waiting_asks_the_system_by_its_number(architecture, number):
    """Ground truth: futex in Linux' arch/x86/entry/syscalls/syscall_64.tbl and in
    include/uapi/asm-generic/unistd.h."""
    text = run_loop._waiting(Target.named("vector128", architecture))
    assert text.count(f"@syscall(i64 {number},") == 2


def test_what_threads_share_lies_in_lines_of_its_own():
    """A futex word that is not aligned is refused by the system: nobody would ever sleep."""
    places = [
        run_loop.TEAM_TAG, run_loop.TEAM_TABLE, run_loop.TEAM_IDLE_BELL, run_loop.TEAM_STAGE_BELL,
        run_loop.TEAM_SPIN, run_loop.TEAM_SLOTS,
    ]  # fmt: skip
    assert places == sorted(set(places))
    assert all(p % run_loop.CACHE_LINE == 0 for p in places)


def test_records_and_counters_do_not_overlap():
    """Closed form: a record is four words; a counter's two words lie in lines of their own; the
    words of a table's head, by their names, are all different and inside it."""
    assert run_loop.RECORD_BYTES == 4 * 8
    assert run_loop.COUNTER_BYTES == 2 * run_loop.CACHE_LINE
    table = {n: x for n, x in vars(run_loop).items() if n.startswith("TABLE_")}
    head = [x for name, x in table.items() if name != "TABLE_BYTES"]
    assert len(set(head)) == len(head) and max(head) + 8 <= run_loop.TABLE_BYTES
    assert all(x % 8 == 0 for x in head)
    assert run_loop.TABLE_BYTES % run_loop.CACHE_LINE == 0
    # Kernels write the status while others read the words before it.
    assert run_loop.TABLE_STATUS % run_loop.CACHE_LINE == 0


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin"])
def test_every_system_gets_text_that_llvm_reads(triple):
    """Ground truth: LLVM's parser; without a futex the loop sleeps and looks again."""
    target = dataclasses.replace(Target.named("vector128", "x86_64"), triple=triple)
    text = run_loop.run_loop_text(target)
    module = llvm.parse_assembly(text)
    assert {f.name for f in module.functions if not f.is_declaration} >= set(run_loop.NAMES)
    assert ("@syscall(" in text) == ("linux" in triple) == ("@usleep(" not in text)
    assert engine.compile_text(text, Target.named("vector128", "x86_64"))
