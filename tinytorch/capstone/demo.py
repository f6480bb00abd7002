"""The demonstration: the optimised model beside the baseline on real pictures, numbers shown.

`python -m tinytorch.capstone.demo FOLDER`, with the folder of a run; it needs no screen. Knows what
lies in such a folder, and how two columns are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tinytorch import export, storage
from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.capstone.challenge import CHALLENGES, Challenge
from tinytorch.capstone.measurement import bytes_of, median_seconds
from tinytorch.capstone.run import PACKAGE, read_settings, said_by
from tinytorch.data.loader import DataLoader
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

SHOWN = 8


def show(
    folder: str | Path, challenge: Challenge | None = None, *, data_dir: Path | None = None,
    pictures: int = 200, out: Any = None,
) -> dict[str, float]:  # fmt: skip
    """Ask the baseline and the package the same test pictures, and print both.

    The baseline answers as it did before the first step, NumPy line by line; the package is the
    native library, one thread, checked when it is loaded.

    Args:
        folder: of a run.
        challenge: of one's own run; None: the one that the folder names.
        data_dir: folder of the data files, or None.
        pictures: that are asked, at least 1; the first 8 are shown one by one.
        out: a file to print to; default standard output.

    Returns:
        what was printed at the end: right answers in percent, milliseconds, bytes, of both.

    Raises:
        FileFormatError: this is no folder of a run; a byte of the package changed.
        SettingError: the folder is of a challenge that must be given.
    """
    place = Path(folder)
    chosen = _challenge(read_settings(place)) if challenge is None else challenge
    baseline = chosen.network()
    baseline.load_state_dict(storage.read(place / "baseline.safetensors").arrays)
    baseline.eval()
    package = export.load_package(place / PACKAGE)
    test = chosen.part(False, data_dir)
    x, labels = next(iter(DataLoader(test, min(pictures, len(test)))))
    names = tuple(getattr(test, "classes", ())) or tuple(map(str, range(int(labels.max()) + 1)))
    with no_grad():
        first = baseline(Tensor(x)).numpy().argmax(1)
        slow = median_seconds(lambda: baseline(Tensor(x[:1])))
    second = said_by(package, x)
    fast = median_seconds(lambda: package(x[:1]))
    print(f"{'picture':>8}  {'it is':12}  {'baseline':12}  {'optimised':12}", file=out)
    for i, (truth, a, b) in enumerate(zip(labels[:SHOWN], first, second, strict=False)):
        cells = "  ".join(f"{names[n]:12}" for n in (truth, a, b))
        print(f"{i:>8}  {cells}".rstrip(), file=out)
    library = next(place.joinpath(PACKAGE).glob("model.so"), place / PACKAGE / "model.o")
    found = {
        "baseline_right": 100 * float((first == labels).mean()),
        "optimised_right": 100 * float((second == labels).mean()),
        "baseline_ms": 1e3 * slow, "optimised_ms": 1e3 * fast,
        "baseline_bytes": bytes_of(baseline), "optimised_bytes": library.stat().st_size,
    }  # fmt: skip
    a, b = found["baseline_right"], found["optimised_right"]
    print(f"right, of {len(labels)}: {a:.1f} % and {b:.1f} %", file=out)
    print(f"one picture: {1e3 * slow:.3f} ms and {1e3 * fast:.3f} ms, {slow / fast:.1f}x faster",
          file=out)  # fmt: skip
    print(
        f"weights: {found['baseline_bytes'] / 1e6:.2f} MB, and {found['optimised_bytes'] / 1e6:.2f}"
        " MB with all code: no Python is needed",
        file=out,
    )
    return found


def _challenge(settings: dict[str, Any]) -> Challenge:
    name = settings.get("name")
    if name not in CHALLENGES:
        raise SettingError(
            "capstone: the demonstration needs the challenge itself",
            got=f"a run of {name!r}",
            rule="one of " + ", ".join(CHALLENGES) + ", or the challenge that was run",
            fix="show(folder, challenge)",
        )
    return CHALLENGES[name]


def main(arguments: list[str] | None = None) -> int:
    """Show the run named on the command line; exit code 2 if it cannot be done."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("python -m tinytorch.capstone.demo FOLDER", file=sys.stderr)
        return 2
    try:
        show(given[0])
    except TinyTorchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
