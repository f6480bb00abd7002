"""schedules.py: curves, state, messages."""

import json
import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import CompileError, SettingError

CURVES = {
    "StepLR": lambda o: optim.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: optim.MultiStepLR(o, [2, 5], 0.5),
    "ExponentialLR": lambda o: optim.ExponentialLR(o, 0.9),
    "ConstantLR": lambda o: optim.ConstantLR(o, 0.5, 4),
    "LambdaLR": lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)),
    "LinearLR": lambda o: optim.LinearLR(o, 0.25, 1.0, 4),
    "PolynomialLR": lambda o: optim.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: optim.CosineAnnealingLR(o, 6, 0.01),
    "CosineAnnealingWarmRestarts": lambda o: optim.CosineAnnealingWarmRestarts(o, 2, 2, 0.01),
    "WarmupCosineLR": lambda o: optim.WarmupCosineLR(o, 3, 10, 0.01),
    "OneCycleLR": lambda o: optim.OneCycleLR(o, 1.0, 10),
    "SequentialLR": lambda o: optim.SequentialLR(
        o, [optim.LinearLR(o, 0.1, 1.0, 3), optim.StepLR(o, 2, 0.5)], [3]
    ),
    "ReduceLROnPlateau": lambda o: optim.ReduceLROnPlateau(o, "min", 0.5, 1),
}
LOSSES = [3.0, 2.0, 2.5, 2.5, 1.0, 1.0, math.nan, 0.5, 0.6, 0.7]
each_curve = pytest.mark.parametrize("make", CURVES.values(), ids=CURVES.keys())


def optimizer(*rates: float) -> optim.SGD:
    groups = [{"params": [tt.zeros(1, requires_grad=True)], "lr": r} for r in rates or (1.0,)]
    return optim.SGD(groups)


def followed(schedule, steps: int, start: int = 0) -> list[list[float]]:
    """The rates before each of some steps."""
    rates = []
    for i in range(start, start + steps):
        rates.append(schedule.get_last_lr())
        schedule.step(LOSSES[i]) if schedule.needs_metric else schedule.step()
    return rates


def test_every_public_schedule_has_a_case():
    """Ground truth: the names optim exports."""
    kinds = {n for n in optim.__all__ if isinstance(getattr(optim, n), type)}
    assert {n for n in kinds if issubclass(getattr(optim, n), optim.Schedule)} - {
        "Schedule"
    } == set(CURVES)


def cosine(part: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * part)) / 2


# The docstrings' formulas for the schedules of CURVES, rate 1 at first; step by step, t = 0 to 9.
FORMULAS = {
    "StepLR": [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125],
    "MultiStepLR": [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25],
    "ExponentialLR": [0.9**t for t in range(10)],
    "ConstantLR": [0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1],
    "LambdaLR": [1 / (1 + t) for t in range(10)],
    "LinearLR": [0.25, 0.4375, 0.625, 0.8125, 1, 1, 1, 1, 1, 1],
    "PolynomialLR": [(left / 8) ** 2 for left in (8, 7, 6, 5, 4, 3, 2, 1, 0, 0)],
    "CosineAnnealingLR": [0.01 + 0.99 * cosine(t / 6) for t in range(10)],
    "CosineAnnealingWarmRestarts": [
        0.01 + 0.99 * cosine(part)
        for part in (0, 1 / 2, 0, 1 / 4, 2 / 4, 3 / 4, 0, 1 / 8, 2 / 8, 3 / 8)
    ],
    "WarmupCosineLR": [1 / 3, 2 / 3, 1, *(0.01 + 0.99 * cosine(t / 7) for t in range(7))],
    # From 1/25 up to 1 at step 2 (0.3 * 10 - 1), then in 7 steps down to 1/25 * 1e-4.
    "OneCycleLR": [
        *(1 + (1 / 25 - 1) * cosine(t / 2) for t in range(2)),
        *(1 / 25e4 + (1 - 1 / 25e4) * cosine(t / 7) for t in range(8)),
    ],
    "SequentialLR": [0.1, 0.4, 0.7, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125],
}


