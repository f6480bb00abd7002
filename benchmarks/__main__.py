"""`python -m benchmarks CASE ...`: measure, print, keep the numbers.

`python -m benchmarks table` prints what was asked beside what was measured, for each kind of
machine; `--write` puts the tables into the pages. Knows the list of cases and the command line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from types import ModuleType

from benchmarks import harness, kept_rows, show, table
from benchmarks.machine import describe, kind

CASES = (
    "mlp",
    "gpt",
    "cnn",
    "resnet",
    "vit",
    "lstm",
    "matmul",
    "chain",
    "attention",
    "convolution",
    "inference",
    "decode",
    "fused",
    "overhead",
    "first_step",
    "depth",
    "memory",
    "threads",
    "checkpoint",
    "data",
    "eager_mlp",
    "eager_cnn",
    "trainer",
)


def main() -> None:
    """Run the cases named on the command line, or print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=[*CASES, "all", "table"])
    parser.add_argument("--threads", type=int, default=None, help="of every side; default: cores")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS, help="blocks of each side")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    parser.add_argument("--dry", action="store_true", help="keep no numbers")
    parser.add_argument("--write", action="store_true", help="with table: into the pages")
    given = parser.parse_args()
    if given.cases == ["table"]:
        return table.main(given.write)
    names = CASES if "all" in given.cases else given.cases
    from tinytorch.base.settings import num_threads

    threads = given.threads or num_threads()
    machine = describe(threads)
    print(show.machine(machine))
    work = {name: chosen(name, given.only) for name in names}
    print(duration(work, kind(machine)), flush=True)
    began, failed = time.perf_counter(), False
    for name, settings in work.items():
        complete = run(name, settings, threads, given.rounds, machine, keeping=not given.dry)
        failed |= not complete
    print(f"\ntook {(time.perf_counter() - began) / 60:.0f} min")
    sys.exit(failed)


def case_of(name: str) -> ModuleType:
    """The module of a case."""
    return importlib.import_module(f"benchmarks.cases.{name}")


def chosen(name: str, only: str) -> list[dict]:
    """The settings of a case whose names contain `only`."""
    return [setting for setting in case_of(name).settings() if only in setting["name"]]


def duration(work: dict[str, list[dict]], here: str) -> str:
    """How long it will take: the sum of what the rows kept say, best of this kind of machine.

    Args:
        work: settings by case.
        here: the kind of this machine.
    """
    total, unknown = 0.0, 0
    for name, settings in work.items():
        took: dict[str, float] = {}
        for row in sorted(kept_rows.kept(name), key=lambda row: kind(row["machine"]) == here):
            if "took" in row:
                took[row["name"]] = row["took"]
        total += sum(took.get(setting["name"], 0.0) for setting in settings)
        unknown += sum(setting["name"] not in took for setting in settings)
    more = f", and {unknown} measurements that were not timed before" if unknown else ""
    return f"about {total / 60:.0f} min{more}"


def run(
    name: str, settings: list[dict], threads: int, rounds: int, machine: dict, keeping: bool
) -> bool:
    """Measure, print and keep the settings of a case, one by one: whether all could be measured."""
    case = case_of(name)
    measure = getattr(case, "measure", None) or harness.measure
    print(f"\n{case.TITLE}")
    complete = True
    for setting in settings:
        began = time.perf_counter()
        try:
            row = measure(name, setting, threads, rounds)
        except RuntimeError as problem:
            print(f"  {setting['name']}: not measured: {problem}", flush=True)
            complete = False
            continue
        print(show.row(row, machine["limits"]), flush=True)
        if keeping:
            took = round(time.perf_counter() - began, 1)
            kept_rows.keep(name, machine, [row | {"took": took}])
    return complete


if __name__ == "__main__":
    main()
