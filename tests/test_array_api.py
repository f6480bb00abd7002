"""The Python array API standard 2024.12: every name is there and means what NumPy's means.

Ground truth: the standard's list of names; NumPy 2, whose main namespace implements the standard.
"""

import math

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.array_api as xp
from tinytorch.base.errors import DTypeError, SettingError

STANDARD = """
e inf nan newaxis pi
arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like tril
triu zeros zeros_like
astype can_cast finfo iinfo isdtype result_type
bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128
__array_namespace_info__
abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1
floor floor_divide greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p
log2 log10 logaddexp logical_and logical_not logical_or logical_xor maximum minimum multiply
negative nextafter not_equal positive pow real reciprocal remainder round sign signbit sin sinh
square sqrt subtract tan tanh trunc
take take_along_axis
matmul matrix_transpose tensordot vecdot
broadcast_arrays broadcast_to concat expand_dims flip moveaxis permute_dims repeat reshape roll
squeeze stack tile unstack
argmax argmin count_nonzero nonzero searchsorted where
unique_all unique_counts unique_inverse unique_values
argsort sort
cumulative_prod cumulative_sum max mean min prod std sum var
all any diff
""".split()
# There are no complex numbers, and no unsigned integers of these widths.
LEFT_OUT = {"complex64", "complex128", "conj", "imag", "real", "uint16", "uint64"}

RNG = np.random.Generator(np.random.Philox(7))
X = RNG.uniform(-2, 2, (3, 4))
Y = RNG.uniform(0.5, 2, (3, 4))
UNIT = RNG.uniform(-0.99, 0.99, (3, 4))
ABOVE = RNG.uniform(1.01, 9, (3, 4))
TINY = np.array([0.0, -0.0, 1e-12, -1e-9, 1e-5, -0.3, 3.0, -20.0, 1e-300])
ODD = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e300, -1e300])
I = RNG.integers(-5, 6, (3, 4))  # noqa: E741
B = I > 0

