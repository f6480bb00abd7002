"""The driver of a native library: what it asks of a processor, and of its caller.

Ground truth: what LLVM finds of this processor; for aarch64 an emulated machine.
"""

import ctypes
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.export.networks import picture, pictures_network
from tests.export.test_native import TOLERANCE
from tinytorch import compression, nn
from tinytorch.base.errors import CompileError
from tinytorch.codegen import engine
from tinytorch.codegen.target import Target, host_features
from tinytorch.export import driver
from tinytorch.export.native import build_library


def loaded(library):
    """Its three functions."""
    size, begin, run = library.symbols
    code = engine.load([library.object], library.symbols)
    arrays = len(library.program.inputs) + len(library.program.outputs)
    pointers = [ctypes.c_void_p] * (arrays + 1)
    return (
        code, ctypes.CFUNCTYPE(ctypes.c_size_t)(code[size]),
        ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(code[begin]),
        ctypes.CFUNCTYPE(ctypes.c_int, *pointers)(code[run]),
    )  # fmt: skip


def test_a_workspace_is_begun_first_and_by_the_same_model():
    """Ground truth: the error codes of the header."""
    one, other = (build_library(nn.Linear(4, 4).eval(), tt.zeros(1, 4), name=n) for n in "ab")
    _code, size, begin, run = loaded(one)
    memory = np.zeros(size() + 1, np.uint8)
    for at in (0, 1):  # wherever it begins
        workspace = memory.ctypes.data + at
        memory[:] = 0
        x, y = np.ones(4, np.float32), np.zeros(4, np.float32)
        given = (x.ctypes.data, y.ctypes.data)
        assert run(*given, None) == run(*given, workspace) == driver.NOT_BEGUN
        assert begin(None) == driver.NO_WORKSPACE
        _other, _, begin_other, _ = loaded(other)
        assert begin_other(workspace) == driver.OK
        assert run(*given, workspace) == driver.NOT_BEGUN and not y.any()
        assert begin(workspace) == driver.OK == run(*given, workspace) and y.any()


def test_nothing_beyond_the_workspace_is_written():
    """Ground truth: a pattern on both sides of it."""
    library = build_library(pictures_network(), picture())
    _code, size, begin, run = loaded(library)
    memory = np.full(size() + 256, 0xA5, np.uint8)
    workspace = memory.ctypes.data + 128
    x, y = picture().numpy().copy(), np.zeros(10, np.float32)
    assert begin(workspace) == 0 == run(x.ctypes.data, y.ctypes.data, workspace)
    assert (memory[:128] == 0xA5).all() and (memory[size() + 128 :] == 0xA5).all()


def test_an_index_outside_is_an_error_code():
    """Ground truth: the size of the table."""
    library = build_library(nn.Embedding(5, 4).eval(), tt.tensor([0, 1]))
    _code, size, begin, run = loaded(library)
    memory, y = np.zeros(size(), np.uint8), np.zeros(8, np.float32)
    assert begin(memory.ctypes.data) == driver.OK
    for rows, code in (([0, 4], driver.OK), ([0, 5], driver.BAD_INDEX), ([4, 0], driver.OK)):
        x = np.array(rows)
        assert run(x.ctypes.data, y.ctypes.data, memory.ctypes.data) == code


def test_cases_and_loops_run_without_python():
    """Ground truth: the compiled function, to the last bit; both cases of the branch."""

    def function(x):
        total = tt.scan(lambda carried, row: (carried * 0.5 + row, carried), x[0], x)[0]
        return tt.cond(total.sum() > 0, lambda t: t * 2, lambda t: t - 1, (total,))

    library = build_library(function, tt.zeros(5, 3))
    _code, size, begin, run = loaded(library)
    memory, y = np.zeros(size(), np.uint8), np.zeros(3, np.float32)
    assert begin(memory.ctypes.data) == driver.OK
    for sign in (1, -1):
        x = sign * np.arange(15, dtype=np.float32).reshape(5, 3)
        assert run(x.ctypes.data, y.ctypes.data, memory.ctypes.data) == driver.OK
        assert y.tobytes() == tt.compile(function)(tt.Tensor(x)).numpy().tobytes()


