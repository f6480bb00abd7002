"""Calling a compiled function, apart from kernels: programs run by NumPy (reference_program.py)."""

import gc
import threading
import warnings
from weakref import ref

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import CompileError, GradientError, SettingError
from tinytorch.compiler.compile import compile
from tinytorch.compiler.record.guards import RecompileWarning
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

pytestmark = pytest.mark.usefixtures("by_numpy")


def tensor(*shape, requires_grad=False, seed=0):
    rng = np.random.default_rng(seed)
    return Tensor(rng.normal(size=shape).astype(np.float32), requires_grad=requires_grad)


def assert_same(a, b):
    np.testing.assert_array_equal(a.numpy(), b.numpy())


def model_step(w, m):
    def step(x, y):
        loss = ((x @ w - y) ** 2).mean()
        w.grad = None
        loss.backward()
        with no_grad():
            m.assign_(0.9 * m + w.grad)
            w.assign_(w - 0.1 * m)
        w.grad = None
        return loss

    return step


def test_a_training_run_is_the_eager_one():
    """Ground truth: eager, ten steps."""
    w1, m1, w2, m2 = tensor(3, 2, requires_grad=True), tensor(3, 2), None, None
    w2, m2 = Tensor(w1.numpy(), requires_grad=True), Tensor(m1.numpy())
    eager, compiled = model_step(w1, m1), compile(model_step(w2, m2))
    for i in range(10):
        x, y = tensor(4, 3, seed=i), tensor(4, 2, seed=100 + i)
        assert_same(eager(x, y), compiled(x, y))
        assert_same(w1, w2)
        assert_same(m1, m2)
    assert compiled.captures == 1


def test_states_are_updated_in_place():
    """Invariant: the memory stays."""
    n = Tensor(np.zeros(3, np.float32))

    @compile
    def step():
        n.assign_(n + 1)

    step()
    address = n._buffer.address
    step()
    step()
    assert n._buffer.address == address
    assert n.tolist() == [3, 3, 3]


def test_whoever_shows_the_memory_sees_an_update():
    """Ground truth: eager; the memory stays where it is."""
    n = Tensor(np.zeros(3, np.float32))
    step = compile(lambda: n.assign_(n + 1) * 1)
    step()
    address = n._buffer.address
    view, array, part = n.detach(), n.numpy(), n[1:]
    step()
    assert (view.tolist(), array.tolist(), part.tolist()) == ([2, 2, 2], [2, 2, 2], [2, 2])
    part += 5
    array[0] = 0
    step()
    assert n._buffer.address == address and n.tolist() == view.tolist() == [1, 8, 8]


def test_what_the_tape_kept_of_a_state_keeps_its_numbers():
    """Closed form: d(x n)/dx is n as it was, for n itself and for a view that is gone."""
    n, x = Tensor([2.0, 3.0]), Tensor([1.0, 1.0], requires_grad=True)
    step = compile(lambda: n.assign_(n + 1) * 1)
    step()
    product = (x * n).sum() + (x[0] * n[1:]).sum()
    step()
    product.backward()
    assert x.grad.tolist() == [3 + 4, 4] and n.tolist() == [4, 5]


def test_an_eager_assignment_between_steps_is_seen():
    """Ground truth: arithmetic."""
    n = Tensor(np.zeros(3, np.float32))
    step = compile(lambda: n.assign_(n + 1) * 1)
    step()
    n.assign_(Tensor([5.0, 5.0, 5.0]))
    assert step().tolist() == [6, 6, 6]
    n[0] = 0.0
    assert step().tolist() == [1, 7, 7]
    assert step.captures == 1


def test_two_functions_share_a_state():
    """Ground truth: arithmetic; neither disturbs the other's bindings."""
    n = Tensor(np.zeros(3, np.float32))
    up, down, read = (
        compile(lambda: n.assign_(n + 2)),
        compile(lambda: n.assign_(n - 1)),
        compile(lambda: n * 1),
    )
    addresses = set()
    for i in range(5):
        up()
        down()
        assert read().tolist() == [i + 1] * 3
        addresses.add(n._buffer.address)
    assert len(addresses) <= 2  # it may move once, when a second function begins to hold it
    del up
    assert down() is n
    assert n.tolist() == [4, 4, 4]