@pytest.mark.parametrize("name", FORMULAS)
def test_every_curve_is_its_formula(name):
    """Closed form: FORMULAS, as a curve and step by step; each step rounds once more."""
    schedule = CURVES[name](optimizer(1.0))
    assert [schedule.rate(1.0, t) for t in range(10)] == pytest.approx(FORMULAS[name], rel=1e-12)
    assert [r for (r,) in followed(schedule, 10)] == pytest.approx(FORMULAS[name], rel=1e-12)


@each_curve
def test_saved_in_the_middle_it_goes_on_the_same(make):
    """Ground truth: the schedule that was not interrupted; the state passes through JSON."""
    whole = followed(make(optimizer(1.0, 0.5)), 10)
    first = optimizer(1.0, 0.5)
    schedule = make(first)
    assert followed(schedule, 4) == whole[:4]
    state = json.loads(json.dumps(schedule.state_dict()))
    second = optimizer(9.0, 9.0)  # its rates come with the optimizer's state
    resumed = make(second)
    second.load_state_dict({n: t.numpy().copy() for n, t in first.state_dict().items()})
    resumed.load_state_dict(state)
    assert followed(resumed, 6, start=4) == whole[4:]


@each_curve
def test_state_of_another_schedule_is_refused(make):
    """Ground truth: the names of state_dict()."""
    schedule = make(optimizer())
    with pytest.raises(SettingError, match="names in this state are not its names"):
        schedule.load_state_dict({})
    with pytest.raises(SettingError, match="made of numbers"):
        schedule.load_state_dict({n: "three" for n in schedule.state_dict()})
    schedule.load_state_dict({n: np.array(3) for n in schedule.state_dict()})
    assert schedule.last_epoch == 3 and type(schedule.last_epoch) is int


def test_a_refused_state_is_shown():
    """Ground truth: the names that were given."""
    schedule = optim.StepLR(optimizer(), 1)
    for state, shown in (({}, "no names"), ({"t": 1, "u": 2}, "t, u")):
        with pytest.raises(SettingError) as caught:
            schedule.load_state_dict(state)
        assert caught.value.got == shown


@each_curve
def test_optimizer_may_be_bound_later(make):
    """Ground truth: the schedule of an optimizer that was bound at once."""
    later = optim.SGD(lr=1.0)
    schedule = make(later)
    later.bind([tt.zeros(1, requires_grad=True)])
    assert followed(schedule, 8) == followed(make(optimizer(1.0)), 8)


@each_curve
def test_a_step_inside_a_compiled_function_is_refused(make):
    """Ground truth: it would be done once, while the program is recorded, and never again."""
    schedule = make(optimizer())

    @tt.compile
    def step(x):
        schedule.step(1.0) if schedule.needs_metric else schedule.step()
        return x + 1.0

    with pytest.raises(CompileError, match=r"schedule\.step\(\)"):
        step(tt.zeros(1))


def test_a_compiled_step_sees_the_rate_without_being_compiled_again():
    """Closed form: gradient 1: the weight moves by the rates 1, 1/2, 1/4; one program."""
    w = tt.zeros(1, requires_grad=True)
    sgd = optim.SGD([w], lr=1.0)
    schedule, captured = optim.ExponentialLR(sgd, 0.5), []

    @tt.compile
    def step():
        captured.append(1)
        (w * 1.0).sum().backward()
        sgd.step()
        sgd.zero_grad()

    for _ in range(3):
        step()
        schedule.step()
    assert w.item() == -1.75 and len(captured) == 1


def test_a_rate_set_by_hand_is_where_the_curve_goes_on():
    """Closed form: 1, 1/2, then 8 is set: 8 / 2, as in PyTorch; a function t -> t of it: 8 * 2."""
    for make, expected in ((CURVES["ExponentialLR"], 7.2), (lambda o: optim.LambdaLR(o, abs), 16)):
        sgd = optimizer(1.0)
        schedule = make(sgd)
        schedule.step()
        sgd.lr = 8.0
        schedule.step()
        assert sgd.lr == pytest.approx(expected, rel=1e-15)


