"""The Tensor itself: making, reading, assigning, promotion, what a capture refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.errors import CompileError, DTypeError, SettingError, ShapeError, TinyTorchError
from tinytorch.tensor.interpreter import Interpreter, interpreting
from tinytorch.tensor.memory import from_value


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.0, tt.float32), (1, tt.int64), (True, tt.bool_), ([1, 2.5], tt.float32),
        ([], tt.float32),
        (np.ones(2), tt.float64), (np.ones(2, np.int8), tt.int8), (np.float64(2), tt.float64),
        ([[True], [False]], tt.bool_), (np.ones(2, ">f4"), tt.float32),
    ],
)  # fmt: skip
def test_type_of_the_data(data, dtype):
    """Stated: Python floats are float32, ints int64; arrays keep their type."""
    x = tt.tensor(data)
    assert x.dtype is dtype
    assert np.array_equal(x.numpy(), np.asarray(data))


@pytest.mark.parametrize(
    "data", [(3,), (2, 3), (0,), (), ([1, 2],), ([[True], [False]],), ([1.5, 2],), ([],), ((1, 2),)]
)
def test_the_class_is_pytorchs(data):
    """PyTorch's class: whole numbers are sizes, lists become float32; sizes give zeros here."""
    ours, theirs = tt.Tensor(*data), torch.Tensor(*data)
    assert ours.dtype is tt.float32 and ours.shape == tuple(theirs.shape)
    wanted = theirs.numpy() if data and isinstance(data[0], (list, tuple)) else 0
    assert (ours.numpy() == wanted).all()


def test_what_the_class_takes_otherwise():
    """Stated: arrays keep their type, one number is a number, number types go by name."""
    assert tt.Tensor(np.arange(2)).dtype is tt.int64 and tt.Tensor(2.5).item() == 2.5
    assert tt.Tensor(3, dtype="int64").item() == 3 and tt.Tensor(True).dtype is tt.bool_
    assert tt.compile(lambda x: x + tt.Tensor(2) + tt.Tensor([1, 2]))(tt.ones(2)).tolist() == [2, 3]
    with pytest.raises(SettingError, match="more than one thing"):
        tt.Tensor([1.0], tt.float64)
    with pytest.raises(ShapeError, match="not a size"):
        tt.Tensor(2, -1)


def test_the_data_is_copied_aligned_and_dense():
    """Invariant: memory of its own, at a multiple of 64 bytes."""
    a = np.ones((3, 4), np.float32).T
    x = tt.Tensor(a)
    a[...] = 2
    assert x.sum().item() == 12.0
    assert x._buffer.address % 64 == 0 and x._buffer.array.flags.c_contiguous


def test_asarray_and_from_numpy_share():
    """PyTorch: either sees what the other writes; memory that is read-only is copied first."""
    a = np.ones(3, np.float32)
    x = tt.asarray(a)
    assert np.shares_memory(x._buffer.array, a)
    x += 1.0
    assert a.tolist() == [2.0] * 3 and x.tolist() == [2.0] * 3
    y = tt.from_numpy(a)
    a[0], y[1] = 5.0, 6.0
    x[2:].fill_(7.0)
    assert a.tolist() == x.tolist() == y.tolist() == [5.0, 6.0, 7.0]
    a.flags.writeable = False
    fixed = tt.from_numpy(a)
    row, copy = fixed[:2], tt.tensor(a)
    row += 1.0
    assert a.tolist() == copy.tolist() == [5.0, 6.0, 7.0]
    assert row.tolist() == [6.0, 7.0] and fixed.tolist() == [6.0, 7.0, 7.0]
    fixed.zero_()
    assert row.tolist() == [0.0, 0.0] and a.tolist() == [5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        ([[1], [1, 2]], "do not form an array"),
        (1 + 2j, "not a number type"),
        ("a", "not a number type"),
    ],
)
def test_data_that_is_no_array(data, phrase):
    """Ground truth: the message."""
    with pytest.raises(DTypeError, match=phrase):
        tt.Tensor(data)


