"""A model as a native library: object code with the weights inside, a header, a program in C.

Knows what is written where; how the code is made is in recorded.py and driver.py. What is written
needs no Python, no TinyTorch and no library of mathematics: `memcpy`, `memmove` and `memset` at
most, as every C compiler's own code does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinytorch.base import files
from tinytorch.base.errors import SettingError, StorageError
from tinytorch.base.settings import VERSION
from tinytorch.codegen import engine
from tinytorch.codegen.target import Target
from tinytorch.compiler.compile import Compiled
from tinytorch.export import c_files, driver
from tinytorch.export.recorded import NativeProgram, native_program

# what `target=` may say: name and architecture of a Target; None: this machine's
TARGETS = {
    "host": None,
    "x86-64": ("vector128", "x86_64"),
    "avx2": ("avx2", "x86_64"),
    "avx512": ("avx512", "x86_64"),
    "aarch64": ("neon", "aarch64"),
}
LONGEST_NAME = 40
# C's own words, which no name may be: of C17, those in small letters
_WORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if"
    " inline int long main register restrict return short signed sizeof static struct switch"
    " typedef union unsigned void volatile while".split()
)


@dataclass(frozen=True)
class NativeLibrary:
    """A library as it is written, still in memory.

    Args:
        name: what its functions' names begin with.
        program: what it computes.
        object: the object file.
        shared: the shared library, or why there is none.
    """

    name: str
    program: NativeProgram
    object: bytes
    shared: bytes | str

    @property
    def symbols(self) -> tuple[str, str, str]:
        """Its functions, the only names that others see."""
        return f"{self.name}_workspace_bytes", f"{self.name}_begin", f"{self.name}_run"

    def files(self) -> dict[str, bytes]:
        """Everything that is written, by name."""
        name, program = self.name, self.program
        member = f"{name[:13]}.o"
        found = {
            f"{name}.h": c_files.header(name, program, VERSION).encode(),
            f"{name}.o": self.object,
            f"{name}.a": c_files.archive(
                {member: self.object}, dict.fromkeys(self.symbols, member)
            ),
            "main.c": c_files.example_program(name, program).encode(),
        }
        if isinstance(self.shared, bytes):
            found[f"{name}.so"] = self.shared
        return found


def native(
    model: Any,
    example: Any,
    folder: str | os.PathLike[str],
    *,
    target: str | Target | None = None,
    name: str = "model",
) -> NativeLibrary:
    """Write a model as object code that a C program links: no Python at run time.

        NAME.h    shapes, versions and error codes as constants, and three functions
        NAME.o    kernels, weights and the driver; NAME.a the same as a static library
        NAME.so   a shared library, where a linker for the target is found
        main.c    30 lines that read an input from a file and print the output

    The functions allocate nothing and write nothing but the outputs and the workspace that they are
    given, so that threads with a workspace each may call at once. What follows from weights alone
    is computed now. `NAME_begin` asks the processor whether it has the instructions, and says no by
    an error code.

    Args:
        model: a Module in evaluation mode (quantized ones too), a function over Tensors, or what
            `tt.compile` gave.
        example: its argument, or a tuple of arguments: a library is for these shapes and number
            types.
        folder: where the files are written; what has their names is replaced.
        target: "host" (default: this processor, with all it has but AMX), "x86-64" (SSE4.2: Intel's
            since 2008, AMD's since 2011), "avx2", "avx512", "aarch64", or a Target.
        name: of the files and functions, default "model": letters, digits and _, a letter first.

    Returns:
        what was written; `shared` says why there is no shared library where there is none.

    Raises:
        SettingError: no such target, or another name; outputs that are not computed.
        CompileError: the model changes something when it is called (training mode), or needs NumPy.
        StorageError: the folder cannot be written.

    Cost: recording and compiling, 1 to 5 s for a network of 20 layers. One thread runs it.

    Differs from PyTorch: AOTInductor writes C++ that needs libtorch; this needs nothing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import tinytorch as tt
        >>> from tinytorch import export, nn
        >>> folder = Path(tempfile.mkdtemp())
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
        >>> library = export.native(net, tt.zeros(1, 4), folder, target="x86-64", name="net")
        >>> sorted(p.name for p in folder.iterdir() if p.suffix != ".so")
        ['main.c', 'net.a', 'net.h', 'net.o']
        >>> [(array.name, array.shape) for array in library.program.outputs]
        [('output', (1, 3))]
    """
    library = build_library(model, example, target, name)
    place = files.user_path(folder)
    for file, content in library.files().items():
        with files.replacing(place / file) as opened:
            opened.write(content)
    return library


def build_library(
    model: Any, example: Any, target: str | Target | None = None, name: str = "model"
) -> NativeLibrary:
    """The library that `native` writes; arguments and errors as there."""
    _check_name(name)
    if target is None and isinstance(model, Compiled):
        target = model.target
    given = example if isinstance(example, tuple) else (example,)
    program = native_program(model, given, _target(target))
    image = engine.compile_text(driver.library_text(name, program), program.target)
    image = driver.filled(image, program.data)
    engine.release_memory()
    return NativeLibrary(name, program, image, _shared(name, image, program.target))


def _check_name(name: object) -> None:
    fits = isinstance(name, str) and re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name, re.ASCII)
    if not fits or len(str(name)) > LONGEST_NAME or name in _WORDS:
        raise SettingError(
            "export: this is no name for functions of C",
            got=f"name={name!r}",
            rule=f"letters, digits and _, a letter first, at most {LONGEST_NAME}; no word of C",
            fix='name="model"',
        )


def _target(asked: object) -> Target:
    """The target meant."""
    if isinstance(asked, Target):
        found = asked
    elif asked is None or asked == "host":
        found = Target.host()
    elif isinstance(asked, str) and (names := TARGETS.get(asked)) is not None:
        found = Target.named(*names, portable=True)
    else:
        found = None
    if found is None or found.architecture not in driver.LEAST:
        raise SettingError(
            "export: there is no such target",
            got=f"target={asked!r}",
            rule="a Target, or one of " + ", ".join(map(repr, TARGETS)),
            fix='target="x86-64", which nearly every x86-64 processor runs',
        )
    return found.without_amx()


# programs that make a shared library of an object file, the first that is there
_BARE = ("ld", "ld.lld")  # the others are compilers, which hand options on
_LINKERS = ("cc", "gcc", "clang", *_BARE)


def _shared(name: str, image: bytes, target: Target) -> bytes | str:
    """The object as a shared library, by a linker of this machine; or why there is none."""
    here = target.architecture == Target.host().architecture
    prefix = f"{target.architecture}-linux-gnu-"
    wanted = _LINKERS if here else (f"{prefix}gcc", f"{prefix}ld", "ld.lld")
    linker = next((path for path in map(shutil.which, wanted) if path is not None), None)
    if linker is None:
        return "no linker: none of " + ", ".join(wanted)
    soname = ["-soname", f"{name}.so"]  # programs look for this name, not for a path
    called = soname if Path(linker).name.endswith(_BARE) else ["-Wl," + ",".join(soname)]
    folder = files.temporary_folder("tinytorch-link-")
    source, made = folder / f"{name}.o", folder / f"{name}.so"
    with files.replacing(source) as file:
        file.write(image)
    try:
        done = subprocess.run(
            [linker, "-shared", *called, "-o", str(made), str(source)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            return f"{linker} refused: {done.stderr.strip()[:500]}"
        return files.contents(made, 2 << 30)
    except (OSError, subprocess.TimeoutExpired, StorageError) as error:
        return f"{linker} failed: {error}"
    finally:
        for path in (source, made):
            if path.exists():
                files.remove(path)
