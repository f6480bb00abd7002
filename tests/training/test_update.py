"""Updates: exact accumulation, clipping, what is left out, loss scaling, averaged weights.

Float64 throughout, so that a sum in another order differs by about 1e-16 relative.
"""

import functools
import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import GradientError, IndexRangeError, SettingError
from tinytorch.models import MLP
from tinytorch.nn import functional as F
from tinytorch.nn.functional import cross_entropy
from tinytorch.training import EMA, LossScaler, Trainer
from tinytorch.training.history import Silent
from tinytorch.training.loss import adds_up, weight_of
from tinytorch.training.step import Passes
from tinytorch.training.trainer import Callback
from tinytorch.training.update import Update

RNG = np.random.default_rng(1)
X = RNG.standard_normal((26, 5))
Y = RNG.integers(0, 3, 26)
WEIGHTS = np.array([0.2, 1.0, 5.0])
LOSSES = {
    "mean": F.cross_entropy,
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": nn.CrossEntropyLoss(weight=tt.Tensor(WEIGHTS)),
    "ignoring": nn.CrossEntropyLoss(ignore_index=1),
    "both": functools.partial(F.cross_entropy, weight=tt.Tensor(WEIGHTS), ignore_index=0),
    "summed": nn.CrossEntropyLoss(reduction="sum"),
}


def trainer(loss=F.cross_entropy, model=None, lr=0.1, **settings) -> Trainer:
    tt.manual_seed(0)
    model = model or nn.Linear(5, 3).to("float64")
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(model, tt.optim.SGD(model.parameters(), lr=lr), loss, **settings)


def cut(*sizes: int) -> list[tuple]:
    ends = np.cumsum(sizes)
    return [(X[e - n : e], Y[e - n : e]) for n, e in zip(sizes, ends, strict=True)]


def weights(trainer: Trainer) -> np.ndarray:
    return np.concatenate([p.detach().numpy().ravel() for p in trainer.model.parameters()])


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_accumulation_is_the_batch_in_one_piece(name, compile):
    """Ground truth: the same samples as one batch; parts of 4, 7, 2, a window that ends early.

    Windows of three: (4, 7, 2) and, at the end of the epoch, (9, 4). Class weights and ignored
    labels make the parts count differently.
    """
    parts = trainer(LOSSES[name], accumulate=3, compile=compile)
    parts.train(cut(4, 7, 2, 9, 4), 2)
    whole = trainer(LOSSES[name], compile=compile)
    whole.train(cut(13, 13), 2)
    assert parts.run.updates == whole.run.updates == 4
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)


def test_an_epochs_loss_is_that_of_all_its_samples():
    """Ground truth: the weighted cross-entropy of everything at once, without learning."""
    loss = LOSSES["both"]
    fixed = trainer(loss, lr=0.0)
    found = fixed.train(cut(4, 7, 2, 9, 4), 1).last
    x, y = tt.Tensor(X), tt.Tensor(Y)
    assert found["loss"] == pytest.approx(loss(fixed.model(x), y).item(), rel=1e-12)
    assert fixed.evaluate(cut(20, 6))["loss"] == pytest.approx(found["loss"], rel=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_of_which_nothing_counts_is_passed_over(accumulate):
    """Ground truth: its mean is 0 / 0; the other batch alone."""
    ignored = (X[:4], np.ones(4, np.int64))
    found, expected = (
        trainer(LOSSES["ignoring"], accumulate=accumulate),
        trainer(LOSSES["ignoring"]),
    )
    row = found.train([ignored, *cut(13)], 1).last
    assert row["loss"] == pytest.approx(expected.train(cut(13), 1).last["loss"], rel=1e-12)
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-12)
    found.train([ignored], 1)
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-12)


def test_what_a_mean_divides_by():
    """Ground truth: counted by hand."""
    target = tt.tensor([0, 1, 1, 2])
    assert weight_of(F.mse_loss, tt.zeros(4, 3)) == 12.0
    assert weight_of(LOSSES["weighted"], target).item() == pytest.approx(0.2 + 1 + 1 + 5)
    assert weight_of(LOSSES["ignoring"], target).item() == 2.0
    assert weight_of(LOSSES["both"], target).item() == pytest.approx(7.0)

    class Own:
        def batch_weight(self, target):
            return 3.5

    assert weight_of(Own(), target) == 3.5
    assert adds_up(LOSSES["summed"]) and not adds_up(F.cross_entropy)


