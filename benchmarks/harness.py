"""Lets the sides of a case take turns, each in a process of its own, and compares them.

Knows processes and turns; never what is measured. In one process the workers of one side spin
while the other is timed, which halves whoever runs second; so a side is a process, sides run in
blocks one after the other with a pause between, and the first side plays twice: the ratio of it to
itself says how far the numbers can be trusted. Peers that are far behind the fastest after a trial
leave.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.machine import ROOT
from benchmarks.statistics import ratio, typical
from benchmarks.unlock import preloading, unlocking_library
from benchmarks.worker import OURS

PAUSE = 0.05  # seconds between blocks: OpenMP workers have stopped spinning by then
BLOCK = 0.25  # seconds of a block
ROUNDS = 10  # blocks of each side
TRIAL, BEHIND = 2, 1.5  # a peer that takes BEHIND times the fastest's time in TRIAL blocks leaves
CONTROL = "ours again"


@dataclass
class Player:
    """One side's process.

    Args:
        name: "ours", or the peer's variant with how it was started.
        process: the worker.
        blocks: seconds of each run, block by block.
        shown: the numbers it is compared by.
    """

    name: str
    process: subprocess.Popen
    blocks: list[list[float]] = field(default_factory=list)
    shown: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def way(self) -> str:
        """How it was started: "as installed", "unlocked", or its own name where that is all one."""
        return self.name.rpartition(", ")[2]

    def ask(self, **order) -> dict:
        """Send an order and wait for its answer."""
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.stdin.write('{"do": "end"}\n')
            self.process.stdin.close()
            self.process.wait(timeout=30)
        self.process.stdout.close()


def start(name: str, threads: int, extra: dict[str, str]) -> Player:
    """Start a worker with its number of threads."""
    environment = os.environ | extra
    # NPROC is what JAX reads.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TINYTORCH_NUM_THREADS", "NPROC"):
        environment[variable] = str(threads)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    return Player(name, process)


def measure(case_name: str, setting: dict, threads: int, rounds: int = ROUNDS) -> dict:
    """One row of results.

    Args:
        case_name: a module of `benchmarks.cases`.
        setting: one of its settings.
        threads: for every side.
        rounds: blocks of each side.

    Returns:
        seconds of every side, the ratio to the fastest peer of each kind with its interval, the
        ratio of our side to itself, and the largest difference of what the sides show.
    """
    case = importlib.import_module(f"benchmarks.cases.{case_name}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inputs = folder / "inputs.npz"
        np.savez(inputs, **case.inputs(setting))
        players = []
        for name, variant, extra in sides(case, setting, folder):
            player = start(name, threads, extra)
            stack.callback(player.close)
            shown = folder / f"shown{len(players)}.npz"
            order = {"case": case_name, "setting": setting, "variant": variant}
            try:
                player.ask(do="prepare", inputs=str(inputs), shown=str(shown), **order)
                with np.load(shown) as file:
                    player.shown = dict(file)
            except RuntimeError as problem:
                print(f"    left out: {problem}", file=sys.stderr)
                if variant == OURS:
                    raise
                continue
            players.append(player)
        differences = {p.name: difference(players[0].shown, p.shown) for p in players[1:]}
        check(case, setting, differences, spread(players[2:]))
        playing = players
        for done in range(rounds):
            if done == TRIAL:
                playing = contenders(players)
            for player in playing:
                time.sleep(PAUSE)
                player.blocks.append(player.ask(do="block", seconds=BLOCK)["times"])
    return result(case, setting, players, differences)


def contenders(players: list[Player]) -> list[Player]:
    """Ours, and of each way of starting a peer those that may turn out the fastest.

    The processes of the others end.
    """
    ours, again, *peers = players
    fastest: dict[str, float] = {}
    for player in peers:
        seconds = typical(player.blocks)
        fastest[player.way] = min(seconds, fastest.get(player.way, seconds))
    stay = [p for p in peers if typical(p.blocks) <= BEHIND * fastest[p.way]]
    for player in peers:
        if player not in stay:
            player.close()
    return [ours, again, *stay]


def sides(case, setting: dict, folder: Path):
    """(name, variant, environment) of each process: ours twice, variants with MKL both ways.

    A case names in WITHOUT_MKL the variants that do not use MKL: they are run one way.
    """
    yield OURS, OURS, {}
    yield CONTROL, OURS, {}
    library = unlocking_library(folder)
    for variant in case.variants(setting):
        if variant in getattr(case, "WITHOUT_MKL", ()):
            yield variant, variant, {}
            continue
        yield f"{variant}, as installed", variant, {}
        if library is not None:
            yield f"{variant}, unlocked", variant, preloading(library)


def difference(ours: dict, theirs: dict) -> float:
    """The largest difference of any array, relative to the array's largest number."""
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"the sides show different things: {set(ours) ^ set(theirs)}")
    worst = 0.0
    for name, x in ours.items():
        y = theirs[name]
        if x.shape != y.shape or not np.isfinite(y).all():
            raise RuntimeError(f"{name}: shapes {x.shape} and {y.shape}, or a number is not finite")
        scale = np.abs(y).max(initial=1e-30)
        worst = max(worst, float(np.abs(x.astype(np.float64) - y).max(initial=0.0) / scale))
    return worst


def spread(peers: Sequence[Player]) -> float:
    """The largest difference between two of them."""
    return max((difference(p.shown, q.shown) for p, q in combinations(peers, 2)), default=0.0)


def check(case, setting: dict, differences: dict[str, float], spread: float = 0.0) -> None:
    """Refuse to time sides that do not do the same.

    Where the peer's own ways of running one model differ by more than rounding alone would let
    expect (a gradient near nothing, whose sign AdamW makes a whole step), so may we: two that are
    each within e of the truth are within 2 e of each other.

    Args:
        case: with its `tolerance`.
        setting: of the case.
        differences: of each side to ours.
        spread: of the peer's ways among themselves.
    """
    limit = max(case.tolerance(setting), 2 * spread)
    wrong = {name: d for name, d in differences.items() if not d <= limit}
    if wrong:
        raise RuntimeError(f"{setting['name']}: results differ by {wrong}, allowed {limit}")


def result(case, setting: dict, players: list[Player], differences: dict[str, float]) -> dict:
    """The row as plain values."""
    ours, again, *peers = players
    ratios = {p.name: ratio(p.blocks, ours.blocks[: len(p.blocks)]) for p in peers}
    out = {
        "name": setting["name"],
        "setting": setting,
        "seconds": {p.name: typical(p.blocks) for p in players},
        "best_seconds": {p.name: min(map(min, p.blocks)) for p in players},
        "control": ratio(again.blocks, ours.blocks),
        "differences": differences,
        "work": dict(zip(("operations", "bytes"), case.work(setting), strict=True)),
        "ratios": ratios,
        "against": {},
    }
    for way in ("as installed", "unlocked"):
        of_way = [p.name for p in peers if p.way in (way, p.name)]
        if of_way:
            fastest = min(of_way, key=lambda name: out["seconds"][name])
            out["against"][way] = {"peer": fastest, **ratios[fastest]}
    return out
