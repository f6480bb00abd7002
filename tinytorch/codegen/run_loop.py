"""The native loop that runs a table of stages: what the caller and every worker of a team execute.

Knows words, counters and waiting; never Python, kernels' meaning or arrays. Written as IR text, for
its atomics. The layout of the memory it shares with `team.py` is defined here.

    for each stage:  while a tile is left: take it (compare-and-swap), run the kernel on it
                     add the number of tiles done; wait until all tiles of the stage are done

Note [why a late worker does no harm]: every counter carries the number of its run (32 bits) above
the count. A worker that wakes after its run has ended finds another number, or all tiles done, and
can neither take a tile nor count one. Nobody ever waits for a worker to arrive, only for tiles.

Note [two ends]: threads with an even number take tiles from the front, the others from the back,
until they meet. So the halves of an array stay with the same threads from stage to stage and from
run to run, and in their private caches, and yet nobody waits while there is a tile to take. 16 bits
count each end; a stage with 32,768 tiles or more is taken from the front alone.

Note [hazard slots]: a worker writes the address of the table it is about to read into its slot and
then looks again whether that table is still being run. Memory may go once no slot names it.

Note [waiting]: spin for about 50 us (a wake-up costs 5 to 50), then sleep on a futex. Who sleeps
has announced it first, who changes the word looks for sleepers after: both in one total order.
Every few microseconds a spinning thread offers its core to others: with more threads than cores,
the one that holds the last tile may be waiting for it. A worker that came too late for a run spins
again: where short runs follow each other it is in time for the next.
"""

from __future__ import annotations

from tinytorch.codegen.target import Target

CACHE_LINE = 64  # bytes; x86-64 and most aarch64 cores

# one team: byte offsets
TEAM_TAG = 0  # number of the current run; -1 asks the workers to end
TEAM_TABLE = 64  # address of the table being run, 0 between runs
TEAM_IDLE_BELL = 128  # i32 futex word, then i32 count of sleepers: workers between runs
TEAM_STAGE_BELL = 192  # the same for those who wait for the end of a stage
TEAM_SPIN = 256  # how many pauses to spin
TEAM_SLOTS = 320  # a cache line for each worker: hazard, address of the team, worker's number

# one table: byte offsets of its head
TABLE_STAGES, TABLE_RECORDS, TABLE_COUNTERS, TABLE_THREADS = 0, 8, 16, 24
TABLE_SCRATCH, TABLE_SCRATCH_STRIDE, TABLE_TIMES, TABLE_TILE_CONFIG = 32, 40, 48, 56
TABLE_STATUS, TABLE_WAKE, TABLE_DONE = 64, 128, 136
TABLE_BYTES = 192
RECORD_BYTES = 32  # kernel address, tiles, address of the argument array, unused
COUNTER_BYTES = (
    128  # tiles taken from the front and from the back; in another cache line tiles done
)

NAMES = ("tinytorch_run", "tinytorch_worker", "tinytorch_ring", "tinytorch_pauses")


def run_loop_text(target: Target) -> str:
    """The module.

    It has `tinytorch_run(team, table, tag) -> status` for the caller, `tinytorch_worker(slot)` for
    pthread_create, `tinytorch_ring(team)` and `tinytorch_pauses(n)`.
    """
    linux = "linux" in target.triple
    parts = [_pause(target), _waiting(target) if linux else _POLLING, _clock(linux)]
    begin = "begin" if target.has_amx else "entry"
    stages = _STAGES.replace("TILES_ON", _TILES_ON if target.has_amx else "")
    parts += [stages.replace("%ENTRY", "%" + begin)]
    text = "\n".join([*parts, _RUN, _WORKER, _tiles(target)])
    for name, value in sorted(_CONSTANTS.items(), key=lambda item: -len(item[0])):
        text = text.replace(name, str(value))
    return text


_CONSTANTS = {
    name: value
    for name, value in globals().items()
    if name.startswith(("TEAM_", "TABLE_", "RECORD_", "COUNTER_"))
}


