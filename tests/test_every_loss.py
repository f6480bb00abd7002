"""The contract that every loss keeps. A loss that is not in LOSSES fails the first test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError

RNG = np.random.default_rng(2)
SCORES = RNG.standard_normal((6, 5)) * 2
LABELS = np.array([0, 4, 2, 2, 1, 4])
IMAGE_SCORES = RNG.standard_normal((2, 3, 2, 2))
IMAGE_LABELS = RNG.integers(0, 3, (2, 2, 2))
SHARES = RNG.dirichlet(np.ones(5), 6)
REAL = RNG.standard_normal((6, 5)) * 2
YES = (RNG.random((6, 5)) < 0.5).astype(np.float64)
CHANCES = RNG.uniform(0.05, 0.95, (6, 5))
CLASS_WEIGHTS = np.array([0.5, 1.0, 2.0, 0.1, 3.0])
LOG_SHARES = np.log(RNG.dirichlet(np.ones(5), 6))


def log_softmax(x: np.ndarray, axis: int = 1) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def picked(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.take_along_axis(x, labels[:, None], 1).squeeze(1)


def weighted_mean(losses: np.ndarray, counts: np.ndarray) -> float:
    return (losses * counts).sum() / counts.sum()


@dataclass
class Case:
    """A loss, a prediction, a target, and the mean worked out in NumPy.

    Args:
        make: builds it; takes `reduction`.
        input: the prediction, in float64.
        target: floats or labels.
        mean: the loss by the textbook's formula, without care for overflow.
        each: shape of the losses with reduction="none".
        extremes: predictions of this size give finite losses and gradients.
        best: a prediction at which the loss is least, if there is one by itself.
        differentiable_target: whether the target's gradient is checked too.
    """

    make: Callable[..., nn.Module]
    input: np.ndarray
    target: np.ndarray
    mean: float
    each: tuple[int, ...] = (6, 5)
    extremes: tuple[float, ...] = (1e4, -1e4)
    best: np.ndarray | None = None
    differentiable_target: bool = False
    buffers: list[str] = field(default_factory=list)


LOSSES = {
    "MSELoss": Case(
        nn.MSELoss, REAL, YES, ((REAL - YES) ** 2).mean(), best=YES, differentiable_target=True
    ),
    "L1Loss": Case(
        nn.L1Loss, REAL, YES, np.abs(REAL - YES).mean(), best=YES, differentiable_target=True
    ),
    "HuberLoss": Case(
        lambda **s: nn.HuberLoss(delta=0.7, **s), REAL, YES,
        np.where(
            np.abs(REAL - YES) <= 0.7,
            (REAL - YES) ** 2 / 2,
            0.7 * (np.abs(REAL - YES) - 0.35),
        ).mean(),
        best=YES, differentiable_target=True,
    ),
    "SmoothL1Loss": Case(
        lambda **s: nn.SmoothL1Loss(beta=0.7, **s), REAL, YES,
        np.where(
            np.abs(REAL - YES) < 0.7, (REAL - YES) ** 2 / 1.4, np.abs(REAL - YES) - 0.35
        ).mean(),
        best=YES, differentiable_target=True,
    ),
    "SmoothL1Loss beta 0": Case(
        lambda **s: nn.SmoothL1Loss(beta=0.0, **s), REAL, YES, np.abs(REAL - YES).mean(), best=YES
    ),
    "CrossEntropyLoss": Case(
        nn.CrossEntropyLoss, SCORES, LABELS, -picked(log_softmax(SCORES), LABELS).mean(), (6,)
    ),
    "CrossEntropyLoss smoothed": Case(
        lambda **s: nn.CrossEntropyLoss(label_smoothing=0.2, ignore_index=4, **s), SCORES, LABELS,
        weighted_mean(
            -0.8 * picked(log_softmax(SCORES), LABELS) - 0.2 * log_softmax(SCORES).mean(1),
            LABELS != 4,
        ),
        (6,),
    ),
    "CrossEntropyLoss weighted": Case(
        lambda **s: nn.CrossEntropyLoss(CLASS_WEIGHTS, ignore_index=0, **s), SCORES, LABELS,
        weighted_mean(
            -picked(log_softmax(SCORES), LABELS), CLASS_WEIGHTS[LABELS] * (LABELS != 0)
        ),
        (6,), buffers=["weight"],
    ),
    "CrossEntropyLoss weighted and smoothed": Case(
        lambda **s: nn.CrossEntropyLoss(CLASS_WEIGHTS, label_smoothing=0.3, **s), SCORES, LABELS,
        (
            -0.7 * CLASS_WEIGHTS[LABELS] * picked(log_softmax(SCORES), LABELS)
            - 0.3 * (log_softmax(SCORES) * CLASS_WEIGHTS).mean(1)
        ).sum() / CLASS_WEIGHTS[LABELS].sum(),
        (6,), buffers=["weight"],
    ),
    "CrossEntropyLoss of images": Case(
        nn.CrossEntropyLoss, IMAGE_SCORES, IMAGE_LABELS,
        -np.take_along_axis(log_softmax(IMAGE_SCORES), IMAGE_LABELS[:, None], 1).mean(), (2, 2, 2),
    ),
    "CrossEntropyLoss of shares": Case(
        lambda **s: nn.CrossEntropyLoss(CLASS_WEIGHTS, **s), SCORES, SHARES,
        -(SHARES * CLASS_WEIGHTS * log_softmax(SCORES)).sum(1).mean(), (6,), buffers=["weight"],
    ),
    "NLLLoss": Case(
        nn.NLLLoss, LOG_SHARES, LABELS, -picked(LOG_SHARES, LABELS).mean(), (6,)
    ),
    "NLLLoss weighted": Case(
        lambda **s: nn.NLLLoss(CLASS_WEIGHTS, ignore_index=4, **s), LOG_SHARES, LABELS,
        weighted_mean(-picked(LOG_SHARES, LABELS), CLASS_WEIGHTS[LABELS] * (LABELS != 4)),
        (6,), buffers=["weight"],
    ),
    "BCEWithLogitsLoss": Case(
        nn.BCEWithLogitsLoss, REAL, YES, np.log1p(np.exp(np.where(YES > 0, -REAL, REAL))).mean(),
        differentiable_target=True,
    ),
    "BCEWithLogitsLoss weighted": Case(
        lambda **s: nn.BCEWithLogitsLoss(CLASS_WEIGHTS, pos_weight=CLASS_WEIGHTS * 2, **s),
        REAL, CHANCES,
        (
            CLASS_WEIGHTS * (
                CHANCES * 2 * CLASS_WEIGHTS * np.log1p(np.exp(-REAL))
                + (1 - CHANCES) * np.log1p(np.exp(REAL))
            )
        ).mean(),
        differentiable_target=True, buffers=["weight", "pos_weight"],
    ),
    "BCELoss": Case(
        nn.BCELoss, CHANCES, YES, -np.log(np.where(YES > 0, CHANCES, 1 - CHANCES)).mean(),
        extremes=(0.0, 1.0), differentiable_target=True,
    ),
    "BCELoss weighted": Case(
        lambda **s: nn.BCELoss(CLASS_WEIGHTS, **s), CHANCES, YES,
        -(CLASS_WEIGHTS * np.log(np.where(YES > 0, CHANCES, 1 - CHANCES))).mean(),
        extremes=(0.0, 1.0), buffers=["weight"],
    ),
    "KLDivLoss": Case(
        nn.KLDivLoss, LOG_SHARES, SHARES, (SHARES * (np.log(SHARES) - LOG_SHARES)).mean(),
        differentiable_target=True,
    ),
    "KLDivLoss of logarithms": Case(
        lambda **s: nn.KLDivLoss(log_target=True, **s), LOG_SHARES, np.log(SHARES),
        (SHARES * (np.log(SHARES) - LOG_SHARES)).mean(), differentiable_target=True,
    ),
}  # fmt: skip
each_loss = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())


def built(case: Case, dtype=tt.float64, **settings) -> nn.Module:
    return case.make(**settings).to(dtype)


def tensors(case: Case, dtype=np.float64) -> tuple[tt.Tensor, tt.Tensor]:
    target = case.target.astype(dtype) if case.target.dtype == np.float64 else case.target
    return tt.Tensor(case.input.astype(dtype), requires_grad=True), tt.Tensor(target)


def test_every_public_loss_has_a_case():
    """Ground truth: the names nn exports that end in Loss."""
    losses = {n for n in nn.__all__ if n.endswith("Loss") and inspect.isclass(getattr(nn, n))}
    listed = {name.split()[0] for name in LOSSES}
    assert losses == listed, f"LOSSES of tests/test_every_loss.py: {sorted(losses ^ listed)}"


@each_loss
def test_the_mean_is_that_of_the_formula(case):
    """Closed form: the textbook's formula in NumPy, float64; both round a few times."""
    x, y = tensors(case)
    loss = built(case)(x, y)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(case.mean, rel=1e-13)


