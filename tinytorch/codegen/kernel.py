"""What a native kernel is to those who schedule it: its code, its tiles, its cost, its buffers.

Knows pointers and strides, never graphs. Every kernel has one native signature,

    void kernel(ptr arguments, i64 tile, ptr scratch)

where `arguments` points to an array of buffer addresses. The thread team calls it once for each
tile, in any order, on any thread; tiles must not depend on each other. `scratch` is memory of the
calling thread, 64-byte aligned, with unspecified contents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tinytorch.base.dtypes import DType
from tinytorch.codegen.builder import Function, Value, lanes


@dataclass(frozen=True)
class Operand:
    """How an array lies in a buffer: element strides for each logical axis, and an offset."""

    dtype: DType
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True)
class Kernel:
    """One compiled loop nest.

    Args:
        name: symbol; kernels with equal names have equal code.
        ir: the text of its function (and of private helpers), without declarations.
        declarations: `declare ...` lines it needs.
        arguments: a name for each buffer, in the order of the native array.
        tiles: how many independent pieces it has.
        scratch: bytes each thread needs.
        flops, bytes: arithmetic operations and memory traffic of all tiles together.
        label: what it does, for `explain()`.
    """

    name: str
    ir: str
    declarations: frozenset[str]
    arguments: tuple[str, ...]
    tiles: int
    scratch: int = 0
    flops: int = 0
    bytes: int = 0
    label: str = ""


@dataclass(frozen=True)
class Step:
    """One kernel with the names of its buffers ("a", "out", "temporary.packed", ...)."""

    kernel: Kernel
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Lowered:
    """Kernels that run one after the other and do one operation together.

    Args:
        steps: in order.
        temporaries: bytes of each buffer that lives only during the operation.
    """

    steps: tuple[Step, ...]
    temporaries: Mapping[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def of(cls, kernel: Kernel) -> Lowered:
        """One kernel, given buffers of the names it has."""
        return cls((Step(kernel, kernel.arguments),))


class Epilogue(Protocol):
    """What happens to a result while it is still in registers, the store included.

    `key` identifies the code (equal keys, equal code). `arguments` names the buffers beyond the
    kernel's own; the kernel appends them to its argument list in this order. `emit` is called in
    the kernel's innermost position with a value (scalar, or a vector along the last logical axis),
    the i64 index of each logical output axis (the last one that of lane 0), and a lane mask or
    None.
    """

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """The buffers beyond the kernel's own."""
        ...

    def emit(
        self,
        f: Function,
        value: Value,
        index: Sequence[Value],
        mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:
        """Write the code."""
        ...

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """Ask for the memory that `emit` will read at this place, long before it does."""
        ...


@dataclass(frozen=True)
class StoreEpilogue:
    """The plain epilogue: convert to the output's dtype and store to buffer "out"."""

    out: Operand
    arguments: tuple[str, ...] = ("out",)

    @property
    def key(self) -> str:
        """Equal keys, equal code."""
        return f"store({self.out.dtype.name},{self.out.strides},{self.out.offset})"

    def emit(
        self,
        f: Function,
        value: Value,
        index: Sequence[Value],
        mask: Value | None,
        pointers: Mapping[str, Value],
    ) -> None:
        """Store `value` at `index`."""
        store_at(f, value, pointers["out"], self.out, index, mask)

    def prefetch(self, f: Function, index: Sequence[Value], pointers: Mapping[str, Value]) -> None:
        """It reads nothing."""


def offset_of(f: Function, operand: Operand, index: Sequence[Value]) -> Value:
    """Element offset of the logical `index` in the operand's buffer."""
    total = f.index(operand.offset)
    for i, stride in zip(index, operand.strides, strict=True):
        if stride:
            total = f.add(f.mul(i, f.index(stride), "offset"), total, "offset")
    return total


def store_at(
    f: Function, value: Value, pointer: Value, operand: Operand, index: Sequence[Value],
    mask: Value | None,
) -> None:  # fmt: skip
    """Store a scalar or a vector along the last axis, whatever that axis's stride is."""
    llvm = operand.dtype.llvm
    value = f.convert(value, llvm)
    base = f.at(pointer, offset_of(f, operand, index), llvm, "out.at")
    n = lanes(value.type)
    if n == 1 or operand.strides[-1] == 1:
        f.store(value, base, mask=mask)
        return
    for lane in range(n):
        place = f.at(base, f.index(lane * operand.strides[-1]), llvm)
        if mask is None:
            f.store(f.extract(value, lane), place)
        else:
            with f.when(f.extract(mask, lane)):
                f.store(f.extract(value, lane), place)


def build(
    name: str,
    arguments: Sequence[str],
    body: Callable[[Function, Mapping[str, Value]], None],
    *,
    tiles: int,
    scratch: int = 0,
    flops: int = 0,
    bytes: int = 0,
    label: str = "",
) -> Kernel:
    """Write a kernel: `body(f, pointers)` emits one tile (`f.tile`, `f.scratch`)."""
    f = Function(name, [("arguments", "ptr"), ("tile", "i64"), ("scratch", "ptr")])
    pointers: dict[str, Value] = {}
    for i, argument in enumerate(arguments):
        slot = f.at(f.arguments, f.index(i), "ptr", f"{argument}.slot")
        pointers[argument] = f.load_pointer(slot, argument)
    body(f, pointers)
    return Kernel(
        name,
        f.finish(),
        frozenset(f.declarations),
        tuple(arguments),
        tiles,
        scratch,
        flops,
        bytes,
        label,
    )