def test_python_numbers_take_the_tensors_type():
    """Stated: numbers are weak; an integer tensor with a float gives float32."""
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = tt.ones(2, dtype=dtype)
        for y in (x + 1, 1 - x, x * 0.5, 2.0 / x, x**2, x > 0.5, tt.maximum(x, 0), 3 // x):
            assert y.dtype.name in (dtype, "bool")
    i = tt.ones(2, dtype="int8")
    assert (
        (i + 1).dtype is tt.int8 and (i * 0.5).dtype is tt.float32 and (i / 2).dtype is tt.float32
    )
    assert (tt.tensor([True]) + 1).dtype is tt.int64
    assert (tt.ones(1) + np.float64(1)).dtype is tt.float32
    with pytest.raises(DTypeError, match="does not fit into the tensor's type"):
        i + 300


def test_signed_zero_is_kept():
    """IEEE 754: 1 / -0.0 is -inf; a cache of numbers must not mix the zeros up."""
    x = tt.Tensor([1.0])
    assert (x / 0.0).item() == np.inf and (x / -0.0).item() == -np.inf and (x * 0.5).item() == 0.5
    assert np.signbit((x * -0.0).item()) and not np.signbit((x * 0.0).item())
    assert (x * 1.5).item() == 1.5


def test_arrays_on_either_side():
    """NumPy: values; the result is a Tensor."""
    a = np.arange(3, dtype=np.float32)
    x = tt.Tensor([1.0, 2.0, 3.0])
    for y in (a + x, x + a, a @ x, a - x, a == x, a < x, np.float32(2) * x):
        assert isinstance(y, tt.Tensor)
    assert (a - x).tolist() == [-1.0] * 3
    assert np.asarray(x).tolist() == [1.0, 2.0, 3.0] and np.add(a, np.asarray(x)).dtype == a.dtype


def test_types_meet():
    """Stated in promote(): int with float is the float; float32 with float64 is float64."""
    f, d, i = tt.ones(1), tt.ones(1, dtype="float64"), tt.ones(1, dtype="int64")
    assert (f + d).dtype is tt.float64 and (f + i).dtype is tt.float32
    assert (i @ d).dtype is tt.float64


def test_a_view_is_a_view():
    """NumPy and PyTorch: an assignment reaches whoever shows the memory."""
    x = tt.Tensor([[1.0, 2.0], [3.0, 4.0]])
    row, flat, old, array, same = x[0], x.reshape(-1), x.detach(), x.numpy(), x
    x += 1.0
    x[1, 1] = 9.0
    assert row.tolist() == [2.0, 3.0] and flat.tolist() == [2.0, 3.0, 4.0, 9.0]
    assert old.tolist() == [[2.0, 3.0], [4.0, 9.0]] == array.tolist()
    assert same is x and x.tolist() == [[2.0, 3.0], [4.0, 9.0]]
    row += 5.0
    assert x.tolist() == [[7.0, 8.0], [4.0, 9.0]]
    x[0] += 1.0
    assert x.tolist() == [[8.0, 9.0], [4.0, 9.0]] == old.tolist()


def test_assignment_writes_in_place_and_moves_the_version():
    """Invariant: same memory if nobody else sees it; the version counts."""
    x = tt.zeros(3)
    address, version = x._buffer.address, x._buffer.version
    x.assign_(tt.ones(3))
    x += 1.0
    x[0] = 5.0
    x.copy_(np.float64(2)).zero_().fill_(3)
    assert x._buffer.address == address and x._buffer.version == version + 6
    assert x.tolist() == [3.0] * 3
    x.assign_(x[::-1] + tt.Tensor([0.0, 1.0, 2.0]))
    assert x.tolist() == [3.0, 4.0, 5.0]
    x.assign_(x[::-1])
    assert x.tolist() == [5.0, 4.0, 3.0]


def test_assignment_keeps_shape_and_type():
    """Ground truth: the messages."""
    x = tt.zeros(3)
    with pytest.raises(ShapeError, match="keeps its shape"):
        x.assign_(tt.zeros(2))
    with pytest.raises(DTypeError, match="keeps its shape and number type"):
        x.assign_(tt.zeros(3, dtype="float64"))
    with pytest.raises(DTypeError, match="keeps its shape and number type"):
        i = tt.zeros(3, dtype="int64")
        i += 0.5


def test_reading():
    """NumPy, and the messages."""
    x = tt.Tensor([[1.0, 2.0]])
    assert x.tolist() == [[1.0, 2.0]] and x[0, 1].item() == 2.0 and float(x[0, 0]) == 1.0
    assert len(x) == 1 and [row.tolist() for row in x] == [[1.0, 2.0]]
    assert range(5)[tt.tensor(2)] == 2 and f"{x[0, 1]:.2f}" == "2.00"
    with pytest.raises(ShapeError, match="single number"):
        x.item()
    with pytest.raises(ShapeError, match="several numbers was used as one"):
        bool(x)
    with pytest.raises(ShapeError, match="no length"):
        len(tt.tensor(1))
    with pytest.raises(DTypeError, match="whole number"):
        range(5)[tt.Tensor(2.0)]


def test_repr_is_short():
    """Stated form."""
    assert repr(tt.Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(tt.ones(1, dtype="float64", requires_grad=True)) == (
        "Tensor([1.], dtype=float64, requires_grad=True)"
    )
    assert "shape=(100, 100)" in repr(tt.zeros(100, 100)) and len(repr(tt.zeros(100, 100))) < 500


def test_copies_of_the_object():
    """Invariant: equal numbers, own memory, own gradient."""
    for dtype in ("float32", "bfloat16"):
        x = tt.ones(2, dtype=dtype, requires_grad=True)
        for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
            assert y.tolist() == [1.0, 1.0] and y.dtype is x.dtype and y.is_leaf and y.requires_grad
            assert y._buffer.address != x._buffer.address


def test_dlpack_both_ways():
    """NumPy as the other side: shared memory."""
    x = tt.ones(3)
    a = np.from_dlpack(x)
    assert np.shares_memory(a, x._buffer.array)
    x += 1.0
    assert a.tolist() == [2.0] * 3


def test_there_is_one_device():
    """Ground truth: the message."""
    x = tt.ones(1)
    assert x.device == "cpu" and x.to("cpu") is x and x.to("float64").dtype is tt.float64
    with pytest.raises(SettingError, match="no such device"):
        x.to("cuda:0")


def test_shape_errors_come_from_the_rule():
    """Ground truth: four parts, though NumPy was tried first."""
    with pytest.raises(TinyTorchError, match=r"(?s)add.*got:.*rule:.*fix:"):
        tt.ones(2) + tt.ones(3)
    with pytest.raises(TinyTorchError, match=r"(?s)matmul.*got:.*rule:.*fix:"):
        tt.ones(2, 3) @ tt.ones(2, 3)
    with pytest.raises(ShapeError, match="no such axis"):
        tt.ones(2).sum(1)


def test_bfloat16_precision_mode():
    """Closed form: 1 + 2^-9 rounds to 1 in bfloat16; results and gradients are float32."""
    x = tt.full((1, 1), 1 + 2**-9, requires_grad=True)
    with tt.precision("bf16"):
        y = x @ x
    assert y.item() == 1.0 and y.dtype is tt.float32
    y.sum().backward()
    assert x.grad.dtype is tt.float32 and x.grad.item() == 2.0
    with pytest.raises(SettingError, match="no such precision"):
        tt.precision("fp8")


class Echo(Interpreter):
    """Carries everything out by keeping Specs alone."""

    def __init__(self):
        self.seen = []

    def apply(self, primitive, operands, params):
        self.seen.append(primitive.name)
        out = primitive.infer(*(t.spec for t in operands), **params)
        return tuple(from_value(s) for s in out) if isinstance(out, tuple) else from_value(out)

    def constant(self, buffer):
        self.seen.append("constant")
        return tt.asarray(np.zeros(1)) if buffer is None else from_value(_spec(buffer))

    def assign(self, tensor, new):
        self.seen.append("assign")
        tensor._value = new._value


def _spec(buffer):
    from tinytorch.primitives.primitive import Spec

    return Spec(buffer.shape, buffer.dtype)


def test_an_interpreter_sees_forward_and_backward():
    """Invariant: with an interpreter no array is computed, gradients are captured values too."""
    w, x = tt.ones(3, 2, requires_grad=True), tt.ones(4, 3)
    echo = Echo()
    with interpreting(echo):
        loss = ((x @ w).relu() * 2.0).mean()
        loss.backward()
        assert w.grad._value is not None and w.grad.shape == (3, 2)
        with tt.no_grad():
            w.assign_(w - w.grad * 0.1)
        assert "captured" in repr(loss) and loss.shape == ()
    assert "matmul" in echo.seen and "assign" in echo.seen
    w._value = None
    assert w.tolist() == [[1.0] * 2] * 3


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.item(), lambda x: x.numpy(), bool, float, int, lambda x: x.tolist(),
        lambda x: np.asarray(x), lambda x: x[x > 0], lambda x: 1 if x.sum() > 0 else 2,
    ],
)  # fmt: skip
def test_a_capture_refuses_to_show_values(look):
    """Ground truth: the message names this file and the cure."""
    x = tt.ones(1)
    with (
        interpreting(Echo()),
        pytest.raises(
            CompileError, match=r"(?s)cannot look at values.*test_tensor\.py:.*tt\.where"
        ),
    ):
        look(x)


