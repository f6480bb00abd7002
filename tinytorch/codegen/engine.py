"""From IR text to object code to addresses: the assembler of TinyTorch, with LLVM behind it.

Knows text, targets and symbols, never what the code computes. Whatever is wrong with the text is a
CompileError: it is verified before code is generated from it, and instructions that the target does
not have are refused, because LLVM would end the process there. Conversions that it does not have
are spelled out as others that it has.

    text = module_text(kernels)            one module, equal kernels once (module_texts: several)
    image = compile_text(text, target)     object code: bytes that can be kept in a file
    library = load([image], names)         library["name"] is an address, while the library lives
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import llvmlite.binding as llvm

from tinytorch.base.errors import CompileError
from tinytorch.base.locks import fork_waits_for
from tinytorch.codegen.builder import FLUSHES, Function, Value, lanes, mangle, vector
from tinytorch.codegen.kernel import Kernel
from tinytorch.codegen.target import Target

# what compiled code may call beside itself: libc's memory functions, which LLVM writes loops of
# stores as; what the thread team waits with; fused products where the processor has none; what
# exported code asks Linux for the instructions of an aarch64 processor with
EXTERNAL = (
    "memcpy",
    "memmove",
    "memset",
    "syscall",
    "sched_yield",
    "usleep",
    "clock_gettime",
    "fma",
    "fmaf",
    "getauxval",
)

# Kernels of one module. LLVM links an object in a time that grows with the square of its constants:
# 2,000 kernels with a tanh took 0.6 s in one object, 0.1 s in pieces.
MOST_KERNELS = 128

# intrinsics named so need the target property
_INTRINSICS: tuple[tuple[str, str, Callable[[Target], bool]], ...] = (
    (r"llvm\.x86\.(ldtilecfg|sttilecfg|tile|td|internal\.amx)", "AMX tiles", lambda t: t.has_amx),
    (r"llvm\.x86\.avx512bf16", "bfloat16 dot products", lambda t: t.has_bf16_dot),
    (r"llvm\.x86\.avx512\.vpdpb", "int8 dot products", lambda t: t.has_int8_dot),
    (r"llvm\.x86\.avx512fp16", "float16 arithmetic", lambda t: t.has_fp16),
    (r"llvm\.x86\.avx512(?!\.vpdpb)", "AVX-512", lambda t: t.name == "avx512"),
    (r"llvm\.x86\.(avx|fma|f16c)", "AVX2", lambda t: t.name in ("avx512", "avx2")),
    (r"llvm\.x86\.", "an x86-64 processor", lambda t: t.architecture == "x86_64"),
    (r"llvm\.aarch64\.neon\.bfdot", "bfloat16 dot products", lambda t: t.has_bf16_dot),
    (r"llvm\.aarch64\.neon\.[su]dot", "int8 dot products", lambda t: t.has_int8_dot),
    (r"llvm\.aarch64\.neon\.usdot", "dot products of bytes", lambda t: t.has_mixed_dot),
    (r"llvm\.aarch64\.", "an aarch64 processor", lambda t: t.architecture == "aarch64"),
)

_lock = threading.RLock()  # one TargetMachine and one pass manager serve all threads
# LLVM's memory must be whole in a forked child: a fork waits for what is being compiled (at most
# some seconds). llvmlite has a lock of its own, which other users of it may hold.
fork_waits_for(_lock, place=20)
fork_waits_for(llvm.ffi.lib._lock, place=30)  # pyright: ignore[reportPrivateUsage]


def module_text(kernels: Iterable[Kernel]) -> str:
    """One module with every kernel once, and every declaration once.

    Raises: CompileError if two different kernels have the same name.
    """
    once = _each_once(kernels)
    declarations = frozenset[str]().union(*(kernel.declarations for kernel in once))
    return "\n".join([*sorted(declarations), *(kernel.ir for kernel in once)]) + "\n"


def module_texts(kernels: Iterable[Kernel]) -> list[str]:
    """Modules of at most MOST_KERNELS kernels that have every kernel once; at least one module.

    Raises: CompileError if two different kernels have the same name.
    """
    once = _each_once(kernels)
    starts = range(0, max(1, len(once)), MOST_KERNELS)
    return [module_text(once[start : start + MOST_KERNELS]) for start in starts]


def _each_once(kernels: Iterable[Kernel]) -> list[Kernel]:
    once: dict[str, Kernel] = {}
    for kernel in kernels:
        if once.setdefault(kernel.name, kernel).ir != kernel.ir:
            raise CompileError(
                "two different kernels have the same name",
                got=kernel.name,
                rule="a kernel's name ends in a hash of everything that shapes its code",
                fix="put what differs into the hash, in the factory that wrote the kernel",
            )
    return list(once.values())


def compile_text(text: str, target: Target) -> bytes:
    """Object code of a module.

    Args:
        text: LLVM IR.
        target: the processor to write for.

    Returns: a relocatable, position-independent object file.
    Raises: CompileError for text that LLVM does not accept or the target cannot run.
    Cost: about 1 ms and 32 microseconds for each line (one core of 2026).
    """
    with _lock:
        return _machine(target).emit_object(_optimised(text, target))


def release_memory() -> None:
    """Give back to the system what writing code has used: the C library would keep it.

    Cost: about 1 ms. Nothing where the C library has no such function.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def optimised_text(text: str, target: Target) -> str:
    """The module as it is after LLVM's passes, for `explain`."""
    with _lock:
        return str(_optimised(text, target))