def test_a_window_that_was_left_is_not_part_of_another_run():
    """Ground truth: the second run alone."""

    class Leaving(Callback):
        def after_batch(self, trainer, values):
            if trainer.steps == 2:
                trainer.stop("enough")

    left = trainer(accumulate=4, callbacks=[Leaving()])
    left.train(cut(4, 7, 2, 9), 1)
    assert left.passes.update.waiting == 2
    left.train(cut(13, 13), 1)
    fresh = trainer(accumulate=4)
    fresh.train(cut(13, 13), 1)
    assert np.array_equal(weights(left), weights(fresh)) and left.run.updates == 1


def test_parameters_without_a_gradient_are_left_alone():
    """Ground truth: AdamW would pull a weight without a gradient towards zero if it had zeros."""

    class Half(nn.Module):
        def __init__(self):
            self.used, self.unused = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return self.used(x)

    tt.manual_seed(0)
    model = Half().to("float64")
    before = model.unused.weight.detach().numpy().copy()
    adamw = tt.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for accumulate in (1, 2):
        trainer = Trainer(model, adamw, accumulate=accumulate, compile=False, progress=Silent())
        trainer.train(cut(13, 13), 1)
        assert np.array_equal(model.unused.weight.detach().numpy(), before)


@pytest.mark.parametrize("compile", [False, True])
def test_clipping_by_norm_and_value(compile):
    """Ground truth: with SGD of rate 1 the weights move by the clipped gradient: by hand."""
    for settings in ({"clip_norm": 0.01}, {"clip_value": 0.003}):
        clipped = trainer(lr=1.0, compile=compile, **settings)
        before = weights(clipped)
        free = trainer(lr=1.0, compile=compile)
        clipped.train(cut(26), 1)
        free.train(cut(26), 1)
        moved, gradient = weights(clipped) - before, weights(free) - before
        if "clip_norm" in settings:
            length = np.linalg.norm(gradient)
            expected = gradient * 0.01 / (length + 1e-6)  # 1e-6: see clip_grad_norm_
        else:
            expected = np.clip(gradient, -0.003, 0.003)
        np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-15)


def test_clipping_takes_the_window_as_a_whole():
    """Ground truth: the batch in one piece, clipped."""
    parts, whole = trainer(accumulate=2, clip_norm=0.05), trainer(clip_norm=0.05)
    parts.train(cut(4, 22), 1)
    whole.train(cut(26), 1)
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-12)


def bad(kind: str) -> list[tuple]:
    x, y = X.copy(), Y.astype(np.float64)[:, None]
    x[3, 0] = math.nan if kind == "input" else x[3, 0]
    y[5] = math.nan if kind == "label" else y[5]
    return [(X[:5], y[:5] * 0), (x[:8], y[:8])]


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["input", "label"])
def test_nan_in_the_data_is_an_error_and_spoils_nothing(kind, accumulate, compile):
    """Ground truth: weights, averages of AdamW and of batch norm after the good step alone."""

    def build():
        tt.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        adamw = tt.optim.AdamW(model.to("float64").parameters(), lr=0.1)
        return Trainer(model, adamw, nn.MSELoss(), accumulate=accumulate, ema=0.9,
                       compile=compile, progress=Silent())  # fmt: skip

    good, spoilt = build(), build()
    if accumulate == 1:
        good.train(bad(kind)[:1], 1)
    else:  # the window has not ended: only batch norm has moved
        good.passes.train(bad(kind)[0])
    with pytest.raises(GradientError, match="loss is nan since step 2"):
        spoilt.train(bad(kind), 1)
    for part in ("model", "optimizer", "ema"):
        ours, theirs = spoilt.state_dict()[part], good.state_dict()[part]
        for name in theirs:
            assert np.array_equal(ours[name].numpy(), theirs[name].numpy()), (part, name)


