"""Ground truth: what the text says; faults must be CompileErrors, in a process that goes on. Of
conversions: NumPy's float16, and bfloat16 rounded by bits (base/dtypes.py); to the bit."""

import ctypes
import resource
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from tinytorch.base.dtypes import from_bfloat16, round_to_bfloat16
from tinytorch.base.errors import CompileError
from tinytorch.codegen import engine
from tinytorch.codegen.builder import Function, vector
from tinytorch.codegen.kernel import build
from tinytorch.codegen.target import NAMES, Target, runnable_names

ADD = """
define i64 @add(i64 %a, i64 %b) {
  %c = add i64 %a, %b
  ret i64 %c
}
"""


def _twice(f, p):
    x = f.at(p["x"], f.tile, "float")
    f.store(f.fma(f.load(x, "float"), f.const("float", 2.0), f.const("float", 1.0)), x)


@pytest.mark.parametrize("name", runnable_names())
def test_text_becomes_a_function(name):
    """Closed form: 40 + 2."""
    image = engine.compile_text(ADD, Target.named(name))
    library = engine.load([image], ["add"])
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(library["add"])
    assert function(40, 2) == 42


@pytest.mark.parametrize("name", runnable_names())
def test_fused_products_without_a_fused_instruction_need_no_library(name):
    """Closed form: 2 x + 1; and on no target a call is left in the assembly."""
    kernel = build("twice", ["x"], _twice, tiles=4)
    text = engine.module_text([kernel])
    target = Target.named(name)
    assert "call" not in engine.assembly_text(text, target)
    library = engine.load([engine.compile_text(text, target)], ["twice"])
    x = np.arange(4, dtype=np.float32)
    pointers = np.array([x.ctypes.data], np.uint64)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
    for tile in range(4):
        run(library["twice"])(pointers.ctypes.data, tile, None)
    assert x.tolist() == [1, 3, 5, 7]


def test_code_for_another_architecture_is_written_too():
    """The NEON target's object is an aarch64 ELF file (machine number 183)."""
    image = engine.compile_text(ADD, Target.named("vector128", "aarch64"))
    assert image[:4] == b"\x7fELF" and int.from_bytes(image[18:20], "little") == 183


def test_equal_kernels_are_written_once_and_different_ones_refused():
    """Invariant of module_text: one body for each name."""
    one = build("twice", ["x"], _twice, tiles=4)
    again = build("twice", ["x"], _twice, tiles=9)
    assert engine.module_text([one, again]).count("define") == 1
    assert [t.count("define") for t in engine.module_texts([one, again])] == [1]
    other = build("twice", ["y"], lambda f, p: None, tiles=4)
    with pytest.raises(CompileError, match="two different kernels have the same name"):
        engine.module_text([one, other])


def test_many_kernels_are_several_modules(monkeypatch):
    """Closed form: five kernels, two at a time; each is found and adds its own number."""

    def adds(number):
        def body(f, p):
            f.store(f.add(f.load(p["x"], "i64"), f.index(number)), p["x"])

        return build(f"adds{number}", ["x"], body, tiles=1)

    monkeypatch.setattr(engine, "MOST_KERNELS", 2)
    kernels = [adds(n) for n in (1, 2, 3, 4, 5)]
    texts = engine.module_texts([*kernels, *kernels])
    assert [t.count("define") for t in texts] == [2, 2, 1]
    assert engine.module_texts([]) == [engine.module_text([])]
    images = [engine.compile_text(text, Target.host()) for text in texts]
    library = engine.load(images, [k.name for k in kernels])
    x = np.zeros(1, np.int64)
    pointers = np.array([x.ctypes.data], np.uint64)
    for kernel in kernels:
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        run(library[kernel.name])(pointers.ctypes.data, 0, None)
    assert x[0] == 15
    with pytest.raises(CompileError, match="two different kernels have the same name"):
        engine.module_texts([*kernels, build("adds1", ["y"], lambda f, p: None, tiles=4)])


def test_text_that_is_no_ir_is_refused():
    """LLVM's own complaint is shown."""
    with pytest.raises(CompileError, match="does not accept the text"):
        engine.compile_text("define void @f() {\n  ret i32\n}", Target.host())


