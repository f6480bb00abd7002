"""A whole capstone, from raw data to a package and a report, in a folder that can be gone on with.

Knows the order of things and what lies where in the folder; each thing is done elsewhere.

    settings.json          what was asked
    baseline.safetensors   and one file for each other trained variant; baseline/ its checkpoints
    package/               the final model as a native library with manifest and sample
    findings.json          every number
    figures/               ablation, Pareto fronts, confusion matrix, worst mistakes
    capstone_report.md     the report
    demo.py                the result beside the baseline: python demo.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from shlex import quote
from typing import Any, cast

import numpy as np

from tinytorch import export
from tinytorch.base import files
from tinytorch.base.arguments import whole
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.base.settings import num_threads
from tinytorch.capstone.challenge import Challenge
from tinytorch.capstone.figures import draw_figures
from tinytorch.capstone.findings import Findings, Say, ablation, journey
from tinytorch.capstone.measurement import median_seconds
from tinytorch.capstone.profile import profile_system
from tinytorch.capstone.report import write_technical_report
from tinytorch.capstone.workshop import Workshop
from tinytorch.codegen.target import Target
from tinytorch.data.loader import DataLoader
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.history import Progress

SETTINGS, PACKAGE, DEMO = "settings.json", "package", "demo.py"
LONGEST = 1 << 16  # bytes of the settings; about 500 are usual
TESTED = 500  # pictures that the package itself is asked, one by one
# A process that has Python and the library, nothing else; VmHWM is its own largest memory, which
# getrusage is not: that begins with the parent's.
PROCESS = """
import ctypes, resource, sys
library, sample, outputs = ctypes.CDLL(sys.argv[1]), open(sys.argv[2], "rb").read(), sys.argv[3]
library.model_workspace_bytes.restype = ctypes.c_size_t
work = ctypes.create_string_buffer(library.model_workspace_bytes())
given, answer = ctypes.create_string_buffer(sample), ctypes.create_string_buffer(int(outputs))
assert library.model_begin(work) == 0 and library.model_run(given, answer, work) == 0
try:
    lines = open("/proc/self/status").read().split("VmHWM:")[1].split()
    print(int(lines[0]) * 1024)
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run_challenge(
    challenge: Challenge, folder: str | os.PathLike[str], *, seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None, say: Say = print,
    progress: Progress | None = None, downloading: Any = None,
) -> Findings:  # fmt: skip
    """Train, optimise step by step, measure after each, package, and write the report.

    What was trained before in the same folder, with the same settings, is not trained again; an
    interrupted training goes on where it was.

    Args:
        challenge: what is asked; `CIFAR10`, `DIGITS`, or one's own.
        folder: a new one, or that of the same challenge with the same settings and seed.
        seed: of first weights and orders, at least 0; the same seed gives the same models, bit for
            bit.
        data_dir: folder of the data files, or None.
        say: is given each sentence about what was found.
        progress: shows trainings; default nobody.
        downloading: told about downloads, as `data.load_cifar10` tells.

    Returns:
        what was found; the folder holds it too, with the report.

    Raises:
        SettingError: there is something else in the folder, or a run with other settings.
        DataError: the data files are not there.

    Cost: a training of `epochs` passes; three of `again` passes, of which two go through the
    baseline too; a few seconds of compiling and measuring for each row.
    """
    whole("run_challenge", "seed", seed, at_least=0)
    place = files.user_path(folder)
    _begin(place, {**challenge.settings(), "seed": seed})
    kept = None if data_dir is None else Path(data_dir)
    workshop = Workshop(challenge, seed, place, kept, progress, downloading)
    found = Findings(challenge.settings(), seed, machine())
    found.bottlenecks = profile_system(workshop.baseline, workshop.picture)
    say("an answer of the baseline, compiled, goes into:")
    for part in found.bottlenecks[:5]:
        say(f"  {part}")
    found.journey = journey(workshop, say)
    found.ablation = ablation(workshop, say)
    final = workshop.model(challenge.steps)
    found.after = profile_system(final, workshop.picture)
    found.package = packaged(workshop, place / PACKAGE)
    found.figures = draw_figures(workshop, found, place)
    found.save(place)
    write_technical_report(
        workshop.baseline, final, challenge.metrics, path=place / "capstone_report.md",
        challenge=challenge, findings=found,
    )  # fmt: skip
    with files.replacing(place / DEMO) as file:
        file.write(_demo_program().encode())
    return found


