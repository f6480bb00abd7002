"""Ground truth: sums in NumPy; what codegen/team.py says of runs, aborts, forks and threads,
of what its native loop asks the system, and of how shared memory is laid out."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from tinytorch.base.errors import CompileError, OutOfMemoryError, SettingError
from tinytorch.codegen import cache, engine, team
from tinytorch.codegen.kernel import build
from tinytorch.codegen.target import Target
from tinytorch.codegen.team import Crew, Gate, StageTable, Team, tile_configuration

ROOT = Path(__file__).resolve().parents[2]


def _increment(f, p):
    at = f.at(p["x"], f.tile, "i64")
    f.store(f.add(f.load(at, "i64"), f.load(p["by"], "i64")), at)


def _total(f, p):
    total = f.index(0)
    with f.loop("i", 0, 64, carry=[total]) as i:
        i.next(f.add(i.carried[0], f.load(f.at(p["x"], i.index, "i64"), "i64")))
    f.store(i.results[0], p["out"])


def _fail(f, p):
    f.store(f.index(7), p["status"])


def _scratch(f, p):
    """Fill the thread's scratch with the tile's number, then add it up: 512 words."""
    with f.loop("i", 0, 512) as i:
        f.store(f.tile, f.at(f.scratch, i.index, "i64"))
    with f.loop("j", 0, 512, carry=[f.index(0)]) as j:
        j.next(f.add(j.carried[0], f.load(f.at(f.scratch, j.index, "i64"), "i64")))
    f.store(j.results[0], f.at(p["out"], f.tile, "i64"))


@pytest.fixture(scope="module")
def kernels():
    parts = {
        "increment": build("increment", ["x", "by"], _increment, tiles=64),
        "total": build("total", ["x", "out"], _total, tiles=1),
        "fail": build("fail", ["status"], _fail, tiles=1),
        "scratch": build("scratch", ["out"], _scratch, tiles=64, scratch=4096),
    }
    text = engine.module_text(parts.values())
    library = engine.load([engine.compile_text(text, Target.host())], list(parts))
    library.keep()
    return library


class Sums:
    """A program whose every stage needs the one before: increments and totals in turn."""

    def __init__(self, kernels, rounds=10):
        self.x, self.by = np.zeros(64, np.int64), np.ones(1, np.int64)
        self.out = np.zeros(rounds, np.int64)
        x, by, out = (a.ctypes.data for a in (self.x, self.by, self.out))
        stages = []
        for i in range(rounds):
            stages.append((kernels["increment"], 64, [x, by]))
            stages.append((kernels["total"], 1, [x, out + 8 * i]))
        self.table = StageTable(stages)

    def check(self, runs):
        rounds = self.out.size
        assert (self.x == runs * rounds).all()
        want = 64 * (rounds * (runs - 1) + np.arange(1, rounds + 1))
        assert self.out.tolist() == want.tolist()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_stages_follow_each_other_at_any_number_of_threads(kernels, threads):
    """Closed form: a total that began early would miss increments."""
    sums = Sums(kernels)
    for run in range(1, 201):
        assert Team().run(sums.table, threads) == 0
        sums.check(run)


def test_ten_thousand_runs(kernels):
    """Closed form, as above: late workers of 10,000 runs took no tile of another run."""
    sums = Sums(kernels, rounds=3)
    for _ in range(10_000):
        Team().run(sums.table, 2)
    sums.check(10_000)


def test_pointers_may_be_rewritten_between_runs(kernels):
    """Closed form: the second run adds to the other array."""
    a, b, by = np.zeros(64, np.int64), np.zeros(64, np.int64), np.full(1, 5)
    table = StageTable([(kernels["increment"], 64, [a.ctypes.data, by.ctypes.data])])
    Team().run(table, 2)
    table.pointers[table.slots(0, 0)] = b.ctypes.data
    Team().run(table, 2)
    assert (a == 5).all() and (b == 5).all()
    with pytest.raises(IndexError):
        table.slots(0, 2)


def test_no_stages_and_no_tiles(kernels):
    """Closed form: nothing happens, the stage after an empty one runs."""
    assert Team().run(StageTable([]), 2) == 0
    x, by = np.zeros(64, np.int64), np.ones(1, np.int64)
    given = [x.ctypes.data, by.ctypes.data]
    table = StageTable([(kernels["increment"], n, given) for n in (0, 64, 0)])
    assert Team().run(table, 2) == 0 and (x == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_gates_leave_stages_out(kernels, threads):
    """Closed form: what is added where a flag is so, a gate behind a gate; in every run anew."""
    x, flags = np.zeros(64, np.int64), np.zeros(2, np.uint8)
    amounts = 10 ** np.arange(5)

    def add(i):
        return kernels["increment"], 64, [x.ctypes.data, amounts.ctypes.data + 8 * i]

    stages = [Gate(1, True), add(0), Gate(4, False), add(1), Gate(1, True), add(2), add(3), add(4)]
    table = StageTable(stages)
    for stage, flag in ((0, 0), (2, 0), (4, 1)):
        table.pointers[table.slots(stage, 0)] = flags.ctypes.data + flag
    wanted = 0
    for run in range(400):
        flags[:] = run % 2, run // 2 % 2
        assert Team().run(table, threads) == 0
        first, second = flags.tolist()
        wanted += 10_000 + (1 if first else 1010 + 100 * second)
        assert (x == wanted).all()


def test_a_gate_outlives_its_flag(kernels):
    """Closed form: a stage that is run overwrites the flag; those behind it run all the same."""
    flag, by = np.ones(8, np.uint8), np.full(1, -1)
    x, one = np.zeros(64, np.int64), np.ones(1, np.int64)
    spoil = build("spoil", ["x", "by"], _increment, tiles=1)
    library = engine.load(
        [engine.compile_text(engine.module_text([spoil]), Target.host())], ["spoil"]
    )
    library.keep()
    table = StageTable([
        Gate(2, True), (library["spoil"], 1, [flag.ctypes.data, by.ctypes.data]),
        (kernels["increment"], 64, [x.ctypes.data, one.ctypes.data]),
    ])  # fmt: skip
    table.pointers[table.slots(0, 0)] = flag.ctypes.data
    for run in range(1, 401):
        flag.view(np.int64)[:] = 1
        assert Team().run(table, 3) == 0
        assert (x == run).all() and not flag.any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_status_skips_what_follows_and_is_reset(kernels, threads):
    """Closed form: stages before the failure ran, none after it; the next run begins anew."""
    x, by = np.zeros(64, np.int64), np.ones(1, np.int64)
    increment = (kernels["increment"], 64, [x.ctypes.data, by.ctypes.data])
    table = StageTable([increment, (kernels["fail"], 1, [0]), increment, increment])
    table.pointers[table.slots(1, 0)] = table.status.ctypes.data
    for run in range(1, 51):
        assert Team().run(table, threads) == 7
        assert (x == run).all()
    good = StageTable([increment])
    assert Team().run(good, threads) == 0


def test_every_thread_has_its_own_scratch(kernels):
    """Closed form: each tile finds 512 copies of its own number."""
    out = np.zeros(256, np.int64)
    table = StageTable([(kernels["scratch"], 256, [out.ctypes.data])], scratch_bytes=4096)
    for threads in (1, 3, 8, 2):
        out[:] = -1
        Team().run(table, threads)
        assert (out == 512 * np.arange(256)).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_times_grow_stage_by_stage(kernels, threads):
    """Invariant: on each thread a stage begins, its last tile ends, the next begins; the tiles of
    all threads are those of the stage; a stage begins nowhere before the last ended everywhere."""
    sums = Sums(kernels)
    times = sums.table.record_times(threads)
    assert times.shape == (threads, 21, 3)
    met = 0  # a thread that came too late for a stage has no times of it
    runs = 0
    # A worker that the system lets run late finds nothing to do: asked for longer, not for more.
    until = time.monotonic() + 60
    while runs < 50 or (threads > 1 and not met and time.monotonic() < until):
        runs += 1
        times[...] = 0
        before = time.monotonic_ns()
        Team().run(sums.table, threads)
        after = time.monotonic_ns()
        begin, end, tiles = times.transpose(2, 0, 1)
        assert (begin[0] > 0).all() and begin[0, 0] >= before and begin[0, -1] <= after
        assert tiles.sum(0)[:-1].tolist() == [64, 1] * 10
        for mine in times:
            there = mine[:-1][mine[:-1, 1] > 0]
            in_order = there[:, :2].reshape(-1)
            assert (np.diff(in_order) >= 0).all()
        last = np.where(tiles > 0, end, 0).max(0)
        for s in range(20):
            first_after = begin[:, s + 1][begin[:, s + 1] > 0]
            assert (first_after >= last[s]).all()
        met += int((tiles[1:] > 0).any())
    assert threads == 1 or met, "no worker ever took a tile"


def test_threads_that_are_not_seen_write_no_times(kernels):
    """Ground truth: memory behind the times of one thread stays as it was, at three threads."""
    sums = Sums(kernels)
    sums.table.record_times(1)
    guarded = np.full((3, 21, 3), -1, np.int64)
    sums.table._set(team.TABLE_TIMES, guarded.ctypes.data)
    for _ in range(50):
        Team().run(sums.table, 3)
    assert (guarded[0, :, 0] > 0).all() and (guarded[1:] == -1).all()


def test_two_python_threads_at_once(kernels):
    """Closed form for each of four programs run side by side."""
    programs = [Sums(kernels) for _ in range(4)]

    def work(sums):
        for _ in range(300):
            Team().run(sums.table, 2)

    threads = [threading.Thread(target=work, args=(s,)) for s in programs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for sums in programs:
        sums.check(300)


def test_tables_may_go_while_workers_are_late(kernels):
    """Invariant: 300 tables made, run and dropped in a row leave no worker in freed memory."""
    for _ in range(300):
        sums = Sums(kernels, rounds=2)
        Team().run(sums.table, 3)
        sums.check(1)
        del sums


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_runs_too(kernels):
    """Closed form in the child, whose workers were not copied by fork; then in the parent."""
    sums = Sums(kernels)
    Team().run(sums.table, 2)
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        try:
            Team().run(sums.table, 2)
            sums.check(2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    Team().run(sums.table, 2)
    sums.check(2)


def test_tiles_are_configured_on_every_thread(kernels):
    """Intel's manual, volume 1, 18.2: the bytes of palette 1; and a run with them goes well."""
    config = tile_configuration()
    assert config[0] == 1 and config[16] == 64 and config[48:56].tolist() == [16] * 8
    x, by = np.zeros(64, np.int64), np.ones(1, np.int64)
    given = [x.ctypes.data, by.ctypes.data]
    table = StageTable([(kernels["increment"], 64, given)], tiles_config=True)
    assert Team().run(table, 2) == 0 and (x == 1).all()


