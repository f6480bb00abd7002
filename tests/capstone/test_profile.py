"""Where the time of an answer goes."""

import pytest

import tinytorch as tt
from tinytorch import capstone, nn
from tinytorch.base.errors import ArgumentTypeError
from tinytorch.capstone.profile import HELPS


def test_the_longest_comes_first_and_all_of_it_is_there():
    """Invariant: falling times, shares that sum to 1; a product of a thousand times the weights of
    another takes longer than it."""
    net = nn.Sequential(nn.Linear(4, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
    found = capstone.profile_system(net, tt.zeros(1, 4))
    times = [part.seconds for part in found]
    assert times == sorted(times, reverse=True) and all(t >= 0 for t in times)
    assert sum(part.share for part in found) == pytest.approx(1.0)
    assert "matmul" in found[0].what and found[0].limit in ("memory", "cache", "fp32")
    assert {part.helps for part in found} <= set(HELPS.values())
    assert "Python and waking threads" in [part.what for part in found]
    assert "%" in str(found[0]) and found[0].what in str(found[0])


def test_a_program_is_taken_as_it_is():
    """Ground truth: the compiled function, which is not compiled again."""
    program = tt.compile(nn.Linear(8, 8).eval(), freeze=True)
    capstone.profile_system(program, tt.zeros(2, 8))
    assert program.captures == 1


def test_what_is_no_model():
    """Ground truth: the message."""
    with pytest.raises(ArgumentTypeError, match="profile_system: this is no model"):
        capstone.profile_system("model", tt.zeros(1))