def test_a_captured_tensor_has_no_numbers_afterwards():
    """Ground truth: the messages."""
    with interpreting(Echo()):
        y = tt.ones(2) * 2
    for use in (lambda: y.item(), lambda: y + 1, lambda: y.sum(), lambda: tt.ones(2) * y):
        with pytest.raises(TinyTorchError, match="has no numbers"):
            use()


def test_interpreters_are_of_one_thread():
    """Invariant: another thread stays eager."""
    import threading

    got = []
    with interpreting(Echo()):
        thread = threading.Thread(target=lambda: got.append((tt.ones(2) + 1).tolist()))
        thread.start()
        thread.join()
    assert got == [[2.0, 2.0]]


def test_data_is_converted_as_cast_converts():
    """Stated for cast: out of range gives the nearest end, NaN 0; overflow to inf is silent."""
    array = np.array([1e20, np.nan, -2.7])
    assert tt.Tensor(array, dtype="int32").tolist() == [2**31 - 1, 0, -2]
    assert tt.Tensor([1e300], dtype="float32").item() == np.inf
    assert tt.Tensor([1 + 2**-9], dtype="bfloat16").item() == 1.0


def test_methods_by_pytorchs_names():
    """NumPy: each method against the operation it names."""
    a = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    x, y = tt.Tensor(a), tt.Tensor(a[::-1])
    assert x.masked_fill(x < 0, 9.0).tolist() == np.where(a < 0, 9, a).tolist()
    assert x.view_as(tt.ones(4)).shape == (4,) and tt.ones(2).expand_as(x).shape == (2, 2)
    assert x.type_as(tt.ones(1, dtype="int8")).dtype is tt.int8 and x.to_device("cpu") is x
    kinds = (x.float, x.double, x.half, x.bfloat16, x.int, x.long, x.bool)
    names = ("float32", "float64", "float16", "bfloat16", "int32", "int64", "bool")
    assert tuple(kind().dtype.name for kind in kinds) == names
    assert x.numel() == 4 and x.dim() == 2 and x.cpu() is x and x.device == "cpu"
    for found, wanted in (
        (x.add(y), a + a[::-1]), (x.sub(y), a - a[::-1]), (x.mul(y), a * a[::-1]),
        (x.div(y), a / a[::-1]), (x.mm(y), a @ a[::-1]), (x.lt(y), a < a[::-1]), (x.eq(x), a == a),
        (x.ge(y), a >= a[::-1]), (x.neg(), -a), (x.trunc(), np.trunc(a)), (abs(x), np.abs(a)),
        (x % 2, a % 2), (7 % y, 7 % a[::-1]), (x // 2, a // 2), (7 // y, 7 // a[::-1]),
        (2**y, 2 ** a[::-1]), (x.topk(1)[0], a.max(1, keepdims=True)), (x.count_nonzero(), 4),
    ):  # fmt: skip
        assert np.allclose(found.numpy(), wanted, rtol=1e-6)
    i = tt.tensor([6, 3])
    assert (i & 2).tolist() == [2, 2] and (5 | i).tolist() == [7, 7] and (i ^ 1).tolist() == [7, 2]
    assert (
        (1 & i).tolist() == [0, 1] and (i | 8).tolist() == [14, 11] and (4 ^ i).tolist() == [2, 7]
    )
    assert (
        (~i).tolist() == [-7, -4] and (i << 1).tolist() == [12, 6] and (i >> 1).tolist() == [3, 1]
    )


def test_making_tensors_from_tensors():
    """Stated: tt.tensor copies, asarray shares what fits, full and clone keep type and numbers."""
    x = tt.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    assert x.requires_grad and x.dtype is tt.float64
    copy = tt.tensor(x.detach())
    assert copy.tolist() == [1.0, 2.0] and not tt.shares_memory(copy, x)
    assert tt.asarray(copy) is copy and not tt.shares_memory(tt.asarray(copy, copy=True), copy)
    assert tt.asarray(copy, copy=False) is copy and tt.asarray(3).item() == 3
    with pytest.raises(SettingError, match="cannot be used where they are"):
        tt.asarray(copy, dtype="float32", copy=False)
    array = np.ones(2)
    assert tt.shares_memory(tt.asarray(array, copy=False), array)
    assert tt.full((2,), tt.tensor(3.0)).tolist() == [3.0, 3.0]
    assert tt.full((2,), np.float32(3)).dtype is tt.float32
    assert tt.full((2,), tt.tensor(3), dtype="float32").dtype is tt.float32
    assert tt.as_tensor([1]).dtype is tt.int64 and tt.is_tensor(x) and not tt.is_tensor(array)
    x.requires_grad = False
    assert not x.requires_grad
    with pytest.raises(SettingError, match="size is negative"):
        tt.zeros(-1)
    with pytest.raises(SettingError, match="step is 0"):
        tt.arange(0, 1, 0)


def test_what_is_no_number_is_not_equal():
    """Python: None and text are different from every Tensor; `in` asks the elements."""
    x = tt.ones(2)
    assert (x == None) is False and (x != None) is True and (x == "1") is False  # noqa: E711
    assert 1.0 in x and 2.0 not in x


def test_numbers_that_do_not_fit_are_named():
    """Ground truth: the messages."""
    with pytest.raises(DTypeError, match="does not fit"):
        tt.tensor(2**70)
    with pytest.raises(DTypeError, match="not a number type"):
        tt.ones(2) + {"a": 1}
