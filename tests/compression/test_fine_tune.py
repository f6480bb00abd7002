"""Training on: what moves, what stays, what is refused."""

import numpy as np

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.training.history import Silent

DATA = [(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))]
QUIET = {"compile": False, "progress": Silent()}


def net():
    tt.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_frozen_parts_stay_and_ask_again_afterwards():
    """Ground truth: the weights before, and who asked for a gradient."""
    model = net()
    model[0].bias.requires_grad = False
    before = {name: x.clone().numpy() for name, x in model.state_dict().items()}
    compression.fine_tune(model, DATA, 2, frozen="0", lr=0.1, **QUIET)
    for name, x in model.state_dict().items():
        assert (x.numpy() == before[name]).all() == name.startswith("0.")
    asks = {name: p.requires_grad for name, p in model.named_parameters()}
    assert asks == {"0.weight": True, "0.bias": False, "2.weight": True, "2.bias": True}


def test_a_small_step():
    """Closed form: the first step of Adam is lr in each weight with a gradient."""
    model = net()
    before = model[2].bias.clone().detach().numpy()
    compression.fine_tune(model, DATA, **QUIET)
    np.testing.assert_allclose(np.abs(model[2].bias.numpy() - before), 1e-4, rtol=1e-3)


test_mistakes = mistakes(
    (lambda: compression.fine_tune(3, DATA), ArgumentTypeError, "this is no model"),
    (lambda: compression.fine_tune(net(), DATA, frozen=["9"]), SettingError, "no such part"),
    (lambda: compression.fine_tune(net(), DATA, frozen=""), SettingError, "nothing is left"),
    (
        lambda: compression.fine_tune(compression.quantize(net()), DATA),
        SettingError, "nothing is left to train",
    ),
    (lambda: compression.fine_tune(net(), DATA, lr=-1), SettingError, "lr"),
)  # fmt: skip
