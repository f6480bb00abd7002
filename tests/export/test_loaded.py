"""A native library in this process.

Ground truth: the shapes and types that it was exported with; the function it was made of.
"""

import pytest

import tinytorch as tt
from tinytorch import export, nn
from tinytorch.base.errors import CompileError, DTypeError, IndexRangeError, ShapeError
from tinytorch.export.native import build_library


def loaded(model, *example):
    library = build_library(model, example)
    return export.LoadedLibrary(
        "model", library.object, library.program.inputs, library.program.outputs
    )


def test_it_takes_and_gives_what_its_example_was():
    """Ground truth: whole numbers; several outputs come as a tuple."""
    both = loaded(lambda x, y: (x + y, x * y), tt.tensor([1, 2]), tt.tensor([3, 4]))
    total, product = both(tt.tensor([5, 6]), tt.tensor([7, 8]))
    assert total.tolist() == [12, 14] and product.tolist() == [35, 48]
    with pytest.raises(ShapeError, match="other shapes"):
        both(tt.tensor([5, 6]))
    with pytest.raises(DTypeError, match="other number types"):
        both(tt.Tensor([5.0, 6.0]), tt.tensor([7, 8]))


def test_bfloat16_goes_in_and_out():
    """Ground truth: 1.5 and its double have few bits."""
    double = loaded(lambda x: x + x, tt.Tensor([1.5]).astype(tt.bfloat16))
    assert double(tt.Tensor([1.5]).astype(tt.bfloat16)).astype(tt.float32).tolist() == [3.0]


def test_an_index_outside_its_axis_is_an_error():
    """Ground truth: the table has five rows."""
    rows = loaded(nn.Embedding(5, 2).eval(), tt.tensor([0]))
    with pytest.raises(IndexRangeError, match="outside its axis"):
        rows(tt.tensor([5]))


def test_damaged_code_is_refused():
    """Ground truth: LLVM's linker."""
    with pytest.raises(CompileError):
        export.LoadedLibrary("model", b"no object", [], [])
