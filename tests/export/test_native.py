"""Native libraries: C programs that use them give what the model gives.

Ground truth: the model, computed line by line by NumPy, to the rounding of its sums; the compiled
model to the last bit, since both run the same kernels.
"""

import shutil
import subprocess

import numpy as np
import pytest

import tinytorch as tt
from tests.export.networks import built, needs_cc, numbers, picture, pictures_network, run
from tinytorch import compression, export, nn
from tinytorch.base.errors import CompileError, SettingError
from tinytorch.codegen.target import Target, host_features
from tinytorch.export.native import TARGETS, build_library

# Sums of 27, 128 and 10 float32 numbers in another order, of probabilities up to 1: each rounds by
# at most 2^-24 of its largest partial sum, errors add like random steps; 8 for the sums' size.
TOLERANCE = 8 * 2.0**-24 * (27 + 128 + 10) ** 0.5

HERE = Target.host().without_amx()  # what a library is written for; the same kernels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("native")
    export.native(pictures_network(), picture(), place, name="net")
    return place


@needs_cc
def test_a_c_program_gives_what_the_model_gives(folder):
    """Ground truth: the model line by line; compiled, to the last bit."""
    got = numbers(run([built(folder)], folder, picture(3)))
    with tt.no_grad():
        eager = pictures_network()(picture(3)).numpy()[0]
        compiled = tt.compile(pictures_network(), target=HERE, freeze=True)(picture(3)).numpy()[0]
    assert got.shape == eager.shape
    assert np.abs(got - eager).max() <= TOLERANCE
    assert got.tobytes() == compiled.tobytes()


@needs_cc
def test_the_shared_library_and_the_object_are_linked_too(folder):
    """Ground truth: the static library, to the last bit."""
    answers = []
    for linked in (["net.a"], ["net.o"], ["net.so", "-Wl,-rpath,$ORIGIN"]):
        answers.append(numbers(run([built(folder, *linked)], folder, picture(4))))
    assert all(x.tobytes() == answers[0].tobytes() for x in answers)


def test_the_program_is_short(folder):
    """Ground truth: the number asked for."""
    assert len((folder / "main.c").read_text().splitlines()) <= 30


@needs_cc
def test_a_file_that_is_too_short_is_refused(folder):
    """Ground truth: the exit code and the number of bytes that are missing."""
    done = run([built(folder)], folder, tt.zeros(1))
    assert done.returncode == 2 and "of 768 bytes" in done.stderr


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, which lists symbols")
def test_nothing_is_needed_and_three_functions_are_seen(folder):
    """Ground truth: the symbols of the object; what a C compiler's own code needs too."""
    done = subprocess.run(["nm", str(folder / "net.o")], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in done.stdout.splitlines()]
    assert {n for kind, n in symbols if kind == "U"} <= {"memcpy", "memmove", "memset"}
    seen = {n for kind, n in symbols if kind.isupper() and kind != "U"}
    assert seen == {"net_begin", "net_run", "net_workspace_bytes"}
    written = [n for kind, n in symbols if kind in "bBD"]
    assert not written, "nothing that is written but the caller's memory"


@needs_cc
def test_two_libraries_live_in_one_program(tmp_path):
    """Ground truth: the linker, which refuses a name that is defined twice; kernels are equal."""
    for name in ("net", "other"):
        export.native(nn.Linear(8, 4).eval(), tt.zeros(1, 8), tmp_path, name=name)
    main = (tmp_path / "main.c").read_text()
    both = main.replace('#include "other.h"', '#include "other.h"\n#include "net.h"')
    both = both.replace("other_begin(workspace)", "other_begin(workspace) + net_begin(NULL)")
    (tmp_path / "main.c").write_text(both)
    done = run([built(tmp_path, "net.a", "other.a")], tmp_path, tt.zeros(1, 8))
    assert done.returncode == 1 and "error 4" in done.stderr  # NO_WORKSPACE


