"""The functions of a native library, by our code generator: begin, run, how much memory.

Knows a NativeProgram and LLVM IR, never models or files. The library is data that nobody writes:
the weights, a table of stages, and for each stage a table of addresses. `run` goes through it
alone, on the memory that the caller gives; so callers on several threads, each with a workspace of
its own, do not know of each other.

Note [who may be asked]
    Asking a processor what it can do takes microseconds, and there is no place to remember the
    answer but the caller's memory: `begin` asks once and writes a word there that `run` looks for.
    All functions of this file are compiled for the least processor of the architecture, so that
    they can say no where the kernels would end the process.

Note [weights as text]
    As LLVM IR 100 MB of weights are 300 MB of text, which is read and copied several times: 1.3 GB
    and 10 s. So the text has zeros in their place, behind a mark that nothing else has (a SHA-512),
    and `filled` puts them into the object file.
"""

from __future__ import annotations

import hashlib

from tinytorch.base.errors import CompileError
from tinytorch.codegen.builder import Function, Value
from tinytorch.codegen.engine import module_text
from tinytorch.codegen.kernel import round_up
from tinytorch.codegen.target import AARCH64_BITS, Target
from tinytorch.export.recorded import ARENA, DATA, GIVEN, STATUS, NativeProgram

OK, NO_INSTRUCTIONS, NOT_BEGUN, BAD_INDEX, NO_WORKSPACE = range(5)
LINE = 64  # bytes; the workspace is used from a multiple of it on

# what begins a workspace: the word that `begin` writes, then the status words of the kernels
_STATUS_AT, _HEAD = LINE, 2 * LINE

# the least processor of each architecture
LEAST = {
    "x86_64": '"target-cpu"="x86-64" "target-features"="+sse2"',
    "aarch64": '"target-cpu"="generic" "target-features"="+neon"',
}