@pytest.mark.parametrize("compile", [False, True])
def test_labels_out_of_range_are_an_error_and_spoil_nothing(compile):
    """Ground truth: the weights before."""
    one = trainer(compile=compile)
    one.train(cut(13), 1)
    before = weights(one)
    with pytest.raises(IndexRangeError):
        one.train([(X[:13], Y[:13] + 1)], 1)
    assert np.array_equal(weights(one), before)


class NoSlope:
    """A root of a sum of squares: at 0 it is 0, and its slope 0 / 0."""

    def __call__(self, output, target):
        return ((output - target) ** 2).sum() ** 0.5

    def batch_weight(self, target):
        return 1.0


class Meeting(nn.Module):
    """weight * x and batch norm; a weight of 1 meets a target of x."""

    def __init__(self):
        self.weight = nn.Parameter(np.array([2.0, 2.0]))
        self.idle = nn.BatchNorm1d(2).to("float64")

    def forward(self, x):
        return self.weight * x + self.idle(x) * 0.0


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("settings", [
    {}, {"clip_norm": 1.0}, {"clip_value": 1.0}, {"clip_norm": 1.0, "clip_value": 1.0},
    {"ema": 0.5}, {"accumulate": 2}, {"accumulate": 2, "clip_norm": 1.0},
])  # fmt: skip
def test_a_gradient_that_is_not_finite_is_refused_and_spoils_nothing(settings, compile):
    """Ground truth: the state after the good steps alone; the loss of the bad one is 0 (finite)."""
    x = np.array([[1.0, 2.0], [3.0, -1.0]])
    good, bad = (x, x * 0.5), (x, x * 2.0)

    def build():
        return Trainer(Meeting(), tt.optim.AdamW(lr=0.0, weight_decay=0.0), NoSlope(), metrics={},
                       compile=compile, progress=Silent(), **settings)  # fmt: skip

    spoilt, expected = build(), build()
    expected.train([good] * 2, 1)
    with pytest.raises(GradientError, match="a gradient is infinite or NaN[\\s\\S]*since step 3"):
        spoilt.train([good, good, bad, good], 1)
    for part in ("model", "optimizer"):
        ours, theirs = spoilt.state_dict()[part], expected.state_dict()[part]
        for name in theirs:
            assert np.array_equal(ours[name].numpy(), theirs[name].numpy()), (part, name)
    spoilt.train([good] * 4, 1)  # it goes on
    assert all(np.isfinite(p.detach().numpy()).all() for p in spoilt.model.parameters())


