"""Assigning to Tensors: what it does to views, to memory and to gradients, eagerly and compiled.

Ground truths: PyTorch, side by side, for 25 kinds of view and 13 kinds of assignment; NumPy for
values; closed forms for gradients.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.base.dtypes import bfloat16
from tinytorch.base.errors import GradientError, OverlapError
from tinytorch.tensor.assignment import copy_named

VIEWS = {
    "x[1:3]": lambda x: x[1:3], "x[0]": lambda x: x[0], "x[:, ::-2]": lambda x: x[:, ::-2],
    "reshape": lambda x: x.reshape(-1), "same shape": lambda x: x.reshape(4, 3), "T": lambda x: x.T,
    "transpose": lambda x: x.transpose(0, 1), "unsqueeze": lambda x: x.unsqueeze(0),
    "flip": lambda x: x.flip(0), "broadcast": lambda x: x.broadcast_to((2, 4, 3)),
    "split": lambda x: x.split(2)[1], "unbind": lambda x: x.unbind(1)[2],
    "diagonal": lambda x: x.diagonal(), "detach": lambda x: x.detach(), "+x": lambda x: +x,
    "reshape of T": lambda x: x.T.reshape(-1), "flatten": lambda x: x.flatten(),
    "squeeze": lambda x: x[:1].squeeze(), "contiguous": lambda x: x.contiguous(),
    "roll by 0": lambda x: x.roll(0, 1), "float": lambda x: x.float(), "x[...]": lambda x: x[...],
    "power 1": lambda x: x**1, "x[[0, 2]]": lambda x: x[[0, 2]], "chain": lambda x: x.T[1:][0, ::2],
}  # fmt: skip
# NumPy's x[:, ::-2] is a view, PyTorch refuses it. PyTorch refuses to write to one of several views
# of one operation where gradients are recorded, and backward() where x**1 kept x.
THEIRS = {
    **VIEWS,
    "x[:, ::-2]": lambda x: x[:, ::2],
    "split": lambda x: x[2:4], "unbind": lambda x: x[:, 2], "power 1": lambda x: x.clone(),
}  # fmt: skip
OURS = {**VIEWS, "x[:, ::-2]": THEIRS["x[:, ::-2]"]}

CHANGES = {
    "+=": lambda t: t.__iadd__(10.0), "*=": lambda t: t.__imul__(10.0),
    "t[0] =": lambda t: t.__setitem__(0, 5.0),
    "zero_": lambda t: t.zero_(), "copy_": lambda t: t.copy_(3.0), "fill_": lambda t: t.fill_(2.0),
    "clamp_": lambda t: t.clamp_(0.0, 0.1), "mask": lambda t: t.__setitem__(t > 0, 9.0),
    "masked_fill_": lambda t: t.masked_fill_(t > 0, 9.0), "add_": lambda t: t.add_(1.0, alpha=2),
    "sub_": lambda t: t.sub_(t, alpha=2), "div_": lambda t: t.div_(4.0),
    "**=": lambda t: t.__ipow__(2),
}  # fmt: skip


FILLED = {("broadcast", n) for n in ("zero_", "fill_", "mask", "masked_fill_")}


def both(kind, change, follow):
    """What `follow(library, matrix, view, change)` gives with TinyTorch and with PyTorch."""
    numbers = np.arange(12.0, dtype=np.float32).reshape(4, 3) / 8 + 0.25
    out = []
    for library, x, view in (
        (tt, tt.Tensor(numbers), OURS[kind]),
        (torch, torch.tensor(numbers), THEIRS[kind]),
    ):
        try:
            found = follow(library, x, view, CHANGES[change])
        except RuntimeError as problem:
            found = problem
        out.append(found)
    return out


def _is_overlap(theirs, stricter):
    return "single memory location" in str(theirs) if isinstance(theirs, RuntimeError) else stricter


def is_same(ours, theirs, stricter=False):
    """Whether numbers agree; `stricter`: ours refuses, where PyTorch fills what is expanded."""
    if isinstance(ours, OverlapError) or isinstance(theirs, RuntimeError):
        assert isinstance(ours, OverlapError) and _is_overlap(theirs, stricter), theirs
        return
    assert not isinstance(ours, RuntimeError), ours
    for a, b in zip(ours, theirs, strict=True):
        assert (
            a.tolist() == pytest.approx(np.array(b.tolist()), rel=1e-6)
            if np.ndim(b.tolist())
            else a.tolist() == pytest.approx(b.tolist(), rel=1e-6)
        )


@pytest.mark.filterwarnings("ignore:Use of .* on expanded")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", VIEWS)
def test_a_write_reaches_whoever_shows_the_memory(kind, change):
    """PyTorch: the view is written, then what it was taken from; a sibling sees both."""

    def follow(library, x, view, change):
        sibling, shown = x[1:, 1], view(x)
        seen = []
        change(shown)
        seen += [t.clone() for t in (x, shown, sibling)]
        change(x)
        seen += [t.clone() for t in (x, shown, sibling)]
        change(sibling)
        return [*seen, x, shown, sibling]

    is_same(*both(kind, change, follow), stricter=(kind, change) in FILLED)


@pytest.mark.filterwarnings("ignore:Use of .* on expanded")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", VIEWS)
def test_gradients_flow_through_writes_to_views(kind, change):
    """PyTorch: a recorded matrix, a view and a sibling of it; one is changed, all are used."""

    def follow(library, start, view, change):
        leaf = start.requires_grad_()
        x = leaf * 1.5
        sibling, shown = x[1:, 1], view(x)
        before = shown + 1.0
        change(shown)
        (before.sum() + (x * x).sum() + (shown * 3.0).sum() + (sibling * sibling).sum()).backward()
        return x.detach(), shown.detach(), sibling.detach(), leaf.grad

    is_same(*both(kind, change, follow), stricter=(kind, change) in FILLED)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", VIEWS)
def test_gradients_flow_into_views(kind, change):
    """PyTorch: the base is changed; what shows it has its gradients through the change."""

    def follow(library, start, view, change):
        leaf = start.requires_grad_()
        x = leaf * 1.5
        shown = view(x)
        change(x)
        ((shown * shown).sum() + x.sum()).backward()
        return x.detach(), shown.detach(), leaf.grad

    is_same(*both(kind, change, follow))


@pytest.mark.parametrize("kind", VIEWS)
def test_compiled_writes_are_the_eager_ones(kind):
    """Invariant: values and gradients of all 13 changes, of the view and of its base."""
    view = OURS[kind]
    changes = {n: c for n, c in CHANGES.items() if n != "mask"}

    def f(start):
        seen = []
        for change in changes.values():
            for written in range(2):
                leaf = start.detach().clone().requires_grad_()
                x = leaf * 1.5
                sibling, shown = x[1:, 1], view(x)
                before = shown + 1.0
                try:
                    change((shown, x)[written])
                except OverlapError:
                    continue
                loss = before.sum() + (x * x).sum() + (shown * 3.0).sum()
                (loss + (sibling * sibling).sum()).backward()
                seen += [x.detach(), shown.detach(), sibling.detach(), leaf.grad]
        return tuple(seen)

    start = matrix() / 8 + 0.25
    ours, truth = tt.compile(f)(start), f(start)
    assert len(ours) == len(truth)
    for a, b in zip(ours, truth, strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def matrix(requires_grad=False):
    return tt.Tensor(np.arange(12.0, dtype=np.float32).reshape(4, 3), requires_grad=requires_grad)


def test_a_view_keeps_the_gradient_of_the_place():
    """Closed form: the gradient of sum(x[1:3] * 2) is 2 there and 0 elsewhere."""
    x = matrix(requires_grad=True)
    (x[1:3] * 2.0).sum().backward()
    assert x.grad.tolist() == [[0.0] * 3, [2.0] * 3, [2.0] * 3, [0.0] * 3]


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_used_before_a_change_is_differentiated_as_it_was(name):
    """Closed form: d(x w)/dx = w as it was when it was used. PyTorch raises here; a value cannot be
    spoiled, so nothing has to be refused."""
    x = tt.Tensor([1.0, 2.0], requires_grad=True)
    w = tt.Tensor([3.0, 4.0])
    product = x * w
    CHANGES[name](w)
    product.sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_result_is_differentiated_through_the_change(name):
    """Finite differences: y = exp(x), changed, squared."""

    def f(x):
        y = x.exp()
        before = y * 2.0
        CHANGES[name](y)
        return y * y + before

    assert tt.gradcheck(f, [tt.Tensor([0.3, -0.4])])


@pytest.mark.parametrize("name", CHANGES)
def test_a_leaf_is_not_changed_while_it_is_recorded(name):
    """Ground truth: the message names this file; under no_grad it is allowed, and what was used
    before keeps its gradient."""
    x = tt.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"(?s)changed in place.*test_assignment\.py.*no_grad"):
        CHANGES[name](x)
    assert x.tolist() == [1.0, 2.0]
    square = (x * x).sum()
    with tt.no_grad():
        CHANGES[name](x)
    square.backward()
    assert x.grad.tolist() == [2.0, 4.0] and x.is_leaf and x.requires_grad


@pytest.mark.parametrize("name", [n for n in CHANGES if n != "mask"])
def test_changes_are_the_same_compiled(name):
    """Invariant: value, gradient through the change, and gradient of what was used before."""

    def f(x):
        x = x.detach().requires_grad_()
        y = x.exp()
        before = y * 2.0
        CHANGES[name](y)
        (y * y + before).sum().backward()
        return y.detach(), x.grad

    x = tt.Tensor([0.25, -0.5])
    for a, b in zip(tt.compile(f)(x), f(x), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_a_leaf_is_not_changed_in_a_compiled_function_either():
    """Ground truth: the same message."""
    w = tt.ones(2, requires_grad=True)

    def f():
        w.add_(1.0)
        return w.sum()

    with pytest.raises(tt.TinyTorchError, match="changed in place"):
        tt.compile(f)()
    assert w.tolist() == [1.0, 1.0]


def test_a_compiled_step_that_writes_what_an_eager_tape_kept():
    """Ground truth: right numbers or the message, never silently wrong: d(x w)/dx is the old w."""
    w = tt.full((4,), 2.0)
    x = tt.ones(4, requires_grad=True)
    step = tt.compile(lambda: w.add_(1.0).sum())
    step()
    product = (x * w).sum()
    step()
    try:
        product.backward()
    except GradientError as problem:
        assert "changed in place" in str(problem)
    else:
        assert x.grad.tolist() == [3.0] * 4
    assert w.tolist() == [4.0] * 4


def test_operators_write_without_a_temporary():
    """Measured with tracemalloc: x += y on 8 MB allocates nothing of that size."""
    import tracemalloc

    x, y = tt.ones(1_000_000, dtype="float64"), tt.ones(1_000_000, dtype="float64")
    address = x._buffer.address
    tracemalloc.start()
    x += y
    x *= 0.5
    x -= y
    x /= 2.0
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 100_000 and x._buffer.address == address and x[0].item() == 0.0


@pytest.mark.parametrize(
    "other",
    [
        2.0,
        3,
        np.float32(2),
        [1.0, 2.0, 3.0],
        np.arange(1.0, 4.0),
        "row",
        "column",
        "self",
        "turned",
        True,
    ],
    ids=str,
)
def test_operators_in_place_are_numpys(other):
    """NumPy, whichever way the operation is carried out; the type stays."""
    a = np.arange(9.0, dtype=np.float32).reshape(3, 3) + 1.0
    for symbol in ("+=", "-=", "*=", "/="):
        x, y = tt.Tensor(a), a.copy()
        pairs = {
            "row": (tt.ones(3), np.ones(3)), "column": (tt.ones(3, 1), np.ones((3, 1))),
            "self": (x, y), "turned": (x.T, y.T.copy()),
        }  # fmt: skip
        mine, theirs = pairs[other] if isinstance(other, str) else (other, np.asarray(other))
        names = {"x": x, "y": y, "mine": mine, "theirs": theirs}
        exec(f"x {symbol} mine", names)
        exec(f"y {symbol} theirs.astype('float32')", names)
        assert names["x"] is x and x.dtype is tt.float32
        assert np.array_equal(x.numpy(), names["y"]), symbol


def test_operators_in_place_refuse_what_does_not_fit():
    """Ground truth: the messages; nothing has changed."""
    x = tt.ones(3)
    for bad in (tt.ones(2), tt.ones(2, 3)):
        with pytest.raises(tt.TinyTorchError, match="got:"):
            x += bad
    i = tt.ones(3, dtype="int64")
    with pytest.raises(tt.TinyTorchError, match="number type"):
        i /= 2
    assert x.tolist() == [1.0] * 3 and i.tolist() == [1] * 3


BOOLS = {
    "list": lambda z: z.__setitem__([0], False), "two": lambda z: z.__setitem__([0, 1], z[[2, 3]]),
    "&=": lambda z: z.__setitem__([0, 1], z[[0, 1]] & z[[1, 2]]),
    "|=": lambda z: z.__setitem__([1], z[[1]] | True),
    "Tensor": lambda z: z.__setitem__(tt.tensor([0, 3]), tt.tensor([False, True])),
    "number": lambda z: z.__setitem__(tt.tensor(0), False),
    "twice": lambda z: z.__setitem__([0, 0, 1], tt.tensor([True, False, True])),
    "floats": lambda z: z.__setitem__([0, 1], tt.tensor([0.0, 0.5])),
    "array": lambda z: z.__setitem__(np.array([0]), np.array([False])),
    "column": lambda z: z.reshape(2, 2).__setitem__((slice(None), [1]), True),
    "places": lambda z: z.reshape(2, 2).__setitem__(([0, 1], [1, 0]), True),
    "rows": lambda z: z.reshape(2, 2).T[0].fill_(False),
    "step": lambda z: z.__setitem__(slice(None, None, -2), False),
    "part of a place": lambda z: z[tt.tensor(1)].fill_(True),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOLS)
def test_bools_are_written_at_an_index(name):
    """Ground truth: NumPy on the same bools where the key is a list, and eager for the rest."""

    def write(x):
        z = x.clone()
        BOOLS[name](z)
        return z

    x = tt.tensor([True, False, True, False])
    wanted = write(x).tolist()
    out = tt.compile(write)(x)
    assert out.dtype is tt.bool_
    assert out.tolist() == wanted
    if name in ("list", "two", "&=", "|=", "array"):
        z = x.numpy().copy()
        BOOLS[name](z)
        assert z.tolist() == wanted


# --- by name (modules and optimizers test the rest) ---


def test_pairs_of_stored_bits_and_type_are_taken():
    """Closed form: 0x3F80 is 1.0 in bfloat16."""
    own = {"w": tt.zeros(2), "n": tt.zeros(1, dtype="int64")}
    bits = np.array([0x3F80, 0xBF80], np.uint16)
    copy_named(own, {"w": (bits, bfloat16), "n": np.array([3], np.int32)}, owner="X")
    assert own["w"].tolist() == [1.0, -1.0] and own["w"].dtype is tt.float32
    assert own["n"].tolist() == [3] and own["n"].dtype is tt.int64


def test_the_source_stays_what_it_was():
    """Invariant: a copy, not a share."""
    source, own = tt.ones(2), {"w": tt.zeros(2)}
    copy_named(own, {"w": source}, owner="X")
    own["w"] += 1.0
    assert source.tolist() == [1.0, 1.0]
