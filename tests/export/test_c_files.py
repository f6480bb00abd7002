"""Headers, example programs and archives.

Ground truth: `ar` itself, and the shapes that were exported.
"""

import shutil
import subprocess

import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.export import c_files
from tinytorch.export.native import build_library


@pytest.mark.skipif(shutil.which("ar") is None, reason="needs ar")
def test_ar_reads_an_archive(tmp_path):
    """Ground truth: what ar lists and takes out again; odd lengths are filled up."""
    members = {"a.o": b"odd", "longer_name.o": b"even"}
    place = tmp_path / "x.a"
    place.write_bytes(c_files.archive(members, {"first": "a.o", "second": "longer_name.o"}))
    for name, content in members.items():
        out = subprocess.run(["ar", "p", place, name], capture_output=True, check=True)
        assert out.stdout == content
    listed = subprocess.run(["ar", "t", place], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == list(members)


def test_a_header_says_shapes_and_versions():
    """Ground truth: the example's shape, the layer's."""
    library = build_library(nn.Linear(4, 3).eval(), tt.zeros(2, 4), "x86-64", "net")
    text = c_files.header("net", library.program, "9.9")
    for line in (
        "#define NET_INPUT_SIZE 8", "#define NET_INPUT_SHAPE {2, 4}", "#define NET_OUTPUT_RANK 2",
        '#define NET_TINYTORCH "9.9"', '#define NET_TARGET "vector128"', "#define NET_ABI 1",
        "int net_run(const float *input, float *output, void *workspace);",
        "size_t net_workspace_bytes(void);", "int net_begin(void *workspace);",
    ):  # fmt: skip
        assert line in text.splitlines(), line


def test_many_inputs_still_make_a_short_program():
    """Ground truth: the number of lines asked for."""
    arrays = tuple(tt.ones(2) for _ in range(12))
    library = build_library(lambda *xs: tuple(x + 1 for x in xs), arrays, name="net")
    assert len(c_files.example_program("net", library.program).splitlines()) <= 30
