"""A process that plays one side of one measurement and answers orders.

Knows the cases and a clock; never the other side. Orders and answers are lines of JSON on standard
input and output; whatever libraries print goes to standard error. Orders:

    {"do": "prepare", "case": ..., "setting": ..., "variant": ..., "inputs": path, "shown": path}
    {"do": "block", "seconds": ...}    run for about that long -> seconds of each run
    {"do": "once"}                     one run -> its seconds
    {"do": "end"}
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.cases import Side

OURS = "ours"


def main() -> None:
    """Answer orders until told to end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to file 1; that is now standard error
    side: Side | None = None
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "end":
            return
        try:
            if order["do"] == "prepare":
                start = time.perf_counter()
                side = prepare(order)
                answer = {"seconds": time.perf_counter() - start}
            elif order["do"] == "once":
                answer = {"seconds": next(timed(side))}
            else:
                answer = {"times": block(side, order["seconds"])}
        except Exception as error:  # the parent must hear of it, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def prepare(order: dict) -> Side:
    """Build the side; where asked, write what it shows."""
    case = importlib.import_module(f"benchmarks.cases.{order['case']}")
    with np.load(order["inputs"]) as file:
        arrays = dict(file)
    setting, variant = order["setting"], order["variant"]
    side = case.ours(setting, arrays) if variant == OURS else case.peer(setting, variant, arrays)
    if order.get("shown"):
        np.savez(order["shown"], **side.show())
    return side


def timed(side: Side) -> Iterator[float]:
    """Seconds of one run after the other."""
    while True:
        start = time.perf_counter()
        side.run()
        yield time.perf_counter() - start


def block(side: Side, seconds: float) -> list[float]:
    """Seconds of each run of a block; the first two only warm the caches again."""
    runs = timed(side)
    next(runs), next(runs)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        times.append(next(runs))
    return times


if __name__ == "__main__":
    main()