def _pause(target: Target) -> str:
    if target.architecture == "x86_64":
        declare, call = "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    else:  # hint 1 is yield
        declare = "declare void @llvm.aarch64.hint(i32)"
        call = "call void @llvm.aarch64.hint(i32 1)"
    return f"""
{declare}
declare i32 @sched_yield()
define internal void @pause() alwaysinline nounwind {{
  {call}
  ret void
}}
define internal void @breathe(i64 %spun) nounwind noinline {{
  {call}
  %low = and i64 %spun, 255
  %due = icmp eq i64 %low, 255
  br i1 %due, label %give, label %keep
give:
  %r = call i32 @sched_yield()
  ret void
keep:
  ret void
}}
define void @tinytorch_pauses(i64 %n) nounwind {{
entry:
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %head]
  call void @pause()
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %head, label %done
done:
  ret void
}}"""


def _waiting(target: Target) -> str:
    """futex(2): system call 202 on x86-64, 98 on aarch64; 128 FUTEX_WAIT_PRIVATE, 129 ..WAKE_.."""
    number = 202 if target.architecture == "x86_64" else 98
    return f"""
declare i64 @syscall(i64, ...)
define internal void @futex_wait(ptr %word, i32 %seen) nounwind noinline {{
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i32 %seen, ptr null)
  ret void
}}
define internal void @wake_all(ptr %bell) nounwind noinline {{
  %old = atomicrmw add ptr %bell, i32 1 seq_cst
  %r = call i64 (i64, ...) @syscall(i64 {number}, ptr %bell, i64 129, i64 2147483647)
  ret void
}}"""


# without a futex: look again every 50 us
_POLLING = """
declare i32 @usleep(i32)
define internal void @futex_wait(ptr %word, i32 %seen) nounwind noinline {
  %r = call i32 @usleep(i32 50)
  ret void
}
define internal void @wake_all(ptr %bell) nounwind {
  %old = atomicrmw add ptr %bell, i32 1 seq_cst
  ret void
}"""


def _clock(linux: bool) -> str:
    """Nanoseconds since some start (CLOCK_MONOTONIC: 1 on Linux, 6 on macOS)."""
    return f"""
declare i32 @clock_gettime(i32, ptr)
define internal void @record(ptr %times, i64 %stage) nounwind noinline {{
  %now = alloca [2 x i64]
  %r = call i32 @clock_gettime(i32 {1 if linux else 6}, ptr %now)
  %seconds = load i64, ptr %now
  %rest.at = getelementptr i64, ptr %now, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %all = add i64 %whole, %rest
  %at = getelementptr i64, ptr %times, i64 %stage
  store i64 %all, ptr %at
  ret void
}}"""


_TILES_ON = """
  %config.at = getelementptr i8, ptr %table, i64 TABLE_TILE_CONFIG
  %config = load ptr, ptr %config.at
  %with.tiles = icmp ne ptr %config, null
  br i1 %with.tiles, label %tiles.on, label %begin
tiles.on:
  call void @llvm.x86.ldtilecfg(ptr %config)
  br label %begin
begin:"""


def _tiles(target: Target) -> str:
    if not target.has_amx:
        return "define internal void @tiles_off(ptr %table) alwaysinline nounwind {\n  ret void\n}"
    return """
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilerelease()
define internal void @tiles_off(ptr %table) nounwind {
  %config.at = getelementptr i8, ptr %table, i64 TABLE_TILE_CONFIG
  %config = load ptr, ptr %config.at
  %with.tiles = icmp ne ptr %config, null
  br i1 %with.tiles, label %off, label %done
off:
  call void @llvm.x86.tilerelease()
  br label %done
done:
  ret void
}"""


