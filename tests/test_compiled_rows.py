"""Compiled = definition for every row of the table, every sample, every number type and target.

Ground truth: `Primitive.evaluate`, the row's NumPy definition on the same stored arrays. All
samples of a row are one program, so its module is compiled once for each target; 1, 2 and 3 threads
must give the same bits. Rows whose kernels are long take three samples of each 16-bit type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.compiler.compiled import program_of, run, targets
from tinytorch.base.dtypes import bfloat16, bool_, float16, float32, float64, from_bfloat16
from tinytorch.base.errors import TinyTorchError
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec, dtype_of, store

TARGETS = {t.name: t for t in targets()}
EPS = {float64: 2.0**-52, float32: 2.0**-23, float16: 2.0**-10, bfloat16: 2.0**-7}
# Units in the last place of one number: functions on vectors are within 4 (tests/codegen/
# test_vector_math.py) and NumPy's within 4; pow is exp(y log x), whose argument carries |y log x|
# roundings, at most 40 on these samples. Everything else elementwise is correctly rounded.
ROUNDED = {"div", "sqrt", "reciprocal", "remainder", "floor_div"}
FUNCTIONS = {n for n, row in TABLE.items() if row.elementwise and row.expensive} - ROUNDED
UNITS = {**dict.fromkeys(FUNCTIONS, 8), "pow": 48}
# Sums in another order: units of the largest sum of absolute values. These samples add at most 300
# numbers, of any sign, whose sums cancel to no less than a tenth of their terms.
SUMS = frozenset(
    ("sum", "prod", "cumsum", "matmul", "scatter_add", "scatter_along", "convolution",
     "convolution_input_gradient", "convolution_weight_gradient", "attention",
     "attention_gradient", "cached_attention", "max_pool2d_gradient", "mean", "scan", "cond",
     "grouped_matmul", "sparse_matmul")
)  # fmt: skip
SUM_UNITS = 300
LONG = frozenset(
    ("matmul", "convolution", "convolution_input_gradient", "convolution_weight_gradient",
     "attention", "attention_gradient")
)  # fmt: skip


@dataclass(eq=False)
class Case:
    """One sample of a row under one number type."""

    row: str
    label: str
    inputs: tuple[np.ndarray, ...]
    params: dict
    wanted: tuple[np.ndarray, ...]
    dtypes: tuple


def _cases() -> list[Case]:
    cases = []
    for name, row in TABLE.items():
        for i, sample in enumerate(row.samples()):
            wide = [a for a in sample.inputs if a.dtype == np.float64]
            narrow = (float16, bfloat16) if name not in LONG or i < 3 else ()
            for dtype in (None, float32, *narrow) if wide else (None,):
                inputs = tuple(
                    store(a, dtype)
                    if dtype is not None and a.dtype == np.float64
                    else np.asarray(a)
                    for a in sample.inputs
                )
                if name == "attention_gradient" and dtype is not None:  # log-sum-exp is float32
                    inputs = (*inputs[:5], sample.inputs[5].astype(np.float32))
                made = _case(name, f"{name}-{i}-{dtype or 'own'}", inputs, sample.params)
                cases += [made] if made else []
    return cases


def _case(name: str, label: str, inputs, params) -> Case | None:
    row = TABLE[name]
    dtypes = tuple(dtype_of(a) for a in inputs)
    try:
        specs = row.infer(
            *(Spec(a.shape, d) for a, d in zip(inputs, dtypes, strict=True)), **params
        )
    except TinyTorchError:  # a type this row does not take
        return None
    with np.errstate(all="ignore"):
        wanted = row.evaluate(inputs, dtypes, params)
    specs = specs if isinstance(specs, tuple) else (specs,)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    return Case(name, label, inputs, params, wanted, tuple(s.dtype for s in specs))


with np.errstate(all="ignore"):  # samples beyond the range of a narrow type become infinite
    CASES = _cases()


@pytest.mark.parametrize("row", list(TABLE))
@pytest.mark.parametrize("target", list(TARGETS))
def test_compiled_is_the_definition(target, row):
    """Ground truth: the row's NumPy definition; shape and type first, then values, then threads."""
    cases = [case for case in CASES if case.row == row]
    graph, arrays = Graph(), {}
    for case in cases:
        values = tuple(Value(Spec(a.shape, dtype_of(a))) for a in case.inputs)
        graph.arguments += values
        arrays.update(zip(values, case.inputs, strict=True))
        graph.results += graph.add(TABLE[row], values, case.params, case.label)
    program = program_of(graph, TARGETS[target])
    assert not program.host_calls or row == "host_call"
    runs = [run(program, graph, arrays, threads)[0] for threads in (1, 2, 3)]
    wrong, place = [], 0
    for case in cases:
        for wanted, dtype in zip(case.wanted, case.dtypes, strict=True):
            outs = [r[place] for r in runs]
            problem = _difference(case, outs[0], wanted, dtype)
            wrong += [f"{case.label} {case.params}: {problem}"] if problem else []
            if any(out.tobytes() != outs[0].tobytes() for out in outs):
                wrong.append(f"{case.label}: threads change it")
            place += 1
    assert not wrong, "\n".join(wrong)


def _difference(case: Case, out, wanted, dtype) -> str | None:
    if (out.shape, out.dtype) != (wanted.shape, wanted.dtype):
        return f"{out.dtype}{out.shape} for {wanted.dtype}{wanted.shape}"
    if dtype is bfloat16:
        out, wanted = (from_bfloat16(np.atleast_1d(a)) for a in (out, wanted))
    if not dtype.is_float or dtype is bool_:
        same = np.array_equal(out, wanted)
        return None if same else f"{out.ravel()[:8]} for {wanted.ravel()[:8]}"
    out, wanted = out.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(out[~finite], wanted[~finite], equal_nan=True):
        return f"not finite: {out[~finite][:8]} for {wanted[~finite][:8]}"
    bound = _bound(case, wanted, finite, dtype)
    with np.errstate(invalid="ignore"):
        bad = finite & ~(np.abs(out - wanted) <= bound)
    if not bad.any():
        return None
    worst = np.argmax(np.where(bad, np.abs(out - wanted), 0))
    return f"{out.ravel()[worst]!r} for {wanted.ravel()[worst]!r}, {bad.sum()} of {bad.size}"


def _bound(case: Case, wanted: np.ndarray, finite: np.ndarray, dtype) -> np.ndarray:
    """What two right answers may differ by."""
    size = np.abs(np.where(finite, wanted, 0))
    smallest = {float64: 5e-324, float32: 2.0**-149, float16: 2.0**-24, bfloat16: 2.0**-133}[dtype]
    if case.row not in SUMS:
        units = UNITS.get(case.row, 0)
        if dtype in (float16, bfloat16):  # computed in float32 on both sides, rounded once
            units = 1 if units else 0
        return units * (EPS[dtype] * size + smallest)
    ins = {dtype_of(a) for a in case.inputs}
    wide = float64 if dtype is float64 else float32
    scale = size.max(initial=0.0)
    bound = SUM_UNITS * EPS[wide] * max(scale, 1.0)
    narrow = [d for d in ins if d in (float16, bfloat16)]
    if dtype in (float16, bfloat16):  # one rounding of each result
        bound = bound + EPS[dtype] * size + smallest
    if narrow and "attention" in case.row:  # probabilities are rounded to the heads' type
        bound = bound + 4 * EPS[narrow[0]] * max(scale, 1.0)
    return np.asarray(bound)