def test_an_overflow_in_a_gradient_is_refused():
    """Ground truth: 3e38 * 3e38 is beyond float32, the loss of 0 * 3e38 * 3e38 is 0."""

    class Huge(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter([0.0])

        def forward(self, x):
            return self.weight * x * x

    for compile in (False, True):
        one = Trainer(Huge(), tt.optim.SGD(), lambda out, y: out.sum(), metrics={},
                      compile=compile, progress=Silent())  # fmt: skip
        x = np.full((2, 1), 3e38, np.float32)
        with pytest.raises(GradientError, match="a gradient is infinite or NaN"):
            with np.errstate(all="ignore"):
                one.train([(x, x)], 1)
        assert one.model.weight.item() == 0.0


def masked(output, target):
    """What a user writes by hand."""
    keep = (target != 1).astype(output.dtype)
    return (F.cross_entropy(output, target, reduction="none") * keep).sum() / keep.sum()


class Masked:
    """The same, with its divisor."""

    def __call__(self, output, target):
        return masked(output, target)

    def batch_weight(self, target):
        return (target != 1).sum()


class Wrapped(nn.Module):
    def forward(self, output, target):
        return F.cross_entropy(output, target, ignore_index=1)


PLAIN = {
    "ignoring": lambda o, y: F.cross_entropy(o, y, ignore_index=1),
    "weighted": lambda o, y: F.cross_entropy(o, y, tt.Tensor(WEIGHTS)),
    "both": lambda o, y: F.cross_entropy(o, y, tt.Tensor(WEIGHTS), ignore_index=2),
    "summed": lambda o, y: F.cross_entropy(o, y, reduction="sum"),
    "summed by hand": lambda o, y: F.cross_entropy(o, y, reduction="none").sum(),
    "sum over a number": lambda o, y: F.cross_entropy(o, y, reduction="sum") / 26.0,
    "sum over the size": lambda o, y: F.cross_entropy(o, y, reduction="sum") / y.shape[0],
    "mean by hand": lambda o, y: F.cross_entropy(o, y, reduction="none").mean(),
    "nll": lambda o, y: F.nll_loss(F.log_softmax(o, -1), y, ignore_index=1),
    "scaled": lambda o, y: 3.0 * F.cross_entropy(o, y, ignore_index=1) + 1.0,
    "module": Wrapped(),
    "divisor given": Masked(),
    "squares": lambda o, y: F.mse_loss(o, F.one_hot(y, 3).astype(o.dtype)),
}


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("sizes", [(7, 7, 6, 6), (4, 6, 10, 6), (1, 12, 1, 12)])
@pytest.mark.parametrize("name", PLAIN)
def test_accumulation_of_plain_functions_is_exact(name, sizes, compile):
    """Ground truth: the same 26 samples as one batch (T01)."""
    parts = trainer(PLAIN[name], accumulate=4, compile=compile)
    parts.train(cut(*sizes), 2)
    whole = trainer(PLAIN[name], compile=compile)
    whole.train(cut(26), 2)
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ["ignoring", "both", "module", "nll"])
def test_a_window_whose_first_batch_is_all_ignored(name, compile):
    """Ground truth: the other batch alone; the mean of nothing is 0 / 0 (T01)."""
    ignored = (X[:4], np.full(4, 2 if name == "both" else 1))
    found = trainer(PLAIN[name], accumulate=2, compile=compile)
    found.train([ignored, *cut(13)], 1)
    expected = trainer(PLAIN[name], compile=compile)
    expected.train(cut(13), 1)
    np.testing.assert_allclose(weights(found), weights(expected), rtol=1e-12)


def test_a_divisor_that_cannot_be_known_is_asked_for():
    """Ground truth: neither a sum nor a mean over the target: exact only with the user's word."""
    for loss in (masked, lambda o, y: o.std() * y.shape[0], lambda o, y: (o @ o.mT).mean()):
        before = trainer(loss, accumulate=2)
        with pytest.raises(SettingError, match="batch_weight"):
            before.train(cut(7, 6), 1)
        trainer(loss).train(cut(7, 6), 1)  # one batch is one batch


@pytest.mark.parametrize("name", ["summed by hand", "mean by hand", "ignoring", "summed"])
def test_batches_of_one_sample(name):
    """Ground truth: the same four samples as one batch."""
    parts, whole = trainer(PLAIN[name], accumulate=4), trainer(PLAIN[name])
    parts.train(cut(1, 1, 1, 1), 1)
    whole.train(cut(4), 1)
    np.testing.assert_allclose(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)


def test_a_loss_that_tells_nothing_is_let_be(monkeypatch):
    """Ground truth: counting: ten times the window, not every batch of a run."""
    tried = []
    monkeypatch.setattr("tinytorch.training.step.is_a_sum", lambda *_: tried.append(1))
    trainer(lambda o, y: (o * 0.0).mean(), accumulate=2).train(cut(*[1] * 26), 1)
    assert len(tried) == 20