@each_loss
def test_every_loss_reduces_by_mean_and_by_sum(case):
    """Invariants: the sum is that of each; float32 in, float32 out; the default is the mean."""
    x, y = tensors(case)
    each = built(case, reduction="none")(x, y)
    assert tuple(each.shape) == case.each
    total = built(case, reduction="sum")(x, y)
    assert total.item() == pytest.approx(each.detach().numpy().sum(), rel=1e-13)
    assert built(case)(x, y).item() == built(case, reduction="mean")(x, y).item()
    assert built(case, tt.float32)(*tensors(case, np.float32)).dtype is tt.float32


@each_loss
def test_gradients_of_first_and_second_order(case):
    """Ground truth: central differences in float64 (see the Note in tt.gradcheck).

    The largest third derivative here is that of log at 0.05: 2 / 0.05^3 = 16000; times h^2 / 6 with
    h = 1e-5 that is 3e-7 of a gradient of size 20; elsewhere 1e-9. Rounding gives 1e-11 / h = 1e-6
    of second derivatives only where they are 0.
    """
    loss = built(case, reduction="none")
    x, y = tensors(case)
    if case.differentiable_target:
        assert tt.gradcheck(loss, (x, y), rtol=1e-6)
    else:
        assert tt.gradcheck(lambda a: loss(a, y), (x,), rtol=1e-6)


