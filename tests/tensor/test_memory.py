"""Views as PyTorch's programs use them: parts of weights, state dictionaries, arrays, aliases; and
memory that cannot be had.

Ground truth: PyTorch, side by side.
"""

import gc
import weakref

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import OutOfMemoryError, ShapeError

PAIRS = ((torch, torch.nn), (tt, tt.nn))

# y = f(x); y += y: whether x changes, and whether y is x
SAME = {
    "Identity": lambda t, nn, x: nn.Identity()(x),
    "Dropout in eval": lambda t, nn, x: nn.Dropout(0.5).eval()(x),
    "dropout": lambda t, nn, x: nn.functional.dropout(x, training=False),
    "Dropout of 0": lambda t, nn, x: nn.Dropout(0.0)(x),
    "Sequential of none": lambda t, nn, x: nn.Sequential()(x),
    "inplace": lambda t, nn, x: nn.ReLU(inplace=True)(x), "relu": lambda t, nn, x: nn.ReLU()(x),
    "reshape": lambda t, nn, x: x.reshape(2, 3), "to": lambda t, nn, x: x.to(t.float32),
    "float": lambda t, nn, x: x.float(), "double": lambda t, nn, x: x.double(),
    "contiguous": lambda t, nn, x: x.contiguous(), "of T": lambda t, nn, x: x.T.contiguous(),
    "x[:]": lambda t, nn, x: x[:], "x[...]": lambda t, nn, x: x[...],
    "detach": lambda t, nn, x: x.detach(), "data": lambda t, nn, x: x.data,
    "clone": lambda t, nn, x: x.clone(), "cpu": lambda t, nn, x: x.cpu(),
    "view": lambda t, nn, x: x.view(3, 2).view(2, 3), "flatten": lambda t, nn, x: x.flatten(),
    "flatten one": lambda t, nn, x: x[0].flatten(), "squeeze": lambda t, nn, x: x.squeeze(),
    "unsqueeze": lambda t, nn, x: x.unsqueeze(0), "expand": lambda t, nn, x: x.expand(2, 3),
    "expand 1": lambda t, nn, x: x.expand(1, 2, 3), "T": lambda t, nn, x: x.T.T,
    "permute": lambda t, nn, x: x.permute(1, 0), "swapaxes": lambda t, nn, x: x.swapaxes(0, 1),
    "movedim": lambda t, nn, x: x.movedim(0, 1), "narrow": lambda t, nn, x: x.narrow(0, 0, 1),
    "select": lambda t, nn, x: x.select(1, 2), "chunk": lambda t, nn, x: x.chunk(2)[1],
    "split": lambda t, nn, x: x.split(1)[0], "unbind": lambda t, nn, x: x.unbind(1)[1],
    "diagonal": lambda t, nn, x: x.diagonal(), "diag": lambda t, nn, x: t.diag(x),
    "x[mask]": lambda t, nn, x: x[x > 0], "x[list]": lambda t, nn, x: x[[0, 1]],
    "x[tensor]": lambda t, nn, x: x[t.tensor(1)], "flip": lambda t, nn, x: t.flip(x, (0,)),
    "roll": lambda t, nn, x: t.roll(x, 0, 0), "repeat": lambda t, nn, x: x.repeat(1, 1),
    "pad": lambda t, nn, x: nn.functional.pad(x, (0, 0)), "cat": lambda t, nn, x: t.cat([x]),
    "cut": lambda t, nn, x: nn.functional.pad(x, (-1, 0)), "x**1": lambda t, nn, x: x**1,
    "+x": lambda t, nn, x: +x, "type_as": lambda t, nn, x: x.type_as(x),
    "view_as": lambda t, nn, x: x.view_as(x), "round": lambda t, nn, x: x.round(),
}  # fmt: skip
# Compiled: a size that depends on values is refused, and a result taken at an index that the
# program finds is a copy of that place.
UNKNOWN = ("x[mask]", "x[tensor]")


