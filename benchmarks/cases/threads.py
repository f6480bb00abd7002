"""The same training step with 1, 2, 3 and 16 threads, whatever the number of cores.

Every number of threads has a process of its own; the processes take turns. Before anything is
timed, three steps from the same weights must leave the same bits in all of them.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.cases import cnn, gpt, mlp, resnet, vit
from benchmarks.statistics import ratio, typical
from benchmarks.worker import OURS

TITLE = "training steps with 1, 2, 3 and 16 threads (ratios: 1 thread's time to that of more)"
MODELS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "vit": vit, "gpt": gpt}
COUNTS = (1, 2, 3, 16)
LIGHT = ("tiny network", "mlp")  # too little work for a second thread to halve the time


def settings() -> list[dict]:
    """The training steps of the models' own cases, in float32."""
    return [
        setting | {"name": f"threads {model}", "case": case, "heavy": model not in LIGHT}
        for case, module in MODELS.items()
        for setting in module.settings()
        if setting["precision"] == "float32"
        for model in [setting["name"].removesuffix(" float32")]
    ]


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Seconds for each number of threads; `threads` is not used."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "inputs.npz"
        np.savez(path, **MODELS[setting["case"]].inputs(setting))
        players = []
        for count in COUNTS:
            player = harness.start(f"{count} threads", count, {})
            stack.callback(player.close)
            shown = folder / f"shown{count}.npz"
            order = {"case": setting["case"], "setting": setting, "variant": OURS}
            player.ask(do="prepare", inputs=str(path), shown=str(shown), **order)
            with np.load(shown) as file:
                player.shown = dict(file)
            players.append(player)
        _check_bits(players)
        for _ in range(rounds):
            for player in players:
                time.sleep(harness.PAUSE)
                player.blocks.append(player.ask(do="block", seconds=harness.BLOCK)["times"])
    one = players[0]
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": {p.name: typical(p.blocks) for p in players},
        "against": {p.name: {"peer": one.name, **ratio(one.blocks, p.blocks)} for p in players[1:]},
        "work": {"operations": 0, "bytes": 0},
    }


def _check_bits(players: list[harness.Player]) -> None:
    for player in players[1:]:
        for name, x in players[0].shown.items():
            if x.tobytes() != player.shown[name].tobytes():
                raise RuntimeError(f"{name} has other bits with {player.name}")
