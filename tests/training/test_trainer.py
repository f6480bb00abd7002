"""trainer.py and step.py: the loop against a loop written by hand, interruption, errors."""

import os
import signal
from typing import NamedTuple

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DataError, FileFormatError, GradientError, SettingError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.models import MLP
from tinytorch.nn import functional as F
from tinytorch.training import Checkpoints, Trainer, accuracy, load_weights, save_weights
from tinytorch.training.history import PlainLines, Silent

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def parts(seed: int = 0, **settings):
    tt.manual_seed(seed)
    model = MLP([6, 16, 3])
    settings = {"compile": False, "progress": Silent(), **settings}
    return model, Trainer(model, tt.optim.AdamW(model.parameters(), lr=0.02), **settings)


def loader(batch_size: int = 8, **settings) -> DataLoader:
    return DataLoader(ArrayDataset(X, Y), batch_size, **settings)


class Interrupting:
    """Batches, and a Ctrl-C while one of them is handed out."""

    def __init__(self, at: int):
        self.at = at

    def __iter__(self):
        for i, batch in enumerate(loader(), 1):
            if i == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def test_training_is_the_loop_written_by_hand():
    """Ground truth: forward, loss, backward, step, in this order; equal to the last bit."""
    model, trainer = parts()
    history = trainer.train(loader(), epochs=2)
    tt.manual_seed(0)
    other = MLP([6, 16, 3])
    adamw = tt.optim.AdamW(other.parameters(), lr=0.02)
    losses: list[float] = []
    for _ in range(2):
        for x, y in loader():
            loss = F.cross_entropy(other(tt.Tensor(x)), tt.Tensor(y))
            losses.append(loss.item())
            loss.backward()
            adamw.step()
            adamw.zero_grad()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
    assert history["loss"] == pytest.approx([np.mean(losses[:5]), np.mean(losses[5:])])
    assert trainer.steps == 10


def test_learns_and_measures():
    """Ground truth: two half planes are separable by a small network."""
    _, trainer = parts()
    history = trainer.train(loader(shuffle=True, seed=1), epochs=40, validation=loader())
    assert history.last["accuracy"] > 0.95 and history.last["val_accuracy"] > 0.95
    assert list(history.last) == [
        "epoch",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
    ]
    assert trainer.fit == trainer.train