@pytest.mark.parametrize("name", SAME)
def test_what_gives_its_argument_back_and_what_copies(name):
    """PyTorch; compiled as eager."""

    def follow(library, nn, compile=lambda f: f):
        def f(x):
            y = SAME[name](library, nn, x)
            y += y
            return y

        x = library.ones(2, 3)
        y = compile(f)(x)
        y *= 3
        return x.tolist(), y is x

    truth = follow(*PAIRS[0])
    assert follow(*PAIRS[1]) == truth
    if name not in UNKNOWN:
        assert follow(*PAIRS[1], tt.compile) == truth


def weight(t):
    return t.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)


def init_part(t, nn):
    w, bias = weight(t), t.zeros(6, requires_grad=True)
    nn.init.zeros_(w[0])
    nn.init.constant_(bias[2:4], 1.0)  # the forget gate of an LSTM
    return w, bias


def padding_row(t, nn):
    table = nn.Embedding(4, 2)
    nn.init.ones_(table.weight)
    with t.no_grad():
        table.weight[1].fill_(0)
    table.weight.data[2].fill_(7)
    return (table.weight,)


def state_dict(t, nn):
    model = nn.Linear(2, 1)
    state = model.state_dict()
    state["weight"].copy_(t.ones(1, 2))
    state["bias"].zero_()
    with t.no_grad():
        model.weight.mul_(3.0)
    return state["weight"], model.weight, model.bias


def data(t, nn):
    w = weight(t)
    (w * w).sum().backward()
    w.data -= 0.5 * w.grad
    w.grad.data.zero_()
    shown = w.data
    other = nn.Linear(2, 1)
    other.weight.data = t.ones(1, 2)
    shown[0] = 8.0
    return w, w.grad, other.weight


def arrays(t, nn):
    a = np.zeros(3, np.float32)
    x, y = t.from_numpy(a), t.tensor(a)
    x += 1
    a[0] = 9
    seen = y.numpy()
    seen[1] = 5
    y[2] = 4
    return x, y, t.from_numpy(a), t.tensor(seen)


def first_chapter(t, nn):
    """d2l.ai, "Data Manipulation": X is a view of x."""
    x = t.arange(12.0)
    X = x.reshape(3, 4)
    X[1, 2] = 17
    X[:2, :] = 12
    return t.exp(x / 17), x, X


def many(t, nn):
    x = t.zeros(4, 3)
    x[0].fill_(1)
    x[:, 0].zero_()
    x[0][1] = 5
    x.view(-1)[3] = 9
    x.T[0] = 1
    for row in x:
        row += 1
    x.chunk(2)[0].mul_(2)
    x.detach()[2].zero_()
    x.diagonal().fill_(-1)
    x.unbind(1)[2].sub_(3)
    a, b = x.split(2)
    a.copy_(b)
    return x, a, b


def gradients(t, nn):
    w = weight(t)
    h = w * 2
    top, column = h[0], h.T[1]
    top *= 3
    h[1:].add_(w[:2])
    column[2] = top[0]
    (h * h).sum().backward()
    return h.detach(), top.detach(), column.detach(), w.grad


def shared_gradient(t, nn):
    a, b = t.ones(2, requires_grad=True), t.ones(2, requires_grad=True)
    (a + b).sum().backward()
    a.grad.zero_()
    wide = t.ones(2, 2, requires_grad=True)
    wide.sum().backward()
    wide.grad[0] *= 5
    g = t.ones(2)
    c = t.ones(2, requires_grad=True)
    (c.view(2, 1) * 1.0).backward(g.view(2, 1))
    c.grad += 1
    return a.grad, b.grad, wide.grad, g, c.grad


PROGRAMS = (
    init_part, padding_row, state_dict, data, arrays, first_chapter, many, gradients,
    shared_gradient,
)  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(program):
    """PyTorch, side by side."""
    theirs, ours = (program(*pair) for pair in PAIRS)
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)
        assert a.requires_grad is b.requires_grad and a.is_leaf is b.is_leaf


def test_a_view_of_a_leaf_is_not_written_while_it_is_recorded():
    """PyTorch refuses; under no_grad it is allowed, and the leaf changes."""
    for library in (torch, tt):
        w = weight(library)
        for change in (
            lambda w: w[0].fill_(1.0),
            lambda w: w.T.mul_(2.0),
            lambda w: w.view(-1)[1:3].__setitem__(0, 3.0),
        ):
            with pytest.raises(RuntimeError, match="view"):
                change(w)
            with library.no_grad():
                change(w)
        assert w.tolist() == [[2.0, 3.0], [6.0, 8.0], [10.0, 12.0]] and w.is_leaf