def test_workers_end_when_their_crew_is_stopped(kernels):
    """Invariant: stop joins every worker."""
    crew, sums = Crew(), Sums(kernels)
    crew.run(sums.table, 4)
    assert crew.workers == 3
    crew.stop()
    assert crew.workers == 0 and not crew.looks_at(sums.table.address)
    sums.check(1)


def test_a_process_ends_cleanly_with_spinning_workers():
    """Exit status 0 and nothing printed, right after a run."""
    code = (
        "from tests.codegen.test_team import *\n"
        "from tests.codegen.test_team import _increment\n"
        "k = build('increment', ['x', 'by'], _increment, tiles=64)\n"
        "l = engine.load([engine.compile_text(engine.module_text([k]), Target.host())], [k.name])\n"
        "x, by = np.zeros(64, np.int64), np.ones(1, np.int64)\n"
        "t = StageTable([(l[k.name], 64, [x.ctypes.data, by.ctypes.data])])\n"
        "print(Team().run(t, 3), x.sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 64\n", "")


def test_numbers_out_of_range_are_refused(kernels):
    """The four-part errors name what was given."""
    with pytest.raises(SettingError, match="not a number of threads"):
        Team().run(StageTable([]), 0)
    with pytest.raises(CompileError, match="a stage cannot be run"):
        StageTable([(kernels["fail"], -1, [0])])
    with pytest.raises(CompileError, match="a stage cannot be run"):
        StageTable([(0, 1, [0])])


