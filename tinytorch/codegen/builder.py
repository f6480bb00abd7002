"""Writes LLVM IR text for one function, nesting in Python as the loops nest in the program.

Knows names, types and blocks; never arrays or graphs. Text is the seam: it can be printed, compared
and kept in a test. Every value carries a name taken from what it stands for. Types are text too:
first come their sizes, vectors of them, and constants.

    >>> f = Function("axpy", [("x", "ptr"), ("y", "ptr"), ("n", "i64")])
    >>> with f.loop("i", 0, f.n) as i:
    ...     x = f.load(f.at(f.x, i.index, "float"), "float")
    ...     _ = f.store(f.mul(x, f.const("float", 2.0)), f.at(f.y, i.index, "float"))
    >>> print(f.finish().splitlines()[0])
    define void @"axpy"(ptr %"x", ptr %"y", i64 %"n") nounwind {
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinytorch.base.dtypes import round_to_bfloat16
from tinytorch.codegen.target import Target

Number: TypeAlias = float | np.floating[Any] | np.integer[Any] | np.bool_

INTS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}
FLUSHES = "  ; flushes"  # ends a conversion to bfloat16 that may take subnormal numbers for 0
FLOATS = {"half": 2, "bfloat": 2, "float": 4, "double": 8}


def lanes(type: str) -> int:
    """Elements of a vector type, 1 for a scalar."""
    match = re.match(r"<(\d+) x ", type)
    return int(match[1]) if match else 1


def element(type: str) -> str:
    """Element type of a vector type; a scalar type itself."""
    return type[type.index(" x ") + 3 : -1] if type[0] == "<" else type


def vector(n: int, type: str) -> str:
    """The type of n elements: the scalar type itself for n = 1."""
    return type if n == 1 else f"<{n} x {type}>"


def size_of(type: str) -> int:
    """Bytes in memory of a scalar type (i1 is stored as a byte)."""
    return FLOATS.get(type) or max(1, INTS[type] // 8)


def mangle(type: str) -> str:
    """The suffix LLVM's intrinsics use for a type: v16f32, i64, ..."""
    if type == "void":
        return ""
    names = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}
    e = element(type)
    short = names.get(e, e)
    return f"v{lanes(type)}{short}" if type[0] == "<" else short


def constant_text(type: str, number: Number) -> str:
    """A scalar constant as IR text; floats as the exact bits of the type they are rounded to."""
    if type == "i1":
        return "true" if number else "false"
    if type in INTS:
        return str(int(number))
    if type == "float":  # rounded to float32, overflow to infinity included
        with np.errstate(over="ignore"):
            number = float(np.float32(number))
    elif type == "half":
        with np.errstate(over="ignore"):
            return f"0xH{int(np.float16(number).view(np.uint16)):04X}"
    elif type == "bfloat":
        return f"0xR{int(round_to_bfloat16(np.asarray(number, np.float32))):04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(number)))[0]:016X}"


# --- instructions, blocks and functions ---


@dataclass(frozen=True)
class Value:
    """A name or constant (as IR text) and its IR type."""

    text: str
    type: str


class Loop:
    """The running loop: its `index`, the `carried` values, and after it their `results`."""

    def __init__(self, index: Value, carried: list[Value]):
        self.index, self.carried, self.results = index, carried, carried
        self.following: list[Value] | None = None if carried else []

    def next(self, *values: Value) -> None:
        """Say what the carried values are in the next turn. Call once, at the body's end."""
        self.following = list(values)