def assembly_text(text: str, target: Target) -> str:
    """The module's assembly, for `explain`."""
    with _lock:
        return _machine(target).emit_assembly(_optimised(text, target))


class Library:
    """Loaded object code. Its addresses are good while this object lives.

    Args:
        addresses: of the symbols asked for.
        tracker: LLVM's handle; the code is unloaded with it.
        jit: what loaded it, and some others.
    """

    def __init__(self, addresses: Mapping[str, int], tracker: object, jit: object):
        self.addresses, self._tracker, self._jit = dict(addresses), tracker, jit

    def __del__(self):
        self._tracker = None  # before what it belongs to
        self._jit = None

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def keep(self) -> None:
        """Never unload the code, not even when the interpreter ends."""
        _never_free(self)


def load(objects: Sequence[bytes], names: Iterable[str]) -> Library:
    """Link object code into this process.

    Args:
        objects: from `compile_text`.
        names: the symbols to look up.

    Raises: CompileError for a symbol that nobody defines, or an object that is damaged or of
        another architecture.
    """
    for image in objects:
        _refuse_foreign(image)
    names = list(dict.fromkeys(names))
    builder = llvm.JITLibraryBuilder()
    for image in objects:
        builder.add_object_img(image)
    for name, address in _external_addresses().items():
        builder.import_symbol(name, address)
    for name in names:
        builder.export_symbol(name)
    with _lock:
        try:
            jit, place = _place()
            tracker = builder.link(jit, place)
            return Library({symbol: tracker[symbol] for symbol in names}, tracker, jit)
        except RuntimeError as error:
            raise CompileError(
                "object code could not be linked",
                got=_first_lines(error),
                rule="it may use its own symbols and " + ", ".join(EXTERNAL),
                fix="delete the code cache if the object came from there; else report this fault",
            ) from None


# how an object file begins: where its machine is written, in how many bytes, and the machines.
# Sources: System V ABI, ELF header (e_machine); Apple, mach/machine.h (cputype)
_MACHINES = {
    b"\x7fELF": (18, 2, {"x86_64": 62, "aarch64": 183, "riscv64": 243}),
    b"\xcf\xfa\xed\xfe": (4, 4, {"x86_64": 0x01000007, "aarch64": 0x0100000C}),
}


def _refuse_foreign(image: bytes) -> None:
    """LLVM links what is written for any processor, and the process would end in it."""
    here = Target.host().architecture
    at, size, machines = _MACHINES.get(image[:4], (0, 0, {}))  # what is none, LLVM refuses itself
    found = int.from_bytes(image[at : at + size], "little")
    if machines and machines.get(here) != found:
        named = [name for name, number in machines.items() if number == found]
        raise CompileError(
            "this object code is for another processor",
            got=named[0] if named else f"machine {found}",
            rule=f"an object file for {here}",
            fix="write it anew on this machine",
        )