def test_a_view_taken_under_no_grad_is_not_written_while_recorded():
    """PyTorch refuses; ours in four parts."""
    for library in (torch, tt):
        w = weight(library)
        x = library.zeros(3, 2)
        with library.no_grad():
            part = x[0]
        part.add_(1.0)
        with pytest.raises(RuntimeError, match="no_grad"):
            part.copy_(w[0])
        assert x.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]


def test_what_repeats_numbers_is_not_written():
    """PyTorch: RuntimeError; what lies without repetition may be written."""
    for library in (torch, tt):
        x = library.zeros(1, 3)
        wide = x.expand(4, 3)
        with pytest.raises(RuntimeError):
            wide.add_(1.0)
        wide[0] = 2.0
        wide[1].add_(1.0)
        assert x.tolist() == [[3.0] * 3]


def test_second_derivatives_see_the_old_numbers():
    """Closed form: d2(x^3)/dx2 = 6 x, with x as it was when it was used."""
    x = tt.Tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    view = y[0:]
    cube = (view * view * view).sum()
    with tt.no_grad():
        y.add_(5.0)
    cube.backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_read_only_memory_is_copied_for_all_its_views():
    """NumPy: a mapped file stays as it is; views go on being views."""
    a = np.arange(6.0).reshape(2, 3)
    a.flags.writeable = False
    x = tt.from_numpy(a)
    row, turned = x[1], x.T
    row[0] = 9.0
    assert x.tolist() == [[0, 1, 2], [9, 4, 5]] and turned[0].tolist() == [0, 9]
    turned += 1
    assert row.tolist() == [10, 5, 6] and a[1, 0] == 3.0


def test_nothing_is_kept_alive():
    """Measured: views hold their base, detach() does not hold the tape, and families forget."""
    x = tt.ones(4, requires_grad=True)
    y = x * 2
    gone = weakref.ref(y)
    kept = y.detach()
    del y
    assert gone() is None and kept.tolist() == [2.0] * 4
    base = tt.zeros(100, 2)
    for row in base:
        row += 1
    assert len(base._buffer.family.members) < 70
    del row
    gc.collect()
    base += 1
    assert base._buffer.family is None and base.sum().item() == 400.0


def test_who_shares_memory_is_known():
    """Invariant over every row of the table: a result over an operand's memory is of its family."""
    from tinytorch.primitives import TABLE

    for primitive in TABLE.values():
        if primitive.name == "absorb":  # gives back a product that a gradient rule alone holds
            continue
        for sample in primitive.samples():
            operands = [tt.Tensor(x) for x in sample.inputs]
            if not operands:
                continue
            out = primitive(*operands, **sample.params)
            for y in out if isinstance(out, tuple) else (out,):
                for x in operands:
                    if tt.shares_memory(x, y):
                        assert y._buffer.family is x._buffer.family is not None, primitive


@pytest.mark.parametrize("through", [lambda f: f, tt.compile])
def test_a_view_of_nothing_is_written(through):
    """Ground truth: nothing lies twice at one place, whatever strides NumPy gives (0, for sums)."""
    p, s, t = tt.zeros(0, 2, requires_grad=True), tt.zeros(0, 2) * 1, tt.zeros(0, 2) * 1

    def step():
        s.assign_(s * 0.5 + p.detach())
        t.assign_(t * 0.5 + s.detach())
        return t

    step = through(step)
    for _ in range(3):
        assert step().shape == (0, 2)