def test_a_groups_rate_set_by_hand_before_and_after_a_schedule_is_made():
    """Ground truth: PyTorch: what is set before is what the schedule begins with; afterwards a
    function goes back to its curve, .5 -> .1 (porting.md)."""
    sgd = optimizer(1.0)
    sgd.param_groups[0]["lr"] = 0.2
    schedule = optim.LambdaLR(sgd, lambda t: 1 / (1 + t))
    assert sgd.param_groups[0]["initial_lr"] == 0.2
    sgd.param_groups[0]["lr"] = 0.5
    schedule.step()
    assert sgd.lr == 0.1


@each_curve
def test_rates_are_right_at_once_after_loading_in_any_order(make):
    """Ground truth: the rates when the state was taken, one set by hand afterwards (S02)."""
    first = optimizer(1.0, 0.5)
    schedule = make(first)
    followed(schedule, 3)
    first.param_groups[1]["lr"] = 0.375
    states = (
        {n: t.numpy().copy() for n, t in first.state_dict().items()},
        json.loads(json.dumps(schedule.state_dict())),
    )
    expected, rest = schedule.get_last_lr(), followed(schedule, 5, start=3)

    def loaded(order: str) -> tuple:
        second = optimizer(9.0, 9.0)
        resumed = None
        for what in order:
            if what == "o":
                second.load_state_dict(states[0])
            elif what == "m":
                resumed = make(second)
            else:
                resumed.load_state_dict(states[1])
        return second, resumed

    for order in ("oms", "mos", "mso"):
        second, resumed = loaded(order)
        assert resumed.get_last_lr() == expected, order
        assert followed(resumed, 5, start=3) == rest, order
    assert loaded("ms")[1].get_last_lr() == expected


def test_the_state_of_an_older_version_has_no_rates():
    """Closed form: three halvings; an older plateau leaves the rate to the optimizer's state."""
    sgd = optimizer(1.0)
    schedule = optim.ExponentialLR(sgd, 0.5)
    schedule.load_state_dict({"last_epoch": 3})
    assert sgd.lr == 0.125
    plateau = optim.ReduceLROnPlateau(sgd)
    plateau.load_state_dict({"last_epoch": 3, "best": 1.0, "num_bad_epochs": 2})
    assert (sgd.lr, plateau.num_bad_epochs) == (0.125, 2)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("level", [1.0, -1.0, 0.0, 1e-30, -1e30])