def version() -> str:
    """What produced an object, for cache keys."""
    import llvmlite

    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


def _first_lines(error: object) -> str:
    return " ".join(str(error).split("\n")[:3]).strip()


def _optimised(text: str, target: Target) -> llvm.ModuleRef:
    _refuse_missing_instructions(text, target)
    if not target.has_fma:  # the builder's fma would become a call of libm, lane by lane
        text = text.replace("llvm.fma.", "llvm.fmuladd.")
    text = spell_out(text, target)
    machine = _machine(target)
    try:
        module = llvm.parse_assembly(text, llvm.create_context())
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        raise CompileError.own_fault(
            "LLVM does not accept the text of a kernel",
            got=_first_lines(error),
            rule="valid LLVM IR, checked before code is generated",
        ) from None
    _refuse_unknown_functions(module)
    manager, builder = _passes(target)
    manager.run(module, builder)
    return module


def _refuse_unknown_functions(module: llvm.ModuleRef) -> None:
    names = {f.name for f in module.functions if f.is_declaration}
    unknown = sorted(n for n in names if not n.startswith("llvm.") and n not in EXTERNAL)
    if unknown:
        raise CompileError(
            "a kernel calls a function that nobody defines",
            got=", ".join(unknown),
            rule="its own functions, LLVM intrinsics and " + ", ".join(EXTERNAL),
            fix="define it in the kernel's text, or add it to EXTERNAL in codegen/engine.py",
        )


def _refuse_missing_instructions(text: str, target: Target) -> None:
    if "llvm.x86." not in text and "llvm.aarch64." not in text:
        return
    for name in dict.fromkeys(re.findall(r"llvm\.(?:x86|aarch64)\.[\w.]+", text)):
        for pattern, need, present in _INTRINSICS:
            if re.match(pattern, name) and not present(target):
                raise CompileError(
                    "a kernel uses instructions its target does not have",
                    got=f"{name} for target {target.name}",
                    rule=f"it needs {need}",
                    fix="ask the target (name, has_amx, has_int8_dot) before writing the kernel",
                )


@lru_cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


@lru_cache
def _machine(target: Target) -> llvm.TargetMachine:
    _initialize()
    # level 2: level 3 costs the same and gives the same code for kernels that are already tiled
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )


