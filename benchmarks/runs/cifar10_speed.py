"""How long does CIFAR-10 take from raw files to 75, 90 and 94 % on this machine's cores?

One recipe in three sizes (`benchmarks/speed_recipe.py`), each training in a process of its own with
an empty cache of programs, so that starting Python and compiling count. PyTorch takes the same
steps from the same weights with the same pictures; its time to the accuracy is ours with its steps
in place of ours, if the losses of the steps it took agree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import tinytorch as tt
from benchmarks.machine import ROOT
from benchmarks.record import Record
from benchmarks.speed_recipe import LENGTHS, work
from benchmarks.unlock import preloading, unlocking_library

NAMES, SEEDS, PEER, STEPS = ("small", "middle"), (0,), "middle", 12
FULL = {"NAMES": ("small", "middle", "large"), "SEEDS": (0, 1, 2), "PEER": "large"}
FASTER = 1.3
# Losses of the two sides: rounding grows by each step of the same length whatever its gradient.
AGREE = 0.02
ASKED = "asked of the recipe"


def run(folder: Path, log: Path) -> dict:
    """Train, repeat one training, take the peer's steps."""
    record = Record(log, "How long does CIFAR-10 take from raw files to an accuracy?", {
        "lengths": {name: vars(LENGTHS[name]) for name in NAMES}, "seeds": SEEDS,
    })  # fmt: skip
    found = {name: [_ours(folder, name, seed) for seed in SEEDS] for name in NAMES}
    for name, each in found.items():
        length, flops = LENGTHS[name], work(LENGTHS[name])
        for one in each:
            shown = {key: x for key, x in one.items() if key != "losses"}
            record.row(length=name, **shown, gflops=flops / one["train"] / 1e9)
        right, seconds = (median(x[key] for x in each) for key in ("accuracy", "wall"))
        text = f"{right:.2f} % after {seconds:.0f} s, {flops / 1e12:.1f} TFLOP by windows"
        holds = right >= length.asked and seconds <= length.within
        says = f"{length.asked:g} % within {length.within:g} s"
        record.claim(says, ASKED, text, holds)
    name, seed = NAMES[0], SEEDS[0]
    same = _ours(folder, name, seed)["losses"] == found[name][0]["losses"]
    record.claim("the same seed gives the same losses", ASKED, f"{name}, to the last bit", same)
    _compared(record, folder, median(x["wall"] - x["train"] for x in found[NAMES[-1]]))
    return record.keep()


def _ours(folder: Path, name: str, seed: int) -> dict:
    """A training in a process of its own, with nothing compiled before."""
    with tempfile.TemporaryDirectory() as cache:
        began = time.perf_counter()
        order = {"folder": str(folder), "length": name, "seed": seed}
        found = _told("benchmarks.speed_recipe", order, TINYTORCH_CACHE=cache)
    return {**found, "wall": time.perf_counter() - began}


def _told(module: str, order: dict, **environment: str) -> dict:
    """What a process answers to an order."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "found.json"
        command = [sys.executable, "-m", module, json.dumps({**order, "out": str(out)})]
        subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)
        return json.loads(out.read_text(encoding="utf-8"))


def _compared(record: Record, folder: Path, besides: float) -> None:
    """The first steps on either side; besides: seconds that are not steps of training."""
    order = {"folder": str(folder), "length": PEER, "seed": SEEDS[0], "steps": STEPS}
    with tempfile.TemporaryDirectory() as place:
        order["start"] = str(Path(place) / "start.npz")
        sides = {"ours": _told("benchmarks.speed_recipe", order)}
        library = unlocking_library(Path(place))
        unlocked = {} if library is None else preloading(library)
        for way in ("eager", "compile"):
            peer = {**order, "compiled": way == "compile", "threads": tt.num_threads()}
            sides[f"PyTorch, {way}"] = _told("benchmarks.peer_speed_recipe", peer, **unlocked)
    ours = sides["ours"]
    for side, one in sides.items():
        record.row(length=PEER, side=side, **{k: one[k] for k in ("step", "first step")},
                   losses=[round(x, 4) for x in one["losses"]])  # fmt: skip
    best = min((s for s in sides if s != "ours"), key=lambda s: sides[s]["step"])
    apart = max(abs(a / b - 1) for a, b in zip(ours["losses"], sides[best]["losses"], strict=True))
    record.claim("both sides learn alike", ASKED, f"losses within {100 * apart:.2g} %",
                 apart <= AGREE)  # fmt: skip
    steps = LENGTHS[PEER].epochs * (50_000 // LENGTHS[PEER].batch)
    mine, theirs = (besides + steps * sides[s]["step"] for s in ("ours", best))
    text = f"{theirs:.0f} s ({best}, {1e3 * sides[best]['step']:.0f} ms a step) and {mine:.0f} s"
    text += f" ({1e3 * sides['ours']['step']:.0f} ms): {theirs / mine:.2f} times"
    record.claim(f"PyTorch takes {FASTER:g} times as long", ASKED, text, theirs >= FASTER * mine)
