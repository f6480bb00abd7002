"""What does a network need when it is object code in a C program, without Python?

The shipped CIFAR-10 network and a ResNet-20 of random weights, in float32 and with weights of
8 bits, for this processor and for any x86-64: one picture at a time on one thread, in a C program
whose whole memory the system tells. The first one's accuracy is that of the library, on the
official test pictures, beside the model's own.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from tinytorch import compression, data, export, models
from tinytorch.cli.recipes import DATA_SETS, build

TARGETS, KINDS = ("host", "x86-64"), ("float32", "int8")
RUNS, PICTURES = 500, 10_000
MOST_MILLISECONDS, MOST_MEMORY, MOST_FILE = 1.0, 30.0, 3.0
ASKED = "asked of the native library"
C_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "net.h"
static float input[NET_INPUT_SIZE], output[NET_OUTPUT_SIZE];
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * t.tv_sec + 1e-6 * t.tv_nsec;
}
static int order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
int main(void) {
    void *workspace = malloc(net_workspace_bytes());
    static double times[RUNS];
    char line[256];
    if (net_begin(workspace) != NET_OK) return 1;
    for (int i = 0; i < NET_INPUT_SIZE; i++) input[i] = (i % 7) * 0.1f;
    for (int i = 0; i < RUNS; i++) {
        double start = now();
        if (net_run(input, output, workspace) != NET_OK) return 1;
        times[i] = now() - start;
    }
    printf("%g ", times[0]);
    qsort(times, RUNS, sizeof *times, order);
    printf("%g %g ", times[RUNS / 2], times[0]);
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %[0-9]", line) == 1) puts(line);
    return 0;
}
"""


def run(folder: Path, log: Path) -> dict:
    """Export, compile, run."""
    record = Record(log, "What does a network need when it is object code in a C program?", {
        "targets": TARGETS, "kinds": KINDS, "runs": RUNS, "pictures": PICTURES,
    })  # fmt: skip
    tt.manual_seed(0)
    shape = DATA_SETS["cifar10"].shape
    networks = {"shipped CNN": models.pretrained("cifar10"), "ResNet-20": build("resnet20", shape)}
    test = data.load_cifar10(False, folder)
    pictures, labels = test.take(np.arange(min(PICTURES, len(test))))
    for name, network in networks.items():
        for kind in KINDS:
            model = network.eval() if kind == "float32" else compression.quantize(network, kind)
            for target in TARGETS:
                row = measured(model, target, pictures[:1])
                if name == "shipped CNN" and target == "host":
                    row |= _accuracy(model, pictures, labels)
                record.row(network=name, kind=kind, target=target, **row)
    here = [row for row in record.rows if row["target"] == "host"]
    for says, key, most, unit, rows in (
        ("one picture", "median_ms", MOST_MILLISECONDS, "ms", here),
        ("memory of the whole process", "process_mb", MOST_MEMORY, "MB", record.rows),
        ("the shared library, int8", "file_mb", MOST_FILE, "MB",
         [row for row in record.rows if row["kind"] == "int8"]),
    ):  # fmt: skip
        worst = max(row[key] for row in rows)
        record.claim(f"{says}: less than {most:g} {unit}", ASKED, f"{worst:.2f} {unit} at most",
                     worst < most)  # fmt: skip
    return record.keep()


def measured(
    model: tt.nn.Module, target: str, picture: np.ndarray, compiler: Sequence[str] = ("cc",),
    emulator: Sequence[str] = (), runs: int = RUNS,
) -> dict[str, float]:  # fmt: skip
    """Milliseconds, megabytes of a C program that has the model's library in it."""
    with tempfile.TemporaryDirectory() as place:
        library = export.native(model, tt.Tensor(picture), place, target=target, name="net")
        Path(place, "measure.c").write_text(C_PROGRAM)
        command = [*compiler, "-O1", f"-DRUNS={runs}", "measure.c", "net.a", "-o", "measure"]
        subprocess.run(command, cwd=place, check=True)
        program = [*emulator, f"{place}/measure"]
        said = subprocess.run(program, capture_output=True, text=True, check=True)
        first, median, least, kilobytes = map(float, said.stdout.split())
        shared = library.shared if isinstance(library.shared, bytes) else library.object
        return {"first_ms": first, "median_ms": median, "least_ms": least,
                "process_mb": kilobytes / 1024, "file_mb": len(shared) / 1e6}  # fmt: skip


def _accuracy(model: tt.nn.Module, pictures: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of the library, one picture at a time, and of the model, a hundred at a time."""
    with tempfile.TemporaryDirectory() as place:
        export.package_for_production(model, Path(place) / "net", tt.Tensor(pictures[:1]))
        package = export.load_package(Path(place) / "net")
        said = [package(picture[None]).numpy().argmax() for picture in pictures]
        compiled = tt.compile(model, freeze=True)
        with tt.no_grad():
            own = [
                compiled(tt.Tensor(pictures[i : i + 100])).numpy().argmax(1)
                for i in range(0, len(pictures), 100)
            ]
        return {"accuracy": float(np.mean(said == labels)),
                "model_accuracy": float(np.mean(np.concatenate(own) == labels))}  # fmt: skip