# LLVM's names of features -> leaf and subleaf of cpuid, register (eax, ebx, ecx, edx) and bit.
# Source: Intel SDM, volume 2, CPUID; AMD APM, volume 3, appendix E (leaf 0x80000001).
_EXTENDED = 0x80000001
CPUID = {
    "sse3": (1, 0, 2, 0), "ssse3": (1, 0, 2, 9), "cx16": (1, 0, 2, 13), "sse4.1": (1, 0, 2, 19),
    "sse4.2": (1, 0, 2, 20), "movbe": (1, 0, 2, 22), "popcnt": (1, 0, 2, 23),
    "fma": (1, 0, 2, 12), "xsave": (1, 0, 2, 27), "avx": (1, 0, 2, 28), "f16c": (1, 0, 2, 29),
    "bmi": (7, 0, 1, 3), "avx2": (7, 0, 1, 5), "bmi2": (7, 0, 1, 8), "avx512f": (7, 0, 1, 16),
    "avx512dq": (7, 0, 1, 17), "avx512cd": (7, 0, 1, 28), "avx512bw": (7, 0, 1, 30),
    "avx512vl": (7, 0, 1, 31), "avx512vbmi": (7, 0, 2, 1), "avx512vnni": (7, 0, 2, 11),
    "avx512fp16": (7, 0, 3, 23), "avxvnni": (7, 1, 0, 4), "avx512bf16": (7, 1, 0, 5),
    "sahf": (_EXTENDED, 0, 2, 0), "lzcnt": (_EXTENDED, 0, 2, 5),
}  # fmt: skip
# what LLVM's names of processor models stand for: the levels of the x86-64 psABI, section 3.1.1
_V2 = ("cx16", "sahf", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_LEVELS = {"x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
# registers that the system must keep (XCR0): SSE and AVX; the three parts of AVX-512
_AVX_STATE, _AVX512_STATE = 0x6, 0xE0


def instructions(target: Target) -> tuple[str, ...]:
    """What a processor must have, by LLVM's names, beyond the least one of its architecture."""
    asked = [f[1:] for f in target.features.split(",") if f[:1] == "+"]
    return tuple(dict.fromkeys([*_LEVELS.get(target.cpu, ()), *asked]))


def workspace_bytes(program: NativeProgram) -> int:
    """Bytes of memory that a caller gives, wherever it begins."""
    return LINE + _HEAD + round_up(program.scratch, LINE) + round_up(program.arena, LINE)


def library_text(name: str, program: NativeProgram) -> str:
    """LLVM IR of a library: three functions that others see, kernels and data that nobody does.

    Args:
        name: what the functions' names begin with.
        program: what they do.
    """
    kernels = module_text(program.kernels)
    for kernel in program.kernels:  # two libraries in one program may have equal kernels
        kernels = kernels.replace(
            f'define void @"{kernel.name}"', f'define internal void @"{kernel.name}"'
        )
    word = int.from_bytes(hashlib.sha256(name.encode() + program.data).digest()[:8], "little") >> 1
    functions = [
        _bytes_function(name, program),
        begin_function(name, program.target, word),
        _run_function(name, program, word),
    ]
    declared = sorted({d for f in functions for d in f.declarations} - set(kernels.splitlines()))
    return "\n".join([*declared, kernels, *_tables(program), *(f.finish() for f in functions), ""])


def _tables(program: NativeProgram) -> list[str]:
    records: list[str] = []
    addresses: list[str] = []
    for s in program.stages:
        kernel = f'@"{s.symbol}"' if s.symbol else "null"
        fields = (s.tiles, len(addresses), len(s.addresses), s.skip, int(s.holds))
        records.append(f"{_RECORD} {{ptr {kernel}, {', '.join(f'i64 {n}' for n in fields)}}}")
        addresses += [f"{_ADDRESS} {{i64 {base}, i64 {at}}}" for base, at in s.addresses]
    mark, rest = _mark(program.data), max(0, len(program.data) - _MARK)
    parts = f"[{_MARK} x i8], [{rest} x i8]"
    text = "".join(f"\\{byte:02X}" for byte in mark)
    return [
        f"@stages = internal constant [{len(records)} x {_RECORD}] [{', '.join(records)}]",
        f"@addresses = internal constant [{len(addresses)} x {_ADDRESS}] [{', '.join(addresses)}]",
        f"@data = internal externally_initialized constant <{{{parts}}}> <{{[{_MARK} x i8] "
        f'c"{text}", [{rest} x i8] zeroinitializer}}>, align {LINE}',
    ]


def filled(image: bytes, data: bytes) -> bytes:
    """An object file of `library_text` with the data in its place; see Note [weights as text].

    Raises:
        CompileError: its place is not there.
    """
    mark = _mark(data)
    at, room = image.find(mark), max(_MARK, len(data))
    if at < 0 or image.find(mark, at + 1) >= 0 or any(image[at + _MARK : at + room]):
        raise CompileError.own_fault(
            "export: the place of the weights was not found in the object code",
            got=f"{len(image)} bytes",
            rule="the mark of driver.py once, and zeros behind it",
        )
    return image[:at] + data.ljust(_MARK, b"\0") + image[at + room :]


def _mark(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


_MARK = 64  # bytes of a mark
_RECORD, _RECORD_WORDS = "{ptr, i64, i64, i64, i64, i64}", 6
_ADDRESS = "{i64, i64}"


def _function(
    name: str, parameters: list[tuple[str, str]], result: str, target: Target, linkage: str = ""
) -> Function:
    attributes = f"nounwind {LEAST[target.architecture]}"
    return Function(name, parameters, result, attributes, linkage)


def _bytes_function(name: str, program: NativeProgram) -> Function:
    f = _function(f"{name}_workspace_bytes", [], "i64", program.target)
    f.ret(f.index(workspace_bytes(program)))
    return f


def begin_function(name: str, target: Target, word: int) -> Function:
    """NAME_begin: whether the processor will do; if so, `word` is written into the workspace.

    Raises:
        CompileError: the target has a feature that a processor cannot be asked for here.
    """
    f = _function(f"{name}_begin", [("workspace", "ptr")], "i32", target)
    f.branch_if(f.compare("eq", f.workspace, Value("null", "ptr")), "nothing", "given")
    f.block("nothing")
    f.ret(f.const("i32", NO_WORKSPACE))
    f.block("given")
    has = _has_x86(f, target) if target.architecture == "x86_64" else _has_aarch64(f, target)
    place = _aligned(f)
    f.store(f.select(has, f.index(word), f.index(0)), place)
    f.ret(f.select(has, f.const("i32", OK), f.const("i32", NO_INSTRUCTIONS)))
    return f


def _aligned(f: Function) -> Value:
    """The first address of the workspace that is a multiple of a cache line."""
    number = f.define("i64", f"ptrtoint ptr {f.workspace.text} to i64", "number")
    rest = f.op("and", f.sub(f.index(0), number), f.index(LINE - 1), "rest")
    return f.at(f.workspace, rest, "i8", "aligned")


def _cpuid(f: Function, leaf: int, subleaf: int) -> list[Value]:
    """The four registers."""
    four = "{i32, i32, i32, i32}"
    asm = 'asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}"'
    out = f.define(four, f"call {four} {asm}(i32 {leaf - (leaf >> 31 << 32)}, i32 {subleaf})", "id")
    return [f.define("i32", f"extractvalue {four} {out.text}, {i}", "word") for i in range(4)]


def _has_x86(f: Function, target: Target) -> Value:
    """Whether the processor, and its system, have all instructions of a target (i1)."""
    asked = instructions(target)
    if unknown := [name for name in asked if name not in CPUID]:
        raise CompileError.own_fault(
            "export: it is not known how a processor is asked for an instruction",
            got=", ".join(unknown),
            rule="a row of CPUID in export/driver.py for each feature of a target",
        )
    wanted: dict[tuple[int, int], dict[int, int]] = {}
    for leaf, subleaf, register, bit in (CPUID[name] for name in asked):
        masks = wanted.setdefault((leaf, subleaf), {})
        masks[register] = masks.get(register, 0) | 1 << bit
    # a leaf that a processor does not have gives the bits of another one
    holds = [
        _at_least(f, _cpuid(f, 0, 0)[0], max((n for n, _ in wanted if n < _EXTENDED), default=0))
    ]
    if any(n == _EXTENDED for n, _ in wanted):
        holds.append(_at_least(f, _cpuid(f, _EXTENDED - 1, 0)[0], _EXTENDED))
    if (7, 1) in wanted:
        holds.append(_at_least(f, _cpuid(f, 7, 0)[0], 1))
    for (leaf, subleaf), masks in wanted.items():
        words = _cpuid(f, leaf, subleaf)
        for register, bits in masks.items():
            mask = f.const("i32", bits)
            holds.append(f.compare("eq", f.op("and", words[register], mask), mask))
    has = holds[0]
    for other in holds[1:]:
        has = f.op("and", has, other, "has")
    if "avx" not in asked:
        return has
    state = _AVX_STATE | (_AVX512_STATE if "avx512f" in asked else 0)
    before = f.current_block
    with f.when(has, "kept"):  # xgetbv is an instruction of those that have xsave
        two = "{i32, i32}"
        asm = 'asm sideeffect "xgetbv", "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"'
        out = f.define(two, f"call {two} {asm}(i32 0)", "kept")
        low = f.define("i32", f"extractvalue {two} {out.text}, 0", "word")
        mask = f.const("i32", state)
        all_kept = f.compare("eq", f.op("and", low, mask), mask)
        inside = f.current_block
    return f.define("i1", f'phi i1 [false, %"{before}"], [{all_kept.text}, %"{inside}"]', "all")


def _at_least(f: Function, x: Value, least: int) -> Value:
    return f.compare("ge", x, f.const("i32", least), signed=False)


def _has_aarch64(f: Function, target: Target) -> Value:
    """The same; Linux says it in two words (AT_HWCAP, AT_HWCAP2)."""
    has = f.compare("eq", f.index(0), f.index(0))
    for name in (n for n in instructions(target) if n in AARCH64_BITS):
        number, bit = AARCH64_BITS[name]
        f.declarations.add("declare i64 @getauxval(i64)")
        word = f.call("i64", "getauxval", f.index(number))
        has = f.op("and", has, f.compare("ne", f.op("and", word, f.index(1 << bit)), f.index(0)))
    return has


def _run_function(name: str, program: NativeProgram, word: int) -> Function:
    arrays = [*program.inputs, *program.outputs]
    parameters = [(a.name, "ptr") for a in arrays]
    f = _function(f"{name}_run", [*parameters, ("workspace", "ptr")], "i32", program.target)
    most = max((len(s.addresses) for s in program.stages), default=1)
    bases = f.define("ptr", f"alloca [{GIVEN + len(arrays)} x ptr], align 8", "bases")
    given = f.define("ptr", f"alloca [{max(1, most)} x ptr], align 8", "given")
    following = f.define("ptr", "alloca i64, align 8", "following")
    f.branch_if(f.compare("eq", f.workspace, Value("null", "ptr")), "refused", "there")
    f.block("there")
    place = _aligned(f)
    f.branch_if(f.compare("eq", f.load(place, "i64"), f.index(word)), "begun", "refused")
    f.block("refused")
    f.ret(f.const("i32", NOT_BEGUN))
    f.block("begun")
    status, scratch = f.at(place, f.index(_STATUS_AT), "i8"), f.at(place, f.index(_HEAD), "i8")
    arena = f.at(scratch, f.index(round_up(program.scratch, LINE)), "i8")
    known = {DATA: Value("@data", "ptr"), ARENA: arena, STATUS: status}
    known.update({GIVEN + i: Value(f'%"{n}"', "ptr") for i, (n, _) in enumerate(parameters)})
    for base, pointer in known.items():
        f.store(pointer, f.at(bases, f.index(base), "ptr"), align=8)
    f.store(f.index(0), status)
    f.store(f.index(0), following)
    stages = f.index(len(program.stages))
    with f.loop("stage", 0, stages) as stage:
        with f.when(f.compare("ge", stage.index, f.load(following, "i64"))):
            _write_stage(f, stage.index, bases, given, following, scratch)
            failed = f.compare("ne", f.load(status, "i64"), f.index(0))
            with f.when(failed, "failed"):
                f.store(stages, following)
    failed = f.compare("ne", f.load(status, "i64"), f.index(0))
    f.ret(f.select(failed, f.const("i32", BAD_INDEX), f.const("i32", OK)))
    return f


def _write_stage(
    f: Function, stage: Value, bases: Value, given: Value, following: Value, scratch: Value
) -> None:
    """One row of the table: a gate, or the tiles of a kernel."""
    table = Value("@stages", "ptr")
    record = f.at(table, f.mul(stage, f.index(8 * _RECORD_WORDS)), "i8", "record")
    kernel = f.load_pointer(record, "kernel")
    tiles, first, count, skip, holds = (
        f.load(f.at(record, f.index(i), "i64"), "i64") for i in range(1, _RECORD_WORDS)
    )
    with f.loop("argument", 0, count) as i:
        row = f.mul(f.add(first, i.index), f.index(16))
        row = f.at(Value("@addresses", "ptr"), row, "i8", "row")
        base = f.load_pointer(f.at(bases, f.load(row, "i64"), "ptr"), "base")
        at = f.at(base, f.load(f.at(row, f.index(1), "i64"), "i64"), "i8")
        f.store(at, f.at(given, i.index, "ptr"), align=8)
    with f.when(f.compare("ne", skip, f.index(0)), "gate"):
        flag = f.load(f.load_pointer(given), "i8", stem="flag")
        is_set = f.convert(f.compare("ne", flag, f.const("i8", 0)), "i64")
        with f.when(f.compare("ne", is_set, holds), "left.out"):
            f.store(f.add(f.add(stage, f.index(1)), skip), following)
    with f.loop("tile", 0, tiles) as tile:
        f.emit(
            f"call void {kernel.text}(ptr {given.text}, i64 {tile.index.text}, ptr {scratch.text})"
        )
