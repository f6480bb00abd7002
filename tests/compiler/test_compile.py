"""Whole training steps: compiled equals eager, from captured Python to native code."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.codegen.target import runnable_names
from tinytorch.compiler.record.guards import RecompileWarning
from tinytorch.nn import functional as F
from tinytorch.optim import SGD, AdamW
from tinytorch.optim.norms import clip_grad_norm_

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "programs"
    folder.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setenv("TINYTORCH_CACHE", str(folder))


def mlp(activation):
    tt.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, 32), activation(), nn.Linear(32, 16), activation(), nn.Linear(16, 10)
    )


def stepper(model, optimizer, drop_first=False):
    def step(x, y):
        if drop_first:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if not drop_first:
            optimizer.zero_grad()
        return loss

    return step


def batches(n, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        yield rng.normal(size=(8, 20)).astype(np.float32), rng.integers(0, 10, 8)


def assert_same_training(eager_model, compiled_model, steps, lr):
    """Adam moves a weight by about lr a step whatever its gradient: where that is nearly 0, its
    rounding decides the sign. So the bound is 2 lr a step for single weights, and close agreement
    (1e-4 of the largest weight) for nearly all."""
    for (name, a), (_, b) in zip(
        eager_model.named_parameters(), compiled_model.named_parameters(), strict=True
    ):
        difference = np.abs(a.numpy() - b.numpy())
        assert difference.max() <= 2 * lr * steps, name
        assert np.mean(difference > 1e-4 * np.abs(a.numpy()).max()) < 0.01, name


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("drop_first", [False, True])
def test_an_mlp_trains_as_it_does_eagerly(activation, drop_first):
    """Ground truth: the same steps eagerly."""
    steps, lr = 10, 1e-3
    eager_model, compiled_model = mlp(activation), mlp(activation)
    eager = stepper(eager_model, AdamW(eager_model.parameters(), lr=lr), drop_first)
    compiled = tt.compile(
        stepper(compiled_model, AdamW(compiled_model.parameters(), lr=lr), drop_first)
    )
    for x, y in batches(steps):
        a, b = eager(tt.Tensor(x), tt.Tensor(y)).item(), compiled(x, y).item()
        # a loss of size 2.3 after sums of at most 32 products, 3 layers, forward and backward
        assert abs(a - b) <= 200 * EPS * abs(a)
    assert_same_training(eager_model, compiled_model, steps, lr)
    assert compiled.captures == (2 if drop_first else 1)
    if drop_first:  # the gradients that stay are those of the last step
        for a, b in zip(eager_model.parameters(), compiled_model.parameters(), strict=True):
            assert (
                np.abs(a.grad.numpy() - b.grad.numpy()).max() <= 1e-3 * np.abs(a.grad.numpy()).max()
            )


def test_results_are_the_same_for_any_number_of_threads():
    """Invariant: bit for bit, 1, 2 and 3 threads, five steps."""
    runs = []
    for threads in (1, 2, 3):
        model = mlp(nn.GELU)
        step = tt.compile(stepper(model, AdamW(model.parameters(), lr=1e-2)), threads=threads)
        losses = [step(x, y).item() for x, y in batches(5)]
        runs.append((losses, [p.numpy().tobytes() for p in model.parameters()]))
    assert runs[0] == runs[1] == runs[2]


def test_a_learning_rate_that_changes_needs_no_other_program():
    """Ground truth: eager; the rate is a Tensor, so it is read at every step."""
    models = mlp(nn.ReLU), mlp(nn.ReLU)
    optimizers = [SGD(m.parameters(), lr=0.1) for m in models]
    eager, compiled = (
        stepper(models[0], optimizers[0]),
        tt.compile(stepper(models[1], optimizers[1])),
    )
    for i, (x, y) in enumerate(batches(6)):
        for optimizer in optimizers:
            optimizer.lr = 0.1 / (1 + i)
        a, b = eager(tt.Tensor(x), tt.Tensor(y)).item(), compiled(x, y).item()
        assert abs(a - b) <= 200 * EPS * abs(a)
    assert compiled.captures == 1


def test_training_and_evaluation_are_two_programs_and_switching_costs_no_compile():
    """Ground truth: dropout changes results in training only; programs are found by their graph."""
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.Dropout(0.5), nn.Linear(32, 10))
    predict = tt.compile(model)
    x = next(batches(1))[0]
    assert predict(x).tolist() != predict(x).tolist()  # two draws
    model.eval()
    want = model(tt.Tensor(x)).numpy()
    np.testing.assert_allclose(predict(x).numpy(), want, rtol=0, atol=64 * EPS * np.abs(want).max())
    program = predict._last.program.library
    model.train()
    predict(x)
    model.eval()
    predict(x)
    assert predict._last.program.library is program


def test_dropout_draws_the_eager_numbers():
    """Ground truth: eager with the same seed; random bits are exact, so zeros fall alike."""
    model = nn.Dropout(0.5)
    x = np.ones((4, 33), np.float32)
    tt.manual_seed(7)
    want = [model(tt.Tensor(x)).tolist() for _ in range(3)]
    tt.manual_seed(7)
    compiled = tt.compile(model)
    assert [compiled(x).tolist() for _ in range(3)] == want


def test_batch_norm_updates_its_running_statistics():
    """Ground truth: eager."""
    layers = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    compiled = tt.compile(layers[1])
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.normal(size=(4, 3, 5, 6)).astype(np.float32)
        a, b = layers[0](tt.Tensor(x)).numpy(), compiled(x).numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=120 * EPS * np.abs(a).max())
    for (name, a), (_, b) in zip(layers[0].named_buffers(), layers[1].named_buffers(), strict=True):
        np.testing.assert_allclose(
            a.numpy(), b.numpy(), rtol=120 * EPS, atol=120 * EPS, err_msg=name
        )


def test_clipping_inside_the_step():
    """Ground truth: eager; clipping reads all gradients before any weight moves."""
    models = mlp(nn.ReLU), mlp(nn.ReLU)
    optimizers = [SGD(m.parameters(), lr=0.1) for m in models]

    def step(model, optimizer, x, y):
        F.cross_entropy(model(x), y).backward()
        clip_grad_norm_(list(model.parameters()), 0.1)
        optimizer.step()
        optimizer.zero_grad()

    compiled = tt.compile(lambda x, y: step(models[1], optimizers[1], x, y))
    for x, y in batches(3):
        step(models[0], optimizers[0], tt.Tensor(x), tt.Tensor(y))
        compiled(x, y)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=200 * EPS)


def test_bf16_rounds_what_contractions_read():
    """Ground truth: the eager definition of precision="bf16"."""
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=(32, 32)).astype(np.float32) for _ in range(2))
    compiled = tt.compile(lambda a, b: a @ b, precision="bf16")
    with tt.precision("bf16"):
        want = (tt.Tensor(x) @ tt.Tensor(w)).numpy()
    # both round the inputs alike and sum 32 products in float32: 32 eps of sums of size 32
    np.testing.assert_allclose(compiled(x, w).numpy(), want, rtol=0, atol=32 * EPS * 32)
    assert np.abs(want - x @ w).max() > 1e-3  # and the rounding is there


@pytest.mark.parametrize("target", runnable_names())
def test_every_target_trains(target):
    """Ground truth: eager, on each target this machine can run."""
    models = mlp(nn.GELU), mlp(nn.GELU)
    eager = stepper(models[0], SGD(models[0].parameters(), lr=0.1))
    compiled = tt.compile(stepper(models[1], SGD(models[1].parameters(), lr=0.1)), target=target)
    for x, y in batches(4):
        a, b = eager(tt.Tensor(x), tt.Tensor(y)).item(), compiled(x, y).item()
        assert abs(a - b) <= 400 * EPS * abs(a)


def test_second_derivatives_inside_a_compiled_function():
    """Closed form: d/dx of (d/dx x^3)^2 = 2 * 3x^2 * 6x = 36 x^3."""

    @tt.compile
    def f(x):
        x = x.clone().requires_grad_()
        (x * x * x).sum().backward(create_graph=True)
        first = x.grad
        x.grad = None
        (first * first).sum().backward()
        return x.grad

    x = np.array([1.0, 2.0, -0.5], np.float32)
    np.testing.assert_allclose(f(x).numpy(), 36 * x**3, rtol=20 * EPS)


def test_a_captured_number_in_a_real_step_is_followed():
    """Closed form; the third time a warning names it, and what is compiled then serves them all."""
    scale = 2.0
    w = tt.Tensor([1.0, 2.0])
    f = tt.compile(lambda x: x * w * scale)
    assert f(tt.Tensor([1.0, 1.0])).tolist() == [2, 4]
    for scale in (3.0, 4.0):
        assert f(tt.Tensor([1.0, 1.0])).tolist() == [scale, 2 * scale]
    scale = 5.0
    with pytest.warns(RecompileWarning, match="'scale'"):
        assert f(tt.Tensor([1.0, 1.0])).tolist() == [5, 10]
    library = f._last.program.library
    for scale in (6.0, 7.0, 8.5):
        assert f(tt.Tensor([1.0, 1.0])).tolist() == [scale, 2 * scale]
        assert f._last.program.library is library


NAMED = {"w": None}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: None,
        lambda x: 3,
        lambda x: (x, [x + 1, {"k": x * 2}], "text", 1.5),
        lambda x: (x + 1, x + 1),
        lambda x: x.reshape(-1),
        lambda x: x.T,
        lambda x: tt.zeros(3, 2),
        lambda x: tt.Tensor([1.0, 2.0]),
        lambda x: x.detach(),
        lambda x: x.clone(),
        lambda x: x[1:, :2],
        lambda x: x.sum(),
        lambda x: (x > 0, x.argmax(dim=1), x.astype("float64")),
        lambda x: x.astype("bfloat16") * 2,
        lambda x: NAMED["w"].reshape(-1),
        lambda x: (NAMED["w"].detach(), NAMED["w"] + 0),
    ],
)
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (1, 1)])
def test_whatever_is_returned(function, shape):
    """Ground truth: eager, value by value, type by type."""
    NAMED["w"] = tt.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    x = tt.Tensor(np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32))
    if 0 in shape and "argmax" in function.__code__.co_names:
        return  # no largest number of none

    def compare(a, b):
        assert type(a) is type(b)
        if isinstance(a, tt.Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        elif isinstance(a, dict):
            assert list(a) == list(b)
            for k in a:
                compare(a[k], b[k])
        elif isinstance(a, (tuple, list)):
            assert len(a) == len(b)
            for p, q in zip(a, b, strict=True):
                compare(p, q)
        else:
            assert a == b

    compiled = tt.compile(function)
    for _ in range(2):
        compare(compiled(x), function(x))


def test_state_swaps_and_copies():
    """Ground truth: eager; each state gets what the other had, or an argument."""
    a, b, c = (tt.Tensor([float(i), float(i)]) for i in range(3))

    def turn(x):
        first = a.clone()
        a.assign_(b)
        b.assign_(c)
        c.assign_(first)
        if x is not None:
            a.assign_(x)

    compiled = tt.compile(turn)
    compiled(None)
    assert [t.tolist() for t in (a, b, c)] == [[1, 1], [2, 2], [0, 0]]
    compiled(np.array([7.0, 8.0], np.float32))
    assert [t.tolist() for t in (a, b, c)] == [[7, 8], [0, 0], [1, 1]]


def test_writing_into_a_part():
    """Ground truth: eager; x[i] = v inside a compiled function."""
    table = tt.Tensor(np.zeros((4, 3), np.float32))

    def write(v):
        table[1] = v
        table[2:, 0] = 5.0
        return table.sum()

    assert tt.compile(write)(np.ones(3, np.float32)).item() == 13
    assert table.tolist() == [[0, 0, 0], [1, 1, 1], [5, 0, 0], [5, 0, 0]]


def test_kinds_of_calls_are_kept_up_to_their_number(monkeypatch):
    """The oldest goes when there is one more; those kept are not recorded again."""
    import tinytorch.compiler.compile as module

    monkeypatch.setattr(module, "MOST_RECORDINGS", 2)
    double = tt.compile(lambda x: x + x)
    for n in (1, 2, 1, 2):
        double(tt.ones(n))
    assert double.captures == 2
    double(tt.ones(3))
    double(tt.ones(2))
    assert double.captures == 3
    double(tt.ones(1))
    assert double.captures == 4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_optimizer_written_by_hand_with_state_made_at_first_use(threads):
    """Ground truth: eager, six steps; momentum made at first use, an average reassigned, a list of
    losses that grows. After one recording for the first step and one for all others."""

    class Momentum:
        def __init__(self, params):
            self.params, self.state, self.average, self.losses = list(params), {}, None, []

        def step(self, loss):
            with tt.no_grad():
                for i, p in enumerate(self.params):
                    if i not in self.state:
                        self.state[i] = tt.zeros_like(p.grad)
                    b = self.state[i]
                    b.mul_(0.9).add_(p.grad)
                    p.sub_(b, alpha=0.1)
                    p.grad = None
                value = loss.detach()
                self.average = value if self.average is None else self.average * 0.5 + value * 0.5
                self.losses.append(value)

    models = mlp(nn.ReLU), mlp(nn.ReLU)
    optimizers = [Momentum(m.parameters()) for m in models]

    def step(model, optimizer, x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step(loss)
        return loss

    compiled = tt.compile(lambda x, y: step(models[1], optimizers[1], x, y), threads=threads)
    for x, y in batches(6):
        a = step(models[0], optimizers[0], tt.Tensor(x), tt.Tensor(y)).item()
        assert abs(a - compiled(x, y).item()) <= 400 * EPS * abs(a)
    assert compiled.captures == 2
    for a, b in zip(optimizers[0].losses, optimizers[1].losses, strict=True):
        assert abs(a.item() - b.item()) <= 400 * EPS * abs(a.item())
    assert abs(optimizers[0].average.item() - optimizers[1].average.item()) <= 400 * EPS * 3
    for i, b in optimizers[0].state.items():
        error = np.abs(b.numpy() - optimizers[1].state[i].numpy()).max()
        assert error <= 400 * EPS * max(1.0, np.abs(b.numpy()).max())


def test_a_buffer_reassigned_in_forward():
    """Closed form: 1, 2, 3, 4 times the input; the state dictionary has the number."""

    class Counting(nn.Module):
        def __init__(self):
            self.register_buffer("n", tt.zeros(()))

        def forward(self, x):
            self.n = self.n + 1
            return x * self.n

    model = Counting()
    compiled = tt.compile(model)
    for i in range(1, 5):
        assert compiled(tt.ones(3)).tolist() == [i] * 3
        assert model.state_dict()["n"].item() == i
    model.load_state_dict({"n": tt.Tensor(10.0)})
    assert compiled(tt.ones(3)).tolist() == [11] * 3
    assert compiled.captures == 1