UNARY = {
    "abs": X, "acos": UNIT, "acosh": ABOVE, "asin": UNIT, "asinh": X, "atan": X, "atanh": UNIT,
    "bitwise_invert": I, "ceil": X, "cos": X, "cosh": X, "exp": X, "expm1": X, "floor": X,
    "isfinite": ODD, "isinf": ODD, "isnan": ODD, "log": Y, "log1p": Y, "log2": Y, "log10": Y,
    "logical_not": B, "negative": X, "positive": X, "reciprocal": Y, "round": X, "sign": X,
    "signbit": ODD[[0, 1, 2, 3, 5, 6]], "sin": X, "sinh": X, "square": X, "sqrt": Y, "tan": X,
    "tanh": X, "trunc": X,
}  # fmt: skip
BINARY = {
    "add": (X, Y), "atan2": (X, UNIT), "bitwise_and": (I, I[::-1]), "bitwise_or": (I, I[::-1]),
    "bitwise_left_shift": (I, np.abs(I)), "bitwise_right_shift": (I, np.abs(I)),
    "bitwise_xor": (I, I[::-1]), "copysign": (X, UNIT), "divide": (X, Y), "equal": (I, I[::-1]),
    "floor_divide": (X, Y), "greater": (X, Y), "greater_equal": (X, Y), "hypot": (X, Y),
    "less": (X, Y), "less_equal": (X, Y), "logaddexp": (X, Y), "logical_and": (B, B[::-1]),
    "logical_or": (B, B[::-1]), "logical_xor": (B, B[::-1]), "maximum": (X, Y), "minimum": (X, Y),
    "multiply": (X, Y), "nextafter": (X, Y), "not_equal": (I, I[::-1]), "pow": (Y, X),
    "remainder": (X, Y), "subtract": (X, Y), "matmul": (X, Y.T), "tensordot": (X, Y),
    "vecdot": (X, Y), "searchsorted": (np.sort(X[0]), Y),
}  # fmt: skip
V = np.arange(5) * 1.5
CALLS = {  # name: what to call on the namespace; Tensors and arrays are made by `asarray`
    "arange": lambda L: [L.arange(3), L.arange(1.0, 2.0, 0.25), L.arange(5, 0, -2)],
    "eye": lambda L: [L.eye(3), L.eye(2, 4, k=1), L.eye(4, 2, k=-1)],
    "full": lambda L: [L.full((2, 3), 7), L.full(3, 0.5), L.full((), True)],
    "linspace": lambda L: [L.linspace(0.0, 1.0, 5), L.linspace(0.0, 1.0, 4, endpoint=False)],
    "meshgrid": lambda L: [
        *L.meshgrid(L.asarray(V), L.asarray(V[:2])),
        *L.meshgrid(L.asarray(V), L.asarray(V[:2]), indexing="ij"),
        *L.meshgrid(L.asarray(V)),
    ],
    "tril": lambda L: [L.tril(L.asarray(X), k=1), L.tril(L.asarray(I), k=-1)],
    "triu": lambda L: [L.triu(L.asarray(X), k=-1)],
    "clip": lambda L: [L.clip(L.asarray(X), -0.5, 0.5), L.clip(L.asarray(X), max=0.0)],
    "take": lambda L: [L.take(L.asarray(X), L.asarray([2, 0]), axis=0)],
    "take_along_axis": lambda L: [L.take_along_axis(L.asarray(X), L.asarray(np.abs(I) % 4), 1)],
    "matrix_transpose": lambda L: [L.matrix_transpose(L.asarray(X))],
    "tensordot": lambda L: [
        L.tensordot(L.asarray(X), L.asarray(Y), axes=([0, 1], [0, 1])),
        L.tensordot(L.asarray(X), L.asarray(Y), axes=0),
        L.tensordot(L.asarray(X), L.asarray(Y.T), axes=1),
    ],
    "vecdot": lambda L: [L.vecdot(L.asarray(X), L.asarray(Y), axis=-2)],
    "broadcast_arrays": lambda L: L.broadcast_arrays(L.asarray(X), L.asarray(X[:, :1])),
    "broadcast_to": lambda L: [L.broadcast_to(L.asarray(X), (2, 3, 4))],
    "concat": lambda L: [
        L.concat([L.asarray(X), L.asarray(Y)], axis=1),
        L.concat([L.asarray(X), L.asarray(Y)], axis=None),
    ],
    "expand_dims": lambda L: [L.expand_dims(L.asarray(X), axis=1)],
    "flip": lambda L: [L.flip(L.asarray(X)), L.flip(L.asarray(X), axis=1)],
    "moveaxis": lambda L: [L.moveaxis(L.asarray(X), 0, 1)],
    "permute_dims": lambda L: [L.permute_dims(L.asarray(X), (1, 0))],
    "repeat": lambda L: [
        L.repeat(L.asarray(X), 2), L.repeat(L.asarray(X), 2, axis=1),
        L.repeat(L.asarray(X), [0, 2, 1], axis=0),
    ],
    "reshape": lambda L: [L.reshape(L.asarray(X), (2, -1))],
    "roll": lambda L: [
        L.roll(L.asarray(X), 2), L.roll(L.asarray(X), -1, axis=1),
        L.roll(L.asarray(X), (1, 2), axis=(0, 1)),
    ],
    "squeeze": lambda L: [L.squeeze(L.asarray(X[:1]), axis=0)],
    "stack": lambda L: [L.stack([L.asarray(X), L.asarray(Y)], axis=1)],
    "tile": lambda L: [L.tile(L.asarray(X), (2, 1, 3)), L.tile(L.asarray(X), (2,))],
    "unstack": lambda L: L.unstack(L.asarray(X), axis=1),
    "argmax": lambda L: [L.argmax(L.asarray(X)), L.argmax(L.asarray(X), axis=1, keepdims=True)],
    "argmin": lambda L: [L.argmin(L.asarray(X), axis=0)],
    "count_nonzero": lambda L: [
        L.count_nonzero(L.asarray(I)), L.count_nonzero(L.asarray(I), axis=1, keepdims=True)
    ],
    "nonzero": lambda L: L.nonzero(L.asarray(I)),
    "searchsorted": lambda L: [
        L.searchsorted(L.asarray(V), L.asarray([1.5, 9.0, -1.0]), side="right"),
        L.searchsorted(L.asarray(-V), L.asarray([-2.0]), sorter=L.asarray([4, 3, 2, 1, 0])),
    ],
    "where": lambda L: [L.where(L.asarray(B), L.asarray(X), 0.0)],
    "unique_all": lambda L: L.unique_all(L.asarray(I)),
    "unique_counts": lambda L: L.unique_counts(L.asarray(I)),
    "unique_inverse": lambda L: L.unique_inverse(L.asarray(I)),
    "unique_values": lambda L: [L.unique_values(L.asarray([1.0, np.nan, 1.0, np.nan]))],
    "argsort": lambda L: [
        L.argsort(L.asarray(I), axis=0, stable=True), L.argsort(L.asarray(X), axis=1, stable=True)
    ],
    "sort": lambda L: [L.sort(L.asarray(X), axis=0), L.sort(L.asarray(I))],
    "cumulative_sum": lambda L: [
        L.cumulative_sum(L.asarray(X), axis=0),
        L.cumulative_sum(L.asarray(I), axis=1, include_initial=True),
    ],
    "cumulative_prod": lambda L: [
        L.cumulative_prod(L.asarray(X), axis=1),
        L.cumulative_prod(L.asarray(I), axis=0, include_initial=True),
        L.cumulative_prod(L.asarray(V)),
    ],
    "max": lambda L: [L.max(L.asarray(X)), L.max(L.asarray(X), axis=(0, 1), keepdims=True)],
    "min": lambda L: [L.min(L.asarray(X), axis=1)],
    "mean": lambda L: [L.mean(L.asarray(X), axis=0)],
    "prod": lambda L: [L.prod(L.asarray(X), axis=1), L.prod(L.asarray(I))],
    "std": lambda L: [L.std(L.asarray(X), axis=0, correction=1)],
    "var": lambda L: [L.var(L.asarray(X), correction=0), L.var(L.asarray(X), axis=1, correction=1)],
    "sum": lambda L: [L.sum(L.asarray(B)), L.sum(L.asarray(I.astype(np.int8)), axis=0)],
    "all": lambda L: [L.all(L.asarray(B)), L.all(L.asarray(X), axis=0)],
    "any": lambda L: [L.any(L.asarray(B), axis=1)],
    "diff": lambda L: [
        L.diff(L.asarray(X)), L.diff(L.asarray(X), axis=0, n=2), L.diff(L.asarray(B)),
        L.diff(L.asarray(X), prepend=L.asarray(Y), append=L.asarray(Y[:, :1])),
    ],
    "astype": lambda L: [L.astype(L.asarray(X), L.int32), L.astype(L.asarray(I), L.float32)],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(STANDARD) - LEFT_OUT))