def test_trying_a_loss_changes_nothing():
    """Ground truth: the run with a loss that is known: statistics, random state, weights."""

    def run(loss):
        tt.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        one = trainer(loss, model.to("float64"), accumulate=2)
        one.train(cut(7, 6, 7, 6), 2)
        return {n: t.numpy() for n, t in one.model.state_dict().items()}

    known, tried = run(F.cross_entropy), run(lambda o, y: F.cross_entropy(o, y))
    assert all(np.array_equal(known[n], tried[n]) for n in known)


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstring."""
    for settings, name in (
        ({"accumulate": 0}, "accumulate"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"clip_value": -1.0}, "clip_value"),
        ({"ema": 1.0}, "decay"),
        ({"precision": "int4"}, "precision"),
        ({"schedule_every": "week"}, "schedule_every"),
        ({"callbacks": [print]}, "callback"),
    ):
        with pytest.raises(SettingError, match=name):
            trainer(**settings)


def test_buffers_that_no_batch_moves_are_not_copied():
    """Ground truth: the recorded program: a table of constants is read and not assigned to."""

    class Masked(nn.Module):
        def __init__(self):
            self.layer, self.norm = nn.Linear(5, 3), nn.BatchNorm1d(3)
            self.register_buffer("table", tt.ones(1, 3))

        def forward(self, x):
            return self.norm(self.layer(x)) * self.table

    masked = Trainer(Masked(), tt.optim.SGD(), compile=True, progress=Silent())
    masked.train([(X.astype(np.float32), Y)], 1)
    call = masked.passes.steps["train"].compiled._last
    written = {id(call.recording.sources[call.recording.graph.states.index(old)])
               for old, _ in call.recording.graph.updates}  # fmt: skip
    assert id(masked.model.table) not in written
    assert id(masked.model.norm.running_mean) in written


@pytest.mark.parametrize("compile", [False, True])
def test_a_layer_frozen_between_two_runs_stays_and_moves_young_afterwards(compile):
    """Ground truth: its weights; Adam's first step on it is lr in size (X01, O01)."""
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).to("float64")
    adam = tt.optim.Adam(model.parameters(), lr=0.01, eps=0.0)
    one = Trainer(model, adam, compile=compile, progress=Silent())
    model[0].requires_grad_(False)
    before = model[0].weight.detach().numpy().copy()
    one.train(cut(13, 13), 2)
    assert np.array_equal(model[0].weight.detach().numpy(), before)
    model[0].requires_grad_(True)
    one.train(cut(13), 1)
    moved = np.abs(model[0].weight.detach().numpy() - before)
    np.testing.assert_allclose(moved, 0.01, rtol=1e-12)
    model[1].requires_grad_(False)
    after = model[1].weight.detach().numpy().copy()
    one.train(cut(13), 1)
    assert np.array_equal(model[1].weight.detach().numpy(), after)


# --- A compiled step without a finite loss leaves every state as it was, to the last bit ---


@pytest.mark.parametrize("sizes", [(3, 5, 2), (70, 133, 10)])
def test_states_of_a_step_that_is_left_out(sizes):
    """Invariant: weights, averages and count before and after are the same bits.

    Sizes beside whole vectors and tiles: the guard shares its mask with their ends.
    """
    tt.manual_seed(0)
    model = MLP(sizes)
    adamw = tt.optim.AdamW(model.parameters(), lr=0.1)
    passes = Passes(model, cross_entropy, {}, Update(adamw), "float32", True)
    x = np.random.default_rng(0).standard_normal((16, sizes[0])).astype(np.float32)
    y = np.arange(16) % sizes[-1]
    passes.train((x, y))

    def states():
        found = {**model.state_dict(), **{f"o.{k}": v for k, v in adamw.state_dict().items()}}
        return {name: tensor.numpy().copy() for name, tensor in found.items()}

    before = states()
    spoilt = x.copy()
    spoilt[3, 1] = np.nan
    values, *_ = passes.train((spoilt, y))
    assert np.isnan(values["loss"])
    for name, value in states().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    passes.train((x, y))
    moved = states()
    assert all(np.isfinite(v).all() for v in moved.values())
    assert not np.array_equal(moved["o.exp_avg.0.0"], before["o.exp_avg.0.0"])


# --- LossScaler and precision "float16": small gradients survive, overflows are left out ---

TINY = 1e-9  # below 2**-25 = 3e-8, half the smallest float16: rounds to 0 without scaling


