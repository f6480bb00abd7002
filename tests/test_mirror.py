"""Tests mirror the package: tests/FOLDER/test_FILE.py is about tinytorch/FOLDER/FILE.py.

Ground truth: the names of the files. What a contract over a whole table tests, and tests that are
about several files at once, are named below; each entry says which test, or what it is about.
"""

from fnmatch import fnmatch

from tests.floors import PACKAGE, ROOT, files

TESTS = ROOT / "tests"
# Files without a test of their name: the test that goes through them all the same.
TESTED_BY = {
    "cli/train": "tests/test_cli.py",
    "codegen/math_coefficients": "tests/codegen/test_vector_math.py",
    "compiler/graph/rewriter": "tests/compiler/graph/test_simplify.py",
    "compiler/loops/elementwise": "tests/test_compiled_rows.py",
    "compiler/loops/epilogue": "tests/test_compiled_rows.py",
    "compiler/loops/prologue": "tests/compiler/plan/test_prologue.py",
    "compiler/operations": "tests/test_kinds.py",
    "compiler/pipeline": "tests/compiler/test_every_pass.py",
    "compiler/plan/stages": "tests/compiler/test_every_pass.py",
    "compiler/run/page_style": "tests/compiler/run/test_page.py",
    "compiler/calls/bodies": "tests/compiler/calls/test_loops.py",
    "compiler/calls/branches": "tests/compiler/record/test_branches.py",
    "compiler/calls/caches": "tests/test_compiled_rows.py",
    "compiler/record/bodies": "tests/compiler/record/test_branches.py",
    "compiler/record/body_gradient": "tests/compiler/record/test_branches.py",
    "compiler/record/control": "tests/compiler/record/test_branches.py",
    "compiler/record/loop_gradient": "tests/compiler/record/test_loops.py",
    "core/*": "tests/core/test_chapters.py",
    "kernels/convolution_rows": "tests/kernels/test_convolution.py",
    "kernels/even_tiles": "tests/kernels/test_gemm_plan.py",
    "kernels/gemm_arithmetic": "tests/kernels/test_gemm_plan.py",
    "kernels/caches": "tests/nn/test_cache.py",
    "nn/functional": "tests/nn/test_activation.py",
    "primitives/*": "tests/test_every_primitive.py",
    "tensor/caches": "tests/nn/test_cache.py",
    "tensor/elementwise": "tests/tensor/test_functions.py",
    "tensor/trees": "tests/tensor/test_scan.py",
    "text/flow": "tests/text/test_merge_kernel.py",
    "text/word_kernel": "tests/text/test_native_merges.py",
    "training/run": "tests/training/test_resume.py",
    "training/shortcuts": "tests/training/test_trainer.py",
}
# Tests about several files at once, and what they have in common.
ABOUT_SEVERAL = {
    "cli/foreign_runs": "run folders that others wrote",
    "compiler/long_programs": "programs of thousands of operations",
    "compiler/every_pass": "each pass by its name in compiler/pipeline.py",
    "compiler/outside_faults": "faults that users met",
    "compiler/pass_regressions": "faults that random programs found",
    "compiler/tour": "the program of compiler/__main__.py",
    "compiler/random_lengths": "random programs over an axis of a length",
    "compiler/quantised": "networks of few bits, from their rules to their kernels",
    "compiler/random_programs": "random programs against their definition",
    "compiler/plan/updates_in_place": "states that are overwritten where they lie",
    "compiler/record/python_around": "what a call reads and changes of Python",
    "compiler/record/views": "views inside a recording",
    "compiler/run/processes": "forks, threads and two processes with one cache",
    "core/chapters": "every chapter of the course",
    "kernels/gemm_integers": "products of bytes, from their plan to their sums",
    "nn/half_precision": "all layers in float16 and bfloat16",
    "nn/mixed_floats": "operands of two float types",
    "storage/mutations": "damaged files",
    "storage/safetensors_header": "headers that must be refused",
    "storage/strict_reader": "what no reader may accept",
    "training/bad_storage": "disks that refuse",
    "training/belonging": "which optimizer, schedule and data a model is trained with",
    "training/foreign_checkpoints": "checkpoints that others wrote",
    "training/foreign_states": "states that others wrote",
    "training/kill": "runs that are killed",
    "training/python_around_training": "settings that change during training",
    "training/resume": "runs that go on",
}


def of_package() -> set[str]:
    """Files of the package that can have a test: "nn/linear"."""
    names = (p.relative_to(PACKAGE).with_suffix("").as_posix() for p in files())
    return {n for n in names if n.rpartition("/")[2] not in ("__init__", "__main__")}


def of_tests() -> set[str]:
    """What the tests in folders of the package are named after: "nn/linear"."""
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    return {
        (p.parent / p.stem.removeprefix("test_")).relative_to(TESTS).as_posix()
        for folder in folders
        for p in (TESTS / folder).rglob("test_*.py")
    }


def test_every_file_has_a_test_of_its_name_or_an_entry():
    """Ground truth: file names, and the table above, whose tests must be there."""
    tested = of_tests() | {p.stem.removeprefix("test_") for p in TESTS.glob("test_*.py")}
    missing = [
        f"tests/{folder}/test_{name}.py for tinytorch/{folder}/{name}.py"
        for folder, _, name in (n.rpartition("/") for n in sorted(of_package() - tested))
        if not any(fnmatch(f"{folder}/{name}".lstrip("/"), pattern) for pattern in TESTED_BY)
    ]
    assert not missing, f"write them, or say in TESTED_BY of tests/test_mirror.py: {missing}"
    gone = [test for test in TESTED_BY.values() if not (ROOT / test).exists()]
    assert not gone, f"TESTED_BY of tests/test_mirror.py names tests that are gone: {gone}"


def test_every_test_is_named_after_a_file_or_says_what_it_is_about():
    """Ground truth: file names, and the table above."""
    strange = sorted(of_tests() - of_package() - set(ABOUT_SEVERAL))
    assert not strange, (
        "name these tests after the file they are about, or say in ABOUT_SEVERAL of "
        f"tests/test_mirror.py what they are about: {strange}"
    )
    gone = sorted(set(ABOUT_SEVERAL) - of_tests())
    assert not gone, f"take out of ABOUT_SEVERAL in tests/test_mirror.py: {gone}"