def test_the_run_releases_the_lock_of_python(kernels):
    """Invariant: another Python thread counts while a long program runs."""
    sums, counted, stop = Sums(kernels, rounds=200), [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    for _ in range(50):
        Team().run(sums.table, 2)
    stop.set()
    counter.join()
    assert counted[0] > 0
    sums.check(50)


@pytest.mark.parametrize("architecture, number", [("x86_64", 202), ("aarch64", 98)])
def test_waiting_asks_the_system_by_its_number(architecture, number):
    """Ground truth: futex in Linux' arch/x86/entry/syscalls/syscall_64.tbl and in
    include/uapi/asm-generic/unistd.h."""
    text = team._waiting(Target.named("vector128", architecture))
    assert text.count(f"@syscall(i64 {number},") == 2


def test_what_threads_share_lies_in_lines_of_its_own():
    """A futex word that is not aligned is refused by the system: nobody would ever sleep."""
    places = [
        team.TEAM_TAG, team.TEAM_TABLE, team.TEAM_IDLE_BELL, team.TEAM_STAGE_BELL,
        team.TEAM_SPIN, team.TEAM_SLOTS,
    ]  # fmt: skip
    assert places == sorted(set(places))
    assert all(p % team.CACHE_LINE == 0 for p in places)


def test_records_and_counters_do_not_overlap():
    """Closed form: a record is four words; a counter's two words lie in lines of their own; the
    words of a table's head, by their names, are all different and inside it."""
    assert team.RECORD_BYTES == 4 * 8
    assert team.COUNTER_BYTES == 2 * team.CACHE_LINE
    table = {n: x for n, x in vars(team).items() if n.startswith("TABLE_")}
    head = [x for name, x in table.items() if name != "TABLE_BYTES"]
    assert len(set(head)) == len(head) and max(head) + 8 <= team.TABLE_BYTES
    assert all(x % 8 == 0 for x in head)
    assert team.TABLE_BYTES % team.CACHE_LINE == 0
    # Kernels write the status while others read the words before it.
    assert team.TABLE_STATUS % team.CACHE_LINE == 0


@pytest.mark.parametrize("triple", ["x86_64-unknown-linux-gnu", "x86_64-apple-darwin"])
def test_every_system_gets_text_that_llvm_reads(triple):
    """Ground truth: LLVM's parser; without a futex the loop sleeps and looks again."""
    target = dataclasses.replace(Target.named("vector128", "x86_64"), triple=triple)
    text = team.run_loop_text(target)
    module = llvm.parse_assembly(text)
    assert {f.name for f in module.functions if not f.is_declaration} >= set(team.NAMES)
    assert ("@syscall(" in text) == ("linux" in triple) == ("@usleep(" not in text)
    assert engine.compile_text(text, Target.named("vector128", "x86_64"))


def test_the_run_loop_is_kept_on_disk(tmp_path):
    """Ground truth: a second process does not generate code for it; a damaged one is made anew."""
    script = """
import sys
from tinytorch.codegen import engine, team
from tinytorch.codegen.target import Target
made = []
compile_text = engine.compile_text
engine.compile_text = lambda *given: made.append(1) or compile_text(*given)
team._loaded(Target.host())
print(len(made))
"""

    def generated() -> int:
        environment = {**os.environ, "TINYTORCH_CACHE": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert [generated() for _ in range(2)] == [1, 0]
    key = cache.program_key(Target.host().key, team.run_loop_text(Target.host()))
    cache.ProgramCache(tmp_path / "programs").put(key, [b"no object code"], {})
    assert [generated() for _ in range(2)] == [1, 0]


def test_memory_that_is_not_there_is_explained():
    """Bounds: an exbibyte, which no machine has; the error names the bytes that were asked for."""
    with pytest.raises(OutOfMemoryError, match="not enough memory") as caught:
        team.aligned_bytes(1 << 60)
    assert caught.value.got == f"{1 << 60:,} bytes"