def test_the_name_is_there(name):
    """The standard's list."""
    assert hasattr(xp, name) and name in xp.__all__


def test_what_is_left_out_is_not_there():
    """The list above says so: were one added, it would have to be tested."""
    assert not [name for name in LEFT_OUT if hasattr(xp, name)]


def test_every_function_of_the_standard_is_compared():
    """The tables here against the standard's list."""
    constants = {"e", "inf", "nan", "newaxis", "pi", "__array_namespace_info__"}
    types = {n for n in STANDARD if n.startswith(("int", "uint", "float", "bool", "complex"))}
    made = {"asarray", "empty", "empty_like", "from_dlpack", "full_like", "ones", "ones_like"}
    made |= {"zeros", "zeros_like", "can_cast", "finfo", "iinfo", "isdtype", "result_type"}
    known = constants | types | made | LEFT_OUT | set(UNARY) | set(BINARY) | set(CALLS)
    assert set(STANDARD) - known == set()


def close(found, wanted, what: str) -> None:
    """Shape, kind of number, values to 4 units in the last place (formulas round a few times)."""
    wanted = np.asarray(wanted)
    assert found.shape == wanted.shape, what
    assert found.dtype.kind == wanted.dtype.kind, what
    np.testing.assert_allclose(found.numpy(), wanted, rtol=4 * 2.0**-52, atol=1e-300, err_msg=what)


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one(name):
    """NumPy's function of the same name, in float64 and as method of nothing else."""
    close(getattr(xp, name)(tt.asarray(UNARY[name])), getattr(np, name)(UNARY[name]), name)


