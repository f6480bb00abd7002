"""`python -m benchmarks.runs NAME ...`: train, measure, keep the numbers and the pictures.

Knows how a run is found and called: every file of this folder with a function `run(folder, log)`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
from pathlib import Path

import benchmarks.runs
from benchmarks import RESULTS
from tinytorch.data import official

CIFAR = "cifar-10-batches-bin"  # the folder of the official archive


def names() -> list[str]:
    """The runs there are, by name."""
    found = pkgutil.iter_modules(benchmarks.runs.__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def main() -> None:
    """Do the runs named on the command line, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*names(), "all"])
    parser.add_argument("--data-dir", default=os.environ.get(official.VARIABLE), type=Path,
                        help=f"folder of the data sets; default {official.VARIABLE}")  # fmt: skip
    parser.add_argument("--results", default=RESULTS, type=Path, help="where findings are kept")
    parser.add_argument("--full", action="store_true", help="the larger sizes, where there are any")
    given = parser.parse_args()
    if given.data_dir is None:
        parser.error(f"where are the data sets? --data-dir FOLDER or {official.VARIABLE}=FOLDER")
    given.results.mkdir(parents=True, exist_ok=True)
    for name in names() if "all" in given.names else given.names:
        module = importlib.import_module(f"benchmarks.runs.{name}")
        for size, value in getattr(module, "FULL", {}).items() if given.full else ():
            setattr(module, size, value)
        folder = given.data_dir / getattr(module, "ARCHIVE", CIFAR)
        log = given.results / f"{name}.run.json"
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.run(folder, log)
        print(f"kept in {log}", flush=True)


if __name__ == "__main__":
    main()