@needs_cc
def test_several_inputs_and_outputs_of_several_types(tmp_path):
    """Ground truth: the function, by whole numbers."""

    def both(x, rows):
        return {"sum": x + rows.astype(tt.float32), "even": rows % 2 == 0}

    x, rows = tt.Tensor([1.5, -2.0, 0.25]), tt.tensor([1, 2, 3])
    export.native(both, (x, rows), tmp_path, name="net")
    (tmp_path / "input.bin").write_bytes(x.numpy().tobytes() + rows.numpy().tobytes())
    done = subprocess.run(
        [built(tmp_path), str(tmp_path / "input.bin")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2.5", "0", "3.25", "0", "1", "0"]
    assert (
        "int net_run(const float *input0, const int64_t *input1, float *output0, uint8_t"
        in (tmp_path / "net.h").read_text()
    )


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_weights_of_few_bits(kind):
    """Ground truth: the compiled model, to the last bit; a file that holds bytes, not floats."""
    net = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    small = compression.quantize(net, kind)
    x = tt.Tensor(np.random.default_rng(2).normal(size=(1, 256)).astype(np.float32))
    library = build_library(small, x)
    loaded = export.LoadedLibrary("model", library.object, *_ends(library))
    with tt.no_grad():
        wanted = tt.compile(small, target=HERE, freeze=True)(x)
    assert loaded(x).numpy().tobytes() == wanted.numpy().tobytes()
    whole = len(build_library(net, x).program.data)
    assert len(library.program.data) < whole / (3 if kind == "int8" else 5)


def test_a_sparse_model_is_its_numbers_and_their_columns():
    """Ground truth: the compiled model, to the last bit; closed form: six bytes for each number
    that is not 0 and eight for a row, where the dense model has four bytes for each place."""
    tt.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(1024, 256), nn.ReLU()), tt.randn(2, 1024)
    sparse = compression.store_sparse(compression.prune(model, 0.9))
    library = build_library(sparse, x)
    loaded = export.LoadedLibrary("model", library.object, *_ends(library))
    with tt.no_grad():
        wanted = tt.compile(sparse, target=HERE, freeze=True)(x)
    assert loaded(x).numpy().tobytes() == wanted.numpy().tobytes()
    rows = 8 * (256 + 1) + 4 * 256  # where they start, and the bias
    assert len(library.program.data) <= 6 * sparse[0].weight.values.size + rows + 3 * 64


def test_a_compiled_model_keeps_its_precision():
    """Ground truth: the compiled model, to the last bit; bfloat16 has other bits than float32."""
    net, x = nn.Linear(64, 32).eval(), tt.Tensor(np.linspace(-1, 1, 64, dtype=np.float32)[None])
    compiled = tt.compile(net, target=HERE, precision="bf16")
    library = build_library(compiled, x)
    loaded = export.LoadedLibrary("model", library.object, *_ends(library))
    with tt.no_grad():
        assert loaded(x).tolist() == compiled(x).tolist() != net(x).tolist()


def _ends(library):
    return library.program.inputs, library.program.outputs


@pytest.mark.parametrize("target", ["x86-64", "avx2", "avx512", "aarch64"])
def test_each_target_is_written_and_no_other_processor_runs_it(target):
    """Ground truth: the features that this processor has, and its architecture."""
    library = build_library(pictures_network(), picture(), target)
    made = library.program.target
    try:
        made.runnable()
    except SettingError:
        with pytest.raises((SettingError, CompileError), match="processor"):
            export.LoadedLibrary("model", library.object, *_ends(library))
    else:
        loaded = export.LoadedLibrary("model", library.object, *_ends(library))
        with tt.no_grad():
            eager = pictures_network()(picture()).numpy()
        assert np.abs(loaded(picture()).numpy() - eager).max() <= TOLERANCE


@needs_cc
@pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None or "avx2" not in host_features(),
    reason="needs qemu-x86_64-static, which stands in for an old processor, and a host with AVX2",
)
def test_an_old_processor_says_no(tmp_path):
    """Ground truth: Nehalem (2008) has SSE4.2 and no AVX; the error code of the header."""
    old = ["qemu-x86_64-static", "-cpu", "Nehalem"]
    net, x = nn.Linear(8, 4).eval(), tt.zeros(1, 8)
    export.native(net, x, tmp_path, target="avx2", name="net")
    done = run([*old, built(tmp_path)], tmp_path, x)
    assert done.returncode == 1 and "net: error 1, see net.h" in done.stderr
    export.native(net, x, tmp_path, target="x86-64", name="net")
    assert numbers(run([*old, built(tmp_path)], tmp_path, x)).shape == (4,)


@pytest.mark.parametrize("name", ["", "1st", "my-net", "ümlaut", "int", "x" * 41, 3])
def test_names_that_are_none_of_c(name):
    """Ground truth: the grammar of C's identifiers (C17, 6.4.2)."""
    with pytest.raises(SettingError, match="no name for functions of C"):
        build_library(nn.Linear(2, 2), tt.zeros(1, 2), name=name)


def test_targets_that_are_none():
    """Ground truth: the table of targets, which the message lists."""
    for wrong in ("arm", 3, "vector128", Target.named("vector128", "riscv64")):
        with pytest.raises(SettingError, match="no such target") as caught:
            build_library(nn.Linear(2, 2), tt.zeros(1, 2), target=wrong)
        assert all(name in caught.value.rule for name in TARGETS)


def test_the_same_model_gives_the_same_bytes():
    """Ground truth: the bytes, twice."""
    first, second = (
        build_library(pictures_network(), picture(), "x86-64", "net").files() for _ in range(2)
    )
    for each in (first, second):
        each.pop("net.so", None)  # the linker's
    assert first == second
