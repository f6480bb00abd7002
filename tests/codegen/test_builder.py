"""Ground truth: the text itself (golden), and what it computes when run."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest

from tinytorch.codegen import engine
from tinytorch.codegen.builder import (
    Function,
    constant_text,
    element,
    lanes,
    mangle,
    size_of,
    vector,
)
from tinytorch.codegen.target import Target, runnable_names

AXPY = """\
define void @"axpy"(ptr %"x", ptr %"y", i64 %"n") nounwind {
"entry":
  br label %"i.head"
"i.head":
  %"i" = phi i64 [0, %"entry"], [%"i.next", %"i.body"]
  %"i.more" = icmp slt i64 %"i", %"n"
  br i1 %"i.more", label %"i.body", label %"i.done"
"i.body":
  %"at" = getelementptr float, ptr %"x", i64 %"i"
  %"x.1" = load float, ptr %"at", align 4
  %"at.1" = getelementptr float, ptr %"y", i64 %"i"
  %"y.1" = load float, ptr %"at.1", align 4
  %"fma" = call float @"llvm.fma.f32"(float %"x.1", float 0x4000000000000000, float %"y.1")
  store float %"fma", ptr %"at.1", align 4
  %"i.next" = add i64 %"i", 1
  br label %"i.head"
"i.done":
  ret void
}"""


def test_a_loop_is_written_as_it_nests():
    """Golden text: y += 2 x."""
    f = Function("axpy", [("x", "ptr"), ("y", "ptr"), ("n", "i64")])
    with f.loop("i", 0, f.n) as i:
        x = f.load(f.at(f.x, i.index, "float"), "float")
        at = f.at(f.y, i.index, "float")
        f.store(f.fma(x, f.const("float", 2.0), f.load(at, "float", stem="y")), at)
    assert f.finish() == AXPY
    assert f.declarations == {"declare float @llvm.fma.f32(float, float, float)"}


def run(f, target, *arrays):
    text = "\n".join([*sorted(f.declarations), f.finish()])
    library = engine.load([engine.compile_text(text, Target.named(target))], [f.name])
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays))(library[f.name])(
        *(a.ctypes.data for a in arrays)
    )


@pytest.mark.parametrize("target", runnable_names())
def test_masked_loads_and_stores_touch_their_lanes_only(target):
    """Closed form: five of eight lanes are doubled."""
    f = Function("masked", [("x", "ptr")])
    mask = f.mask_below(8, f.index(5))
    x = f.load(f.x, "<8 x float>", mask=mask)
    f.store(f.add(x, x), f.x, mask=mask)
    x = np.arange(1, 9, dtype=np.float32)
    run(f, target, x)
    assert x.tolist() == [2, 4, 6, 8, 10, 6, 7, 8]


@pytest.mark.parametrize("target", runnable_names())
def test_conversion_of_floats_to_integers_saturates(target):
    """DESIGN: out of range saturates, NaN gives 0."""
    f = Function("convert", [("x", "ptr"), ("y", "ptr")])
    f.store(f.convert(f.load(f.x, "<4 x float>"), "i32"), f.y)
    x = np.array([1e20, -1e20, np.nan, -2.7], np.float32)
    y = np.zeros(4, np.int32)
    run(f, target, x, y)
    assert y.tolist() == [2**31 - 1, -(2**31), 0, -2]


@pytest.mark.parametrize("target", runnable_names())
@pytest.mark.parametrize("source", ["float", "double", "half"])
@pytest.mark.parametrize("to", ["int8", "uint8", "int16", "uint16", "int32"])
def test_conversion_to_every_short_integer_saturates(target, source, to):
    """Closed form: the ends of the type, the numbers beside them, infinities, NaN; towards 0."""
    ends, name = np.iinfo(to), {"float": "float32", "double": "float64", "half": "float16"}[source]
    near = [float(e) + d for e in (ends.min, ends.max) for d in (-1.5, -1, -0.5, 0, 0.5, 1, 1.5)]
    x = np.array([*near, np.inf, -np.inf], np.float64)
    with np.errstate(over="ignore"):
        x = np.append(x.astype(name), np.array(np.nan, name))[:, None].repeat(4, 1)
    wanted = np.where(np.isnan(x), 0, np.clip(np.trunc(x.astype(np.float64)), ends.min, ends.max))
    for n in (1, 4):
        f = Function("convert", [("x", "ptr"), ("y", "ptr")])
        with f.loop("i", 0, x.size, n) as i:
            value = f.load(f.at(f.x, i.index, source), vector(n, source))
            value = f.convert(value, f"i{ends.bits}", signed=ends.min < 0)
            f.store(value, f.at(f.y, i.index, f"i{ends.bits}"))
        y = np.full(x.shape, 99, to)
        run(f, target, np.ascontiguousarray(x), y)
        assert y.tolist() == wanted.tolist()


@pytest.mark.parametrize("target", ["avx512", "avx2"])
def test_floats_become_bytes_a_vector_at_a_time(target):
    """Invariant of the assembly: no number is converted alone (CVTTSS2SI)."""
    f = Function("convert", [("x", "ptr"), ("y", "ptr")])
    f.store(f.convert(f.load(f.x, "<8 x float>"), "i8"), f.y)
    text = "\n".join([*sorted(f.declarations), f.finish()])
    assembly = engine.assembly_text(text, Target.named(target, "x86_64"))
    assert "vcvttps2dq" in assembly and "ss2si" not in assembly


@pytest.mark.parametrize("target", runnable_names())
def test_extremes_pass_nan_on(target):
    """IEEE 754-2019 minimum and maximum: a NaN operand gives NaN."""
    f = Function("extremes", [("x", "ptr"), ("y", "ptr")])
    x, y = f.load(f.x, "<4 x float>"), f.load(f.y, "<4 x float>")
    f.store(f.minimum(x, y), f.x)
    f.store(f.maximum(x, y), f.y)
    x, y = np.array([1, np.nan, 3, -1], np.float32), np.array([2, 2, np.nan, -2], np.float32)
    run(f, target, x, y)
    assert np.array_equal(x, np.array([1, np.nan, np.nan, -2], np.float32), equal_nan=True)
    assert np.array_equal(y, np.array([2, np.nan, np.nan, -1], np.float32), equal_nan=True)


def test_constants_are_exact_bits():
    """IEEE 754 encodings: 0.1 rounded to float32 first; bfloat16's 1 is 0x3F80."""
    assert constant_text("float", 0.1) == "0x3FB99999A0000000"
    assert constant_text("double", 1.0) == "0x3FF0000000000000"
    assert constant_text("half", 1.0) == "0xH3C00" and constant_text("bfloat", 1.0) == "0xR3F80"
    assert constant_text("float", 1e39) == "0x7FF0000000000000"