def trained(precision: str, factor: float, compile: bool, steps: int = 1, scale=None):
    """A linear model whose loss is `factor` times its output's sum."""
    tt.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    with tt.no_grad():
        model.weight.fill_(0.0)  # what it moves by is then seen to the last bit
    trainer = Trainer(
        model, tt.optim.SGD(lr=1.0), lambda out, y: (out * y).sum(), metrics={},
        precision=precision, compile=compile, progress=Silent(),
    )  # fmt: skip
    if scale is not None:
        trainer.scaler.scale.fill_(scale)
    x, y = np.ones((2, 4), np.float32), np.full((2, 1), factor, np.float32)
    trainer.train([(x, y)] * steps, 1)
    return trainer, -model.weight.detach().numpy()


@pytest.mark.parametrize("compile", [False, True])
def test_gradients_too_small_for_float16_survive(compile):
    """Ground truth: d/dw sum(y * w x) = sum of y over the batch, 2e-9; unscaled it would be 0."""
    _, moved = trained("float16", TINY, compile)
    np.testing.assert_allclose(moved, 2 * TINY, rtol=2**-10)  # one rounding to float16
    _, lost = trained("float16", TINY, compile, scale=1.0)
    assert np.all(lost == 0.0)


@pytest.mark.parametrize("compile", [False, True])
def test_an_overflow_is_left_out_and_the_scale_halved(compile):
    """Ground truth: the gradient is 2 * 8; times 2**16 .. 2**12 it is at least 65536, infinite in
    float16; the sixth step, at 2**11, moves the weights by 16."""
    trainer, moved = trained("float16", 8.0, compile, steps=5)
    assert trainer.scaler.scale.item() == 2.0**11 and np.all(moved == 0.0)
    assert trainer.optimizer.state_dict()["step.0.0"].item() == 0.0
    trainer, moved = trained("float16", 8.0, compile, steps=6)
    assert trainer.scaler.scale.item() == 2.0**11
    assert np.all(moved == 16.0)


def test_a_scale_that_falls_without_end_is_an_error():
    """Ground truth: an infinite input has no gradient at any scale."""
    trainer, _ = trained("float16", 1.0, False)
    x = np.full((2, 4), np.inf, np.float32)
    with pytest.raises(GradientError, match="the loss scale fell to"), np.errstate(all="ignore"):
        trainer.train([(x, np.ones((2, 1), np.float32))] * 40, 1)
    assert np.isfinite(trainer.model.weight.numpy()).all()


def test_the_scale_grows_after_enough_good_steps():
    """Ground truth: by hand: interval 3, growth 4."""
    scaler, seen = LossScaler(scale=2.0, growth=4.0, interval=3), []
    for ok in (True, True, True, True, True, False, True, True, True):
        scaler.update(tt.Tensor(ok))
        seen.append(scaler.scale.item())
    assert seen == [2.0, 2.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 16.0]
    other = LossScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.scale.item() == 16.0


def test_settings_are_checked():
    """Ground truth: the docstring."""
    for settings in ({"scale": 0.0}, {"growth": 0.5}, {"backoff": 1.0}, {"interval": 0}):
        with pytest.raises(SettingError, match=next(iter(settings))):
            LossScaler(**settings)


