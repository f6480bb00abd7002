"""What a row says of itself besides its definition: the facts that the compiler builds on."""

import numpy as np
import pytest

from tinytorch.base.dtypes import float32, uint32
from tinytorch.primitives import TABLE, Primitive, Spec, dtype_of
from tinytorch.primitives.primitive import OpClass, numbers, refused, sample, strided

ROWS = list(TABLE.values())


def of(*classes: OpClass) -> list[Primitive]:
    return [row for row in ROWS if row.op_class in classes]


def bits(x) -> bytes:
    """Its bytes, with one NaN for all of them."""
    x = np.asarray(x)
    return (
        np.where(np.isnan(x), np.nan, x).astype(x.dtype).tobytes()
        if x.dtype.kind == "f"
        else x.tobytes()
    )


def test_every_row_has_a_class():
    """Invariant: nothing is known of rows that users add, of a user's function, and of no other."""
    assert [row.name for row in of(OpClass.OPAQUE)] == ["host_call"]
    assert {row.op_class for row in ROWS} == set(OpClass)


@pytest.mark.parametrize("row", [row for row in ROWS if row.commutes], ids=repr)
def test_operands_that_may_change_places(row):
    """Ground truth: the definition with a and b exchanged: equal numbers, NaN where NaN was."""
    for s in row.samples():
        a, b = s.inputs
        np.testing.assert_array_equal(row(a, b), row(b, a))


@pytest.mark.parametrize("row", [r for r in ROWS if r.elementwise and not r.commutes], ids=repr)
def test_operands_that_may_not(row):
    """Ground truth: a sample whose result changes with the order; rows of two operands alone."""
    pairs = [s.inputs for s in row.samples() if len(s.inputs) == 2]
    fit = [(a, b) for a, b in pairs if row.name != "absorb" or a.shape == b.shape]
    assert not fit or any(bits(row(a, b)) != bits(row(b, a)) for a, b in fit)


@pytest.mark.parametrize("row", [row for row in ROWS if row.neutral is not None], ids=repr)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64"])
def test_a_neutral_number_leaves_everything_as_it_is(row, dtype):
    """Ground truth: x itself, bit for bit, -0.0 and the ends of the range included."""
    if np.dtype(dtype).kind not in row.kinds:
        return
    whole = np.dtype(dtype).kind == "i"
    info = np.iinfo(dtype) if whole else np.finfo(dtype)
    odd = [] if whole else [-0.0, np.inf, -np.inf, np.nan, info.tiny]
    x = np.array([0, 1, -3, info.max, info.min, *odd], dtype)
    neutral = np.array(row.neutral, dtype)
    assert bits(row(x, neutral)) == bits(x)
    assert not row.commutes or bits(row(neutral, x)) == bits(x)


@pytest.mark.parametrize("row", [row for row in ROWS if row.exact], ids=repr)
def test_an_exact_row_computes_nothing(row):
    """Ground truth: each element is one of the operands', converted to the result's type."""
    for s in row.samples():
        out = np.asarray(row.numpy(*s.inputs, **s.params))
        with np.errstate(all="ignore"):
            given = [np.broadcast_to(TABLE["cast"].numpy(x, dtype=out.dtype), out.shape)
                     for x in s.inputs if x.dtype != bool or len(s.inputs) == 1]  # fmt: skip
        found = np.zeros(out.shape, bool)
        for x in given:
            found |= (x == out) | (np.isnan(x) & np.isnan(out) if out.dtype.kind == "f" else False)
        rounded = row.name == "cast" and s.params["dtype"].name == "bfloat16"
        assert rounded or found.all()


@pytest.mark.parametrize("row", [row for row in ROWS if row.keeps_order], ids=repr)
def test_a_result_lies_as_its_operands_do(row):
    """Ground truth: NumPy's strides of arrays whose axes lie the other way round in memory."""
    turned = np.asfortranarray(numbers(3, 4, 2, low=1, high=9))
    s = next(s for s in row.samples() if s.inputs and s.inputs[-1].size)
    inputs = [turned.astype(x.dtype, order="F") for x in s.inputs]
    params = {"axis": 1} if "axis" in s.params else s.params
    out = row.numpy(*inputs, **params)
    assert not out.flags.c_contiguous and out.flags.f_contiguous


def test_erf_and_gelu_lay_out_their_results_row_by_row():
    """Ground truth: NumPy's strides; the elementwise rows that say so."""
    through_blocks = [r for r in ROWS if r.elementwise and not r.keeps_order]
    assert [r.name for r in through_blocks] == ["erf", "gelu", "gelu_slope"]
    for row in through_blocks:
        out = row.numpy(np.asfortranarray(numbers(3, 4)))
        assert out.flags.c_contiguous and not out.flags.f_contiguous


@pytest.mark.parametrize("row", of(OpClass.UPDATE), ids=repr)
def test_an_update_is_its_first_input_but_for_a_part(row):
    """Ground truth: the shape rule."""
    for s in row.samples():
        specs = [Spec(x.shape, dtype_of(x)) for x in s.inputs]
        assert row.infer(*specs, **s.params) == specs[0]


@pytest.mark.parametrize("row", of(OpClass.SOURCE), ids=repr)
def test_a_source_reads_nothing(row):
    """Ground truth: its samples; a constant has a value among its parameters."""
    assert all(not s.inputs for s in row.samples())
    assert all(("value" in s.params) == (row.name == "full") for s in row.samples())