@pytest.mark.parametrize(
    "name", ["asinh", "atan", "expm1", "log1p", "sinh", "tanh", "sin", "tan", "asin", "atanh"]
)
def test_small_arguments_stay_exact(name):
    """NumPy: near 0 these are x itself, signed zeros too."""
    x = TINY[np.abs(TINY) < 1]
    found, wanted = getattr(xp, name)(tt.asarray(x)).numpy(), getattr(np, name)(x)
    np.testing.assert_allclose(found, wanted, rtol=4 * 2.0**-52, atol=0)
    zeros = x == 0
    if name not in ("expm1", "log1p", "tan", "asin"):
        assert (np.signbit(found[zeros]) == np.signbit(wanted[zeros])).all()


@pytest.mark.parametrize(
    "name",
    ["asinh", "atan", "cosh", "exp", "expm1", "sinh", "tanh", "trunc", "sign", "sqrt", "log"],
)
def test_odd_arguments(name):
    """NumPy: infinities, NaN, and numbers whose powers overflow."""
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(ODD)
    np.testing.assert_allclose(getattr(xp, name)(tt.asarray(ODD)).numpy(), wanted, rtol=1e-14)


@pytest.mark.parametrize("name", ["atan2", "hypot", "logaddexp", "copysign"])
def test_odd_pairs(name):
    """NumPy, for every pair of odd numbers."""
    a, b = ODD[:, None], np.where(ODD == ODD, ODD, 2.0)[None, :]
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(a, b)
    found = getattr(xp, name)(tt.asarray(a), tt.asarray(b)).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(wanted), rtol=1e-14)
    known = wanted == wanted
    assert (np.sign(found[known]) == np.sign(wanted[known])).all()


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two(name):
    """NumPy's function of the same name, and the same with a list on the right."""
    a, b = BINARY[name]
    wanted = getattr(np, name)(a, b)
    close(getattr(xp, name)(tt.asarray(a), tt.asarray(b)), wanted, name)


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    """NumPy, called in the same words."""
    found, wanted = CALLS[name](xp), CALLS[name](np)
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        close(a, b, f"{name} {i}")


GRADIENTS = {
    "acos": UNIT, "acosh": ABOVE, "asin": UNIT, "asinh": X, "atan": X, "atanh": UNIT, "cosh": X,
    "expm1": X, "log10": Y, "log1p": Y, "log2": Y, "sinh": X, "tan": UNIT, "trunc": X,
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_to_second_order(name):
    """Finite differences in float64, both orders."""
    assert tt.gradcheck(getattr(xp, name), [tt.asarray(GRADIENTS[name])])


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: tt.atan2(x, y),
        lambda x, y: tt.hypot(x, y),
        lambda x, y: tt.logaddexp(x, y),
        lambda x, y: tt.copysign(x, y),
        lambda x, y: tt.tensordot(x, y, ([0], [0])),
        lambda x, y: tt.vecdot(x, y),
        lambda x, y: tt.cumulative_prod(x, axis=1) + tt.cumulative_sum(y, axis=0),
        lambda x, y: tt.diff(x, n=2, prepend=y),
        lambda x, y: tt.repeat(x, [1, 0, 2], axis=0).sum(0) * tt.tile(y, (2, 1)).sum(0),
        lambda x, y: tt.topk(x, 2)[0] * tt.diagonal(y, 1).sum(),
        lambda x, y: tt.einsum("ij,kj->ik", x, y),
        lambda x, y: tt.einsum("ij,ij,ik->k", x, y, x),
        lambda x, y: x.contiguous("column") * y.T.contiguous().T,
    ],
)
def test_gradients_of_two(function):
    """Finite differences in float64, both orders."""
    assert tt.gradcheck(function, [tt.asarray(X), tt.asarray(Y)])


def test_derivatives_at_zero():
    """Closed forms: sinh' = cosh = 1, sinh'' = 0, cosh'' = 1, asinh' = 1 at 0."""
    zero = tt.asarray(0.0, dtype="float64")
    slope = lambda f: tt.grad(lambda x: f(x))(zero).item()  # noqa: E731
    assert (slope(tt.sinh), slope(tt.cosh), slope(tt.asinh), slope(tt.atan)) == (1.0, 0.0, 1.0, 1.0)
    assert tt.grad(tt.grad(lambda x: tt.cosh(x)))(zero).item() == 1.0
    tiny = tt.asarray(1e-15, dtype="float64")
    assert tt.grad(lambda x: tt.log1p(x))(tiny).item() == pytest.approx(1.0, rel=1e-14)