def test_text_that_does_not_verify_is_refused():
    """A use before its definition: the text parses, the verifier refuses it."""
    text = "define i64 @f(i64 %a) {\n  %b = add i64 %c, 1\n  %c = add i64 %a, 1\n  ret i64 %b\n}"
    with pytest.raises(CompileError, match="does not accept the text"):
        engine.compile_text(text, Target.host())


def test_unknown_functions_are_refused_by_name():
    """Only listed functions of the process may be called."""
    text = "define void @f() {\n  call void @system_of_mine()\n  ret void\n}\n"
    text += "declare void @system_of_mine()"
    with pytest.raises(CompileError, match="system_of_mine"):
        engine.compile_text(text, Target.host())


@pytest.mark.parametrize(
    "name, intrinsic",
    [
        ("avx2", "llvm.x86.avx512bf16.dpbf16ps.512"),
        ("avx2", "llvm.x86.tdpbf16ps"),
        ("avx2", "llvm.x86.avx512.mask.scalef.ps.512"),
        ("vector128", "llvm.x86.avx2.pshuf.b"),
    ],
)
def test_missing_instructions_are_refused_before_llvm_ends_the_process(name, intrinsic):
    """LLVM calls abort when it cannot select an instruction; this process must go on."""
    text = f"declare void @{intrinsic}()\ndefine void @f() {{\n  ret void\n}}"
    target = Target.named(name, "x86_64")
    with pytest.raises(CompileError, match="instructions its target does not have"):
        engine.compile_text(text, target)


def test_an_object_for_another_processor_is_refused():
    """Ground truth: the architecture that it was written for; LLVM itself links it."""
    other = {"x86_64": ("neon", "aarch64")}.get(Target.host().architecture, ("avx2", "x86_64"))
    image = engine.compile_text(ADD, Target.named(*other))
    with pytest.raises(CompileError, match="for another processor") as caught:
        engine.load([image], [])
    assert caught.value.got == other[1]


def test_damaged_objects_and_missing_symbols_are_refused():
    """Linking raises, and the next link works."""
    image = engine.compile_text(ADD, Target.host())
    with pytest.raises(CompileError, match="could not be linked"):
        engine.load([b"not an object"], ["add"])
    with pytest.raises(CompileError, match="could not be linked"):
        engine.load([image], ["subtract"])
    assert engine.load([image], ["add"])["add"] > 0


def test_vectors_of_512_bits_stay_whole():
    """LLVM prefers 256 bits for x86-64-v4 unless told otherwise."""
    text = """
define void @f(ptr %x) {
  %v = load <16 x float>, ptr %x, align 4
  %w = fadd <16 x float> %v, %v
  store <16 x float> %w, ptr %x, align 4
  ret void
}"""
    assert "zmm" in engine.assembly_text(text, Target.named("avx512", "x86_64"))
    assert "ymm" in engine.assembly_text(text, Target.named("avx2", "x86_64"))
    assert "xmm" in engine.assembly_text(text, Target.named("vector128", "x86_64"))


def test_the_stages_of_compiling_can_be_printed():
    """Text in, text out: passes fold 1 + 2, assembly names the symbol."""
    text = "define i64 @three() {\n  %c = add i64 1, 2\n  ret i64 %c\n}"
    assert "ret i64 3" in engine.optimised_text(text, Target.host())
    assert "three:" in engine.assembly_text(text, Target.host())
    assert engine.version().startswith("llvmlite ")


def test_all_targets_have_a_name():
    """The table of names is what the error message lists."""
    assert NAMES == ("avx512", "avx2", "neon", "vector128")