def test_types_are_text():
    """The grammar of LLVM's vector types and intrinsic suffixes."""
    assert vector(4, "float") == "<4 x float>" and vector(1, "float") == "float"
    assert lanes("<16 x i8>") == 16 and element("<16 x i8>") == "i8"
    assert mangle("<8 x bfloat>") == "v8bf16" and mangle("ptr") == "p0"


def test_unfinished_code_is_refused_in_python():
    """LLVM would end the process: a loop without next(), a function without its result."""
    f = Function("f", [("n", "i64")], "i64")
    with pytest.raises(ValueError, match="next"), f.loop("i", 0, f.n, carry=[f.index(0)]):
        pass
    with pytest.raises(ValueError, match="without a result"):
        Function("g", [], "i64").finish()


@pytest.mark.parametrize("type", ["i64", "double"])
def test_the_smaller_and_the_larger_have_a_sign(type):
    """Ground truth: Python's min and max, of integers by their sign unless told otherwise."""
    f = Function("k", [("x", "ptr"), ("out", "ptr")])
    a, b = (f.load(f.at(f.x, f.index(i), type), type) for i in range(2))
    for i, x in enumerate((f.minimum(a, b), f.maximum(a, b))):
        f.store(x, f.at(f.out, f.index(i), type))
    dtype = np.int64 if type == "i64" else np.float64
    for target in runnable_names():
        for pair in ((-3, 2), (2, -3), (5, 5)):
            out = np.zeros(2, dtype)
            run(f, target, np.array(pair, dtype), out)
            assert out.tolist() == [min(pair), max(pair)]


def test_vectors_and_their_elements():
    """Ground truth: LLVM's spelling; a vector of one is its element."""
    assert vector(16, "float") == "<16 x float>" and vector(1, "i64") == "i64"
    assert (lanes("<16 x float>"), element("<16 x float>")) == (16, "float")
    assert (lanes("double"), element("double")) == (1, "double")
    assert mangle("<8 x bfloat>") == "v8bf16" and mangle("i32") == "i32" and mangle("void") == ""


@pytest.mark.parametrize(("type", "bytes"), [("i1", 1), ("i8", 1), ("half", 2), ("double", 8)])
def test_sizes(type, bytes):
    """Ground truth: bytes in memory; a bool takes a whole one."""
    assert size_of(type) == bytes


@pytest.mark.parametrize("type", ["half", "bfloat", "float", "double", "i8", "i64"])
@pytest.mark.parametrize("number", [0, 1, -3, 100])
def test_llvm_reads_every_constant(type, number):
    """Ground truth: LLVM's own parser takes the text as a constant of the type."""
    text = f"@x = global {type} {constant_text(type, number)}"
    assert llvm.parse_assembly(text).get_global_variable("x")


def test_floats_are_rounded_as_their_type():
    """Ground truth: NumPy's float32; too large a number becomes infinity."""
    third = float(np.float32(1 / 3))
    assert constant_text("float", 1 / 3) == constant_text("double", third)
    assert constant_text("float", 1e39) == constant_text("double", np.inf)
    assert (constant_text("i1", 0), constant_text("i1", 1)) == ("false", "true")