def test_evaluation_weights_batches_by_their_samples():
    """Ground truth: the loss over all samples at once; 40 = 2 * 16 + 8. Nothing changes."""
    model, trainer = parts()
    before = {n: t.numpy().copy() for n, t in model.state_dict().items()}
    found = trainer.evaluate(loader(16))
    expected = F.cross_entropy(model(tt.Tensor(X)), tt.Tensor(Y)).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)  # float32 means of 16 and of 40
    assert model.training
    assert all(np.array_equal(t.numpy(), before[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("n", [0, 1, 7, 40])
def test_prediction_gives_all_outputs_in_order(n):
    """Ground truth: the model in one piece; float32 sums of 16 in another order."""
    model, trainer = parts()
    found = trainer.predict(X[:n], batch_size=16).numpy()
    assert found.shape == (n, 3)
    np.testing.assert_allclose(
        found, model(tt.Tensor(X[:n])).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_evaluation_mode_lasts_as_long_as_it_is_needed():
    """Ground truth: dropout of everything would give zeros in training mode."""
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(1.0))
    sgd = tt.optim.SGD(model.parameters())
    trainer = Trainer(model, sgd, compile=False, progress=Silent())
    assert np.abs(trainer.predict(X).numpy()).max() > 0
    assert model.training
    model.eval()
    trainer.predict(X)
    trainer.evaluate(loader())
    assert not model.training


def test_interruption_stops_between_steps_saves_and_says_how_to_go_on(tmp_path, capsys):
    """Ground truth: the step that was under way is whole, the next does not begin."""
    model, trainer = parts(progress=PlainLines())
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    history = trainer.train(Interrupting(at=3), epochs=4, checkpoint=folder)
    assert history.stopped and len(history) == 0 and trainer.steps == 3
    said = capsys.readouterr().out
    assert "stopped after step 3; saved in" in said
    assert f"trainer.train(loader, epochs=4, checkpoint={str(folder)!r}, resume=True)" in said
    assert signal.getsignal(signal.SIGINT) is before
    found = Checkpoints(folder).load()["model"]["layers.0.weight"]
    assert np.array_equal(found.numpy(), model.layers[0].weight.detach().numpy())


def test_interruption_without_a_folder_says_how_to_go_on(capfd):
    """Ground truth: the epoch that was stopped is finished first: 4 whole epochs in the end."""
    _, trainer = parts(progress=PlainLines())
    data = Interrupting(at=3)
    assert trainer.train(data, epochs=4).stopped
    said = capfd.readouterr()
    assert "stopped after step 3. To go on: trainer.train(loader, epochs=4)" in said.out
    assert said.err == "\nstopping after this step; Ctrl-C again stops at once\n"
    data.at = 0
    assert len(trainer.train(data, epochs=4)) == 4
    assert trainer.steps == 20


def test_a_second_interruption_is_not_held_back():
    """Ground truth: Python's own KeyboardInterrupt."""

    class Twice(Interrupting):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            yield from loader()

    with pytest.raises(KeyboardInterrupt):
        parts()[1].train(Twice(0), epochs=1)


def test_a_loss_that_is_no_number_stops_the_run():
    """Ground truth: a learning rate of 1e30 cannot go well."""
    model, trainer = parts(loss=lambda out, y: (out * out).sum() + 0.0 * y.sum())
    trainer.optimizer.lr = 1e30
    with pytest.raises(GradientError, match="since step [23]"):
        with np.errstate(all="ignore"):
            trainer.train(loader(), epochs=2)


def test_a_loader_without_batches_is_named():
    """Ground truth: at least one batch."""
    with pytest.raises(DataError, match="nothing to go through"):
        parts()[1].train([], epochs=1)
    with pytest.raises(SettingError, match="epochs is not a whole number"):
        parts()[1].train(loader(), epochs=-1)


def test_damaged_weights_change_nothing(tmp_path):
    """Ground truth: the strict reader's refusal."""
    model, _ = parts()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file, {"note": "test"})
    file.write_bytes(file.read_bytes()[:-1])
    before = model.layers[0].weight.detach().numpy().copy()
    with pytest.raises(FileFormatError):
        load_weights(model, file)
    assert np.array_equal(model.layers[0].weight.detach().numpy(), before)


def test_several_inputs_and_other_metrics():
    """Ground truth: the last array of a batch is the target, the others go to the model."""

    class Sum(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter([0.5])

        def forward(self, a, b):
            return (a + b) * self.weight

    model = Sum()
    batch = (X[:, :1], X[:, 1:2], X[:, :1] + X[:, 1:2])
    trainer = Trainer(
        model, tt.optim.SGD(model.parameters(), lr=0.3), nn.MSELoss(), compile=False,
        metrics={"error": lambda out, y: (out - y).abs().mean()}, progress=Silent(),
    )  # fmt: skip
    history = trainer.train([batch], epochs=60)
    assert model.weight.item() == pytest.approx(1.0, abs=1e-3)
    assert list(history.last)[:3] == ["epoch", "loss", "error"]


def test_bfloat16_training_goes_through_the_precision_mode():
    """Invariant: rounding inputs to 8 bits changes the loss by about 2^-8, and not by nothing."""
    exact, rounded = (
        parts(precision=p)[1].train(loader(), 1)["loss"][0] for p in ("float32", "bf16")
    )
    assert rounded == pytest.approx(exact, rel=0.02)
    assert rounded != exact


def test_compiled_training_is_eager_training():
    """Ground truth: eager NumPy, float32: two epochs, the last batch of 4 smaller than the others.

    Modes change in between: each kind of step is captured again and must find its own program.
    """
    found = []
    for compile in (False, True):
        _, trainer = parts(compile=compile)
        data = DataLoader(ArrayDataset(X[:36], Y[:36]), 8)
        history = trainer.train(data, epochs=2, validation=data)
        found.append(np.array([[row["loss"], row["val_loss"]] for row in history]))
        found.append(trainer.predict(X[:19], batch_size=8).numpy())
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[3], found[1], rtol=1e-3, atol=1e-3)  # AdamW, 10 steps


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((X[:0], Y[:0]), "a tuple of 2 with 0 samples"),
        ((X[:4],), "a tuple of 1"),
        (X[:4], "a ndarray"),
        ({"x": X}, "a dict"),
    ],
)
def test_what_is_no_batch_is_named(batch, said):
    """Ground truth: (input, ..., target) with at least one sample; nothing has moved."""
    model, trainer = parts()
    before = model.layers[0].weight.detach().numpy().copy()
    for use in (lambda: trainer.train([batch], 1), lambda: trainer.evaluate([batch])):
        with pytest.raises(DataError, match="this is not a batch to learn from") as error:
            use()
        assert said in str(error.value)
    assert np.array_equal(model.layers[0].weight.detach().numpy(), before)


def test_an_optimizer_without_parameters_is_given_the_models():
    """Ground truth: the trainer whose optimizer had them."""
    found = []
    for bound in (True, False):
        tt.manual_seed(0)
        model = MLP([6, 16, 3])
        adam = tt.optim.Adam(*([model.parameters()] if bound else []), lr=0.01)
        Trainer(model, adam, compile=False, progress=Silent()).train(loader(), 1)
        found.append(model.layers[0].weight.detach().numpy())
    assert np.array_equal(*found)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("every", ["epoch", "step"])