def test_gradients_that_stay_are_left_and_added_to():
    """Ground truth: eager."""
    w = tensor(3, requires_grad=True)
    v = Tensor(w.numpy(), requires_grad=True)

    def step(w, x):
        (w * w * x).sum().backward()

    x = tensor(3, seed=1)
    compiled = compile(lambda x: step(w, x))
    for _ in range(3):
        compiled(x)
        step(v, x)
        assert_same(w.grad, v.grad)
    assert compiled.captures == 2  # without a gradient, then with one
    w.grad = None
    v.grad = None
    compiled(x)
    step(v, x)
    assert_same(w.grad, v.grad)
    assert compiled.captures == 2


def test_zero_grad_first_needs_two_recordings_at_most():
    """Invariant: the gradient is None before the first step, and there before all others."""
    w = tensor(3, requires_grad=True)

    @compile
    def step(x):
        w.grad = None
        (w * x).sum().backward()

    x = tensor(3, seed=1)
    for _ in range(5):
        step(x)
        assert_same(w.grad, x)
    assert step.captures == 2


def test_the_gradient_of_an_argument_is_left_on_it():
    """Ground truth: eager, also when a gradient is there already."""
    x, y = tensor(3, requires_grad=True), tensor(3, requires_grad=True)

    def f(x):
        (x * x).sum().backward()

    compiled = compile(f)
    for _ in range(3):
        compiled(x)
        f(y)
        assert_same(x.grad, y.grad)


def test_an_assigned_argument_is_changed():
    """Ground truth: eager."""
    x = tensor(3)
    expected = (x + 1).tolist()
    compiled = compile(lambda x: x.assign_(x + 1))
    assert compiled(x) is x
    assert x.tolist() == expected


def test_results_are_fresh_memory():
    """Invariant: the next call does not change what the last one returned."""
    f = compile(lambda x: (x + 1, x * 2))
    a, b = f(Tensor([1.0, 2.0]))
    f(Tensor([5.0, 5.0]))
    assert (a.tolist(), b.tolist()) == ([2, 3], [2, 4])


def test_old_and_new_state_can_be_returned():
    """Ground truth: eager; copies do not change with later steps, what shows the state does."""
    n = Tensor([1.0])

    @compile
    def step():
        old = n.clone()
        n.assign_(n + 1)
        return old, n.clone(), n.detach(), n

    old, new, shown, itself = step()
    step()
    assert (old.tolist(), new.tolist(), itself is n, n.tolist()) == ([1], [2], True, [3])
    shown += 1
    assert n.tolist() == [4]


def test_overlapping_inputs():
    """Ground truth: eager: the same Tensor twice, views, and the state itself as an argument."""
    n = Tensor([1.0, 2.0, 3.0])

    def f(a, b):
        n.assign_(n + a)
        return a * b + n

    g = compile(f)
    for give in (lambda: (n, n), lambda: (n.detach(), n), lambda: (n[:], n.T)):
        before = np.array(n.tolist())
        got, after = g(*give()), before + before
        assert got.tolist() == (after * after + after).tolist()
        assert n.tolist() == after.tolist()
        n.copy_(Tensor([1.0, 2.0, 3.0]))


def test_numpy_arguments_of_any_layout():
    """Ground truth: NumPy."""
    f = compile(lambda x: x + 1)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for array in (x, x.T, x[::2, ::-1], x[:, 1:3], np.asfortranarray(x), np.float32(3)):
        np.testing.assert_array_equal(f(array).numpy(), array + 1)
    read_only = x.copy()
    read_only.flags.writeable = False
    assert f(read_only).tolist() == (x + 1).tolist()


def test_another_shape_dtype_or_static_value_is_another_program():
    """Invariant: one recording for each kind of call, however often it comes."""
    f = compile(lambda x, power=2, flag="a": x**power if flag == "a" else x)
    for _ in range(2):
        assert f(Tensor([3.0])).tolist() == [9]
        assert f(Tensor([3.0, 2.0])).tolist() == [9, 4]
        assert f(Tensor([3.0]), power=3).tolist() == [27]
        assert f(Tensor([3.0]), flag="b").tolist() == [3]
        assert f(Tensor([3], dtype="int64")).tolist() == [9]
    assert f.captures == 5