def machine() -> str:
    """Processor kind and threads, in words."""
    threads = num_threads()
    return f"{Target.host().name}, {threads} thread{'s' if threads > 1 else ''}"


def packaged(workshop: Workshop, place: Path) -> dict[str, Any]:
    """Write the final model as a package, load it as a user would, and measure it.

    Returns:
        its accuracy on the first test pictures and how many these were, milliseconds of one answer
        on one thread, bytes of the library, and bytes of a process that holds Python and the
        library alone; None where no linker made one.
    """
    final = workshop.model(workshop.challenge.steps)
    library = export.package_for_production(final, place, workshop.picture)
    package = export.load_package(place)
    asked = min(TESTED, len(workshop.test))
    x, labels = next(iter(DataLoader(workshop.test, asked)))
    said = said_by(package, x)
    shared = isinstance(library.shared, bytes)
    return {
        "accuracy": 100 * float(np.mean(said == labels)),
        "pictures": asked,
        "milliseconds": 1e3 * median_seconds(lambda: package(x[:1])),
        "library_bytes": len(library.shared if shared else library.object),
        "process_bytes": _process_bytes(place) if shared else None,
        "target": package.facts["target"],
    }


def said_by(package: export.Package, x: np.ndarray) -> np.ndarray:
    """The class of each sample (N, ...), asked one by one."""
    return np.array([cast(Tensor, package(one[None])).numpy().argmax() for one in x])


def _process_bytes(place: Path) -> int:
    outputs = sum(4 * int(np.prod(a["shape"])) for a in export.load_package(place).facts["outputs"])
    sample = next(place.glob("sample_*.bin"))
    command = [sys.executable, "-S", "-c", PROCESS, str(place / "model.so"), str(sample)]
    done = subprocess.run([*command, str(outputs)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _begin(place: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or see that it is of the same run."""
    file = place / SETTINGS
    written = (json.dumps(settings, indent=1) + "\n").encode()
    if place.is_file() or (place.is_dir() and any(place.iterdir()) and not file.is_file()):
        raise SettingError(
            "capstone: there is something in this place already",
            got=str(place),
            rule="a new folder, or that of a capstone with the same settings",
            fix="another folder",
        )
    if not file.is_file():
        with files.replacing(file) as opened:
            opened.write(written)
        return
    before = read_settings(place)
    asked = json.loads(written)
    changed = [n for n in asked if n not in before or before[n] != asked[n]]
    if changed:
        name = changed[0]
        raise SettingError(
            "capstone: this folder is of a run with other settings",
            got=f"{name} = {asked[name]}, then {before.get(name, 'without it')}",
            rule="a run goes on as it was begun, or its numbers would not belong together",
            fix=f"another folder, or rm -r {quote(str(place))}",
        )


def read_settings(place: Path) -> dict[str, Any]:
    """The settings of a run's folder.

    Raises:
        FileFormatError: it is no such folder.
    """
    try:
        found = files.parse_json(files.contents(place / SETTINGS, LONGEST))
        if not isinstance(found, dict) or "seed" not in found:
            raise files.NotStrictError("is no run", type(found).__name__, "an object")
        return found
    except (files.NotStrictError, FileNotFoundError) as error:
        raise FileFormatError(
            "this is not the folder of a capstone",
            got=f"{place / SETTINGS}: {error}",
            rule="a folder that tito capstone or run_challenge made",
            fix="tito capstone digits --run FOLDER",
        ) from None


def _demo_program() -> str:
    return (
        '"""The optimised model beside the baseline, on real pictures: python demo.py."""\n\n'
        "from pathlib import Path\n\n"
        "from tinytorch.capstone.demo import show\n\n"
        "show(Path(__file__).parent)\n"
    )
