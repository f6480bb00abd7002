"""`python -m benchmarks CASE ...`: measure, print a table, keep the numbers.

Knows the list of cases and how a row is printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks import harness
from benchmarks.machine import describe

CASES = (
    "mlp",
    "gpt",
    "cnn",
    "matmul",
    "attention",
    "overhead",
    "first_step",
    "threads",
    "checkpoint",
    "data",
    "eager_mlp",
    "eager_cnn",
    "trainer",
)
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Run the cases named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="+", choices=[*CASES, "all"])
    parser.add_argument("--threads", type=int, default=None, help="of every side; default: cores")
    parser.add_argument("--rounds", type=int, default=harness.ROUNDS, help="blocks of each side")
    parser.add_argument("--only", default="", help="measurements whose name contains this")
    given = parser.parse_args()
    names = CASES if "all" in given.cases else given.cases
    from tinytorch.base.settings import num_threads

    threads = given.threads or num_threads()
    machine = describe(threads)
    print(_machine_line(machine))
    failed = False
    for name in names:
        case = importlib.import_module(f"benchmarks.cases.{name}")
        measure = getattr(case, "measure", None) or harness.measure
        print(f"\n{case.TITLE}")
        rows = []
        for setting in case.settings():
            if given.only not in setting["name"]:
                continue
            try:
                rows.append(measure(name, setting, threads, given.rounds))
                print(row_text(rows[-1], machine["limits"]), flush=True)
            except RuntimeError as problem:
                failed = True
                print(f"  {setting['name']}: not measured: {problem}", flush=True)
        keep(name, machine, rows)
    sys.exit(failed)


def keep(name: str, machine: dict, rows: list[dict]) -> None:
    """Write results/NAME.json; rows measured earlier and not now stay."""
    if not rows:
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    now = {row["name"] for row in rows}
    rows = [row for row in old if row["name"] not in now] + [r | {"machine": machine} for r in rows]
    path.write_text(json.dumps({"case": name, "rows": rows}, indent=1) + "\n")


def row_text(row: dict, limits: dict) -> str:
    """A measurement in a few lines."""
    lines = [f"  {row['name']}"]
    for name, seconds in row["seconds"].items():
        share = _share(row, seconds, limits) if name == "ours" else ""
        lines.append(f"    {name:<32}{_time(seconds):>12}{share}")
    control = row.get("control")
    if control:
        lines.append(f"    {'ours against itself':<32}{_ratio(control):>26}")
    for kind, against in row["against"].items():
        found = f"{_ratio(against):>26}   than {against['peer']}"
        lines.append(f"    {kind + ': faster by':<32}{found}")
    return "\n".join(lines)


def _share(row: dict, seconds: float, limits: dict) -> str:
    operations, moved = row["work"]["operations"], row["work"]["bytes"]
    if not operations:
        return ""
    peak = limits[row["setting"].get("precision", "float32")] or limits["float32"]
    least = max(operations / peak, moved / limits["bandwidth"])
    return (
        f"   {operations / seconds / 1e9:.0f} GFLOP/s, {100 * least / seconds:.0f} % of the limit"
    )


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:.2f} {unit}"
    return ""


def _ratio(r: dict) -> str:
    return f"{r['ratio']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"


def _machine_line(machine: dict) -> str:
    limits = machine["limits"]
    return (
        f"{machine['processor']['name']}, {machine['threads']} threads, commit "
        f"{machine['commit']}: {limits['float32'] / 1e9:.0f} GFLOP/s float32, "
        f"{limits['bf16'] / 1e9:.0f} bf16, {limits['bandwidth'] / 1e9:.1f} GB/s"
    )


if __name__ == "__main__":
    main()