# stages(team, table, tag, id): take part in run `tag` as thread `id` until it is over
_STAGES = """
define internal void @stages(ptr %team, ptr %table, i64 %tag, i64 %id) nounwind noinline {
entry:
  %tagged = shl i64 %tag, 32
  %count = load i64, ptr %table
  %records.at = getelementptr i8, ptr %table, i64 TABLE_RECORDS
  %records = load ptr, ptr %records.at
  %counters.at = getelementptr i8, ptr %table, i64 TABLE_COUNTERS
  %counters = load ptr, ptr %counters.at
  %scratch.at = getelementptr i8, ptr %table, i64 TABLE_SCRATCH
  %scratch.all = load ptr, ptr %scratch.at
  %stride.at = getelementptr i8, ptr %table, i64 TABLE_SCRATCH_STRIDE
  %stride = load i64, ptr %stride.at
  %scratch.offset = mul i64 %stride, %id
  %scratch = getelementptr i8, ptr %scratch.all, i64 %scratch.offset
  %times.at = getelementptr i8, ptr %table, i64 TABLE_TIMES
  %times.all = load ptr, ptr %times.at
  %parity = and i64 %id, 1
  %odd = icmp ne i64 %parity, 0
  %first = icmp eq i64 %id, 0
  %times = select i1 %first, ptr %times.all, ptr null
  %timed = icmp ne ptr %times, null
  %status = getelementptr i8, ptr %table, i64 TABLE_STATUS
  %bell = getelementptr i8, ptr %team, i64 TEAM_STAGE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  %spin.at = getelementptr i8, ptr %team, i64 TEAM_SPIN
  %spin = load i64, ptr %spin.at
TILES_ON
  br label %stage.head

stage.head:
  %s = phi i64 [0, %ENTRY], [%s.next, %stage.over]
  br i1 %timed, label %stage.time, label %stage.test
stage.time:
  call void @record(ptr %times, i64 %s)
  br label %stage.test
stage.test:
  %more = icmp slt i64 %s, %count
  br i1 %more, label %stage, label %over

stage:
  %record.offset = mul i64 %s, RECORD_BYTES
  %record = getelementptr i8, ptr %records, i64 %record.offset
  %kernel = load ptr, ptr %record
  %tiles.at = getelementptr i8, ptr %record, i64 8
  %tiles = load i64, ptr %tiles.at
  %arguments.at = getelementptr i8, ptr %record, i64 16
  %arguments = load ptr, ptr %arguments.at
  %counter.offset = mul i64 %s, COUNTER_BYTES
  %next = getelementptr i8, ptr %counters, i64 %counter.offset
  %done = getelementptr i8, ptr %next, i64 64
  %complete = or i64 %tagged, %tiles
  %tiles.last = sub i64 %tiles, 1
  %ends = icmp slt i64 %tiles, 32768
  %behind = and i1 %ends, %odd
  br label %take

take:
  %mine = phi i64 [0, %stage], [%mine, %try], [%mine.more, %counted]
  %word = load atomic i64, ptr %next acquire, align 8
  %word.high = lshr i64 %word, 32
  %ours = icmp eq i64 %word.high, %tag
  br i1 %ours, label %look, label %over
look:
  %low = and i64 %word, 4294967295
  %low.front = and i64 %low, 65535
  %low.back = lshr i64 %low, 16
  %front = select i1 %ends, i64 %low.front, i64 %low
  %back = select i1 %ends, i64 %low.back, i64 0
  %gone = add i64 %front, %back
  %left = icmp slt i64 %gone, %tiles
  br i1 %left, label %try, label %drained
try:
  %state = load atomic i64, ptr %status monotonic, align 8
  %aborted = icmp ne i64 %state, 0
  %all.left = sub i64 %tiles, %gone
  %taken = select i1 %aborted, i64 %all.left, i64 1
  %from.back = sub i64 %tiles.last, %back
  %tile = select i1 %behind, i64 %from.back, i64 %front
  %step = select i1 %behind, i64 65536, i64 1
  %added = select i1 %aborted, i64 %all.left, i64 %step
  %word.new = add i64 %word, %added
  %swap = cmpxchg ptr %next, i64 %word, i64 %word.new acq_rel acquire
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %won.tile, label %take
won.tile:
  br i1 %aborted, label %counted, label %run
run:
  call void %kernel(ptr %arguments, i64 %tile, ptr %scratch)
  br label %counted
counted:
  %mine.more = add i64 %mine, %taken
  br label %take

drained:
  %some = icmp ne i64 %mine, 0
  br i1 %some, label %add, label %wait
add:
  %before = atomicrmw add ptr %done, i64 %mine seq_cst
  %after = add i64 %before, %mine
  %last = icmp eq i64 %after, %complete
  br i1 %last, label %ring, label %wait
ring:
  %waiting = load atomic i32, ptr %sleepers seq_cst, align 4
  %anyone = icmp ne i32 %waiting, 0
  br i1 %anyone, label %wake, label %stage.over
wake:
  call void @wake_all(ptr %bell)
  br label %stage.over

wait:
  %spun = phi i64 [0, %drained], [0, %add], [%spun.more, %pause], [%spin, %slept]
  %now = load atomic i64, ptr %done acquire, align 8
  %finished = icmp eq i64 %now, %complete
  br i1 %finished, label %stage.over, label %wait.tag
wait.tag:
  %now.high = lshr i64 %now, 32
  %still = icmp eq i64 %now.high, %tag
  br i1 %still, label %wait.how, label %over
wait.how:
  %patient = icmp slt i64 %spun, %spin
  br i1 %patient, label %pause, label %sleep
pause:
  call void @breathe(i64 %spun)
  %spun.more = add i64 %spun, 1
  br label %wait
sleep:
  %announced = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %seen = load atomic i32, ptr %bell seq_cst, align 4
  %again = load atomic i64, ptr %done seq_cst, align 8
  %changed.high = lshr i64 %again, 32
  %same.run = icmp eq i64 %changed.high, %tag
  %unfinished = icmp ne i64 %again, %complete
  %sleepy = and i1 %same.run, %unfinished
  br i1 %sleepy, label %down, label %slept
down:
  call void @futex_wait(ptr %bell, i32 %seen)
  br label %slept
slept:
  %withdrawn = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %wait

stage.over:
  %s.next = add i64 %s, 1
  br label %stage.head
over:
  call void @tiles_off(ptr %table)
  ret void
}"""

