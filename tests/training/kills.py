"""Kills training runs with SIGKILL, resumes them, and compares what they end with.

Knows processes and folders; the run itself is `killed_run.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.training.killed_run import LOADERS, MOMENTS

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 500  # seconds a run may take before it counts as hanging


@dataclass
class Ended:
    """How a process ended.

    Args:
        code: its exit status, -9 after SIGKILL.
        answer: the JSON of its last line, if it came to its end.
        seconds: from "begin" on.
        errors: what it said on standard error.
    """

    code: int
    answer: dict | None
    seconds: float
    errors: str


def start(folder: Path, loader: str, compiled: bool, die: str = "", after: float | None = None):
    """Run once; kill it `after` seconds of training, or let it kill itself at `die`."""
    command = [sys.executable, "-W", "error", "-m", "tests.training.killed_run", str(folder)]
    command += ["--loader", loader, *(["--compiled"] if compiled else [])]
    command += ["--die", die] if die else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A session of its own: what it leaves behind can be found, and ended by its number.
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    watchdog = threading.Timer(LONGEST, process.kill)
    watchdog.start()
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    process.stdout.readline()  # "begin"
    began = time.perf_counter()
    if after is not None:
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
    last = process.stdout.read().strip()
    code = process.wait()
    watchdog.cancel()
    _end_session(process.pid)
    reader.join()
    process.stdout.close()
    process.stderr.close()
    answer = json.loads(last) if code == 0 and last else None
    return Ended(code, answer, time.perf_counter() - began, errors[0] if errors else "")


def _end_session(session: int) -> None:
    """Loader processes notice that their parent is gone within moments; those that do not fail."""
    for _ in range(1200):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(session, signal.SIGKILL)
    raise AssertionError("processes of a killed run were still there after two minutes")


class Reference:
    """What a run that is never killed ends with.

    Args:
        compiled: whether its steps are compiled.
    """

    def __init__(self, compiled: bool):
        with tempfile.TemporaryDirectory() as folder:
            ended = start(Path(folder) / "run", "none", compiled)
        assert ended.answer is not None, ended.errors
        self.compiled, self.seconds = compiled, ended.seconds
        self.digest, self.moments = ended.answer["digest"], ended.answer["moments"]

    def moment(self, choose: random.Random, clock: bool) -> tuple[str, float | None]:
        """A moment to die at: as "moment:count", or, if the clock is asked too, as seconds."""
        kind = choose.choice([*MOMENTS, *(["time", "time"] if clock else [])])
        if kind == "time":
            return "", choose.uniform(0.0, self.seconds)
        # A few fsyncs are those of the code cache, which is warm the next time.
        return f"{kind}:{choose.randint(1, max(1, self.moments[kind] - 3))}", None


def killed_run(
    reference: Reference, loader: str, times: int, choose: random.Random,
    say: Callable[[str], None] = lambda line: None, clock: bool = True,
) -> int:  # fmt: skip
    """Kill one run up to `times` times, let it end, compare; how often it was killed.

    Args:
        reference: a run with the same settings that was never killed.
        loader: how its batches are made.
        times: kills, fewer if the run ends sooner.
        choose: draws the moments.
        say: told of each kill.
        clock: some moments are drawn by the clock; a run on a busy machine may be over by then.
    """
    kills = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        for _ in range(times):
            die, after = reference.moment(choose, clock)
            ended = start(folder, loader, reference.compiled, die, after)
            if ended.code == 0:  # it was done sooner, having begun near its end
                break
            assert ended.code == -signal.SIGKILL, (die, after, ended.errors)
            kills += 1
            left = sorted(os.listdir(folder)) if folder.is_dir() else []
            moment = die or f"{after:.2f} s"
            mode = "compiled" if reference.compiled else "eager"
            say(f"{mode}, {loader}, killed at {moment}: {' '.join(_masked(left)) or 'nothing'}")
        ended = start(folder, loader, reference.compiled)
        assert ended.answer is not None, ended.errors
        left = sorted(os.listdir(folder))
        assert all(name.startswith("step-") for name in left), left
        assert ended.answer["digest"] == reference.digest, (loader, reference.compiled, left)
    return kills


def _masked(names: list[str]) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        yield ".".join("*" if len(p) == 12 else p for p in parts)


def every_way() -> list[tuple[str, bool]]:
    """Loader and compiled, all combinations."""
    return [(loader, compiled) for compiled in (False, True) for loader in LOADERS]
