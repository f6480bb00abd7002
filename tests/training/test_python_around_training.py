"""The Python around a Trainer, whose steps are compiled: a value changed by a callback is followed.

Ground truth of every form: the same training with compile=False, the losses of the epochs. Programs
are run by NumPy (reference_program.py): equal to the last bit where the sums are the same.
"""

import functools
import types

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.nn import functional as F
from tinytorch.optim import SGD
from tinytorch.training import Callback, Trainer
from tinytorch.training.history import Silent

pytestmark = pytest.mark.usefixtures("by_numpy")


FORMS = {}


def form(make):
    """A form: `make()` gives (model, loss, how the weight of the loss is set)."""
    FORMS[make.__name__] = make
    return make


def linear():
    tt.manual_seed(0)
    return nn.Linear(3, 1)


def squares(output, target):
    return ((output - target) ** 2).mean()


WEIGHT = 1.0


@form
def a_global():
    def set_to(w):
        globals()["WEIGHT"] = w

    return linear(), lambda o, y: squares(o, y) * WEIGHT, set_to


@form
def a_closure_variable():
    weight = 1.0

    def set_to(w):
        nonlocal weight
        weight = w

    return linear(), lambda o, y: squares(o, y) * weight, set_to


@form
def a_loss_object():
    class Loss:
        weight_of_it = 1.0

        def __call__(self, o, y):
            return squares(o, y) * self.weight_of_it

    loss = Loss()
    return linear(), loss, lambda w: setattr(loss, "weight_of_it", w)


@form
def a_class_attribute_of_a_loss_object():
    class Loss:
        scale = 1.0

        def __call__(self, o, y):
            return squares(o, y) * self.scale

    return linear(), Loss(), lambda w: setattr(Loss, "scale", w)


@form
def a_list():
    weights = [1.0]
    return (
        linear(),
        lambda o, y: squares(o, y) * weights[0],
        lambda w: weights.__setitem__(0, w),
    )


@form
def a_dict_of_a_loss_module():
    class Loss(nn.Module):
        def __init__(self):
            self.cfg = {"w": 1.0}

        def forward(self, o, y):
            return squares(o, y) * self.cfg["w"]

    loss = Loss()
    return linear(), loss, lambda w: loss.cfg.update(w=w)


@form
def an_attribute_of_a_loss_module():
    class Loss(nn.Module):
        def __init__(self):
            self.w = 1.0

        def forward(self, o, y):
            return squares(o, y) * self.w

    loss = Loss()
    return linear(), loss, lambda w: setattr(loss, "w", w)


@form
def a_dict_of_the_model():
    class Model(nn.Module):
        def __init__(self):
            self.inner, self.cfg = linear(), {"w": 1.0}

        def forward(self, x):
            return self.inner(x) * self.cfg["w"]

    model = Model()
    return model, squares, lambda w: model.cfg.update(w=w)


@form
def a_partial():
    loss = functools.partial(lambda o, y, w: squares(o, y) * w, w=1.0)
    return linear(), loss, lambda w: loss.keywords.update(w=w)


@form
def a_partial_of_a_function_of_the_framework():
    loss = functools.partial(F.smooth_l1_loss, beta=1.0)
    return linear(), loss, lambda w: loss.keywords.update(beta=w + 0.5)


@form
def an_array():
    weights = np.ones((), np.float32)
    return linear(), lambda o, y: squares(o, y) * weights, weights.fill


@form
def a_tensor_that_is_replaced():
    o = types.SimpleNamespace(w=tt.Tensor(1.0))
    return (
        linear(),
        lambda out, y: squares(out, y) * o.w,
        lambda w: setattr(o, "w", tt.Tensor(w)),
    )


def losses(make, compile, accumulate=1):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    data = [(x, x.sum(1, keepdims=True) + 5)]
    model, loss, set_to = make()

    class Anneal(Callback):
        def begin_epoch(self, trainer):
            set_to(float(trainer.run.epoch))

    trainer = Trainer(
        model, SGD(lr=0.01), loss, compile=compile, callbacks=[Anneal()], progress=Silent(),
        accumulate=accumulate,
    )  # fmt: skip
    return trainer.train(data, epochs=3)["loss"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", FORMS)
def test_an_annealed_weight_is_followed(name, accumulate):
    """Ground truth: the eager trainer."""
    want = losses(FORMS[name], compile=False, accumulate=accumulate)
    assert len(set(want)) == 3
    found = losses(FORMS[name], compile=True, accumulate=accumulate)
    np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.parametrize("compile", [False, True])
def test_layers_frozen_between_two_trainings_stay(compile):
    """Invariant: the first layer does not move any more, the second does."""
    rng = np.random.default_rng(0)
    data = [(rng.normal(size=(8, 3)).astype(np.float32), rng.normal(size=(8, 1)))]
    data = [(x, y.astype(np.float32)) for x, y in data]
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    trainer = Trainer(model, SGD(lr=0.1), squares, compile=compile, progress=Silent())
    trainer.train(data, 2)
    for p in model[0].parameters():
        p.requires_grad = False
    before = [p.tolist() for p in model.parameters()]
    trainer.train(data, 2)
    now = [p.tolist() for p in model.parameters()]
    assert now[:2] == before[:2]
    assert now[2] != before[2] and now[3] != before[3]