class Function:
    """One LLVM function under construction. Parameters are attributes: `f.x`.

    Args:
        name: its symbol.
        parameters: (name, type) pairs; the type may end in " noalias".
        result: its return type.
        attributes: function attributes as IR text.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Value:
            """A parameter; set in the constructor, so at run time nothing is looked up here."""
            ...

    def __init__(
        self,
        name: str,
        parameters: Sequence[tuple[str, str]],
        result: str = "void",
        attributes: str = "nounwind",
        linkage: str = "",
    ):
        self.name = name
        # who will run it, where that is known: then better instructions are chosen
        self.target: Target | None = None
        self.declarations: set[str] = set()
        self._first_lane: set[str] = set()  # masks that leave lane 0 alone
        self.lines: list[str] = []
        self._counts: dict[str, int] = {}
        self.current_block = "entry"
        self._ended = False
        self._result = result
        listed = ", ".join(f'{t} %"{n}"' for n, t in parameters)
        self._head = (
            f'define {linkage + " " if linkage else ""}{result} @"{name}"({listed}) {attributes} {{'
        )
        for n, t in parameters:
            self._counts[n] = 1
            setattr(self, n, Value(f'%"{n}"', t.removesuffix(" noalias")))

    # names, blocks, constants

    def fresh(self, stem: str) -> str:
        """A name not used yet in this function: `stem`, `stem.1`, ..."""
        n = self._counts.get(stem, 0)
        self._counts[stem] = n + 1
        return f"{stem}.{n}" if n else stem

    def emit(self, line: str) -> None:
        """Append one instruction as text."""
        self.lines.append("  " + line)

    def define(self, type: str, text: str, stem: str = "v") -> Value:
        """Append `%name = text` and return the named value."""
        name = self.fresh(stem)
        self.lines.append(f'  %"{name}" = {text}')
        return Value(f'%"{name}"', type)

    def block(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f'"{name}":')
        self.current_block = name

    def branch(self, block: str) -> None:
        """Jump to a block."""
        self.emit(f'br label %"{block}"')

    def branch_if(self, condition: Value, yes: str, no: str) -> None:
        """Jump to `yes` or `no`."""
        self.emit(f'br i1 {condition.text}, label %"{yes}", label %"{no}"')

    def const(self, type: str, number: Number) -> Value:
        """A constant; for a vector type every lane holds it."""
        scalar = element(type)
        text = constant_text(scalar, number)
        if type[0] == "<":
            text = "<" + ", ".join([f"{scalar} {text}"] * lanes(type)) + ">"
        return Value(text, type)

    def index(self, number: int) -> Value:
        """An i64 constant."""
        return Value(str(int(number)), "i64")

    def step(self, n: int, type: str = "i64") -> Value:
        """The constant vector <0, 1, ..., n-1>."""
        if n == 1:
            return self.const(type, 0)
        return Value("<" + ", ".join(f"{type} {i}" for i in range(n)) + ">", vector(n, type))

    # arithmetic: integer or float instruction by the operands' type

    def _arith(
        self, int_op: str, float_op: str, a: Value, b: Value, stem: str, flags: str = ""
    ) -> Value:
        op = float_op if element(a.type) in FLOATS else int_op
        flag = f" {flags}" if flags and op == float_op else ""
        return self.define(a.type, f"{op}{flag} {a.type} {a.text}, {b.text}", stem)

    def add(self, a: Value, b: Value, stem: str = "sum") -> Value:
        """a + b (index arithmetic folds constants)."""
        if a.type == "i64" and b.type == "i64":
            if a.text == "0":
                return b
            if b.text == "0":
                return a
            if _is_number(a.text) and _is_number(b.text):
                return self.index(int(a.text) + int(b.text))
        return self._arith("add", "fadd", a, b, stem)

    def sub(self, a: Value, b: Value, stem: str = "difference") -> Value:
        """a - b."""
        if b.text == "0" and b.type == "i64":
            return a
        return self._arith("sub", "fsub", a, b, stem)

    def mul(self, a: Value, b: Value, stem: str = "product") -> Value:
        """a * b (index arithmetic folds constants)."""
        if a.type == "i64" and b.type == "i64":
            if a.text == "1":
                return b
            if b.text == "1":
                return a
            if a.text == "0" or b.text == "0":
                return self.index(0)
            if _is_number(a.text) and _is_number(b.text):
                return self.index(int(a.text) * int(b.text))
        return self._arith("mul", "fmul", a, b, stem)

    def div(self, a: Value, b: Value, stem: str = "quotient", signed: bool = True) -> Value:
        """a / b; integers truncate."""
        if b.text == "1" and b.type == "i64":
            return a
        return self._arith("sdiv" if signed else "udiv", "fdiv", a, b, stem)

    def rem(self, a: Value, b: Value, stem: str = "rest", signed: bool = True) -> Value:
        """The remainder of truncated division."""
        return self._arith("srem" if signed else "urem", "frem", a, b, stem)

    def op(self, name: str, a: Value, b: Value, stem: str | None = None) -> Value:
        """A binary instruction by its IR name: and, or, xor, shl, lshr, ashr, ..."""
        return self.define(a.type, f"{name} {a.type} {a.text}, {b.text}", stem or name)

    def neg(self, a: Value, stem: str = "minus") -> Value:
        """-a."""
        if element(a.type) in FLOATS:
            return self.define(a.type, f"fneg {a.type} {a.text}", stem)
        return self.define(a.type, f"sub {a.type} {self.const(a.type, 0).text}, {a.text}", stem)

    def fma(self, a: Value, b: Value, c: Value, stem: str = "fma") -> Value:
        """a * b + c with one rounding."""
        return self.intrinsic("fma", a.type, a, b, c, stem=stem)

    def compare(
        self, how: str, a: Value, b: Value, signed: bool = True, stem: str | None = None
    ) -> Value:
        """eq, ne, lt, le, gt, ge. Float: false when an operand is NaN, except ne which is true."""
        out = vector(lanes(a.type), "i1")
        if element(a.type) in FLOATS:
            code = "une" if how == "ne" else "o" + how
            return self.define(out, f"fcmp {code} {a.type} {a.text}, {b.text}", stem or how)
        code = how if how in ("eq", "ne") else ("s" if signed else "u") + how
        return self.define(out, f"icmp {code} {a.type} {a.text}, {b.text}", stem or how)

    def select(self, condition: Value, yes: Value, no: Value, stem: str = "chosen") -> Value:
        """Lane by lane `yes` where the condition holds, else `no`."""
        return self.define(
            yes.type,
            f"select {condition.type} {condition.text}, {yes.type} {yes.text}, {no.type} {no.text}",
            stem,
        )

    def minimum(self, a: Value, b: Value, signed: bool = True) -> Value:
        """The smaller; a float NaN operand gives NaN."""
        return self._extreme("lt", "minimum", a, b, signed)

    def maximum(self, a: Value, b: Value, signed: bool = True) -> Value:
        """The larger; a float NaN operand gives NaN."""
        return self._extreme("gt", "maximum", a, b, signed)

    def _extreme(self, how: str, stem: str, a: Value, b: Value, signed: bool) -> Value:
        chosen = self.select(self.compare(how, a, b, signed), a, b, stem)
        if element(a.type) not in FLOATS:
            return chosen
        nan = self.define(
            vector(lanes(a.type), "i1"), f"fcmp uno {a.type} {a.text}, {a.text}", "nan"
        )
        return self.select(nan, a, chosen, stem)

    # conversions and vectors

    def bitcast(self, a: Value, type: str, stem: str = "bits") -> Value:
        """The same bits read as another type."""
        return (
            a if a.type == type else self.define(type, f"bitcast {a.type} {a.text} to {type}", stem)
        )

    def convert(self, a: Value, to: str, signed: bool = True, stem: str = "as") -> Value:
        """Number conversion of scalars or vectors; float to integer saturates, NaN becomes 0."""
        source, target = element(a.type), element(to)
        n = lanes(a.type)
        to = vector(n, target)
        if source == target:
            return a
        if source in FLOATS and target in FLOATS:
            if FLOATS[source] == FLOATS[target]:  # half <-> bfloat go through float
                return self.convert(self.convert(a, "float"), target)
            op = "fpext" if FLOATS[source] < FLOATS[target] else "fptrunc"
        elif target in FLOATS:
            op = "uitofp" if source == "i1" or not signed else "sitofp"
        elif source in FLOATS:
            if target == "i1":
                return self.compare("ne", a, self.const(a.type, 0.0))
            if INTS[target] < 32 or (INTS[target] == 32 and signed):
                return self._saturated(a, to, signed, stem)
            name = ("fptosi" if signed else "fptoui") + ".sat"
            return self.intrinsic(name, to, a, suffix=f"{mangle(to)}.{mangle(a.type)}", stem=stem)
        elif target == "i1":
            return self.compare("ne", a, self.const(a.type, 0))
        elif INTS[source] < INTS[target]:
            op = "zext" if source == "i1" or not signed else "sext"
        else:
            op = "trunc"
        return self.define(to, f"{op} {a.type} {a.text} to {to}", stem)

    def _saturated(self, a: Value, to: str, signed: bool, stem: str) -> Value:
        """Floats as integers of up to 32 bits, by way of int32.

        LLVM makes its saturating conversions of vectors lane by lane on x86; of numbers that are in
        the range of int32 it makes one instruction.
        """
        if element(a.type) not in ("float", "double"):
            a = self.convert(a, "float")
        bits = INTS[element(to)]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        most = float(high)
        if bits == 32 and element(a.type) == "float":
            most = 2.0**31 - 128  # the largest float below 2^31
        beyond = self.compare("ge", a, self.const(a.type, 2.0**31)) if most < high else None
        known = self.compare("eq", a, a)
        a = self.select(known, a, self.const(a.type, 0.0))
        for how, limit in (("gt", float(low)), ("lt", most)):
            edge = self.const(a.type, limit)
            a = self.select(self.compare(how, a, edge), a, edge)
        n = lanes(a.type)
        whole = self.define(
            vector(n, "i32"), f"fptosi {a.type} {a.text} to {vector(n, 'i32')}", stem
        )
        if beyond:
            whole = self.select(beyond, self.const(whole.type, high), whole)
        return self.convert(whole, to, stem=stem)

    def convert_flushed(self, a: Value, stem: str = "as") -> Value:
        """To bfloat16 for a dot product of the processor: subnormal numbers may become 0."""
        if element(a.type) == "bfloat":
            return a
        a = self.convert(a, "float")
        to = vector(lanes(a.type), "bfloat")
        return self.define(to, f"fptrunc {a.type} {a.text} to {to}{FLUSHES}", stem)

    def splat(self, a: Value, n: int, stem: str = "all") -> Value:
        """A vector whose n lanes hold the scalar."""
        if n == 1:
            return a
        type = vector(n, a.type)
        one = self.define(type, f"insertelement {type} poison, {a.type} {a.text}, i32 0", stem)
        return self.define(
            type,
            f"shufflevector {type} {one.text}, {type} poison, <{n} x i32> zeroinitializer",
            stem,
        )

    def extract(self, a: Value, lane: int, stem: str = "lane") -> Value:
        """One lane of a vector."""
        return self.define(element(a.type), f"extractelement {a.type} {a.text}, i32 {lane}", stem)

    def insert(self, a: Value, x: Value, lane: int, stem: str = "with") -> Value:
        """The vector with one lane replaced."""
        return self.define(
            a.type, f"insertelement {a.type} {a.text}, {x.type} {x.text}, i32 {lane}", stem
        )

    def shuffle(self, a: Value, b: Value, order: Sequence[int], stem: str = "shuffled") -> Value:
        """Lanes picked from a (0..n-1) and b (n..2n-1)."""
        picks = ", ".join(f"i32 {i}" for i in order)
        return self.define(
            vector(len(order), element(a.type)),
            f"shufflevector {a.type} {a.text}, {b.type} {b.text}, <{len(order)} x i32> <{picks}>",
            stem,
        )

    def mask_below(self, n: int, count: Value, stem: str = "mask") -> Value:
        """<n x i1>: lane l is true where l < count (i64)."""
        mask = self.compare("lt", self.step(n), self.splat(count, n), stem=stem)
        if count.text == "1":
            self._first_lane.add(mask.text)
        return mask

    # memory

    def at(self, pointer: Value, index: Value, type: str, stem: str = "at") -> Value:
        """The address of pointer[index] for scalar elements of `type` (i1 lives in a byte)."""
        if index.text == "0":
            return pointer
        memory = "i8" if type == "i1" else type
        return self.define(
            "ptr", f"getelementptr {memory}, ptr {pointer.text}, i64 {index.text}", stem
        )

    def load(
        self, pointer: Value, type: str, align: int = 0, mask: Value | None = None, stem: str = "x"
    ) -> Value:
        """A scalar or vector from memory; masked-off lanes read as 0. Aligned as its elements."""
        if element(type) == "i1":
            memory = self.load(pointer, vector(lanes(type), "i8"), align, mask, stem)
            return self.convert(memory, type)
        align = align or size_of(element(type))
        if mask is not None and element(type) in ("half", "bfloat"):  # see Note [narrow floats]
            bits = self.load(pointer, vector(lanes(type), "i16"), align, mask, stem)
            return self.bitcast(bits, type, stem)
        if mask is None:
            return self.define(type, f"load {type}, ptr {pointer.text}, align {align}", stem)
        zero = self.const(type, 0)
        name = f"llvm.masked.load.{mangle(type)}.p0"
        self.declarations.add(f"declare {type} @{name}(ptr, i32, {mask.type}, {type})")
        return self.define(
            type,
            f"call {type} @{name}(ptr {pointer.text}, i32 {align}, "
            f"{mask.type} {mask.text}, {type} {zero.text})",
            stem,
        )

    def load_pointer(self, slot: Value, stem: str = "p") -> Value:
        """Load an address from memory."""
        return self.define("ptr", f"load ptr, ptr {slot.text}, align 8", stem)

    def store(
        self, value: Value, pointer: Value, align: int = 0, mask: Value | None = None
    ) -> None:
        """Store a scalar or vector, only the lanes of `mask` if one is given."""
        if element(value.type) == "i1":
            value = self.define(
                vector(lanes(value.type), "i8"),
                f"zext {value.type} {value.text} to {vector(lanes(value.type), 'i8')}",
            )
        align = align or size_of(element(value.type))
        # Note [narrow floats]: moved as bits, because LLVM has no masked or selected vector of
        # bfloat or half on older processors and would take it apart lane by lane
        if element(value.type) in ("half", "bfloat"):
            value = self.bitcast(value, vector(lanes(value.type), "i16"))
        if mask is not None and mask.text in self._first_lane:
            # LLVM 22 for AVX-512 makes one store of a truncation and a masked store, and where the
            # mask has one lane that store is as wide as the number was before
            value, mask = self.extract(value, 0), None
        if mask is None:
            self.emit(f"store {value.type} {value.text}, ptr {pointer.text}, align {align}")
            return
        name = f"llvm.masked.store.{mangle(value.type)}.p0"
        self.declarations.add(f"declare void @{name}({value.type}, ptr, i32, {mask.type})")
        self.emit(
            f"call void @{name}({value.type} {value.text}, ptr {pointer.text}, "
            f"i32 {align}, {mask.type} {mask.text})"
        )

    # calls

    def call(self, result: str, name: str, *arguments: Value, stem: str = "result") -> Value:
        """Call a function of this module or the process; declared by its argument types."""
        types = ", ".join(a.type for a in arguments)
        if name.startswith("llvm."):
            self.declarations.add(f"declare {result} @{name}({types})")
        listed = ", ".join(f"{a.type} {a.text}" for a in arguments)
        if result == "void":
            self.emit(f'call void @"{name}"({listed})')
            return Value("", "void")
        return self.define(result, f'call {result} @"{name}"({listed})', stem)

    def intrinsic(
        self,
        name: str,
        result: str,
        *arguments: Value,
        suffix: str | None = None,
        stem: str | None = None,
    ) -> Value:
        """Call `llvm.<name>.<suffix>`; the suffix is by default that of the result type."""
        full = f"llvm.{name}.{mangle(result) if suffix is None else suffix}".rstrip(".")
        return self.call(result, full, *arguments, stem=stem or name)

    # control

    @contextmanager
    def loop(
        self,
        name: str,
        start: Value | int,
        stop: Value | int,
        step: Value | int = 1,
        carry: Sequence[Value] = (),
    ) -> Generator[Loop, None, None]:
        """`for index in range(start, stop, step)`, carrying values from turn to turn.

        with f.loop("k", 0, n, carry=[total]) as k:
            k.next(f.add(k.carried[0], ...))
        total, = k.results
        """
        first, last, stride = (
            self.index(x) if isinstance(x, int) else x for x in (start, stop, step)
        )
        name = self.fresh(name)
        before, head, body, done = (
            self.current_block,
            f"{name}.head",
            f"{name}.body",
            f"{name}.done",
        )
        self.branch(head)
        self.block(head)
        index = Value(f'%"{name}"', "i64")
        place = len(self.lines)
        carried = [Value(f'%"{name}.carry{i}"', c.type) for i, c in enumerate(carry)]
        more = self.compare("lt", index, last, stem=f"{name}.more")
        self.branch_if(more, body, done)
        self.block(body)
        loop = Loop(index, carried)
        yield loop
        if loop.following is None or len(loop.following) != len(carried):
            raise ValueError(f"loop {name!r}: next() must be given {len(carried)} values")
        following = self.define("i64", f"add i64 {index.text}, {stride.text}", f"{name}.next")
        end = self.current_block
        self.branch(head)
        phis = [
            f'  {index.text} = phi i64 [{first.text}, %"{before}"], [{following.text}, %"{end}"]'
        ]
        for c, given, after in zip(carried, carry, loop.following, strict=True):
            phis.append(
                f'  {c.text} = phi {c.type} [{given.text}, %"{before}"], [{after.text}, %"{end}"]'
            )
        self.lines[place:place] = phis
        self.block(done)
        loop.results = carried

    @contextmanager
    def when(self, condition: Value, name: str = "when") -> Generator[None, None, None]:
        """Run the body only if the condition (i1) holds."""
        name = self.fresh(name)
        self.branch_if(condition, f"{name}.then", f"{name}.done")
        self.block(f"{name}.then")
        yield
        self.branch(f"{name}.done")
        self.block(f"{name}.done")

    def opposite(self, condition: Value) -> Value:
        """Whether a condition (i1) does not hold."""
        return self.op("xor", condition, self.const("i1", 1))

    def ret(self, value: Value | None = None) -> None:
        """Return."""
        self.emit("ret void" if value is None else f"ret {value.type} {value.text}")
        self._ended = True

    def finish(self) -> str:
        """The function's text; adds `ret void` where the end was left open."""
        if not self._ended:
            if self._result != "void":
                raise ValueError(f"function {self.name!r} ends without a result")
            self.ret()
        return "\n".join([self._head, '"entry":', *self.lines, "}"])


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdigit()
