"""group.py: pieces of parameters, and the numbers of a step in every number type."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.optim.group import BLOCK, in_blocks


def test_pieces_cover_everything_once():
    """Invariant: adding 1 to each piece adds 1 to each element, also of the last, short piece."""
    x, g = tt.zeros(3, BLOCK), tt.ones(3, BLOCK)
    pieces = in_blocks((x,), g[:, ::1])
    assert pieces is not None
    for mine, gradient in pieces:
        mine += gradient
    np.testing.assert_array_equal(x.numpy(), 1.0)


def test_a_gradient_may_lie_across():
    """Ground truth: the transpose, element by element."""
    x = tt.zeros(2, 3)
    g = tt.Tensor(np.arange(6.0, dtype=np.float32).reshape(3, 2)).T
    for mine, gradient in in_blocks((x,), g) or ():
        mine += gradient
    np.testing.assert_array_equal(x.numpy(), g.numpy())


def test_views_see_what_is_written_and_the_tape_does_not():
    """Invariants: a detached Tensor shows the new numbers; a gradient is that of the old ones."""
    x, w = tt.zeros(4), tt.ones(4, requires_grad=True)
    other, product = x.detach(), (w * x).sum()
    for mine, gradient in in_blocks((x,), tt.ones(4)) or ():
        mine += gradient
    np.testing.assert_array_equal(other.numpy(), 1.0)
    product.backward()
    np.testing.assert_array_equal(w.grad.numpy(), 0.0)


@pytest.mark.parametrize("rule", [optim.Adam, optim.AdamW, optim.RMSprop])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_weight_without_a_gradient_stays_in_every_number_type(rule, dtype, compiled):
    """Closed form: 0 / (sqrt(0) + eps) is 0; in float16 1e-8 was 0, and the weight became NaN
    (PyTorch's too). The other weight moves by at least 0.001 * 1, its first step."""
    settings = {} if rule is optim.RMSprop else {"lr": 0.01}
    p = tt.nn.Parameter(tt.ones(2).astype(dtype))
    given = {"weight_decay": 0.0} if rule is optim.AdamW else {}
    optimizer = rule([p], **settings, **given)

    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()

    run = tt.compile(step) if compiled else step
    for _ in range(2):
        run(tt.Tensor([1.0, 0.0]).astype(dtype))
    assert p.detach().float()[1].item() == 1.0
    assert 0.5 < p.detach().float()[0].item() < 1.0