def test_every_feature_of_every_target_can_be_asked_for():
    """Ground truth: LLVM's answer for this processor."""
    if Target.host().architecture != "x86_64":
        pytest.skip("cpuid is an instruction of x86-64")
    for feature in driver.CPUID:
        target = replace(Target.named("vector128", "x86_64"), cpu="x86-64", features=f"+{feature}")
        f = driver.begin_function("asked", target, 7)
        text = "\n".join([*sorted(f.declarations), f.finish()])
        code = engine.load([engine.compile_text(text, Target.host())], ["asked_begin"])
        begin = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(code["asked_begin"])
        memory = np.zeros(256, np.uint8)
        wanted = driver.OK if feature in host_features() else driver.NO_INSTRUCTIONS
        assert begin(memory.ctypes.data) == wanted, feature


def test_a_feature_that_nobody_knows_is_a_fault():
    """Ground truth: no row of the table has it."""
    target = replace(Target.named("vector128", "x86_64"), features="+unheard-of")
    with pytest.raises(CompileError, match="how a processor is asked"):
        driver.begin_function("asked", target, 7)


def test_an_object_without_a_place_for_its_weights_is_a_fault():
    """Ground truth: the mark is not there, or something is behind it."""
    library = build_library(nn.Linear(4, 4).eval(), tt.zeros(1, 4))
    for image in (b"", library.object):
        with pytest.raises(CompileError, match="place of the weights"):
            driver.filled(image, library.program.data)


# --- aarch64, on an emulated machine ---

ROOT = os.environ.get("AARCH64_ROOT", "")
LINKER = shutil.which("aarch64-linux-gnu-ld") or shutil.which("ld.lld")
START = """
declare i64 @syscall(i64, ...)
@input = internal global [{size} x i8] zeroinitializer, align 64
@output = internal global [40 x i8] zeroinitializer
@workspace = internal global [{workspace} x i8] zeroinitializer
define void @_start() nounwind {{
  %r = call i64 (i64, ...) @syscall(i64 63, i64 0, ptr @input, i64 {size})
  %b = call i32 @net_begin(ptr @workspace)
  %c = call i32 @net_run(ptr @input, ptr @output, ptr @workspace)
  %w = call i64 (i64, ...) @syscall(i64 64, i64 1, ptr @output, i64 40)
  %both = or i32 %b, %c
  %code = zext i32 %both to i64
  %e = call i64 (i64, ...) @syscall(i64 93, i64 %code)
  unreachable
}}
"""


@pytest.mark.skipif(
    not (ROOT and LINKER and shutil.which("qemu-aarch64-static")),
    reason="needs qemu-aarch64-static, AARCH64_ROOT (a Debian of arm64, see scripts/aarch64), and"
    " aarch64-linux-gnu-ld or ld.lld",
)
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_aarch64_gives_what_the_model_gives(tmp_path, kind):
    """Ground truth: the model line by line; system calls 63, 64 and 93 are read, write and exit."""
    target, model = Target.named("neon", "aarch64"), pictures_network()
    if kind == "int8":  # by dot products, which begin asks Linux for
        target = replace(target, features=f"{target.features},+dotprod", has_int8_dot=True)
        model = compression.quantize(model, kind)
    library = build_library(model, picture(), target, "net")
    sizes = {"size": picture().size * 4, "workspace": driver.workspace_bytes(library.program)}
    text = driver.library_text("net", library.program) + START.format(**sizes)
    image = driver.filled(engine.compile_text(text, target), library.program.data)
    (tmp_path / "net.o").write_bytes(image)
    libc = f"{ROOT}/lib/aarch64-linux-gnu/libc.so.6"
    subprocess.run(
        [LINKER, "-dynamic-linker", "/lib/ld-linux-aarch64.so.1", "net.o", libc, "-o", "main"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    done = subprocess.run(
        ["qemu-aarch64-static", "-L", ROOT, str(tmp_path / "main")],
        input=picture().numpy().tobytes(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with tt.no_grad():
        eager = model(picture()).numpy()[0]
    # a probability moves by at most 1/4 of what its logit does, by one step of int8 in 127
    near = TOLERANCE if kind == "float32" else 1 / 127 / 4
    assert np.abs(np.frombuffer(done.stdout, np.float32) - eager).max() <= near