TYPES = [
    tt.bool,
    tt.int8,
    tt.int16,
    tt.int32,
    tt.int64,
    tt.uint8,
    tt.uint32,
    tt.float32,
    tt.float64,
]


@pytest.mark.parametrize("a", TYPES, ids=repr)
@pytest.mark.parametrize("b", TYPES, ids=repr)
def test_promotion_is_the_standards(a, b):
    """NumPy's table, where the standard has an entry: not across kinds (there: the float)."""
    found = tt.result_type(a, b)
    assert found is tt.result_type(tt.zeros(2, dtype=a), tt.zeros(2, dtype=b))
    assert found is (tt.zeros(1, dtype=a) * tt.zeros(1, dtype=b)).dtype if a is not tt.bool else 1
    if a.is_float is b.is_float:
        assert found.storage == np.result_type(a.storage, b.storage)
    else:
        assert found is (a if a.is_float else b)
    assert tt.can_cast(a, found)


def test_result_type_of_python_numbers():
    """Stated: a number takes the type of the array, if that can hold its kind."""
    assert tt.result_type(tt.float16, 2.0, 1) is tt.float16
    assert tt.result_type(tt.int8, 1) is tt.int8 and tt.result_type(tt.int8, 1.5) is tt.float32
    assert tt.result_type(np.zeros(1, np.int16), tt.bfloat16) is tt.bfloat16
    assert tt.result_type(2.0) is tt.float32 and tt.result_type(True) is tt.bool
    with pytest.raises(SettingError, match="of nothing"):
        tt.result_type()


def test_finfo_and_iinfo():
    """NumPy; bfloat16 by the definition of the format."""
    for dtype in (tt.float16, tt.float32, tt.float64):
        ours, theirs = tt.finfo(dtype), np.finfo(dtype.storage)
        for name in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(ours, name) == getattr(theirs, name)
    brain = tt.finfo(tt.ones(1, dtype="bfloat16"))
    assert brain.eps == 2.0**-7 and tt.Tensor(brain.max, dtype="bfloat16").item() == brain.max
    assert tt.iinfo(tt.uint32).max == 2**32 - 1 and tt.iinfo(tt.int8).min == -128
    with pytest.raises(DTypeError, match="no floating-point type"):
        tt.finfo(tt.int8)
    with pytest.raises(DTypeError, match="no integer type"):
        tt.iinfo(tt.float32)


def test_isdtype():
    """The standard's definition of the kinds."""
    assert tt.isdtype(tt.int8, "signed integer") and not tt.isdtype(tt.uint8, "signed integer")
    assert tt.isdtype(tt.bool, "bool") and not tt.isdtype(tt.bool, "numeric")
    assert not tt.isdtype(tt.float32, "complex floating") and tt.isdtype(tt.float32, tt.float32)
    with pytest.raises(SettingError, match="no such kind"):
        tt.isdtype(tt.int8, "whole")


def test_namespace_and_its_info():
    """The standard: x.__array_namespace__() has the functions, and describes itself."""
    space = tt.ones(1).__array_namespace__(api_version="2024.12")
    assert space is xp
    info = space.__array_namespace_info__()
    assert info.default_device() == "cpu" and info.devices() == ["cpu"]
    assert info.default_dtypes()["real floating"] is tt.float32
    assert set(info.dtypes(kind="integral")) == {
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint32",
    }
    assert info.capabilities()["boolean indexing"]


def test_constants():
    """Mathematics."""
    assert (tt.e, tt.pi, tt.inf, tt.newaxis) == (math.e, math.pi, math.inf, None)
    assert tt.nan != tt.nan


def test_creation_takes_a_device():
    """Stated: "cpu" or None, anything else is refused."""
    x = tt.ones(2)
    for made in (
        tt.zeros(2, device="cpu"),
        tt.empty_like(x, device="cpu"),
        tt.full(2, 1, device=None),
    ):
        assert made.device == "cpu" and made.shape == (2,)
    assert x.to_device("cpu") is x
    with pytest.raises(SettingError, match="no such device"):
        tt.arange(3, device="cuda")