def test_a_number_that_changes_often_is_named():
    """The third recording because of it warns: which name, from what to what, and what to do."""
    rate = 0.5
    f = compile(lambda x: x * rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(Tensor([2.0])).tolist() == [1]
        for rate in (0.25, 1.0, 0.5, 0.25):
            assert f(Tensor([2.0])).tolist() == [2 * rate]
        assert f.captures == 3  # earlier recordings are found again
    rate = 4.0
    with pytest.warns(RecompileWarning, match="'rate' was .* and is now 4.0.*0-d Tensor"):
        assert f(Tensor([2.0])).tolist() == [8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rate = 5.0
        assert f(Tensor([2.0])).tolist() == [10]  # warned of before


def test_structure_changes_capture_again():
    """Invariant: the counter of base.settings is part of the signature."""
    from tinytorch.base.settings import STRUCTURE

    f = compile(lambda x: x + 1)
    f(Tensor([1.0]))
    STRUCTURE.bump()
    f(Tensor([1.0]))
    f(Tensor([1.0]))
    assert f.captures == 2
    assert len(f._calls) == 1  # the stale one is gone


def test_a_function_that_bumps_the_structure_itself_is_recorded_once():
    """Invariant: toggling train and eval inside the step is part of the recording."""
    from tinytorch.base.settings import STRUCTURE

    def f(x):
        STRUCTURE.bump()
        return x + 1

    f = compile(f)
    for _ in range(3):
        f(Tensor([1.0]))
    assert f.captures == 1


def test_an_exception_in_the_middle_compiles_nothing():
    """Invariant: the next call works."""
    n = Tensor([1.0])
    fail = [True]

    def f(x):
        n.assign_(n + 1)
        if fail:
            raise ValueError("stop")
        return x * n

    compiled = compile(f)
    with pytest.raises(ValueError, match="stop"):
        compiled(Tensor([1.0]))
    assert n.tolist() == [1]
    fail.clear()
    assert compiled(Tensor([3.0])).tolist() == [6]


def test_nested_compiled_functions_are_one_program():
    """Ground truth: arithmetic; the inner function is recorded with the outer."""
    inner = compile(lambda x: x * 2)
    outer = compile(lambda x: inner(x) + 1)
    assert outer(Tensor([3.0])).tolist() == [7]
    assert (inner.captures, outer.captures) == (0, 1)


def test_methods_and_decorators():
    """Closed form: both ways to write it, and a method."""

    class Counter:
        def __init__(self):
            self.n = Tensor([0.0])

        @compile
        def step(self, x):
            self.n.assign_(self.n + x)
            return self.n * 1

    @compile(threads=1)
    def double(x):
        """Twice."""
        return x + x

    assert double(Tensor([2.0])).tolist() == [4]
    assert double.__name__ == "double" and double.__doc__ == "Twice."
    a, b = Counter(), Counter()
    assert a.step(Tensor([2.0])).tolist() == [2]
    assert a.step(Tensor([2.0])).tolist() == [4]
    assert b.step(Tensor([1.0])).tolist() == [1]


def test_threads_do_not_disturb_each_other():
    """Ground truth: arithmetic, 4 threads x 50 calls; updates of a state are not lost."""
    n = Tensor(np.zeros(1, np.float32))
    count = compile(lambda: n.assign_(n + 1))
    double = compile(lambda x: x + x)
    wrong = []

    def work(i):
        for k in range(50):
            count()
            x = np.full(5, i * 100 + k, np.float32)
            if double(x).tolist() != (2 * x).tolist():
                wrong.append((i, k))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert n.tolist() == [200]


def test_settings_are_checked():
    """Each message names the setting."""
    with pytest.raises(SettingError, match="no such precision"):
        compile(lambda x: x, precision="half")
    with pytest.raises(SettingError, match="threads is outside"):
        compile(lambda x: x, threads=0)
    with pytest.raises(CompileError, match="cannot be called"):
        compile(3)
    with pytest.raises(CompileError, match="nothing has been compiled"):
        compile(lambda x: x).graph()


def test_an_argument_that_is_no_data_and_no_key_is_refused():
    """The message names the type."""

    class Box:
        __hash__ = None

    with pytest.raises(CompileError, match="cannot take") as caught:
        compile(lambda x: x)(Box())
    assert "Box" in caught.value.got


def test_an_assignment_between_steps_moves_nothing():
    """Invariant: what a compiled function holds of a Tensor is no reason to move its memory."""
    rate, n = Tensor(0.5), Tensor([1.0])
    step = compile(lambda: n.assign_(n * rate))
    step()
    addresses = rate._buffer.address, n._buffer.address
    for i in range(3):
        rate.assign_(Tensor(2.0))
        n.assign_(Tensor([float(i)]))
        step()
        assert n.tolist() == [2.0 * i]
    assert (rate._buffer.address, n._buffer.address) == addresses


@pytest.mark.parametrize(
    "freeze",
    [
        lambda w: w.requires_grad_(False),
        lambda w: setattr(w, "requires_grad", False),
        lambda w: [setattr(p, "requires_grad", False) for _, p in [("w", w)]],
    ],
)
def test_a_weight_frozen_between_two_calls_stays(freeze):
    """Closed form: the loss is 2 w v, the rate 1; w, v = 2, 3 become -4, -1; then w stays at -4 and
    v goes to -1 + 8 = 7; after thawing w goes to -4 - 14 = -18, v to 7 + 8 = 15."""
    w, v = Tensor([2.0], requires_grad=True), Tensor([3.0], requires_grad=True)

    @compile
    def step():
        (w * v * 2).sum().backward()
        with no_grad():
            for p in (w, v):
                if p.grad is not None:
                    p.assign_(p - p.grad)
                    p.grad = None

    step()
    assert (w.item(), v.item()) == (-4, -1)
    freeze(w)
    step()
    assert (w.item(), v.item()) == (-4, 7)
    w.requires_grad_()
    step()
    assert (w.item(), v.item()) == (-18, 15)
    assert step.captures <= 3


def test_a_state_that_begins_to_require_a_gradient_is_seen():
    """Ground truth: eager; the gradient comes with the second call."""
    w = Tensor([2.0])
    x = Tensor([3.0], requires_grad=True)

    @compile
    def step():
        (w * x).sum().backward()

    step()
    assert w.grad is None and x.grad.tolist() == [2]
    w.requires_grad_()
    step()
    assert w.grad.tolist() == [3] and x.grad.tolist() == [4]


def _with_tape(w):
    v = Tensor([1.0, 1.0], requires_grad=True)
    kept = (v * w).sum()  # its gradient needs the old numbers
    w += 1
    kept.backward()
    return v.grad.tolist()


def _read_only(w):
    w._buffer.array.setflags(write=False)
    w += 1


def _read_only_with_view(w):
    view = w[1:]
    _read_only(w)
    view += 1


MOVES = {
    "data": lambda w: setattr(w, "data", Tensor([5.0, 6.0])),
    "data of another shape": lambda w: setattr(w, "data", Tensor([5.0, 6.0, 7.0])),
    "data of a view": lambda w: setattr(w, "data", Tensor([[5.0, 6.0], [7.0, 8.0]])[:, 1]),
    "a write while the tape holds it": _with_tape,
    "a write to memory that cannot be written": _read_only,
    "the same with a view": _read_only_with_view,
    "a write through a view": lambda w: w[1:].fill_(9.0),
    "begun again": lambda w: w.__init__([5.0, 6.0]),
    "begun again with another shape": lambda w: w.__init__([5.0, 6.0, 7.0]),
    "another number type": lambda w: w._retype(float64),
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_state_that_comes_to_lie_elsewhere_is_found(move, native, monkeypatch):
    """Ground truth: the same calls carried out eagerly."""
    if native:
        monkeypatch.undo()

    def run(through):
        w = Tensor([2.0, 3.0])
        read, write = through(lambda: w * 2), through(lambda: w.assign_(w + w))
        seen = []
        for _ in range(2):
            for between in (move, lambda w: None):
                seen.append(read().tolist())
                write()
                seen += [w.tolist(), read().tolist()]
                seen.append(str(between(w)))
        return seen

    assert run(compile) == run(lambda f: f)


LOSES = {
    "grad": lambda f, w, x: tt.grad(lambda x: f(x).sum())(x),
    "value_and_grad": lambda f, w, x: tt.value_and_grad(lambda x: f(x).sum())(x),
    "vjp": lambda f, w, x: tt.vjp(f, x)[1](x),
    "jvp": lambda f, w, x: tt.jvp(f, (x,), (x,)),
    "a head that is not compiled": lambda f, w, x: (f(x) * w).sum().backward(),
    "an input beside it": lambda f, w, x: (f(x.requires_grad_()) + x).sum().backward(),
    "a part of it": lambda f, w, x: (f(x)[1:] * w).sum().backward(),
    "one compiled function after another": lambda f, w, x: (f(f(x * w)) * w).sum().backward(),
    "what came from outside": lambda f, w, x: (f(x * w) * w).sum().backward(),
}


@pytest.mark.parametrize("lose", LOSES.values(), ids=LOSES)
def test_a_gradient_that_would_be_lost_is_refused(lose):
    """Ground truth: eager gives a gradient there; compiled gave the rest of it in silence."""
    w, v = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 2.0], requires_grad=True)

    def f(x):
        return x * v

    lose(f, w, Tensor([1.0, 3.0]))
    with pytest.raises(GradientError, match="arrives at the result of a compiled function"):
        lose(compile(f), w, Tensor([1.0, 3.0]))


def test_results_without_a_gradient_are_as_before():
    """Closed form; under no_grad(), after backward() within, and of numbers nothing is kept."""
    v = Tensor([1.0, 2.0], requires_grad=True)
    forward = compile(lambda x: x * v)
    with no_grad():
        assert not forward(Tensor([1.0, 3.0])).requires_grad
    y = forward(Tensor([1.0, 3.0]))
    y += 1  # what it gives is used like any other Tensor
    assert y.tolist() == [2, 7] and compile(lambda h: h * 2)(y).tolist() == [4, 14]

    @compile
    def step(x):
        loss = (x * v).sum()
        loss.backward()
        return loss, x + 1

    loss, other = step(Tensor([1.0, 3.0]))
    assert not loss.requires_grad and not other.requires_grad and v.grad.tolist() == [1, 3]


KEEPS = {
    "a result": lambda x, w: x + 1,
    "several, one twice": lambda x, w: (y := x + 1, y, x * 2),
    "a view of one beside it": lambda x, w: (y := x + 1, y[1:]),
    "a recorded one": lambda x, w: x * w,
    "a new state": lambda x, w: w.detach().assign_(w.detach() + x) * 1,
}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("f", KEEPS.values(), ids=KEEPS)
def test_what_a_call_gave_goes_with_its_last_name(f, native, monkeypatch):
    """Invariant: no circle holds it until garbage is collected: its memory serves the next call."""
    if native:
        monkeypatch.undo()
    compiled, x, w = compile(f), Tensor([1.0, 2.0]), Tensor([1.0, 3.0], requires_grad=True)
    compiled(x, w), compiled(x, w)
    gc.collect()
    gc.disable()
    try:
        out = compiled(x, w)
        parts = out if isinstance(out, tuple) else (out,)
        gone = [ref(part._buffer) for part in parts]
        del out, parts
        assert [r() for r in gone] == [None] * len(gone)
    finally:
        gc.enable()


def test_gradients_add_up_where_they_lie():
    """Ground truth: eager; the address, which stays; what others hold of the gradient stays too."""
    w, other = tensor(3, requires_grad=True), tensor(3, requires_grad=True)
    x = tensor(3, seed=1)

    def gather(x):
        (w * w * x).sum().backward()

    gather(x)
    with no_grad():
        other.assign_(w)
    other.grad = w.grad.clone()
    compiled = compile(gather)
    compiled(x)
    place = w.grad._buffer.address
    for _ in range(2):
        compiled(x)
    assert w.grad._buffer.address == place and compiled.captures == 1
    for _ in range(3):
        (other * other * x).sum().backward()
    assert_same(w.grad, other.grad)
    held, before = w.grad, w.grad.tolist()
    compiled(x)
    assert held.tolist() == before and w.grad.tolist() != before
    del held
    view = w.grad[1:]
    before = view.tolist()
    compiled(x)
    assert view.tolist() == before
    for _ in range(2):
        (other * other * x).sum().backward()
    assert_same(w.grad, other.grad)
    assert compiled.captures == 1
