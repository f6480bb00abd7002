"""Views of states, arguments and results in compiled functions.

Ground truth: PyTorch, side by side; eager and compiled give the same.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.errors import ShapeError
from tinytorch.nn import functional as F

CASES = {}


def case(function):
    """Note a program of (library, compile) that gives what is compared."""
    CASES[function.__name__] = function
    return function


@case
def args_x_x_0_write_v(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    v = x[0]

    def f(x, v):
        v += 10
        return x * 1

    r = compile(f)(x, v)
    return r.tolist(), x.tolist(), v.tolist()


@case
def arg_view_of_closed_over_state(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    v = x[0]

    def f(v):
        v += 10
        return x * 1

    g = compile(f)
    r = g(v)
    r2 = g(x[1])
    return r.tolist(), r2.tolist(), x.tolist()


@case
def same_tensor_twice(lib, compile):
    x = lib.tensor([1.0, 2.0])

    def f(a, b):
        a += 1
        return a * b

    r = compile(f)(x, x)
    return r.tolist(), x.tolist()


@case
def views_outside_base_written_inside(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    v = x[0]
    t = x.T

    def f():
        x.add_(1.0)
        return v * 1, t * 1

    g = compile(f)
    r = g()
    r2 = g()
    return [y.tolist() for y in (*r, *r2, x, v, t)]


@case
def views_outside_written_inside(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    v = x[:, 0]
    w = x[1]

    def f():
        v.mul_(2.0)
        w.add_(5.0)
        return x.sum()

    g = compile(f)
    r = [g().item(), g().item()]
    return r, x.tolist(), v.tolist(), w.tolist()


@case
def returned_views_of_argument(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(x):
        return x[0], x.T

    r = compile(f)(x)
    x += 1
    r[0].mul_(3.0)
    return r[0].tolist(), r[1].tolist(), x.tolist()


@case
def returned_aliases_of_result(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(x):
        y = x * 2
        return y, y[0], y.reshape(-1)

    r = compile(f)(x)
    r[1].zero_()
    return [t.tolist() for t in r]


@case
def same_result_twice(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(x):
        y = x * 2
        return y, y

    r = compile(f)(x)
    r[0].zero_()
    return [t.tolist() for t in r] + [r[0] is r[1]]


@case
def layout_of_elementwise_of_t(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(x):
        y = x.T * 2
        z = y.reshape(-1)
        z += 1
        return y

    return compile(f)(x).tolist()


@case
def reshape_of_non_contiguous_argument(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]]).T

    def f(x):
        z = x.reshape(-1)
        z += 1
        return z * 1

    g = compile(f)
    r = g(x).tolist()
    y = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    r2 = g(y).tolist()
    return r, x.tolist(), r2, y.tolist()


@case
def overlapping_args(lib, compile):
    x = lib.tensor([1.0, 2.0, 3.0, 4.0])

    def f(a, b):
        a.copy_(b * 2)
        return a + b

    g = compile(f)
    r = g(x[0:2], x[1:3])
    return r.tolist(), x.tolist()


@case
def detach_outside_written_inside(lib, compile):
    x = lib.tensor([1.0, 2.0, 3.0, 4.0])
    d = x.detach()

    def f():
        d.add_(1.0)
        return x * 1

    g = compile(f)
    r = [g().tolist(), g().tolist()]
    return r, x.tolist(), d.tolist()


@case
def from_numpy_state(lib, compile):
    n = np.zeros(3, np.float32)
    x = lib.from_numpy(n)

    def f():
        x.add_(1.0)
        return x * 1

    g = compile(f)
    g()
    n[0] = 7
    r = g().tolist()
    return r, n.tolist()


@case
def from_numpy_of_t_state(lib, compile):
    n = np.zeros((2, 3), np.float32)
    x = lib.from_numpy(n.T)

    def f():
        x.add_(1.0)
        return x * 1

    g = compile(f)
    g()
    n[0, 1] = 7
    r = g().tolist()
    return r, n.tolist()


def two_from_numpy_overlapping(lib, compile):
    n = np.zeros(4, np.float32)
    x = lib.from_numpy(n)
    y = lib.from_numpy(n[1:])

    def f():
        x.add_(1.0)
        y.mul_(2.0)
        return x * 1

    g = compile(f)
    r = g().tolist()
    return r, n.tolist(), y.tolist()


@case
def grad_through_views(lib, compile):
    w = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x = lib.tensor([[1.0, 1.0], [2.0, 2.0]])

    def f(x):
        h = x @ w
        h[0] *= 2
        h.T[1] += h[0, 0]
        loss = (h * h).sum()
        loss.backward()
        return loss.detach()

    r = compile(f)(x)
    return r.item(), w.grad.tolist()


@case
def no_grad_write_to_part_of_leaf(lib, compile):
    w = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    def f():
        with lib.no_grad():
            w[0].fill_(7.0)
        return (w * w).sum()

    r = compile(f)()
    return r.item(), w.tolist()


@case
def write_to_view_of_leaf_refused(lib, compile):
    w = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)

    def f():
        w[0].fill_(7.0)
        return w.sum()

    try:
        compile(f)()
    except RuntimeError:
        return "refused"
    return "no"


@case
def loops(lib, compile):
    x = lib.zeros(3, 3)

    def f(x):
        for row in x:
            row += 1
        x.diagonal().fill_(0)
        a, b, d = x.unbind(1)
        a *= 5
        x.view(-1)[3] = 9
        return x * 1

    r = compile(f)(x)
    return r.tolist(), x.tolist()


@case
def returns_argument(lib, compile):
    x = lib.tensor([1.0, 2.0, 3.0])

    def f(x):
        y = x
        y = y.detach()
        y += 1
        return x

    r = compile(f)(x)
    return r is x, x.tolist()


@case
def setitem_state(lib, compile):
    buf = lib.zeros(4, 2)

    def f(i, x):
        buf[i] = x
        return buf.sum()

    g = compile(f)
    r = [g(0, lib.tensor([1.0, 2.0])).item(), g(1, lib.tensor([3.0, 4.0])).item()]
    return r, buf.tolist()


@case
def mix(lib, compile):
    x = lib.tensor([[1.0, 2.0], [3.0, 4.0]])
    v = x[0]

    def f():
        v.zero_()
        return x * 1

    g = compile(f)
    g()
    x.add_(1.0)
    r = g()
    y = x * 2
    v2 = x.view(-1)
    v2 += 1
    return r.tolist(), x.tolist(), v.tolist(), y.tolist()


@case
def batches_that_overlap_nothing_of_them_written(lib, compile):
    data = lib.arange(20.0).reshape(10, 2) * 1
    w = lib.ones(2)

    def f(x, y):
        w.add_(1.0)
        return (x * w + y).sum()

    g = compile(f)
    r = [g(data[i : i + 3], data[i + 1 : i + 4]).item() for i in range(5)]
    return r, (g.captures if hasattr(g, "captures") else 1) <= 1


@case
def two_views_of_one_row(lib, compile):
    x = lib.arange(6.0).reshape(2, 3) * 1

    def f(v, s):
        v.mul_(2.0)
        return v + s

    g = compile(f)
    out = []
    for i in (0, 1, 0, 1):
        out.append(g(x[i], x[i]).tolist())
    return out, x.tolist()


@case
def state_written_argument_a_view_of_it(lib, compile):
    w = lib.tensor([[1.0, 2.0], [3.0, 4.0]])

    def f(v):
        w.mul_(2.0)
        return v * 1

    g = compile(f)
    return (
        g(w[0]).tolist(),
        g(w[1]).tolist(),
        g(lib.tensor([5.0, 6.0])).tolist(),
        g(w.T[0]).tolist(),
        w.tolist(),
    )


@case
def returns_the_written_argument(lib, compile):
    x = lib.ones(4)

    def f(a):
        a[1:3] += 1
        return a

    g = compile(f)
    r = g(x)
    return r is x, x.tolist()


@case
def returns_overlapping_arguments(lib, compile):
    x = lib.ones(2, 2)
    v = x[0]

    def f(a, b):
        b += 1
        return a, b

    g = compile(f)
    r = g(x, v)
    return r[0] is x, r[1] is v, x.tolist()


@case
def update_through_detach(lib, compile):
    p = lib.tensor([1.0, 2.0], requires_grad=True)
    q = p.detach()

    def f():
        (p * p).sum().backward()
        with lib.no_grad():
            q.sub_(p.grad * 0.1)
        p.grad = None
        return p.detach() * 1

    g = compile(f)
    return [g().tolist() for _ in range(3)], p.tolist()


@case
def p_data(lib, compile):
    p = lib.tensor([1.0, 2.0], requires_grad=True)

    def f():
        (p * p).sum().backward()
        p.data -= p.grad * 0.1
        p.grad = None
        return p.detach() * 1

    g = compile(f)
    return [g().tolist() for _ in range(3)], p.tolist()


@case
def t_outside(lib, compile):
    x = lib.zeros(3, 4)
    v = x.T

    def f():
        v[0] = 1.0
        x[1] = v[0, 0] + 1
        return v.sum(1)

    g = compile(f)
    return g().tolist(), x.tolist()


@case
def expand_then_index(lib, compile):
    x = lib.zeros(2, 3)

    def f(x):
        y = x.expand(4, 2, 3)
        y[0] = 3.0
        return y * 1

    g = compile(f)
    return g(x).tolist(), x.tolist()


@case
def expand_refused(lib, compile):
    x = lib.zeros(2, 3)

    def f(x):
        y = x.expand(4, 2, 3)
        y += 1
        return y

    try:
        compile(f)(x)
    except RuntimeError:
        return "refused"


@case
def rnn_outs(lib, compile):
    def f(x):
        outs = lib.zeros(4, 3, 2)
        s = x
        for t in range(4):
            s = s * 1.1
            outs[t] = s
        last = outs[-1]
        last.mul_(2.0)
        return outs.sum(), last

    w = lib.ones(3, 2, requires_grad=True)

    def step():
        w.grad = None
        o, _ = f(w)
        o.backward()
        return o.detach()

    g = compile(step)
    r = g().item()
    return round(r, 4), [[round(v, 4) for v in row] for row in w.grad.tolist()]


def test_two_tensors_over_one_array_are_refused():
    """Ground truth: the message; eager it is allowed."""
    truth = two_from_numpy_overlapping(torch, lambda f: f)
    assert two_from_numpy_overlapping(tt, lambda f: f) == truth
    with pytest.raises(tt.TinyTorchError, match="both made over one NumPy array"):
        two_from_numpy_overlapping(tt, tt.compile)


@case
def numpy_argument_over_a_state(lib, compile):
    n = lib.ones(3)

    def f(a):
        n.add_(5.0)
        return n * 1

    g = compile(f)
    out = g(n.detach().numpy())
    return out.tolist(), n.tolist()


def test_an_array_over_a_state_is_read_as_it_was():
    """Closed form: numbers of NumPy are read at the call."""
    n = tt.ones(3)
    g = tt.compile(lambda a: (n.add_(1.0), n * 1 + a)[1])
    assert g(n.numpy()).tolist() == [3.0] * 3 and g(n.numpy()).tolist() == [5.0] * 3


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    """PyTorch, eager; ours eager and compiled."""
    truth = CASES[name](torch, lambda f: f)
    assert CASES[name](tt, lambda f: f) == truth
    assert CASES[name](tt, tt.compile) == truth


def assigned(z):
    z[0] = 5.0
    return z


LAID = {
    "T": lambda x: x.T, "clone": lambda x: x.T.clone(), "tensor": lambda x: tt.tensor(x.T),
    "contiguous": lambda x: x.T.contiguous(), "x * 2": lambda x: x.T * 2,
    "x + x": lambda x: x.T + x.T,
    "beside rows": lambda x: x.T + tt.ones(3, 2), "beside a row": lambda x: x.T + tt.ones(2),
    "rows beside": lambda x: tt.ones(3, 2) + x.T, "compared": lambda x: x.T > 2,
    "where": lambda x: tt.where(x.T > 2, x.T, 0.0), "exp": lambda x: x.T.exp(),
    "erf": lambda x: x.T.erf(), "gelu": lambda x: F.gelu(x.T), "half": lambda x: x.T.half(),
    "bfloat16": lambda x: x.T.bfloat16(), "softmax": lambda x: x.T.softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x.T, (2,)), "cat": lambda x: tt.cat([x.T, x.T]),
    "many": lambda x: tt.cat([x.T, x.T * 2, x.T.clone()] * 30, 1),
    "stack": lambda x: tt.stack([x.T] * 2),
    "roll": lambda x: x.T.roll(1, 0), "cumsum": lambda x: x.T.cumsum(0),
    "sort": lambda x: x.T.sort(0)[0],
    "product": lambda x: x.T @ x, "its T": lambda x: (x @ x.T).T, "taken": lambda x: x.T[[0, 1]],
    "pad": lambda x: tt.pad(x.T, (1, 1), (0, 0)), "tile": lambda x: x.T.tile((2, 1)),
    "expanded": lambda x: x[:1].expand(2, 3) + 1, "backwards": lambda x: -x[:, ::-1],
    "every second": lambda x: x[:, ::2] * 2, "written": lambda x: assigned(x.T * 1),
    "filled": lambda x: (x.T * 1).fill_(2.0), "copied to": lambda x: tt.zeros(3, 2).copy_(x.T),
    "added to": lambda x: (x.T * 1).add_(1.0), "three axes": lambda x: x[None].permute(2, 0, 1) * 2,
}  # fmt: skip


@pytest.mark.parametrize("name", LAID)
def test_numbers_lie_as_they_lie_eagerly(name):
    """Ground truth: eager, where `view` is refused, and what a write through `reshape` reaches."""

    def write(x):
        y = LAID[name](x)
        flat = y.reshape(-1)
        flat.zero_()
        return y

    def accepted(x):
        try:
            LAID[name](x).view(-1)
        except ShapeError:
            return False
        return True

    answers = []
    tt.compile(lambda x: answers.append(accepted(x)) or x * 1)(tt.arange(6.0).reshape(2, 3))
    x = tt.arange(6.0).reshape(2, 3)
    assert answers == [accepted(x)]
    found, wanted = tt.compile(write)(x.clone()), write(x.clone())
    np.testing.assert_allclose(found.float().numpy(), wanted.float().numpy(), 1e-6)