@pytest.mark.parametrize("precision", ["bf16", "float16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_mixed_precision_learns_as_float32_does(precision, accumulate):
    """Ground truth: the float32 run. Inputs rounded to 8 or 11 bits change a loss of about 1 by
    2**-8 or 2**-11 a step; 40 steps with momentum add up to no more than a few percent."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 10)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    found = []
    for p in ("float32", precision):
        tt.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
        trainer = Trainer(model, tt.optim.AdamW(lr=0.01), precision=p, accumulate=accumulate,
                          compile=False, progress=Silent())  # fmt: skip
        found.append(trainer.train(batches, 10).last["loss"])
    assert found[1] == pytest.approx(found[0], rel=0.03) and found[1] != found[0]


# --- EMA: against the recurrence written in NumPy, and where the averages are used ---

NUMBERS = np.random.default_rng(5)
LINE = NUMBERS.standard_normal((24, 4)).astype(np.float32)
ON_THE_LINE = NUMBERS.integers(0, 3, 24)
BATCHES = [(LINE[i : i + 8], ON_THE_LINE[i : i + 8]) for i in range(0, 24, 8)]


class Keeping(Callback):
    """The weights after every update."""

    def __init__(self):
        self.seen: list[np.ndarray] = []

    def after_update(self, trainer):
        self.seen.append(trainer.model[0].weight.detach().numpy().copy())


def build(*callbacks, ema=0.8, **settings) -> Trainer:
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    settings = {"compile": False, "progress": Silent(), **settings}
    return Trainer(model, tt.optim.SGD(lr=0.5), ema=ema, callbacks=callbacks, **settings)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"compile": True}])
def test_the_average_is_the_recurrence(settings):
    """Ground truth: average = d * average + (1 - d) * weight, d = min(0.8, (1 + t) / (10 + t)).

    Float32: each step rounds twice, and 30 steps of weights near 1 add at most 30 * 1.2e-7.
    """
    keeping = Keeping()
    trainer = build(keeping, **settings)
    expected = trainer.model[0].weight.detach().numpy().astype(np.float64)
    trainer.train(BATCHES, 10)
    for t, weight in enumerate(keeping.seen):
        d = min(0.8, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * weight
    found = trainer.ema.averages["0.weight"].numpy()
    np.testing.assert_allclose(found, expected, atol=4e-6)
    assert len(keeping.seen) == (20 if settings.get("accumulate") else 30)


def test_buffers_are_averaged_and_counts_copied():
    """Ground truth: the names of the model's state; a whole number has no average."""
    trainer = build()
    trainer.train(BATCHES, 2)
    averages, own = trainer.ema.averages, trainer.model.state_dict()
    assert set(own) <= set(averages)
    for name, tensor in own.items():
        same = np.array_equal(averages[name].numpy(), tensor.numpy())
        assert same is not tensor.dtype.is_float, name


def test_tables_that_are_not_saved_are_left_alone():
    """Ground truth: a table with -inf, which no average survives at decay 0."""
    model = nn.Linear(2, 2)
    model.register_buffer("mask", tt.Tensor([-np.inf, 0.0]), persistent=False)
    ema = EMA(model, 0.0)
    ema.update()
    with ema.applied():
        assert model.mask.tolist() == [-np.inf, 0.0]
    assert sorted(ema.averages) == ["bias", "weight"]


def test_measuring_and_asking_use_the_average_and_training_goes_on_without_it():
    """Ground truth: a model that was given the averages by hand."""
    trainer = build()
    trainer.train(BATCHES, 2)
    own = {n: t.numpy().copy() for n, t in trainer.model.state_dict().items()}
    other = build(ema=None)
    other.model.load_state_dict({n: trainer.ema.averages[n] for n in own})
    assert trainer.evaluate(BATCHES) == other.evaluate(BATCHES)
    assert np.array_equal(trainer.predict(LINE).numpy(), other.predict(LINE).numpy())
    with trainer.averaged():
        inside = trainer.model[0].weight.detach().numpy().copy()
    assert np.array_equal(inside, trainer.ema.averages["0.weight"].numpy())
    assert all(np.array_equal(t.numpy(), own[n]) for n, t in trainer.model.state_dict().items())


def test_an_error_while_measuring_gives_the_weights_back():
    """Ground truth: the weights before."""
    trainer = build()
    trainer.train(BATCHES, 1)
    before = trainer.model[0].weight.detach().numpy().copy()
    with pytest.raises(Exception, match="linear|features"):
        trainer.predict(np.zeros((2, 7), np.float32))
    assert np.array_equal(trainer.model[0].weight.detach().numpy(), before)


def test_state_comes_back():
    """Ground truth: what was saved."""
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.5)
    with tt.no_grad():
        model.weight.fill_(3.0)
    ema.update()
    other = EMA(nn.Linear(2, 2), 0.5)
    other.load_state_dict(ema.state_dict())
    assert np.array_equal(other.averages["weight"].numpy(), ema.averages["weight"].numpy())
    assert other.updates.item() == 1.0


def test_decay_is_checked():
    """Ground truth: the docstring."""
    with pytest.raises(SettingError, match="decay"):
        EMA(nn.Linear(1, 1), 1.0)
