"""Types and constants of LLVM IR as text."""

import llvmlite.binding as llvm
import numpy as np
import pytest

from tinytorch.codegen.builder import constant_text, element, lanes, mangle, size_of, vector


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