def resident() -> int:
    """KiB of memory the process holds (Linux: proc(5), statm, field 2, in pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_library_that_is_gone_leaves_nothing():
    """Ground truth: the memory of the process; it grew by 9 KiB for each library loaded."""
    kernel = build("nothing", ["status"], lambda f, p: f.store(f.index(7), p["status"]), tiles=1)
    image = engine.compile_text(engine.module_text([kernel]), Target.host())
    for _ in range(200):
        engine.load([image], ["nothing"])
    before = resident()
    for _ in range(500):
        engine.load([image], ["nothing"])
    assert resident() - before < 500  # KiB: less than one for each


def test_libraries_live_as_long_as_they_are_held():
    """Ground truth: calling all of them while others of the same JIT come and go."""
    kernel = build("seven", ["status"], lambda f, p: f.store(f.index(7), p["status"]), tiles=1)
    image = engine.compile_text(engine.module_text([kernel]), Target.host())
    kept = []
    for i in range(100):
        library = engine.load([image], ["seven"])
        if i % 9 == 0:
            kept.append(library)
    for library in kept:
        word = np.zeros(1, np.int64)
        pointers = np.array([word.ctypes.data], np.uint64)
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
        function(library["seven"])(pointers.ctypes.data, 0, None)
        assert word[0] == 7


LANES = 8


@lru_cache
def compiled(op, source, to, target, n):
    f = Function("k", [("x", "ptr"), ("out", "ptr"), ("n", "i64")])
    with f.loop("i", 0, f.n, n) as i:
        x = f.load(f.at(f.x, i.index, source), vector(n, source))
        wide = vector(n, to)
        made = f.define(wide, f"{op} {x.type} {x.text} to {wide}")
        f.store(made, f.at(f.out, i.index, to))
    text = "\n".join([*sorted(f.declarations), f.finish()])
    library = engine.load([engine.compile_text(text, Target.named(target))], ["k"])
    return library, ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64)(library["k"])


def converted(op, source, to, target, x, dtype, n=LANES):
    out = np.empty(x.shape, dtype)
    assert x.size % n == 0
    compiled(op, source, to, target, n)[1](x.ctypes.data, out.ctypes.data, x.size)
    return out


def floats_around(step):
    """Every pattern of the bits that are kept, with what is dropped below, at and above half.

    `step` is the number of dropped bits of a float32.
    """
    kept = np.arange(2 ** (32 - step), dtype=np.uint32) << np.uint32(step)
    half = 1 << (step - 1)
    low = np.array([0, 1, half - 1, half, half + 1, 2 * half - 1], np.uint32)
    return (kept[:, None] | low).reshape(-1).view(np.float32)


@pytest.mark.parametrize("lanes", [1, LANES, 16])
@pytest.mark.parametrize("target", runnable_names())
def test_to_bfloat16(target, lanes):
    """Every bfloat16, and the float32 numbers on both sides of every tie between two; subnormal
    numbers too, which an instruction of AVX-512 takes for 0."""
    x = floats_around(16)
    x = x[np.isfinite(x)]
    x = x[: x.size // lanes * lanes]
    got = converted("fptrunc", "float", "bfloat", target, x, np.uint16, lanes)
    np.testing.assert_array_equal(got, round_to_bfloat16(x))


@pytest.mark.parametrize("target", runnable_names())
def test_to_float16(target):
    """The ties between every two float16, denormal ones too; overflow; NaN stays NaN."""
    x = floats_around(13)[: 6 * (1 << 19)]
    x = x[(np.abs(x) > 2.0**-26) | ~np.isfinite(x)]
    x = x[: x.size // LANES * LANES]
    got = converted("fptrunc", "float", "half", target, x, np.float16)
    with np.errstate(over="ignore", invalid="ignore"):  # a NaN that signals
        want = x.astype(np.float16)
    np.testing.assert_array_equal(got.view(np.uint16)[x == x], want.view(np.uint16)[x == x])
    assert np.isnan(got[x != x]).all()


@pytest.mark.parametrize("target", runnable_names())
def test_from_narrow_floats(target):
    """Every number that is no NaN comes back exactly."""
    bits = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # some of them signal
        half = bits.view(np.float16).astype(np.float32)
    for kind, wide in (("bfloat", from_bfloat16(bits)), ("half", half)):
        got = converted("fpext", kind, "float", target, bits, np.float32)
        np.testing.assert_array_equal(got, wide)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_memory_is_given_back():
    """Measured: 40 MB in pieces of 1 kB, all freed but the last one, which keeps the heap long."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [libc.malloc(1024) for _ in range(40_000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 1024)
    for piece in pieces[:-1]:
        libc.free(piece)
    before = resident()
    engine.release_memory()
    assert resident() < before - 30_000  # KiB
    libc.free(pieces[-1])
