"""What is computed again: bytes of the arena by closed forms, the same numbers to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tests.compiler.test_pass_regressions import Draft
from tinytorch import nn
from tinytorch.base.errors import SettingError
from tinytorch.codegen.target import Target
from tinytorch.compiler.graph.graph import RECOMPUTE, Graph
from tinytorch.compiler.pipeline import stage
from tinytorch.compiler.plan.recompute import LEAST_BYTES, MOST_OPERATIONS

TARGET = Target.named("vector128")
ROWS, WIDTH = 128, 1024
ONE = ROWS * WIDTH * 4  # bytes of one value between two layers: twice what is looked at


def block(h, w):
    """A product and a square: the square is what the next product reads, forward and backward."""
    h = h @ w
    return h * h * 0.01


def training_step(layers: int, wrap=lambda f: f, **settings):
    """A compiled step, and its batch; every layer is one block."""
    generator = tt.Generator(3)
    weights = [
        (tt.randn(WIDTH, WIDTH, generator=generator) * 0.03).requires_grad_() for _ in range(layers)
    ]

    def step(x):
        h = x
        for w in weights:
            h = wrap(lambda h, w=w: block(h, w))(h)
        (h * h).mean().backward()
        with tt.no_grad():
            for w in weights:
                w -= 0.1 * w.grad
                w.grad = None

    x = tt.randn(ROWS, WIDTH, generator=generator)
    return tt.compile(step, target="vector128", threads=1, **settings), weights, x


def bytes_of_layer(wrap=lambda f: f, **settings) -> int:
    """By how much the busiest moment grows with each layer."""

    def peak(layers: int) -> int:
        step, _, x = training_step(layers, wrap, **settings)
        step(x)
        return step.stages()["plan the arena"].peak

    return (peak(8) - peak(4)) // 4


@pytest.mark.parametrize(("recompute", "kept"), [("none", 2), ("cheap", 1), ("elementwise", 1)])
def test_a_layer_keeps_its_product_alone(recompute, kept):
    """Closed form: without, the product and the square live until the backward pass; with, the
    square is computed again from the product."""
    assert bytes_of_layer(recompute=recompute) == kept * ONE


def test_a_checkpointed_block_keeps_what_it_read():
    """Closed form: one input a block, and with "none" all as if there were no checkpoint."""
    assert bytes_of_layer(tt.checkpoint) == ONE
    assert bytes_of_layer(tt.checkpoint, recompute="none") == 2 * ONE
    two = lambda f: tt.checkpoint(lambda h: f(f(h)))  # noqa: E731  blocks of two layers
    assert bytes_of_layer(two) == ONE  # one input for two of them, each of half the width of a step


def test_the_numbers_are_the_same_to_the_last_bit():
    """Invariant: three steps of a transformer with dropout and of Adam, by each policy, with
    checkpoints and without. One target: the pass is over before it is asked for."""
    target = targets()[0].name

    def trained(wrap, **settings):
        tt.manual_seed(1)
        layers = [
            nn.TransformerBlock(64, 2, causal=True, dropout=0.1, activation=nn.functional.gelu)
            for _ in range(2)
        ]
        parameters = [p for layer in layers for p in layer.parameters()]
        optimizer = tt.optim.Adam(parameters, lr=1e-2)

        def step(x):
            y = x
            for layer in layers:
                y = wrap(layer)(y)
            loss = (y * y).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        compiled = tt.compile(step, target=target, threads=2, **settings)
        x = tt.randn(4, 256, 64, generator=tt.Generator(7))
        losses = [compiled(x).item() for _ in range(3)]
        replays = sum(n.replay > 0 for n in compiled.stages()["recompute"].graph.nodes)
        return replays, losses, [p.detach().numpy() for p in parameters]

    plain = trained(lambda f: f, recompute="none")
    assert plain[0] == 0
    for wrap in (lambda f: f, tt.checkpoint):
        for recompute in RECOMPUTE:
            replays, losses, weights = trained(wrap, recompute=recompute)
            assert (replays > 0) == (recompute != "none")
            assert losses == plain[1]
            for a, b in zip(weights, plain[2], strict=True):
                assert np.array_equal(a, b)


def test_eager_and_compiled_checkpoints_agree():
    """Ground truth: eager, which is the definition; sums of 1024 products in another order."""
    step, weights, x = training_step(3, tt.checkpoint)
    other, same, _ = training_step(3, tt.checkpoint)
    step(x)
    other.fn(x)
    for a, b in zip(weights, same, strict=True):
        bound = 4 * 1024**0.5 * 2**-24 * np.abs(b.numpy()).max()
        assert np.abs(a.numpy() - b.numpy()).max() < bound


# which values


def early_and_late(width: int, operations: int = 1, calls: int = 3, recompute: str = "cheap"):
    """(the drafted graph, the value): it is read by a product, and by one behind other products.

    The input of its chain is read late too, so that it lies in memory anyway.
    """
    d = Draft()
    d.graph.recompute = recompute
    x = d("matmul", d.given((ROWS, 64)), d.given((64, width)))
    v = x
    for _ in range(operations):
        v = d("neg", v)
    y = d("matmul", v, d.given((width, 64)))
    for _ in range(calls):
        y = d("matmul", y, d.given((64, 64)))
    late = d("matmul", d("permute", v, axes=(1, 0)), y)
    d.graph.results = [late, d("sum", x, axes=(0, 1), keepdims=False)]
    return d.graph


def replays(graph: Graph) -> int:
    return max(n.replay for n in stage(graph, TARGET, "recompute").graph.nodes)


ENOUGH = LEAST_BYTES // 4 // ROWS


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"width": ENOUGH}, 1),
        ({"width": ENOUGH - 1}, 0),  # too small to fill memory
        ({"width": ENOUGH, "calls": 1}, 0),  # read again soon
        ({"width": ENOUGH, "operations": MOST_OPERATIONS}, 1),
        ({"width": ENOUGH, "operations": MOST_OPERATIONS + 1}, 0),
    ],
)
def test_what_is_worth_it(settings, number):
    """Closed form: the limits that the file states, on both sides of each."""
    assert replays(early_and_late(recompute="elementwise", **settings)) == number


def test_cheap_means_little_of_the_time():
    """Closed form: a product over 64 does 2 x 64 operations a number, 0.28 ns, 1/40 of which does
    not pay for the 0.1 ns that writing it takes; "elementwise" does it all the same."""
    few = early_and_late(4 * ENOUGH)
    assert replays(few) == 0
    assert replays(early_and_late(4 * ENOUGH, recompute="elementwise")) == 1


def test_the_repeated_program_means_the_same():
    """Ground truth: the definition of the graph, node by node, on every target."""
    d = Draft()
    d.graph.recompute = "elementwise"
    x = d("matmul", d.given((ROWS, 3)), d.given((3, ENOUGH)))
    v = d("neg", d("mul", x, x))
    y = d("matmul", v, d.given((ENOUGH, 3)))
    for _ in range(2):
        y = d("matmul", y, d.given((3, 3)))
    late = d("matmul", d("permute", v, axes=(1, 0)), y)
    d.graph.results = [late, x]
    assert replays(d.graph) == 1
    small = {v: np.sign(a) * (np.abs(a) % 2) for v, a in d.arrays.items()}  # sums stay exact
    d.arrays.update({v: a.astype(d.arrays[v].dtype) for v, a in small.items()})
    d.check(late, x)


def test_an_unknown_policy_is_refused():
    """Ground truth: the four parts."""
    with pytest.raises(SettingError, match=r"(?s)no such way to recompute.*got.*rule.*fix"):
        tt.compile(lambda x: x, recompute="everything")