def test_a_flat_number_is_never_an_improvement(mode, level):
    """Closed form: nothing improves, so every 3 numbers after the first lr / 10 (S03)."""
    sgd = optimizer(1.0)
    schedule = optim.ReduceLROnPlateau(sgd, mode, factor=0.1, patience=2)
    for i in range(8):
        schedule.step(level)
        assert sgd.lr == pytest.approx(0.1 ** (i // 3), rel=1e-15)


def test_what_counts_as_better_of_negative_numbers():
    """Ground truth: the rule in the docstring: more than threshold * |best| below the best."""
    for values, lowered in (
        ((-1.0, -1.0 + 4e-5), True),  # worse
        ((-1.0, -1.00005), True),  # better by half the threshold
        ((-1.0, -1.0002), False),
        ((-1.0, 0.5), True),
        ((0.0, -1e-9), False),  # relative to 0 everything is an improvement
        ((1.0, -1.0), False),
    ):
        sgd = optimizer(1.0)
        schedule = optim.ReduceLROnPlateau(sgd, patience=0, factor=0.5)
        for value in values:
            schedule.step(value)
        assert sgd.lr == (0.5 if lowered else 1.0), values


def test_a_sequence_goes_on_along_each_curve_from_where_it_begins():
    """Closed form: half the rate for 2 steps, then a line from 1 to 0 in 4 steps of its own; and
    half of each where somebody has halved the rate on the way."""
    o = optimizer(1.0)
    curves = [optim.ConstantLR(o, 0.5, 9), optim.LinearLR(o, 1.0, 0.0, 4)]
    schedule = optim.SequentialLR(o, curves, [2])
    assert [r for (r,) in followed(schedule, 7)] == [0.5, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    o = optimizer(1.0)
    curves = [optim.ConstantLR(o, 0.5, 9), optim.LinearLR(o, 1.0, 0.0, 4)]
    schedule = optim.SequentialLR(o, curves, [2])
    followed(schedule, 3)
    o.param_groups[0]["lr"] = 0.75 / 2
    assert [r for (r,) in followed(schedule, 3)] == [0.375, 0.25, 0.125]


def test_plateau_waits_lowers_and_stops_at_the_lowest():
    """Ground truth: its rule by hand: 2 is better, 2.5 and NaN are not, and again, down to 0.25."""
    sgd = optimizer(1.0)
    schedule = optim.ReduceLROnPlateau(sgd, factor=0.5, patience=1, min_lr=0.25)
    rates = []
    for loss in [3.0, 2.0, 2.5, math.nan, 2.5, 2.5, 2.5, 2.5, 1.0]:
        schedule.step(tt.Tensor(loss))
        rates.append(sgd.lr)
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_plateau_of_an_accuracy_wants_larger_numbers():
    """Ground truth: its rule by hand."""
    sgd = optimizer(1.0)
    schedule = optim.ReduceLROnPlateau(sgd, mode="max", factor=0.5, patience=0)
    for accuracy in (0.5, 0.6, 0.6):
        schedule.step(accuracy)
    assert sgd.lr == 0.5


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda o: optim.StepLR(o, 0), "step_size is not a whole number"),
        (lambda o: optim.StepLR([], 1), "a schedule belongs to an optimizer"),
        (lambda o: optim.ExponentialLR(o, -1), "gamma is outside its range"),
        (lambda o: optim.MultiStepLR(o, [-1]), "milestones is not a whole number"),
        (lambda o: optim.LambdaLR(o, 0.5), "gives the factor for a step count"),
        (lambda o: optim.LambdaLR(o, lambda t: -1.0), "lr is outside its range"),
        (lambda o: optim.LinearLR(o, total_iters=0), "total_iters is not a whole number"),
        (lambda o: optim.CosineAnnealingLR(o, 0), "T_max is not a whole number"),
        (lambda o: optim.WarmupCosineLR(o, 5, 5), "no steps are left after the warm-up"),
        (lambda o: optim.OneCycleLR(o, 0.0, 10), "max_lr is outside its range"),
        (lambda o: optim.OneCycleLR(o, 1.0, 10, pct_start=2), "pct_start is outside its range"),
        (lambda o: optim.ReduceLROnPlateau(o, "least"), "which numbers are better"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), "factor is outside its range"),
        (lambda o: optim.SequentialLR(o, [], []), "cannot follow one another"),
        (
            lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []),
            "cannot follow one another",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(optimizer(), 1)], []),
            "cannot follow one another",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 2, []),
            "milestones do not fit the schedules",
        ),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make(optimizer())


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.StepLR(o, 1, 0.0),
        lambda o: optim.MultiStepLR(o, [0], 0.0),
        lambda o: optim.ExponentialLR(o, 0.0),
        lambda o: optim.ConstantLR(o, 0.0, 0),
        lambda o: optim.LinearLR(o, 0.0, 0.0, 1),
        lambda o: optim.PolynomialLR(o, 1, 0.0),
        lambda o: optim.CosineAnnealingLR(o, 1, 0.0),
        lambda o: optim.CosineAnnealingWarmRestarts(o, 1, 1, 0.0),
        lambda o: optim.WarmupCosineLR(o, 0, 1, 0.0),
        lambda o: optim.OneCycleLR(o, 1.0, 2, 0.0),
        lambda o: optim.OneCycleLR(o, 1.0, 2, 1.0),
        lambda o: optim.ReduceLROnPlateau(o, patience=0, threshold=0.0, min_lr=0.0),
        lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 2, [1]),
    ],
)
def test_the_ends_of_each_range_are_taken(make):
    """Ground truth: the ranges in the docstrings; rates stay in [0, 1]."""
    for (rate,) in followed(make(optimizer(1.0)), 4):
        assert 0.0 <= rate <= 1.0
