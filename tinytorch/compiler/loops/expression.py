"""The arithmetic inside one kernel: a DAG of loads, constants, operations and reductions.

Knows loop dimensions and buffer names, never graphs or loops. An expression says what the value at
one point of the iteration space is; the loop nest decides where its instructions stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tinytorch.base.dtypes import DType, bfloat16, from_bfloat16, int64
from tinytorch.codegen.builder import Function, Value, lanes, mangle, size_of, vector
from tinytorch.compiler.loops import elementwise
from tinytorch.compiler.loops.elementwise import from_memory, register_type, to_memory
from tinytorch.primitives.primitive import TABLE, store


def _varying(strides: Sequence[int]) -> frozenset[int]:
    return frozenset(i for i, s in enumerate(strides) if s)


@dataclass(frozen=True, eq=False)
class Expression:
    """Base: a number at each point of the iteration space. Compared by identity."""

    dtype: DType
    dims: frozenset[int] = field(init=False, default=frozenset())
    reductions: frozenset[Reduce] = field(init=False, default=frozenset())

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """Expressions it reads."""
        return ()

    def text(self, number: Mapping[Expression, int]) -> str:
        """One line that, with those of its inputs, says all about it."""
        raise TypeError(type(self).__name__)


@dataclass(frozen=True, eq=False)
class Load(Expression):
    """The element of buffer `argument` at offset + sum(strides * index) (+ looked-up rows).

    Args:
        strides: elements for each loop dimension.
        lookup: (index expression, stride, size of the axis) of data-dependent axes; negative
            indices count from the end.
    """

    argument: str
    strides: tuple[int, ...]
    offset: int = 0
    lookup: tuple[tuple[Expression, int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "dims", _varying(self.strides).union(*(e.dims for e, *_ in self.lookup))
        )
        object.__setattr__(
            self, "reductions", frozenset().union(*(e.reductions for e, *_ in self.lookup))
        )

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """The index expressions."""
        return tuple(e for e, *_ in self.lookup)

    def is_at(self, store: Store) -> bool:
        """Whether it reads the element that the store writes."""
        place = (store.argument, store.strides, store.offset)
        return (self.argument, self.strides, self.offset) == place and not self.lookup

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        looked = ",".join(f"{number[e]}*{s}%{n}" for e, s, n in self.lookup)
        return f"load {self.dtype.name} {self.argument} {self.strides} {self.offset} [{looked}]"


@dataclass(frozen=True, eq=False)
class Constant(Expression):
    """The same number everywhere: the nearest that its dtype has (registers may be wider)."""

    number: float | int | bool

    def __post_init__(self) -> None:
        dtype = self.dtype
        with np.errstate(all="ignore"):
            stored = store(np.asarray(self.number).astype(dtype.compute), dtype)
        if dtype is bfloat16:
            stored = from_bfloat16(np.atleast_1d(stored))
        object.__setattr__(self, "number", stored.item())

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return f"constant {self.dtype.name} {self.number!r}"


@dataclass(frozen=True, eq=False)
class Iota(Expression):
    """offset + sum(strides * index), as a number."""

    strides: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", _varying(self.strides))

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return f"iota {self.dtype.name} {self.strides} {self.offset}"


@dataclass(frozen=True, eq=False)
class Op(Expression):
    """An elementwise primitive applied."""

    name: str
    operands: tuple[Expression, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", frozenset().union(*(e.dims for e in self.operands)))
        object.__setattr__(
            self, "reductions", frozenset().union(*(e.reductions for e in self.operands))
        )

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """The operands."""
        return self.operands

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return f"{self.name} {self.dtype.name} {[number[e] for e in self.operands]}"


@dataclass(frozen=True, eq=False)
class Reduce(Expression):
    """sum, prod, max, min, any or all of an expression over the loop dimensions `over`."""

    kind: str
    operand: Expression
    over: frozenset[int]
    level: int = field(init=False, default=1)  # 1 + those of which one must wait for the other

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", self.operand.dims - self.over)
        object.__setattr__(self, "reductions", frozenset([self]))
        below = max((r.level for r in self.operand.reductions), default=0)
        object.__setattr__(self, "level", 1 + below)

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """The operand."""
        return (self.operand,)

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return (
            f"reduce {self.kind} {self.dtype.name} {number[self.operand]} over {sorted(self.over)}"
        )


@dataclass(frozen=True, eq=False)
class InRegisters(Expression):
    """The value that a kernel holds in registers when its epilogue begins."""

    rank: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", frozenset(range(self.rank)))

    def text(self, number: Mapping[Expression, int]) -> str:
        """See Expression."""
        return f"given {self.dtype.name}"


@dataclass(frozen=True, eq=False)
class Store:
    """Where a value goes."""

    argument: str
    dtype: DType
    strides: tuple[int, ...]
    value: Expression
    offset: int = 0


def topological(
    roots: Iterable[Expression], known: Callable[[Expression], bool] | None = None
) -> list[Expression]:
    """All expressions below the roots, inputs first; each once.

    Args:
        known: says of an expression whether it, and what is only below it, is left out.
    """
    order: list[Expression] = []
    seen: set[int] = set()
    stack: list[tuple[Expression, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        e, ready = stack.pop()
        if ready:
            order.append(e)
        elif id(e) not in seen:
            seen.add(id(e))
            if known is not None and known(e):
                continue
            stack.append((e, True))
            stack.extend((x, False) for x in reversed(e.inputs) if id(x) not in seen)
    return order


def describe(stores: Sequence[Store]) -> str:
    """Text that is equal exactly when the arithmetic is."""
    order = topological(s.value for s in stores)
    number = {e: i for i, e in enumerate(order)}
    lines = [f"{i} = {e.text(number)}" for e, i in number.items()]
    lines += [
        f"{s.argument} {s.dtype.name} {s.strides} {s.offset} <- {number[s.value]}" for s in stores
    ]
    return "\n".join(lines)


def digest(*parts: object) -> str:
    """Twelve hexadecimal digits that stand for the structure `parts` spell out."""
    return hashlib.sha256("\n".join(str(p) for p in parts).encode()).hexdigest()[:12]


def flops_per_point(stores: Sequence[Store]) -> int:
    """Arithmetic operations at each point; casts and selections count nothing."""
    return sum(
        1 for e in topological(s.value for s in stores)
        if isinstance(e, Reduce) or (isinstance(e, Op) and not TABLE[e.name].exact)
    )  # fmt: skip


# What gathers and scatters move: no processor does it with single bits or 16-bit floats.
_STORED_AS = {"i1": "i8", "half": "i16", "bfloat": "i16"}


class Emitter:
    """Writes expressions into a function at the current point of the loops.

    Args:
        f: the function being written.
        pointers: buffer name to address.
        lane: the loop dimension whose consecutive indices lie in the lanes of a vector, or None.
        width: lanes of a vector.
    """

    def __init__(self, f: Function, pointers: Mapping[str, Value], lane: int | None, width: int):
        self.f, self.pointers, self.lane, self.width = f, pointers, lane, width
        self.index: dict[int, Value] = {}
        self.mask: Value | None = None
        self._memo: list[dict[Expression, Value]] = [{}]

    # scopes: what was computed in an outer loop is found again in the inner ones

    def push(self) -> None:
        """Open a scope: what is computed now is forgotten at `pop`."""
        self._memo.append({})

    def pop(self) -> None:
        """Close the scope."""
        self._memo.pop()

    def know(self, e: Expression, value: Value) -> None:
        """Remember the value of an expression in the current scope."""
        self._memo[-1][e] = value

    def knows(self, e: Expression) -> bool:
        """Whether the value has been computed in this or an outer scope."""
        return any(e in scope for scope in self._memo)

    def prepare(
        self, roots: Iterable[Expression], dims: frozenset[int], done: Iterable[Reduce] = ()
    ) -> None:
        """Compute now what below the roots depends on no other dims and no unfinished reduction."""
        finished = set(done)
        for e in topological(roots):
            if e.dims <= dims and e.reductions <= finished and not isinstance(e, Constant | Reduce):
                self.value(e)

    def value(self, e: Expression) -> Value:
        """The register value: a vector if it varies along the lane dimension, else a scalar."""
        for scope in reversed(self._memo):
            if e in scope:
                return scope[e]
        for x in topological([e], self.knows):  # inputs first: a chain may be of any length
            self._memo[-1][x] = self._emit(x)
        return self._memo[-1][e]

    def as_vector(self, e: Expression, n: int) -> Value:
        """The value with n lanes, the same in all if it does not vary."""
        v = self.value(e)
        return v if lanes(v.type) == n else self.f.splat(v, n)

    def _emit(self, e: Expression) -> Value:
        f = self.f
        if isinstance(e, Constant):
            return f.const(register_type(e.dtype), e.number)
        if isinstance(e, Iota):
            return self._iota(e)
        if isinstance(e, Load):
            return self._load(e)
        if isinstance(e, Reduce):
            raise TypeError(f"a reduction was read before it was finished: {e.kind}")
        assert isinstance(e, Op)  # noqa: S101
        values = [self.value(x) for x in e.operands]
        n = max((lanes(v.type) for v in values), default=1)
        values = [v if lanes(v.type) == n else f.splat(v, n) for v in values]
        return elementwise.emit(f, e.name, values, [x.dtype for x in e.operands], e.dtype)

    def offset(self, strides: Sequence[int], offset: int) -> Value:
        """The scalar element offset of the current point (lane 0)."""
        f, total = self.f, self.f.index(0)
        for dim, stride in enumerate(strides):
            if stride:
                total = f.add(total, f.mul(self.index[dim], f.index(stride)), "offset")
        return f.add(total, f.index(offset), "offset")

    def _iota(self, e: Iota) -> Value:
        f = self.f
        start = self.offset(e.strides, e.offset)
        if self.lane in e.dims and self.width > 1:
            steps = f.mul(
                f.step(self.width), f.const(vector(self.width, "i64"), e.strides[self.lane])
            )
            start = f.add(f.splat(start, self.width), steps)
        return elementwise.convert(f, start, int64, e.dtype)

    def _rows(self, e: Load, n: int) -> Value | None:
        """Element offsets that come from looked-up indices (scalar or n lanes), or None."""
        f, total = self.f, None
        for index, stride, size in e.lookup:
            i = self.value(index)
            if lanes(i.type) != n:
                i = f.splat(i, n)
            i = f.convert(i, "i64", signed=index.dtype.kind == "i")
            wrapped = f.add(i, f.const(i.type, size))
            i = f.select(f.compare("lt", i, f.const(i.type, 0)), wrapped, i)
            rows = f.mul(i, f.const(i.type, stride))
            total = rows if total is None else f.add(total, rows)
        return total

    def _load(self, e: Load) -> Value:
        f, dtype = self.f, e.dtype
        pointer, base = self.pointers[e.argument], self.offset(e.strides, e.offset)
        varies = self.lane in e.dims and self.width > 1
        stride = e.strides[self.lane] if varies and self.lane is not None else 0
        scattered = varies and (stride != 1 or any(self.lane in x.dims for x in e.inputs))
        if not varies or not scattered:
            rows = self._rows(e, 1)
            at = f.at(
                pointer, base if rows is None else f.add(base, rows), dtype.llvm, f"{e.argument}.at"
            )
            type = vector(self.width, dtype.llvm) if varies else dtype.llvm
            mask = self.mask if varies else None
            return from_memory(f, f.load(at, type, mask=mask, stem=e.argument), dtype)
        n = self.width
        places = (
            f.mul(f.step(n), f.const(vector(n, "i64"), stride))
            if stride
            else f.const(vector(n, "i64"), 0)
        )
        rows = self._rows(e, n)
        places = places if rows is None else f.add(places, rows)
        return from_memory(
            f, self._gather(f.at(pointer, base, dtype.llvm), places, dtype.llvm), dtype
        )

    def _addresses(self, pointer: Value, places: Value, memory: str) -> Value:
        n = lanes(places.type)
        return self.f.define(
            f"<{n} x ptr>",
            f"getelementptr {memory}, ptr {pointer.text}, {places.type} {places.text}",
            "places",
        )

    def _gather(self, pointer: Value, places: Value, llvm: str) -> Value:
        f, n = self.f, lanes(places.type)
        memory = _STORED_AS.get(llvm, llvm)
        type = vector(n, memory)
        mask = self.mask or f.const(vector(n, "i1"), 1)
        name = f"llvm.masked.gather.{mangle(type)}.v{n}p0"
        f.declarations.add(f"declare {type} @{name}(<{n} x ptr>, i32, <{n} x i1>, {type})")
        at = self._addresses(pointer, places, memory)
        out = f.define(
            type,
            f"call {type} @{name}({at.type} {at.text}, i32 {size_of(memory)}, "
            f"{mask.type} {mask.text}, {type} zeroinitializer)",
            "gathered",
        )
        if llvm == "i1":
            return f.convert(out, "i1")
        return out if memory == llvm else f.bitcast(out, vector(n, llvm))

    def store_all(self, stores: Sequence[Store]) -> None:
        """Write several values to their places; all are computed before one overwrites a state."""
        for s in stores:
            self.value(s.value)
        for s in stores:
            self.store(s)

    def _guard(self, s: Store) -> tuple[Expression, Expression] | None:
        """(c, new) of a state that becomes `where(c, new, state)`, c the same in all lanes.

        Note [a guarded state]
            A masked store writes the new value or nothing. A select for each of the three arrays
            of AdamW, whose old values must be kept until then, costs 1 % of a large MLP's step.
        """
        e = s.value
        masks = getattr(self.f.target, "name", None) == "avx512"  # others take masks apart
        if not (masks and isinstance(e, Op) and e.name == elementwise.SELECT):
            return None
        condition, new, old = e.operands
        same = isinstance(old, Load) and old.is_at(s)
        narrow = register_type(s.dtype) not in ("float", "double")
        return None if not same or narrow or self.lane in condition.dims else (condition, new)

    def store(self, s: Store) -> None:
        """Write a value to its place at the current point."""
        f = self.f
        pointer = f.at(self.pointers[s.argument], self.offset(s.strides, s.offset), s.dtype.llvm)
        stride = s.strides[self.lane] if self.lane is not None and self.lane < len(s.strides) else 0
        if not stride or self.width == 1:
            value = self.value(s.value)
            if lanes(value.type) > 1:  # a column of size 1, of a result that comes in vectors
                value = f.extract(value, 0)
            f.store(to_memory(f, value, s.dtype), pointer)
            return
        if stride == 1 and (guard := self._guard(s)) is not None:
            condition, new = guard
            value = to_memory(f, self.as_vector(new, self.width), s.dtype)
            mask = self.as_vector(condition, self.width)
            mask = mask if self.mask is None else f.op("and", mask, self.mask)
            f.store(value, pointer, mask=mask)
            return
        value = to_memory(f, self.as_vector(s.value, self.width), s.dtype)
        if stride == 1:
            f.store(value, pointer, mask=self.mask)
            return
        n = self.width
        memory = _STORED_AS.get(s.dtype.llvm, s.dtype.llvm)
        if s.dtype.llvm == "i1":
            value = f.convert(value, "i8", signed=False)
        elif memory != s.dtype.llvm:
            value = f.bitcast(value, vector(n, memory))
        mask = self.mask or f.const(vector(n, "i1"), 1)
        places = f.mul(f.step(n), f.const(vector(n, "i64"), stride))
        at = self._addresses(pointer, places, memory)
        name = f"llvm.masked.scatter.{mangle(value.type)}.v{n}p0"
        f.declarations.add(f"declare void @{name}({value.type}, <{n} x ptr>, i32, <{n} x i1>)")
        f.emit(
            f"call void @{name}({value.type} {value.text}, {at.type} {at.text}, "
            f"i32 {size_of(memory)}, {mask.type} {mask.text})"
        )


def expensive_among(order: Sequence[Expression]) -> set[Expression]:
    """Those that cost more to be computed again than to be read from the first-level cache.

    Args:
        order: inputs first, as `topological` gives them.
    """
    found: set[Expression] = set()
    for e in order:
        own = isinstance(e, Op) and TABLE[e.name].expensive
        if own or not found.isdisjoint(e.inputs):
            found.add(e)
    return found