_RUN = """
define i64 @tinytorch_run(ptr %team, ptr %table, i64 %tag) nounwind {
entry:
  %tagged = shl i64 %tag, 32
  %count = load i64, ptr %table
  %counters.at = getelementptr i8, ptr %table, i64 TABLE_COUNTERS
  %counters = load ptr, ptr %counters.at
  %status = getelementptr i8, ptr %table, i64 TABLE_STATUS
  store atomic i64 0, ptr %status monotonic, align 8
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %publish, label %reset
reset:
  %s = phi i64 [0, %entry], [%s.next, %reset]
  %offset = mul i64 %s, COUNTER_BYTES
  %next = getelementptr i8, ptr %counters, i64 %offset
  %done = getelementptr i8, ptr %next, i64 64
  store atomic i64 %tagged, ptr %next monotonic, align 8
  store atomic i64 %tagged, ptr %done monotonic, align 8
  %s.next = add i64 %s, 1
  %more = icmp slt i64 %s.next, %count
  br i1 %more, label %reset, label %publish
publish:
  %threads.at = getelementptr i8, ptr %table, i64 TABLE_THREADS
  %threads = load i64, ptr %threads.at
  %shared = icmp sgt i64 %threads, 1
  br i1 %shared, label %announce, label %work
announce:
  %table.at = getelementptr i8, ptr %team, i64 TEAM_TABLE
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  store atomic ptr %table, ptr %table.at seq_cst, align 8
  store atomic i64 %tag, ptr %team seq_cst, align 8
  %wake.at = getelementptr i8, ptr %table, i64 TABLE_WAKE
  %wanted = load i64, ptr %wake.at
  %waiting = load atomic i32, ptr %sleepers seq_cst, align 4
  %waiting.wide = zext i32 %waiting to i64
  %both = mul i64 %wanted, %waiting.wide
  %anyone = icmp ne i64 %both, 0
  br i1 %anyone, label %wake, label %work
wake:
  call void @wake_all(ptr %bell)
  br label %work
work:
  call void @stages(ptr %team, ptr %table, i64 %tag, i64 0)
  br i1 %shared, label %withdraw, label %end
withdraw:
  %table.at2 = getelementptr i8, ptr %team, i64 TEAM_TABLE
  store atomic ptr null, ptr %table.at2 seq_cst, align 8
  br label %end
end:
  %done.at = getelementptr i8, ptr %table, i64 TABLE_DONE
  store i64 1, ptr %done.at
  %result = load atomic i64, ptr %status monotonic, align 8
  ret i64 %result
}"""

