"""A native library in this process: called with arrays, by as many threads as like to.

Knows addresses and workspaces, never models. It is what a C program does, in Python: for tests, for
the check of a package, and for those who have object code and no compiler.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.errors import DTypeError, IndexRangeError, SettingError, ShapeError
from tinytorch.codegen import engine
from tinytorch.export import driver
from tinytorch.export.recorded import ArrayFact
from tinytorch.tensor.memory import copy_of, from_array
from tinytorch.tensor.tensor import Tensor


class LoadedLibrary:
    """Object code of `export.native`, ready to be called.

    Args:
        name: of its functions.
        image: the object file. It is run: only code whose origin is known should be loaded.
        inputs, outputs: what it takes and gives.

    Raises:
        CompileError: the object is damaged, or of another architecture.
        SettingError: the processor lacks instructions that it needs.
    """

    def __init__(
        self, name: str, image: bytes, inputs: Sequence[ArrayFact], outputs: Sequence[ArrayFact]
    ):
        self.name, self.inputs, self.outputs = name, tuple(inputs), tuple(outputs)
        symbols = [f"{name}_{what}" for what in ("workspace_bytes", "begin", "run")]
        self._library = engine.load([image], symbols)
        size, begin, run = (self._library[symbol] for symbol in symbols)
        self.workspace_bytes: int = ctypes.CFUNCTYPE(ctypes.c_size_t)(size)()
        self._begin = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(begin)
        given = [ctypes.c_void_p] * (len(self.inputs) + len(self.outputs) + 1)
        self._run = ctypes.CFUNCTYPE(ctypes.c_int, *given)(run)
        self._idle = [self._workspace()]

    def _workspace(self) -> np.ndarray:
        memory = np.zeros(self.workspace_bytes, np.uint8)
        if code := self._begin(memory.ctypes.data):
            raise SettingError(
                "this library is for another processor",
                got=f"{self.name}_begin gave {code}",
                rule="the processor, and its system, have all instructions of its target",
                fix='export.native(..., target="host") on this machine',
            )
        return memory

    def __call__(self, *arrays: Any) -> Tensor | tuple[Tensor, ...]:
        """Run it.

        Args:
            arrays: one for each input, of its shape and number type.

        Returns:
            the output, or a tuple of them.

        Raises:
            ShapeError, DTypeError: an array of another shape or type.
            IndexRangeError: a number is an index outside its axis.
        """
        given = self._checked(arrays)
        made = [np.empty(a.shape, a.dtype.storage) for a in self.outputs]
        try:
            workspace = self._idle.pop()  # atomic: no two threads get the same one
        except IndexError:
            workspace = self._workspace()
        code = self._run(*(a.ctypes.data for a in (*given, *made)), workspace.ctypes.data)
        self._idle.append(workspace)
        if code == driver.BAD_INDEX:
            raise IndexRangeError(
                "an index is outside its axis",
                got=f"{self.name}_run gave {code}",
                rule="labels and token numbers lie inside the table that they point into",
                fix="check the numbers that are given to the library",
            )
        if code:
            raise SettingError(
                "the library did not run",
                got=f"{self.name}_run gave {code}",
                rule="0, as its header says",
                fix="export the model anew: the object code is none of this version",
            )
        pairs = zip(made, self.outputs, strict=True)
        tensors = tuple(from_array(array, fact.dtype) for array, fact in pairs)
        return tensors[0] if len(tensors) == 1 else tensors

    def _checked(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        tensors = [x if isinstance(x, Tensor) else Tensor(x) for x in arrays]
        rule = ", ".join(f"{a.name} {a.dtype.name}{list(a.shape)}" for a in self.inputs)
        got = ", ".join(f"{x.dtype.name}{list(x.shape)}" for x in tensors)
        fix = "the shapes and types of the example that it was exported with"
        if [x.shape for x in tensors] != [a.shape for a in self.inputs]:
            raise ShapeError(f"{self.name}: other shapes", got=got, rule=rule, fix=fix)
        if [x.dtype for x in tensors] != [a.dtype for a in self.inputs]:
            raise DTypeError(f"{self.name}: other number types", got=got, rule=rule, fix=fix)
        return [np.ascontiguousarray(copy_of(x._buffer.array, x.dtype)) for x in tensors]  # pyright: ignore[reportPrivateUsage]