@lru_cache
def _passes(target: Target) -> tuple[llvm.ModulePassManager, llvm.PassBuilder]:
    """The passes every module goes through, made once (the manager of a builder leaks when remade).

    Kernels arrive tiled, unrolled and vectorised, so nothing that reshapes loops is wanted, and
    LLVM's level 1 takes ten times as long (21,500 lines of matrix products: 2.1 s, these 0.2 s) and
    gives the same inner loops.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(_machine(target), options)
    manager = llvm.create_new_module_pass_manager()
    manager.add_always_inliner_pass()
    manager.add_sroa_pass()
    manager.add_instruction_combine_pass()
    manager.add_simplify_cfg_pass()
    manager.add_dead_code_elimination_pass()
    manager.add_global_dead_code_eliminate_pass()
    return manager, builder


_LIBRARIES = 16  # loaded by one JIT
_filling: llvm.LLJIT | None = None  # the JIT that takes the next library
_filled = 0  # how many libraries it has


def _place() -> tuple[llvm.LLJIT, str]:
    """A JIT for the next library, and a name it has not used.

    LLVM gives 9 KiB of each library back only with the whole JIT. A new one takes 1 ms and 0.1 MiB,
    so some libraries share it; when the last of them is gone, it goes too.
    """
    global _filling, _filled
    if _filling is None or _filled == _LIBRARIES:
        # suppress_errors: a failed link is raised, not printed as well
        _filling = llvm.create_lljit_compiler(
            _machine(Target.host()), use_jit_link=True, suppress_errors=True
        )
        _filled = 0
    _filled += 1
    return _filling, f"tinytorch.{_filled}"


def _never_free(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


@lru_cache
def _external_addresses() -> dict[str, int]:
    process = ctypes.CDLL(None)
    out: dict[str, int] = {}
    for name in EXTERNAL:
        try:
            function = getattr(process, name)
        except AttributeError:  # not on this system; a kernel that needs it fails to link
            continue
        out[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return out


# --- conversions to and from bfloat16 and float16 that no instruction of the processor does ---
#
# LLVM would call a library function for each lane; here `fptrunc` and `fpext` lines become calls of
# small vector functions made of integer instructions, appended to the module. Rounding to bfloat16
# is spelled out even where the processor has an instruction: `vcvtneps2bf16` takes subnormal
# numbers for 0 (Intel SDM, volume 2). Only what goes into a dot product of bfloat16, which does the
# same, is rounded by it: lines that end in FLUSHES.

_CONVERSION = re.compile(
    r"= (fptrunc|fpext) (<\d+ x \w+>|\w+) (\S+) to "
    r"(<\d+ x (?:half|bfloat|float|double)>|half|bfloat|float|double)(" + FLUSHES + ")?"
)


def spell_out(text: str, target: Target) -> str:
    """The module with every conversion the target lacks replaced."""
    lacking: set[str] = set()
    if not target.has_bf16_dot:
        lacking.add("bfloat")
    if target.name == "vector128" and target.architecture == "x86_64":  # F16C came with AVX
        lacking.add("half")
    if not any(name in text for name in (*lacking, "bfloat")):
        return text
    needed: dict[str, Function] = {}

    def replace(match: re.Match[str]) -> str:
        op, source, value, to, flushes = match.groups()
        narrow = (to if op == "fptrunc" else source).rstrip(">").split()[-1]
        # bfloat16 is widened by bits everywhere: LLVM 22 compares bfloat16 for AVX-512 by a node it
        # cannot select, and ends the process
        if narrow not in lacking and (narrow != "bfloat" or flushes):
            return match[0]
        name = f"tinytorch.{op}.{mangle(source)}.{mangle(to)}"
        if name not in needed:
            one = narrow not in lacking and (op, source) == ("fptrunc", "<16 x float>")
            one = one and target.architecture == "x86_64"
            needed[name] = (
                _bfloat_by_instruction(name) if one else _conversion(name, op, narrow, source, to)
            )
        return f'= call {to} @"{name}"({source} {value})'

    text = _CONVERSION.sub(replace, text)
    declared = {d for f in needed.values() for d in f.declarations}
    fresh = sorted(d for d in declared if d not in text)
    return "\n".join([*fresh, text, *(f.finish() for f in needed.values())]) + "\n"


def _conversion(name: str, op: str, narrow: str, source: str, to: str) -> Function:
    f = Function(name, [("x", source)], to, "alwaysinline nounwind", "private")
    n = lanes(source)
    if op == "fpext":
        wide = _bfloat_to_float if narrow == "bfloat" else _half_to_float
        f.ret(_wider(f, wide(f, f.x, n), to))
        return f
    x = _narrower(f, f.x, n)
    bits = (_round_bfloat if narrow == "bfloat" else _round_half)(f, x, n)
    f.ret(f.bitcast(bits, to))
    return f


def _bfloat_by_instruction(name: str) -> Function:
    """By the instruction if no lane is subnormal: 0.5 ns for 16 numbers, where bits take 1.5."""
    f = Function(name, [("x", "<16 x float>")], "<16 x bfloat>", "alwaysinline nounwind", "private")
    subnormal = f.call(
        "<16 x i1>", "llvm.x86.avx512.fpclass.ps.512", f.x, f.const("i32", 0x20), stem="subnormal"
    )
    some = f.compare("ne", f.bitcast(subnormal, "i16"), f.const("i16", 0))
    some = f.call("i1", "llvm.expect.i1", some, f.const("i1", 0))
    f.branch_if(some, "by.bits", "by.instruction")
    f.block("by.bits")
    f.ret(f.bitcast(_round_bfloat(f, f.x, 16), "<16 x bfloat>"))
    f.block("by.instruction")
    f.ret(f.define("<16 x bfloat>", f"fptrunc <16 x float> {f.x.text} to <16 x bfloat>"))
    return f


def _narrower(f: Function, x: Value, n: int) -> Value:
    return (
        f.define(vector(n, "float"), f"fptrunc {x.type} {x.text} to {vector(n, 'float')}")
        if "double" in x.type
        else x
    )


def _wider(f: Function, x: Value, to: str) -> Value:
    return f.define(to, f"fpext {x.type} {x.text} to {to}") if "double" in to else x


def _round_bfloat(f: Function, x: Value, n: int) -> Value:
    """Nearest, ties to even: add 0x7fff and the last kept bit, drop 16 bits; NaN: the quiet one."""
    wide, short = vector(n, "i32"), vector(n, "i16")
    bits = f.bitcast(x, wide)
    odd = f.op("and", f.op("lshr", bits, f.const(wide, 16)), f.const(wide, 1))
    rounded = f.op("lshr", f.add(bits, f.add(odd, f.const(wide, 0x7FFF))), f.const(wide, 16))
    rounded = f.select(f.compare("ne", x, x), f.const(wide, 0x7FC0), rounded)
    return f.convert(rounded, short)


def _round_half(f: Function, x: Value, n: int) -> Value:
    """Nearest, ties to even, in three ranges: overflow and NaN, denormals, normal numbers.

    A denormal half is a multiple of 2^-24: adding 0.5 to |x| puts those multiples in the last bits
    of the sum, rounded by the addition itself.
    """
    wide, short = vector(n, "i32"), vector(n, "i16")
    bits = f.bitcast(x, wide)
    sign = f.op("and", bits, f.const(wide, -(1 << 31)))
    size = f.op("xor", bits, sign)
    magnitude = f.bitcast(size, x.type)
    big = f.select(f.compare("ne", x, x), f.const(wide, 0x7E00), f.const(wide, 0x7C00))
    tiny = f.sub(f.bitcast(f.add(magnitude, f.const(x.type, 0.5)), wide), f.const(wide, 126 << 23))
    odd = f.op("and", f.op("lshr", size, f.const(wide, 13)), f.const(wide, 1))
    moved = f.add(f.add(size, f.const(wide, ((15 - 127) << 23) + 0xFFF)), odd)
    normal = f.op("lshr", moved, f.const(wide, 13))
    out = f.select(f.compare("lt", size, f.const(wide, 113 << 23)), tiny, normal)  # 2^-14
    out = f.select(f.compare("ge", size, f.const(wide, (127 + 16) << 23)), big, out)  # 2^16
    return f.convert(f.op("or", out, f.op("lshr", sign, f.const(wide, 16))), short)


def _bfloat_to_float(f: Function, x: Value, n: int) -> Value:
    """The bits are the upper half. After `fpext` LLVM would round in bfloat, which it cannot."""
    wide = f.convert(f.bitcast(x, vector(n, "i16")), vector(n, "i32"), signed=False)
    return f.bitcast(f.op("shl", wide, f.const(wide.type, 16)), vector(n, "float"))


def _half_to_float(f: Function, x: Value, n: int) -> Value:
    """Exponent and fraction moved into place and scaled by 2^112 (exact, denormals too)."""
    wide, real = vector(n, "i32"), vector(n, "float")
    bits = f.convert(f.bitcast(x, vector(n, "i16")), wide, signed=False)
    sign = f.op("shl", f.op("and", bits, f.const(wide, 0x8000)), f.const(wide, 16))
    size = f.op("shl", f.op("and", bits, f.const(wide, 0x7FFF)), f.const(wide, 13))
    scaled = f.mul(f.bitcast(size, real), f.const(real, 2.0**112))
    whole = f.bitcast(scaled, wide)
    special = f.compare("ge", size, f.const(wide, 0x7C00 << 13))
    whole = f.select(special, f.op("or", size, f.const(wide, 0xFF << 23)), whole)
    return f.bitcast(f.op("or", whole, sign), real)