def test_operators_of_the_standard():
    """NumPy: reflected and in-place operators, with arrays and numbers on the left."""
    i = tt.asarray(I)
    assert np.array_equal((7 << tt.asarray(np.abs(I))).numpy(), 7 << np.abs(I))
    assert np.array_equal((64 >> tt.asarray(np.abs(I))).numpy(), 64 >> np.abs(I))
    for text in (
        "//= 3",
        "%= 4",
        "**= 2",
        "&= 6",
        "|= 1",
        "^= 5",
        "<<= 1",
        ">>= 1",
        "+= 2",
        "*= 3",
    ):
        ours, theirs = {"x": tt.Tensor(I)}, {"x": I.copy()}
        same = ours["x"]
        exec(f"x {text}", ours)
        exec(f"x {text}", theirs)
        assert ours["x"] is same and np.array_equal(same.numpy(), theirs["x"]), text
    m = tt.Tensor(X[:, :3])
    before = m
    m @= tt.Tensor(Y[:, :3])
    assert m is before and np.allclose(m.numpy(), X[:, :3] @ Y[:, :3])
    assert np.array_equal((+i).numpy(), I) and (+i) is i


def test_sets_and_positions_need_values():
    """Ground truth: the message, in a capture."""
    compiled = tt.compile(lambda x: tt.unique_values(x))
    with pytest.raises(tt.TinyTorchError, match="depends on values"):
        compiled(tt.ones(3))


