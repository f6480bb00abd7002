"""A package for production: a native library with a version, checksums, and a sample to try it on.

Knows folders and manifests; how the library is made is in native.py. Files and manifest are written
whole or not at all, by `storage.writing_folder`; a byte that changed is found before anything is
run. Checksums find damage, not malice: whoever can write the folder can write the manifest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch.base import files
from tinytorch.base.arguments import number
from tinytorch.base.dtypes import dtype_named, float64
from tinytorch.base.errors import CompileError, DataError, SettingError, short
from tinytorch.base.settings import VERSION
from tinytorch.codegen.target import AARCH64_BITS, Target, dot_features, host_features
from tinytorch.export import c_files, driver
from tinytorch.export.loaded import LoadedLibrary
from tinytorch.export.native import NativeLibrary, build_library
from tinytorch.export.recorded import ArrayFact
from tinytorch.storage.folder import Folder, reading_folder, refuse, writing_folder
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.memory import copy_of, from_array
from tinytorch.tensor.tensor import Tensor

KIND = "tinytorch native package"
FORMAT = 1
LARGEST = 2 << 30  # bytes of one file: what small code models address


@dataclass(frozen=True)
class Package:
    """A package that was checked: call it with arrays.

    Args:
        path: its folder.
        version: of the model, as its maker named it.
        facts: what the manifest says: target, shapes, number types, tolerance.
        library: its code, loaded.
    """

    path: Path
    version: str
    facts: dict[str, Any]
    library: LoadedLibrary

    def __call__(self, *arrays: Any) -> Tensor | tuple[Tensor, ...]:
        """The outputs for these inputs; see `LoadedLibrary`."""
        return self.library(*arrays)


def package_for_production(
    model: Any,
    folder: str | os.PathLike[str],
    example: Any,
    *,
    version: str = "1",
    target: str | Target | None = None,
    name: str = "model",
    tolerance: float = 0.01,
) -> NativeLibrary:
    """Write a model as a folder that says what it is, and by which anyone can see that it is whole.

        what `native` writes, and
        sample_INPUT.bin       the example, raw numbers
        expected_OUTPUT.bin    what the model gives for it, computed line by line by NumPy
        manifest.json          version, target, shapes, and the SHA-256 of every file

    If this machine can run the library it is run on the sample before it is written.

    Args:
        model, example, target, name: as for `native`.
        folder: where; replaced as a whole if it is such a package already.
        version: of the model: a text of at most 40 characters, default "1".
        tolerance: how far an output may be from the expected one, as a share of the largest
            expected number, in (0, 1); default 0.01, which a flipped rounding to int8 stays below.

    Returns:
        the library that was written.

    Raises:
        SettingError: a setting outside its range, or something else in the folder's place.
        DataError: the model does not give finite numbers for the example.
        CompileError: as `native`; or the library's output is further from the model's.
        StorageError: the folder cannot be written.

    Cost: as `native`, and two runs of the model.

    Example:
        >>> import tempfile
        >>> import tinytorch as tt
        >>> from tinytorch import export, nn
        >>> place = Path(tempfile.mkdtemp()) / "package"
        >>> net = nn.Linear(4, 3).eval()
        >>> x = tt.ones(1, 4)
        >>> made = export.package_for_production(net, place, x, version="1.2")
        >>> package = export.load_package(place)
        >>> package.version, package(x).shape
        ('1.2', (1, 3))
    """
    number("package_for_production", "tolerance", tolerance, "(0, 1)")
    if not isinstance(version, str) or not 0 < len(version) <= 40 or not version.isprintable():
        raise SettingError(
            "package_for_production: this is no version",
            got=f"version={short(version)}",
            rule="a text of 1 to 40 characters that can be printed",
            fix='version="1.0.0"',
        )
    library = build_library(model, example, target, name)
    given = [x if isinstance(x, Tensor) else Tensor(x) for x in _tuple(example)]
    with no_grad():
        expected = [_array(x) for x in _leaves(model(*given))]
    program = library.program
    facts: dict[str, Any] = {
        "name": name, "version": version, "tinytorch": VERSION, "abi": c_files.ABI,
        "target": program.target.name, "architecture": program.target.architecture,
        "instructions": list(driver.instructions(program.target)), "tolerance": tolerance,
        "workspace": driver.workspace_bytes(program),
        "inputs": _described(program.inputs), "outputs": _described(program.outputs),
    }  # fmt: skip
    if not _lacking(facts):
        loaded = LoadedLibrary(name, library.object, program.inputs, program.outputs)
        _try(loaded, given, expected, tolerance)
    with writing_folder(files.user_path(folder), KIND, FORMAT) as new:
        new.about.update(facts)
        arrays = zip(program.inputs, map(_array, given), strict=True)
        samples = {_sample(fact): array.tobytes() for fact, array in arrays}
        made = zip(program.outputs, expected, strict=True)
        samples.update({_expected(fact): array.tobytes() for fact, array in made})
        for file, content in {**library.files(), **samples}.items():
            with new.file(file) as opened:
                opened.write(content)
    return library


def load_package(folder: str | os.PathLike[str]) -> Package:
    """Check a package and load its code: every byte, the processor, and the output for its sample.

    Args:
        folder: that `package_for_production` wrote. Its code is run: it should come from somebody
            who may run code here.

    Returns:
        the package, to be called.

    Raises:
        StorageError: there is no such folder.
        FileFormatError: a byte changed, a file is missing, or a later version wrote it.
        SettingError: it is for a processor that this one is not.
        CompileError: its output for the sample is not the expected one.

    Cost: every byte is read once, one run.
    """
    held = reading_folder(files.user_path(folder), KIND, FORMAT)
    facts = held.manifest.about
    try:
        name, version, tolerance = facts["name"], facts["version"], float(facts["tolerance"])
        inputs, outputs = (_facts(facts[kind]) for kind in ("inputs", "outputs"))
        lacking = _lacking(facts)
    except (KeyError, TypeError, ValueError) as error:
        refuse(
            f"{held.path} does not say what it is", repr(error), "what package_for_production wrote"
        )
    if lacking:
        raise SettingError(
            "this package is for another processor",
            got=f"{facts['target']}, {facts['architecture']}; missing here: {', '.join(lacking)}",
            rule="a processor with all instructions of the package's target",
            fix='package_for_production(..., target="host") on this machine, or target="x86-64"',
        )
    library = LoadedLibrary(name, held.read(f"{name}.o", LARGEST), inputs, outputs)
    given = [from_array(_read(held, _sample(fact), fact), fact.dtype) for fact in inputs]
    expected = [_read(held, _expected(fact), fact) for fact in outputs]
    _try(library, given, expected, tolerance)
    return Package(held.path, version, facts, library)


def _tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _leaves(tree: Any) -> list[Any]:
    """Arrays in the order in which the library gives them."""
    if isinstance(tree, (tuple, list)):
        return [leaf for x in tree for leaf in _leaves(x)]
    if isinstance(tree, dict):
        return [leaf for x in tree.values() for leaf in _leaves(x)]
    return [] if tree is None else [tree]


def _array(x: Tensor) -> np.ndarray:
    return copy_of(x._buffer.array, x.dtype)  # pyright: ignore[reportPrivateUsage]


def _sample(fact: ArrayFact) -> str:
    return f"sample_{fact.name}.bin"


def _expected(fact: ArrayFact) -> str:
    return f"expected_{fact.name}.bin"


def _described(arrays: tuple[ArrayFact, ...]) -> list[dict[str, Any]]:
    return [{"name": a.name, "dtype": a.dtype.name, "shape": list(a.shape)} for a in arrays]


def _facts(listed: list[dict[str, Any]]) -> list[ArrayFact]:
    return [
        ArrayFact(str(a["name"]), dtype_named(a["dtype"]), tuple(int(n) for n in a["shape"]))
        for a in listed
    ]


def _lacking(facts: dict[str, Any]) -> list[str]:
    """What a package needs and this machine does not have."""
    here = Target.host().architecture
    if facts["architecture"] != here:
        return [str(facts["architecture"])]
    if here == "x86_64":
        return [str(n) for n in facts["instructions"] if n not in host_features()]
    return [str(n) for n in facts["instructions"] if n in AARCH64_BITS and n not in dot_features()]


def _read(held: Folder, name: str, fact: ArrayFact) -> np.ndarray:
    content = held.read(name, LARGEST)
    dtype = np.dtype(fact.dtype.storage)
    if len(content) != fact.size * dtype.itemsize:
        refuse(f"{held.path / name} has another length", f"{len(content)} bytes", f"{fact.shape}")
    return np.frombuffer(content, dtype).reshape(fact.shape)


def _try(
    library: LoadedLibrary, given: list[Tensor], expected: list[np.ndarray], tolerance: float
) -> None:
    """See that the library gives what is expected for a sample."""
    for fact, wanted, got in zip(library.outputs, expected, _leaves(library(*given)), strict=True):
        real = from_array(wanted, fact.dtype).astype(float64).numpy()
        if not np.isfinite(real).all():
            raise DataError(
                "the sample's expected output has NaN or an infinity",
                got=f"{fact.name}, {int((~np.isfinite(real)).sum())} of {fact.size} numbers",
                rule="finite numbers, so that another output can be told from it",
                fix="another example",
            )
        off = float(np.abs(got.astype(float64).numpy() - real).max(initial=0.0))
        largest = float(np.abs(real).max(initial=0.0))
        if not off <= tolerance * largest:
            raise CompileError(
                "the library does not give what is expected for the sample",
                got=f"{fact.name} is off by {off:.3g}",
                rule=f"at most {tolerance:g} of the largest number, {largest:.3g}",
                fix="export the model anew on this machine; if it is so again, report the fault",
            )