def test_schedules_move_on_when_they_should(every, compile):
    """Ground truth: 0.5 ** (steps of the schedule): 5 batches an epoch, windows of two: 3."""
    tt.manual_seed(0)
    model = MLP([6, 16, 3])
    sgd = tt.optim.SGD(model.parameters(), lr=1.0)
    trainer = Trainer(
        model, sgd, schedule=tt.optim.StepLR(sgd, 1, 0.5), schedule_every=every, accumulate=2,
        compile=compile, progress=Silent(),
    )  # fmt: skip
    history = trainer.train(loader(), 2)
    assert history["lr"] == ([1.0, 0.5] if every == "epoch" else [0.5**3, 0.5**6])
    assert trainer.optimizer.lr == (0.25 if every == "epoch" else 0.5**6)
    assert trainer.passes.steps["train"].compiled is None or (
        trainer.passes.steps["train"].compiled.captures <= 2  # full and last batch: not again
    )


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_looks_at_the_validation(mode):
    """Ground truth: the rule followed on the history: halved after each epoch without a better
    number (patience 0)."""
    tt.manual_seed(0)
    model = MLP([6, 16, 3])
    sgd = tt.optim.SGD(model.parameters(), lr=0.9)
    plateau = tt.optim.ReduceLROnPlateau(sgd, mode=mode, factor=0.5, patience=0)
    trainer = Trainer(model, sgd, schedule=plateau, compile=False, progress=Silent())
    history = trainer.train(loader(), 12, validation=loader())
    lr, best, expected = 0.9, None, []
    for value in history["val_loss" if mode == "min" else "val_accuracy"]:
        expected.append(lr)
        better = best is None or (
            value < best * (1 - 1e-4) if mode == "min" else value > best * (1 + 1e-4)
        )
        best, lr = (value, lr) if better else (best, lr * 0.5)
    assert history["lr"] == pytest.approx(expected) and lr < 0.9


def test_the_loop_fits_on_one_screen():
    """Ground truth: the lines of `train` without its docstring, at most 25."""
    import ast
    import inspect
    import textwrap

    tree = ast.parse(textwrap.dedent(inspect.getsource(Trainer.train))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    assert tree.end_lineno - tree.body[1].lineno < 25


def test_sequences_are_measured_by_tokens():
    """Ground truth: the mean over all tokens at once, of batches whose lengths differ."""
    rng = np.random.default_rng(1)
    batches = [
        (rng.integers(0, 5, (n, t)), rng.integers(0, 5, (n, t))) for n, t in ((2, 3), (4, 7))
    ]

    class Next(nn.Module):
        def __init__(self):
            self.table = nn.Embedding(5, 5)

        def forward(self, tokens):
            return self.table(tokens).transpose(1, 2)  # (N, K, T)

    model = Next()
    trainer = Trainer(model, tt.optim.SGD(), compile=False, progress=Silent())
    found = trainer.evaluate(batches)
    losses = [
        F.cross_entropy(model(tt.Tensor(x)), tt.Tensor(y), reduction="none").numpy().ravel()
        for x, y in batches
    ]
    right = [(model(tt.Tensor(x)).numpy().argmax(1) == y).ravel() for x, y in batches]
    assert found["loss"] == pytest.approx(np.concatenate(losses).mean(), rel=1e-6)
    assert found["accuracy"] == pytest.approx(np.concatenate(right).mean(), rel=1e-6)


@pytest.mark.parametrize("compile", [False, True])
def test_several_inputs_and_outputs_are_predicted(compile):
    """Ground truth: the sums and differences themselves."""

    class Both(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter([1.0])

        def forward(self, a, b):
            return (a + b) * self.weight, a - b

    trainer = Trainer(Both(), tt.optim.SGD(), nn.MSELoss(), compile=compile, progress=Silent())
    total, difference = trainer.predict((X, 2 * X), batch_size=16)
    assert np.array_equal(total.numpy(), 3 * X) and np.array_equal(difference.numpy(), -X)


class Pair(NamedTuple):
    first: tt.Tensor
    second: tt.Tensor


@pytest.mark.parametrize("kind", [Pair, lambda a, b: (a, b), lambda a, b: [a, b]])
def test_a_model_may_give_several_outputs_to_loss_and_metrics(kind):
    """Ground truth: the number itself, without its place on the tape; the loss falls."""
    seen = []

    class Two(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            out = self.layer(x)
            return kind(out, out * out)

    def distance(output, target):
        seen.append((type(output), output[1].requires_grad))
        return output[1].mean()

    def loss(output, target):
        return ((output[0] - target) ** 2).mean()

    trainer = Trainer(
        Two(), tt.optim.SGD(lr=0.1), loss, metrics={"size": distance}, compile=False,
        progress=Silent(),
    )  # fmt: skip
    history = trainer.train([(X, X)] * 4, 2)
    assert history.last["loss"] < history["loss"][0]
    assert {needs for _, needs in seen} == {False}
    assert {name for name, _ in seen} == {type(kind(1, 2))}


def test_metrics_without_names_ended_in_pythons_words():
    """Ground truth: a metric's name is a column of the history, so it must be said."""
    model = nn.Linear(2, 2)
    for metrics in ([accuracy], {"accuracy": 0.9}):
        with pytest.raises(SettingError, match="names and functions"):
            Trainer(model, tt.optim.SGD(lr=0.1), metrics=metrics)
