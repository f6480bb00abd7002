"""A state of somebody else: every value in it replaced by another; all of it is taken, or nothing.

Ground truth: an error of four parts, or a run that goes on; the weights and the optimizer's state
are as they were where the state was refused.
"""

import math

import numpy as np
import pytest

import tinytorch as tt
from tests.training.test_bad_storage import loader
from tinytorch import nn
from tinytorch.base.errors import SettingError, TinyTorchError
from tinytorch.training import Trainer
from tinytorch.training.history import Silent

ODD = [
    None, True, -1, 3.5, math.nan, 10**30, "x\x1b[2J", [], {}, (), b"x", [1, 2], {"a": 1},
    np.zeros(3), np.zeros((2, 2)), np.array("x"), np.array(1j), np.zeros(0, np.float32),
    tt.Tensor([[1.0] * 5] * 9), tt.tensor(1), tt.Tensor(math.nan),
]  # fmt: skip


def trainer() -> Trainer:
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.1), nn.Linear(4, 2))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)
    schedule = tt.optim.StepLR(optimizer, 2)
    return Trainer(model, optimizer, schedule=schedule, compile=False, progress=Silent())


def paths(x, path=()):
    """The places of all values in a state."""
    for key in x if isinstance(x, dict) else range(len(x)) if isinstance(x, (list, tuple)) else ():
        yield (*path, key)
        yield from paths(x[key], (*path, key))


def put(x, path, value):
    """The state with another value in one place."""
    if not path:
        return value
    if isinstance(x, dict):
        return {k: put(v, path[1:], value) if k == path[0] else v for k, v in x.items()}
    return type(x)(put(v, path[1:], value) if i == path[0] else v for i, v in enumerate(x))


def without(x, path):
    """The state without one place."""
    if len(path) == 1:
        return {k: v for k, v in x.items() if k != path[0]} if isinstance(x, dict) else x
    return put(x, path[:1], without(x[path[0]], path[1:]))


@pytest.fixture(scope="module")
def state():
    run = trainer()
    run.train(loader(), 1)
    return run.state_dict()


def numbers(run: Trainer) -> list[bytes]:
    held = [*run.model.state_dict().values(), *run.optimizer.state_dict().values()]
    return [np.asarray(x.numpy() if isinstance(x, tt.Tensor) else x).tobytes() for x in held]


def test_every_value_replaced_by_every_other(state):
    """Ground truth: the type of the error; what the run holds before and after."""
    run = trainer()
    before = numbers(run)
    refused = 0
    for path in paths(state):
        for bad in (*(put(state, path, odd) for odd in ODD), without(state, path)):
            try:
                run.load_state_dict(bad)
            except TinyTorchError as error:
                refused += 1
                assert str(error).replace("\n", "").isprintable() and len(str(error)) < 5000
                assert numbers(run) == before, path
            else:
                run = trainer()
    assert refused > 500


@pytest.mark.parametrize("count", [math.nan, math.inf, -1.0, 0.5, 1e300])
def test_step_counts_that_nobody_counted(state, count):
    """Ground truth: refused at once; not-a-number, which equals nothing, divided the parameters
    again and again until the memory was full."""
    bad = put(state, ("optimizer", "step.0.1"), tt.Tensor(count, dtype="float64"))
    with pytest.raises(SettingError, match="step.0.1 is not a number of steps"):
        trainer().load_state_dict(bad)


@pytest.mark.parametrize("odd", [None, 3, [], {"seed": "x"}, "x"])
def test_a_position_in_the_data_that_is_none(state, odd):
    """Ground truth: four parts, before the first step."""
    run = trainer()
    with pytest.raises(TinyTorchError):
        run.load_state_dict(put(state, ("loader",), odd) if odd is not None else {"loader": 3})
        run.train(loader(), 2)
    assert run.steps in (0, 3)