def test_searching_agrees_when_compiled():
    """Invariant: the eager results, by other algorithms."""
    x = tt.asarray(X.astype(np.float32))
    line = tt.asarray(np.sort(X[0]).astype(np.float32))

    def f(x, line):
        values, index = tt.topk(x, 3, 1)
        return (
            values,
            index,
            tt.searchsorted(line, x),
            tt.searchsorted(line, line, side="right"),
            (tt.isin(line, line[:2])),
            tt.argsort(x > 0, 1, descending=True) if False else tt.argsort(x, 1, descending=True),
        )

    for a, b in zip(tt.compile(f)(x, line), f(x, line), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_descending_order_keeps_equal_elements_in_theirs():
    """Definition of a stable sort."""
    x = tt.tensor([1, 3, 1, 3, 2])
    assert tt.argsort(x, descending=True).tolist() == [1, 3, 4, 0, 2]
    assert tt.sort(x, descending=True).indices.tolist() == [1, 3, 4, 0, 2]
    assert xp.sort(x, descending=True).tolist() == [3, 3, 2, 1, 1]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", [xp.sort, lambda x, **settings: tt.sort(x, **settings).values])
def test_the_gradient_of_a_sorted_tensor_goes_where_argsort_says(sort, descending):
    """Invariant: also for equal elements (found from outside)."""
    x = tt.Tensor([1.0, 2.0, 2.0, 1.0, 3.0, 3.0, float("nan"), 3.0], requires_grad=True)
    (sort(x, descending=descending) * tt.arange(8.0)).sum().backward()
    places = tt.argsort(x.detach(), descending=descending).tolist()
    assert [x.grad.tolist()[p] for p in places] == list(range(8))


@pytest.mark.parametrize(
    ("call", "phrase"),
    [
        (lambda: tt.repeat(tt.ones(2), [1, 2, 3], axis=0), "counts do not fit"),
        (lambda: tt.repeat(tt.ones(2), -1), "negative count"),
        (lambda: tt.meshgrid(tt.ones(2), indexing="yx"), "no such indexing"),
        (lambda: tt.searchsorted(tt.ones(2, 2), 1.0), "sorted numbers do not belong"),
        (lambda: tt.searchsorted(tt.ones(2), 1.0, side="left", right=True), "no such side"),
        (lambda: tt.bincount(tt.asarray([1, 2]), 6), "one weight for each element"),
        (lambda: tt.divide(tt.ones(2), 2.0, rounding_mode="up"), "no such rounding"),
        (lambda: tt.moveaxis(tt.ones(2, 2), (0, 0), (0, 1)), "not moved one to one"),
        (lambda: tt.searchsorted(tt.ones(2), 1.0, side="up"), "no such side"),
        (lambda: tt.topk(tt.ones(2), 3), "not so many elements"),
        (lambda: tt.tensordot(tt.ones(2, 3), tt.ones(2, 3), 1), "different sizes"),
        (lambda: tt.vecdot(tt.ones(2), tt.ones(3)), "different lengths"),
        (lambda: tt.cumulative_sum(tt.ones(2, 2)), "along one axis"),
        (lambda: tt.diff(tt.ones(2), n=-1), "n is negative"),
        (lambda: tt.diagonal(tt.ones(2)), "no matrix"),
        (lambda: tt.contiguous(tt.ones(2), "diagonal"), "no such layout"),
        (lambda: tt.asarray([1.0], copy=False), "cannot be used where they are"),
        (lambda: tt.einsum("i"), "no operands"),
        (lambda: tt.ones(2).repeat(), "count is missing"),
        (lambda: tt.from_dlpack([1.0]), "does not speak DLPack"),
    ],
)  # fmt: skip
def test_refusals(call, phrase):
    """Ground truth: the messages, four parts."""
    with pytest.raises(tt.TinyTorchError, match=rf"(?s){phrase}.*got:.*rule:.*fix:"):
        call()


def test_diagonals():
    """NumPy."""
    x = RNG.standard_normal((2, 3, 4))
    for k in (-2, 0, 1, 5):
        assert np.array_equal(tt.diagonal(tt.asarray(x), k).numpy(), np.diagonal(x, k, 1, 2))
        assert np.array_equal(tt.diag(tt.asarray(V), k).numpy(), np.diag(V, k))
        assert np.array_equal(tt.diag(tt.asarray(x[0]), k).numpy(), np.diag(x[0], k))
    assert tt.trace(tt.asarray(X)).item() == pytest.approx(np.trace(X), rel=1e-15)


def test_bincount_and_isin():
    """NumPy."""
    labels = np.array([0, 3, 3, 1])
    assert np.array_equal(
        tt.bincount(tt.asarray(labels), minlength=6).numpy(), np.bincount(labels, minlength=6)
    )
    weights = np.array([0.5, 1.0, 2.0, 4.0])
    found = tt.bincount(tt.asarray(labels), tt.asarray(weights))
    assert np.array_equal(found.numpy(), np.bincount(labels, weights))
    assert np.array_equal(tt.isin(tt.asarray(I), [1, 2]).numpy(), np.isin(I, [1, 2]))
    assert np.array_equal(
        tt.isin(tt.asarray(I), [1], invert=True).numpy(), np.isin(I, [1], invert=True)
    )


def test_options_of_names():
    """NumPy; integers, bools and rows of boundaries among them."""
    edges, rows = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 5.0]]), np.array([[2.0, 0.0], [5.0, 9.0]])
    for right in (False, True):
        side = "right" if right else "left"
        wanted = [np.searchsorted(e, r, side=side) for e, r in zip(edges, rows, strict=True)]
        for ask in (tt.searchsorted, tt.compile(tt.searchsorted)):
            found = ask(tt.asarray(edges), tt.asarray(rows), right=right, out_int32=True)
            assert found.dtype is tt.int32 and np.array_equal(found.numpy(), wanted)
    a, b = np.array([-7, 7, -8, 5]), np.array([2, -2, 4, 3])
    for kind in (np.int32, np.float64):
        x, y = tt.asarray(a.astype(kind)), tt.asarray(b.astype(kind))
        for mode, wanted in (("trunc", np.trunc(a / b)), ("floor", np.floor(a / b))):
            found = tt.divide(x, y, rounding_mode=mode)
            assert found.dtype is x.dtype and np.array_equal(found.numpy(), wanted)
        assert np.array_equal(tt.add(x, y, alpha=3).numpy(), a + 3 * b)
        assert np.array_equal(tt.round(x, decimals=-1).numpy(), np.round(a.astype(kind), -1))
    p, q = np.array([True, False, True]), np.array([True, False, False])
    for name in ("add", "multiply", "maximum", "minimum"):
        for ask in (getattr(tt, name), tt.compile(getattr(tt, name))):
            assert np.array_equal(
                ask(tt.asarray(p), tt.asarray(q)).numpy(), getattr(np, name)(p, q)
            )
    assert np.array_equal(tt.sort(tt.asarray(p)).values.numpy(), np.sort(p))
    assert tt.amax(tt.asarray(q)).item() is True and tt.amin(tt.asarray(p)).item() is False
    cube = np.arange(24.0).reshape(2, 3, 4)
    found = tt.diagonal(tt.asarray(cube), 1, 0, 2).numpy()
    assert np.array_equal(found, np.diagonal(cube, 1, 0, 2))
    found = tt.moveaxis(tt.asarray(cube), (0, 1), (-1, 0)).numpy()
    assert np.array_equal(found, np.moveaxis(cube, (0, 1), (-1, 0)))
    assert np.array_equal(tt.diff(tt.asarray(cube), 2, 1).numpy(), np.diff(cube, 2, 1))