@each_loss
def test_it_is_least_at_its_best_and_its_slope_is_0_there(case):
    """Invariants: at the best prediction value and gradient are 0; a step downhill goes down."""
    x, y = tensors(case)
    loss = built(case)
    before = loss(x, y)
    before.backward()
    assert loss(x.detach() - x.grad * 1e-3, y).item() < before.item()
    if case.best is not None:
        x = tt.Tensor(case.best, requires_grad=True)
        value = loss(x, y)
        value.backward()
        assert value.item() == 0.0 and not x.grad.numpy().any()


@each_loss
def test_stable_at_extremes(case):
    """Invariant: finite in float32, value and gradient, at the largest sizes of the issue."""
    _, y = tensors(case, np.float32)
    rows = np.broadcast_to(
        np.resize(np.array(case.extremes, np.float32), case.input.shape[1])[
            (slice(None),) + (None,) * (case.input.ndim - 2)
        ],
        case.input.shape,
    )
    for numbers in (rows, rows[:, ::-1]):
        x = tt.Tensor(numbers.copy(), requires_grad=True)
        loss = built(case, tt.float32)(x, y)
        loss.backward()
        assert np.isfinite(loss.item()) and np.isfinite(x.grad.numpy()).all()


@each_loss
def test_arrays_are_taken_for_tensors(case):
    """Ground truth: the same numbers as Tensors (ruling C6)."""
    x, y = tensors(case)
    assert built(case)(case.input, y.numpy()).item() == built(case)(x, y).item()
    functional = nn.functional.mse_loss(np.zeros(3), np.full(3, 2.0))
    assert functional.item() == 4.0
    with pytest.raises(ShapeError, match="broadcast_to"):
        nn.functional.mse_loss(tt.zeros(3), 1.0)


@each_loss
def test_an_empty_batch_has_no_mean(case):
    """Ground truth: 0 / 0 is not a loss; the sum of nothing is 0."""
    x, y = tt.Tensor(case.input[:0]), tt.Tensor(case.target[:0])
    with pytest.raises(ShapeError, match="an empty batch has no mean"):
        built(case)(x, y)
    assert built(case, reduction="sum")(x, y).item() == 0.0


@each_loss
def test_shapes_that_do_not_belong_together_are_refused(case):
    """Ground truth: broadcasting would hide the mistake."""
    x, y = tensors(case)
    with pytest.raises(ShapeError, match="different shapes|do not belong"):
        built(case)(x, y[:1])