@pytest.mark.parametrize("row", of(OpClass.LOOKUP, OpClass.GATHER), ids=repr)
def test_what_is_looked_up_is_an_input_element(row):
    """Ground truth: membership."""
    for s in row.samples():
        assert np.isin(row(*s.inputs, **s.params), s.inputs[0]).all()


def test_a_class_may_be_given_by_its_word_and_a_name_once():
    """Ground truth: the enumeration, and the table."""
    rule = {
        "infer": lambda x: x,
        "numpy": lambda x: x,
        "vjp": "not differentiable",
        "samples": tuple,
    }
    try:
        row = Primitive("test_word", op_class="movement", **rule)
        assert row.op_class is OpClass.MOVEMENT and row.view and not row.elementwise
        facts = (row.expensive, row.exact, row.commutes, row.mixes, row.may_copy, row.keeps_order)
        assert not any(facts) and row.neutral is row.combines is None
        assert row.functions == row.methods == row.selects == () and row.error_samples() == ()
        with pytest.raises(ValueError, match="defined twice"):
            Primitive("test_word", **rule)
    finally:
        del TABLE["test_word"]
    with pytest.raises(ValueError, match="no_class"):
        Primitive("test_word", op_class="no_class", **rule)
    assert "test_word" not in TABLE


def test_samples():
    """Ground truth: the sequence of multiples of the golden ratio; NumPy's strides."""
    x = numbers(200)
    assert len(set(x.tolist())) == 200 and x.min() < -1.9 and x.max() > 1.9
    assert numbers(3, low=0, high=10, dtype="int32").tolist() == [6, 2, 8]
    assert strided(2, 3).shape == (2, 3) and not strided(2, 3).flags.contiguous
    assert sample(x, axis=0).params == {"axis": 0} and sample(x).inputs[0] is x
    wrong = refused(ValueError, "phrase", x, axis=1)
    assert (wrong.error, wrong.phrase, wrong.params) == (ValueError, "phrase", {"axis": 1})


def flops(name: str, *shapes, **params) -> int:
    row = TABLE[name]
    dtype = params.pop("of", float32)
    ins = [Spec(shape, dtype) for shape in shapes]
    if name == "attention_gradient":
        ins[-1] = Spec(shapes[-1], float32)
    outs = row.infer(*ins, **params)
    return row.flops(ins, outs if isinstance(outs, tuple) else (outs,), **params)


PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
HEADS = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4))  # queries 5, keys 7, head size 4
SEEN = 3 + 4 + 5 + 6 + 7  # keys that the queries see under `causal`: t + S - T + 1
IMAGE, FILTER, RESULT = (2, 4, 6, 5), (6, 2, 3, 3), (2, 6, 4, 3)


@pytest.mark.parametrize(
    ("name", "shapes", "params", "wanted"),
    [
        ("add", ((3, 1), (4,)), {}, 12),
        ("cast", ((3, 4),), {"dtype": float32}, 0),
        ("reshape", ((3, 4),), {"shape": (12,)}, 0),
        ("pad", ((3,),), {"before": (1,), "after": (2,)}, 0),
        ("sum", ((3, 4),), {"axes": (1,), "keepdims": False}, 12),
        ("max", ((3, 4),), {"axes": (0, 1), "keepdims": True}, 12),
        ("argmin", ((3, 4),), {"axis": 1}, 12),
        ("cumsum", ((3, 4),), {"axis": 1}, 12),
        ("sort", ((3, 8),), {"axis": 1}, 24 * 3),
        ("sort", ((3, 1),), {"axis": 1}, 3),
        ("sort", ((3, 0),), {"axis": 1}, 0),
        ("matmul", ((2, 3, 4), (4, 5)), {}, 2 * 2 * 3 * 4 * 5),
        ("attention", HEADS, {"causal": False, "scale": 1.0}, 4 * 6 * 35 * 4),
        ("attention", HEADS, {"causal": True, "scale": 1.0}, 4 * 6 * SEEN * 4),
        ("attention_gradient", (HEADS[0], *HEADS, HEADS[0], (2, 3, 5)),
         {"causal": True, "scale": 1.0}, 10 * 6 * SEEN * 4),
        ("convolution", (IMAGE, FILTER), {"groups": 2, **PLAIN}, 2 * 144 * 18),
        ("convolution_input_gradient", (RESULT, FILTER),
         {"input_shape": IMAGE, "groups": 2, **PLAIN}, 2 * 144 * 18),
        ("convolution_weight_gradient", (RESULT, IMAGE),
         {"weight_shape": FILTER, "groups": 2, **PLAIN}, 2 * 144 * 18),
        ("max_pool2d", ((2, 3, 4, 6),), {"kernel": (2, 3), **PLAIN}, 2 * 3 * 3 * 4 * 6),
        ("random_bits", ((4,),), {"shape": (5,), "of": uint32}, 10 * 10 * 2),
    ],
)  # fmt: skip
def test_arithmetic_operations(name, shapes, params, wanted):
    """Closed forms: a multiplication and an addition a tap; a comparison an element; ten rounds of
    ten operations for each four words; moving and converting numbers is none."""
    assert flops(name, *shapes, **params) == wanted