def test_allclose_and_isclose():
    """NumPy."""
    a, b = np.array([1.0, np.nan, np.inf, 0.0]), np.array([1.0 + 1e-9, np.nan, np.inf, 1e-7])
    assert np.array_equal(tt.isclose(tt.asarray(a), b).numpy(), np.isclose(a, b))
    assert tt.isclose(tt.asarray(a), b, equal_nan=True).tolist() == [True, True, True, False]
    assert tt.allclose(tt.ones(2), [1.0, 1.0]) and not tt.allclose(tt.ones(2), 1.1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_functions_keep_the_type(dtype):
    """NumPy in float64 on the same rounded inputs: 8 units in the last place of the type, since
    formulas of a few steps round after each."""
    questions = {"isfinite", "isinf", "isnan", "signbit"}
    for name, x in UNARY.items():
        if x.dtype == np.float64 and name not in questions:
            x = tt.tensor(x, dtype=dtype)
            check_type(name, getattr(xp, name)(x), getattr(np, name)(x.numpy().astype(np.float64)))
    exact = {"matmul", "tensordot", "vecdot", "searchsorted", "nextafter"}
    for name, (a, b) in BINARY.items():
        if a.dtype == np.float64 and name not in exact:
            a, b = tt.tensor(a, dtype=dtype), tt.tensor(b, dtype=dtype)
            wide = (x.numpy().astype(np.float64) for x in (a, b))
            check_type(name, getattr(xp, name)(a, b), getattr(np, name)(*wide), dtype)


def check_type(name: str, found, wanted: np.ndarray, dtype: str | None = None) -> None:
    if found.dtype is tt.bool:
        return
    assert dtype is None or found.dtype.name == dtype, name
    bound = 8 * tt.finfo(found).eps * np.abs(wanted) + 1e-30
    assert (np.abs(found.numpy().astype(np.float64) - wanted) <= bound).all(), name


@pytest.mark.parametrize("name", UNARY)
def test_integers_and_nothing(name):
    """Stated: integers become float32 where a fraction can come out; zero-length axes stay."""
    whole = name.startswith(("bitwise", "logical"))
    if name != "acosh" and not whole:
        assert getattr(xp, name)(tt.tensor([1, 2, 0])).shape == (3,)
    for shape in ((0,), (2, 0), ()):
        x = tt.ones(shape, dtype="int64") if whole else tt.ones(shape) * 0.5
        assert getattr(xp, name)(x).shape == shape


def test_formulas_agree_when_compiled():
    """Invariant: all formulas of one and two operands in one program, values and gradients; float64
    with the compiler's own exp and log, which round differently in the last place."""
    ones = [n for n in UNARY if UNARY[n].dtype == np.float64]
    twos = [n for n in ("atan2", "copysign", "hypot", "logaddexp") if n in BINARY]
    inputs = [tt.asarray(UNARY[n]) for n in ones]
    pairs = [tt.asarray(a) for n in twos for a in BINARY[n]]

    def f(inputs, pairs):
        inputs = [x.detach().requires_grad_() for x in inputs]
        pairs = [x.detach().requires_grad_() for x in pairs]
        outs = [getattr(tt, n)(x) for n, x in zip(ones, inputs, strict=True)]
        outs += [getattr(tt, n)(*pairs[2 * i : 2 * i + 2]) for i, n in enumerate(twos)]
        for out in outs:
            if out.requires_grad:
                out.sum().backward()
        grads = [x.grad for x in (*inputs, *pairs) if x.grad is not None]
        return [out.detach() for out in outs], grads

    compiled, eager = tt.compile(f)(inputs, pairs), f(inputs, pairs)
    assert len(compiled[1]) == len(eager[1]) > 20
    for found, wanted in zip(sum(compiled, []), sum(eager, []), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-13, atol=1e-300)