@each_loss
def test_compiled_is_eager(case):
    """Ground truth: eager NumPy, float32; sums of 30 terms differ by a few times 6e-8."""
    loss = built(case, tt.float32)

    def step(x, y):
        value = loss(x, y)
        value.backward()
        return value

    results = []
    for call in (step, tt.compile(step)):
        x, y = tensors(case, np.float32)
        results.append((call(x, y).detach().numpy(), x.grad.numpy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@each_loss
def test_state_and_repr(case):
    """Ground truth: weights are state under PyTorch's names; the class's name comes first."""
    loss = case.make()
    assert list(loss.state_dict()) == case.buffers
    assert not list(loss.parameters())
    assert repr(loss).startswith(type(loss).__name__ + "(")
    assert "reduction='sum'" in repr(case.make(reduction="sum"))


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in LOSSES}))
def test_a_reduction_that_does_not_exist_is_named(name):
    """Ground truth: the list in the docstring."""
    with pytest.raises(SettingError, match=f"{name}: no such reduction"):
        getattr(nn, name)(reduction="average")


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.HuberLoss(delta=0.0), "delta is outside its range"),
        (lambda: nn.SmoothL1Loss(beta=-1.0), "beta is outside its range"),
        (lambda: nn.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing is outside its range"),
        (lambda: nn.CrossEntropyLoss(ignore_index=0.5), "ignore_index is not a whole number"),
        (lambda: nn.NLLLoss(np.array([1, 2])), "weight is not made of floats"),
        (lambda: nn.KLDivLoss(log_target=1), "log_target is a yes or no"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.NLLLoss(np.ones(5, np.float32))])
def test_labels_outside_the_classes_are_refused(loss, compiled):
    """Ground truth: [0, K), eager and compiled; a weight's table is not read past its end."""
    call = tt.compile(loss.forward) if compiled else loss
    for wrong in (-1, 5):
        with pytest.raises(IndexRangeError):
            call(tt.zeros(2, 5), tt.tensor([0, wrong]))


def test_a_weight_of_another_number_of_classes_is_refused():
    """Ground truth: one number for each class."""
    with pytest.raises(ShapeError, match="weight is not one number for each class"):
        nn.CrossEntropyLoss(np.ones(4))(tt.zeros(2, 5), tt.tensor([0, 1]))


def test_labels_that_are_not_whole_numbers_are_refused():
    """Ground truth: NaN labels are floats, and floats must be probabilities of every class."""
    with pytest.raises(ShapeError, match="probabilities do not belong"):
        nn.CrossEntropyLoss()(tt.zeros(2, 5), tt.Tensor([0.0, float("nan")]))


def test_binary_cross_entropy_has_a_slope_at_0():
    """Closed form: sigmoid(0) - y, and second derivative 1/4, at the logits of a fresh layer."""
    slope = tt.grad(lambda x: nn.functional.binary_cross_entropy_with_logits(x, tt.Tensor([1.0])))
    assert slope(tt.Tensor([0.0])).tolist() == [-0.5]
    assert tt.grad(lambda x: slope(x).sum())(tt.Tensor([0.0])).tolist() == [0.25]


def test_a_certain_mistake_costs_100():
    """Ground truth: PyTorch's bound of the logarithm in binary cross-entropy."""
    assert nn.BCELoss()(tt.Tensor([0.0, 1.0]), tt.Tensor([1.0, 0.0])).item() == 100.0


def test_what_has_no_probability_costs_nothing():
    """Closed form: 0 log 0 = 0, even against -inf; value and gradient stay finite."""
    x = tt.Tensor([[0.0, float("-inf")]], requires_grad=True)
    loss = nn.KLDivLoss("batchmean")(x, tt.Tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0.0 and x.grad.tolist() == [[-1.0, 0.0]]


def test_batchmean_is_the_divergence():
    """Closed form: the sum over classes, averaged over samples."""
    divergence = (SHARES * (np.log(SHARES) - LOG_SHARES)).sum() / 6
    value = nn.KLDivLoss("batchmean")(tt.Tensor(LOG_SHARES), tt.Tensor(SHARES)).item()
    assert value == pytest.approx(divergence, rel=1e-13)