VIEWED = {
    "T": lambda x: x.T.view(6), "T, itself": lambda x: x.T.view(3, 2),
    "T, an axis more": lambda x: x.T.view(3, 1, 2), "rows": lambda x: x.view(-1),
    "a part of rows": lambda x: x[:, :2].view(4), "one row": lambda x: x[:1].view(3),
    "columns": lambda x: x[:, ::2].view(2, 2, 1), "repeated": lambda x: x[:1].expand(2, 3).view(6),
    "of a product": lambda x: (x * 2).T.view(6), "of a copy": lambda x: x.T.contiguous().view(6),
    "another number": lambda x: x.view(4), "nothing": lambda x: x[:0].T.view(0, 7),
    "as": lambda x: x.T.view_as(x), "as it lies": lambda x: x.view_as(x.T),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWED)
def test_view_never_copies(name):
    """Ground truth: PyTorch, which refuses where it would have to; what it gives is the same
    memory, so that a write to it reaches x, eager and compiled."""
    ask = VIEWED[name]

    def write(x):
        x = x * 1.0
        y = ask(x)
        y += 1.0
        return y, x

    try:
        wanted = write(torch.arange(6.0).reshape(2, 3))
    except RuntimeError:
        wanted = None
    for way in (write, tt.compile(write)):
        x = tt.arange(6.0).reshape(2, 3)
        if wanted is None:
            with pytest.raises(ShapeError) as found:
                way(x)
            assert "reshape" in str(found.value)
            continue
        for mine, theirs in zip(way(x), wanted, strict=True):
            assert mine.tolist() == theirs.tolist()
    assert tt.arange(6.0).reshape(2, 3).T.reshape_as(tt.zeros(6)).tolist() == [0, 3, 1, 4, 2, 5]


# --- memory that cannot be had: an error in four parts; nothing else changes ---

MANY = 10**13  # floats: 36 TiB, more than any address space that malloc serves here
COLUMN, ROW = tt.ones(10**7, 1), tt.ones(1, 10**7)  # their sum: 364 TiB
WIDE = tt.broadcast_to(COLUMN, (10**7, 10**7))

TOO_LARGE = {
    "zeros": lambda: tt.zeros(MANY),
    "ones of more bytes than 64 bits count": lambda: tt.ones((2**40, 2**40)),
    "empty": lambda: tt.empty(2**62),
    "full": lambda: tt.full((MANY,), 2.0),
    "arange": lambda: tt.arange(MANY),
    "linspace": lambda: tt.linspace(0, 1, MANY),
    "eye": lambda: tt.eye(10**7),
    "rand": lambda: tt.rand(MANY),
    "randperm": lambda: tt.randperm(MANY),
    "add": lambda: COLUMN + ROW,
    "matmul": lambda: COLUMN @ ROW,
    "where": lambda: tt.where(COLUMN > 0, COLUMN, ROW),
    "astype": lambda: WIDE.astype(tt.float64),
    "clone": lambda: WIDE.clone(),
    "sort": lambda: tt.sort(WIDE),
    "cumulative_sum": lambda: tt.cumulative_sum(WIDE, axis=0),
    "Tensor": lambda: tt.Tensor(np.broadcast_to(np.float32(1), (10**7, 10**7))),
    "one_hot": lambda: nn.functional.one_hot(tt.arange(10**7), 10**7),
    "Linear": lambda: nn.Linear(10**7, 10**7),
    "compiled, its result": lambda: tt.compile(lambda a, b: a + b)(COLUMN, ROW),
    "compiled, its arena": lambda: tt.compile(lambda a, b: ((a + b).cumsum(0) * a).sum())(
        COLUMN, ROW
    ),
}


@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_memory_that_cannot_be_had(name):
    """Ground truth: the sizes; a MemoryError for NumPy's users, a RuntimeError for PyTorch's."""
    with pytest.raises(OutOfMemoryError, match="not enough memory") as caught:
        TOO_LARGE[name]()
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, RuntimeError)
    assert caught.value.got and caught.value.fix


def test_a_step_that_does_not_fit_changes_nothing():
    """Invariant: the state before."""
    n = tt.zeros(3)

    @tt.compile
    def step(a, b):
        n.assign_(n + 1)
        return ((a + b).cumsum(0) * a).sum()

    with pytest.raises(OutOfMemoryError):
        step(COLUMN, ROW)
    assert n.tolist() == [0, 0, 0]
    assert step(tt.ones(2, 1), tt.ones(1, 2)).item() == 12 and n.tolist() == [1, 1, 1]
