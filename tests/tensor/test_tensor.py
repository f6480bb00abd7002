"""The Tensor itself: making, reading, assigning, promotion, what a capture refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.errors import DTypeError, SettingError, ShapeError
from tinytorch.tensor.tensor import RowGradient


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


def test_what_is_no_number_is_not_equal():
    """Python: None and text are different from every Tensor; `in` asks the elements."""
    x = tt.ones(2)
    assert (x == None) is False and (x != None) is True and (x == "1") is False  # noqa: E711
    assert 1.0 in x and 2.0 not in x


def test_a_row_gradient_is_the_table_that_it_stands_for():
    """Closed form: the table written out. Sums of one type name rows, of two types are tables."""
    g = RowGradient(tt.tensor([1, 1, 3]), tt.ones(3, 2), 4)
    whole = [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]
    assert g.shape == (4, 2) and g.dense().tolist() == whole and g.rows().tolist() == [1, 3]
    twice, wide = g + g, g + g.astype("float64")
    assert type(twice) is RowGradient and type(wide) is not RowGradient
    assert twice.dense().tolist() == wide.tolist() == [[2 * n for n in row] for row in whole]
    assert wide.dtype is tt.float64 and (g * 2.0).dense().tolist() == wide.tolist()
    assert g.numpy().tolist() == whole == tt.abs(g).tolist()  # any function may read it
