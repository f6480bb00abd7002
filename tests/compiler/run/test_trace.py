"""A run as a file for Chrome and Perfetto.

Ground truth: the rules of the Trace Event Format (Google, "Trace Event Format": "JSON Object
Format", "Complete Events", "Metadata Events", "Counter Events"), written down here; the plan.
"""

import json
import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import StorageError
from tinytorch.compiler.plan.launch import LaunchPlan, LaunchTask
from tinytorch.compiler.run.program import Span
from tinytorch.compiler.run.roofline import Bound
from tinytorch.compiler.run.timing import TimedRun
from tinytorch.compiler.run.trace import alive_bytes, events

NEEDED = {  # fields that each kind of event must have, and their types
    "X": {"name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int, "args": dict},
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "C": {"name": str, "ts": float, "pid": int, "args": dict},
}


def problems(content) -> list[str]:
    """What breaks the format's rules."""
    found = []
    if content.get("displayTimeUnit") not in ("ms", "ns"):
        found.append("displayTimeUnit is neither ms nor ns")
    for event in content["traceEvents"]:
        fields = NEEDED.get(event["ph"])
        if fields is None:
            found.append(f"no such phase: {event['ph']}")
            continue
        for name, kind in fields.items():
            if not isinstance(event.get(name), kind):
                found.append(f"{event['ph']} {event.get('name')}: {name} is no {kind.__name__}")
        if "cat" in event and "," in event["cat"]:
            found.append("a category with a comma is two")
        if found:
            return found
        times = [event[t] for t in ("ts", "dur") if t in event]
        if not all(math.isfinite(t) and t >= 0 for t in times):
            found.append(f"{event['name']}: a time that is no time")
        if event["ph"] == "C" and not all(isinstance(v, int) for v in event["args"].values()):
            found.append("a counter counts")
    return found or badly_nested(content)


def badly_nested(content) -> list[str]:
    """Slices of one thread that overlap without one lying in the other."""
    found, slices = [], [e for e in content["traceEvents"] if e["ph"] == "X"]
    for thread in {(e["pid"], e["tid"]) for e in slices}:
        open_until = []
        mine = [e for e in slices if (e["pid"], e["tid"]) == thread]
        for e in sorted(mine, key=lambda e: (e["ts"], -e["dur"])):
            begin, end = round(1000 * e["ts"]), round(1000 * (e["ts"] + e["dur"]))
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            if open_until and end > open_until[-1]:
                found.append(f"{e['name']} reaches out of what it lies in")
            open_until.append(end)
    return found


def good():
    """A file that keeps the rules."""
    return {
        "displayTimeUnit": "ns",
        "traceEvents": [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": 0, "args": {"name": "a"}},
            {"ph": "X", "name": "run", "cat": "run", "ts": 0.0, "dur": 9.0, "pid": 1, "tid": 0,
             "args": {}},
            {"ph": "X", "name": "k", "cat": "k", "ts": 1.0, "dur": 2.0, "pid": 1, "tid": 0,
             "args": {}},
            {"ph": "C", "name": "arena", "ts": 1.0, "pid": 1, "args": {"bytes": 3}},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [(2, "dur", -1.0), (2, "ts", "1"), (2, "dur", 100.0), (1, "ph", "Q"), (2, "cat", "a,b"),
     (3, "args", {"bytes": "3"}), (0, "args", None), (2, "ts", math.inf)],
)  # fmt: skip
def test_what_breaks_the_rules_is_seen(event, field, value):
    """Ground truth: one rule broken by hand, in a file that keeps them all."""
    content = good()
    assert not problems(content)
    content["traceEvents"][event][field] = value
    assert problems(content)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_keeps_the_rules_and_tells_every_kernel(threads, tmp_path):
    """Ground truth: the rules; the plan's tasks, the user's line; states stay as they were."""
    w = tt.Tensor(np.ones((256, 256), np.float32))

    def f(x):
        y = (x @ w).tanh().sum(0)
        w.assign_(w + 1)
        return y

    step = tt.compile(f, threads=threads)
    step(np.ones((64, 256), np.float32))
    before = w.numpy().copy()
    path = tmp_path / "new folder" / "run.json"
    step.trace(path)
    content = json.loads(path.read_text())
    assert not problems(content)
    np.testing.assert_array_equal(w.numpy(), before)
    plan, events = step._last.program.plan, content["traceEvents"]
    kernels = [e for e in events if e["ph"] == "X" and e["cat"] != "run"]
    assert {e["args"]["task"] for e in kernels} == set(range(len(plan.tasks)))
    assert {e["args"]["kernel"] for e in kernels} == {t.symbol for t in plan.tasks}
    assert {e["tid"] for e in kernels} <= set(range(threads))
    assert all("test_trace.py:" in e["args"]["line"] for e in kernels)
    for i, task in enumerate(plan.tasks):
        did = [e["args"]["tiles"].split(" of ") for e in kernels if e["args"]["task"] == i]
        assert sum(int(n) for n, _ in did) == task.tiles == int(did[0][1])
    named = [e for e in events if e["name"] == "thread_name"]
    assert [e["args"]["name"] for e in named] == ["calling thread", "worker 1"][:threads]
    (whole,) = [e for e in events if e.get("cat") == "run"]
    assert whole["name"].endswith("f") and all(e["ts"] >= whole["ts"] for e in kernels)


def test_times_are_microseconds_since_the_begin():
    """Closed form: a run made by hand of 9 us, whose first kernel is done by two threads."""
    f = tt.compile(lambda x: (x @ x.T).sum(), threads=2)
    f(np.ones((64, 64), np.float32))
    plan = f._last.program.plan
    spans = [Span(0, 0, 11_000, 12_500, 1), Span(0, 1, 11_250, 12_750, 1)]
    spans += [Span(i, 0, 13_000 + 100 * i, 13_050 + 100 * i, 1) for i in range(1, len(plan.tasks))]
    run = TimedRun(10_000, 19_000, tuple(spans), 2)
    made = list(events(f._last, "f", run, [Bound(0.75e-6, "fp32")] * len(plan.tasks)))
    slices = [e for e in made if e["ph"] == "X"]
    assert [(e["tid"], e["ts"], e["dur"]) for e in slices[:3]] == [
        (0, 0, 9), (0, 1, 1.5), (1, 1.25, 1.5),
    ]  # fmt: skip
    assert slices[1]["args"]["roofline"] == "43%"  # 0.75 us of the 1.75 us of both threads
    assert [e["ts"] for e in made if e["ph"] == "C"][0] == 1


def test_memory_in_use_is_counted():
    """By hand: 10 bytes from task 0 to 1, 20 from 1 to 2, a state that is not counted."""
    storages = [("temporary", 10, 0), ("temporary", 20, 16), ("state", 99, 0)]
    tasks = [LaunchTask("k", 1, arguments) for arguments in ([0, 2], [0, 1], [1], [2])]
    plan = LaunchPlan(tasks, storages, 64, 0, False, [], [], "")
    assert alive_bytes(plan) == [10, 30, 20, 0]


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    """The error of all files that cannot be written; a folder is in the way."""
    f = tt.compile(lambda x: x + 1)
    f(np.ones(3, np.float32))
    with pytest.raises(StorageError):
        f.trace(tmp_path)