_WORKER = """
define void @tinytorch_ring(ptr %team) nounwind {
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  call void @wake_all(ptr %bell)
  ret void
}
define ptr @tinytorch_worker(ptr %slot) nounwind {
entry:
  %team.at = getelementptr i8, ptr %slot, i64 8
  %team = load ptr, ptr %team.at
  %id.at = getelementptr i8, ptr %slot, i64 16
  %id = load i64, ptr %id.at
  %table.at = getelementptr i8, ptr %team, i64 TEAM_TABLE
  %bell = getelementptr i8, ptr %team, i64 TEAM_IDLE_BELL
  %sleepers = getelementptr i8, ptr %bell, i64 4
  %spin.at = getelementptr i8, ptr %team, i64 TEAM_SPIN
  %spin = load i64, ptr %spin.at
  br label %idle
idle:
  %last = phi i64 [0, %entry], [%last, %pause], [%last, %slept], [%last, %moved],
    [%tag, %missed], [%tag, %not.wanted], [%tag, %worked]
  %spun = phi i64 [0, %entry], [%spun.more, %pause], [%spin, %slept], [%spun, %moved],
    [0, %missed], [%spin, %not.wanted], [0, %worked]
  %tag = load atomic i64, ptr %team seq_cst, align 8
  %new = icmp ne i64 %tag, %last
  br i1 %new, label %called, label %wait
wait:
  %patient = icmp slt i64 %spun, %spin
  br i1 %patient, label %pause, label %sleep
pause:
  call void @breathe(i64 %spun)
  %spun.more = add i64 %spun, 1
  br label %idle
sleep:
  %announced = atomicrmw add ptr %sleepers, i32 1 seq_cst
  %seen = load atomic i32, ptr %bell seq_cst, align 4
  %tag.again = load atomic i64, ptr %team seq_cst, align 8
  %quiet = icmp eq i64 %tag.again, %last
  br i1 %quiet, label %down, label %slept
down:
  call void @futex_wait(ptr %bell, i32 %seen)
  br label %slept
slept:
  %withdrawn = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %idle
called:
  %stop = icmp eq i64 %tag, -1
  br i1 %stop, label %end, label %join
join:
  %table = load atomic ptr, ptr %table.at seq_cst, align 8
  %over = icmp eq ptr %table, null
  br i1 %over, label %missed, label %hazard
missed:
  br label %idle
hazard:
  store atomic ptr %table, ptr %slot seq_cst, align 8
  %table.still = load atomic ptr, ptr %table.at seq_cst, align 8
  %tag.still = load atomic i64, ptr %team seq_cst, align 8
  %table.same = icmp eq ptr %table.still, %table
  %tag.same = icmp eq i64 %tag.still, %tag
  %same = and i1 %table.same, %tag.same
  br i1 %same, label %invited, label %moved
moved:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
invited:
  %threads.at = getelementptr i8, ptr %table, i64 TABLE_THREADS
  %threads = load i64, ptr %threads.at
  %wanted = icmp slt i64 %id, %threads
  br i1 %wanted, label %work, label %not.wanted
not.wanted:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
work:
  call void @stages(ptr %team, ptr %table, i64 %tag, i64 %id)
  br label %worked
worked:
  store atomic ptr null, ptr %slot seq_cst, align 8
  br label %idle
end:
  ret ptr null
}"""
