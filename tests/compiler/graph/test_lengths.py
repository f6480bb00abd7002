"""Programs with lengths in their shapes as programs for the greatest lengths; whole models."""

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.lengths import check, floats, trained, wholes
from tinytorch import nn, optim
from tinytorch.base.dtypes import float32, int64
from tinytorch.base.lengths import Length
from tinytorch.compiler.graph.graph import Graph, Value, run_reference
from tinytorch.compiler.graph.length_rules import RULES
from tinytorch.compiler.graph.lengths import LengthRewriter
from tinytorch.models.gpt import GPT, GPTConfig, next_token_loss
from tinytorch.primitives import TABLE
from tinytorch.primitives.primitive import Spec

T, B = tt.dim("T", max=8), tt.dim("B", max=6)
SIZES = GPTConfig(vocab=17, layers=2, heads=2, size=16, length=8)


def test_what_lies_beyond_is_replaced_where_it_is_read():
    """Ground truth: the definition of the made graph, on an argument with NaN beyond.

    The argument itself is known to be 0 there; what is computed of it is not.
    """
    n = Value(Spec((), int64))
    x = Value(Spec((Length.of(T), 3), float32))
    graph = Graph(arguments=[x, n])
    (y,) = graph.add(TABLE["exp"], (x,), {})
    graph.results = list(graph.add(TABLE["sum"], (y,), {"axes": (0,), "keepdims": False}))
    LengthRewriter(graph, {T: n}, RULES).run()
    given = np.full((8, 3), np.nan, np.float32)
    given[:5] = np.arange(15).reshape(5, 3)
    held = run_reference(graph, {x: given, n: np.array(5)})
    np.testing.assert_allclose(held[graph.results[0]], np.exp(given[:5]).sum(0), 1e-6)
    assert graph.ragged[x][0].length == Length.of(T) and str(graph).count("valid are T of 8") == 1


def test_a_program_without_lengths_stays_as_it_is():
    """Invariant: the same text."""
    graph = Graph(arguments=[Value(Spec((2, 3), float32))])
    graph.results = list(graph.add(TABLE["exp"], (graph.arguments[0],), {}))
    before = str(graph)
    LengthRewriter(graph, {}, RULES).run()
    assert str(graph) == before


def test_gpt_on_prompts_of_any_length():
    """Ground truth: eager. Sums of 16 to 64 numbers through two blocks: 2e-5 of numbers near 1."""
    net = GPT(SIZES).eval()
    shapes = {"tokens": (None, T)}
    with tt.no_grad():
        check(net, lambda n: (wholes(n, 17, 2, n),), shapes, range(1, 9), tolerance=1e-4)


def stepping(loss, optimizer):
    def of(model):
        moves = optimizer(model.parameters())

        def step(x, y):
            moves.zero_grad()
            found = loss(model(x), y)
            found.backward()
            moves.step()
            return found

        return step

    return of


def adamw(parameters):
    return optim.AdamW(parameters, lr=1e-3)


def sgd(parameters):
    return optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_mlp_learns_from_batches_of_any_size(threads):
    """Ground truth: eager training; dropout draws the numbers of that size."""
    trained(
        lambda: nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 5)),
        stepping(nn.functional.cross_entropy, adamw),
        [(floats(n, n, 7), wholes(n, 5, n)) for n in (6, 3, 1, 2, 5, 4, 6)],
        {"x": (B,), "y": (B,)},
        threads=threads,
    )


def test_a_cnn_learns_with_batch_norm_over_the_samples_there_are():
    """Ground truth: eager training, running statistics included. (SGD: a bias before a norm has a
    gradient of rounding errors, which Adam would make as large as any.)"""

    def make():
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5),
        )  # fmt: skip

    trained(
        make,
        stepping(nn.functional.cross_entropy, sgd),
        [(floats(n, n, 3, 8, 8), wholes(n, 5, n)) for n in (6, 3, 2, 5, 4, 6)],
        {"x": (B,), "y": (B,)},
    )


def test_a_gpt_learns_from_batches_and_sequences_of_any_size():
    """Ground truth: eager training, with dropout."""
    config = GPTConfig(vocab=17, layers=2, heads=2, size=16, length=8, dropout=0.1)
    trained(
        lambda: GPT(config),
        stepping(next_token_loss, sgd),
        [(wholes(b + n, 17, b, n), wholes(b * n, 17, b, n)) for b, n in ((4, 8), (3, 3), (1, 1),
                                                                       (6, 5), (2, 6))],
        {"x": (B, T), "y": (B, T)},
    )  # fmt: skip


def test_prompts_of_any_length_fill_a_cache():
    """Ground truth: eager; one program for all prompts, one for a token at a time after them."""
    layer = nn.MultiHeadAttention(16, 2, causal=True)
    caches = [layer.new_cache(batch=2, length=12) for _ in range(2)]

    def attend(x, cache):
        return layer(x, cache=cache)

    def with_cache(cache):
        return lambda x: attend(x, cache)

    prompt = tt.compile(with_cache(caches[1]), dynamic_shapes={"x": (None, T)})
    with tt.no_grad():
        for n in (5, 8, 1, 3):
            for cache in caches:
                cache.clear()
            for m in (n, 1, 2):
                x = floats(n + m, 2, m, 16)
                wanted, got = attend(x, caches[0]), prompt(x)
                np.testing.assert_allclose(got.numpy(), wanted.numpy(), 1e-4, 1e-5)
                assert caches[1].lengths.tolist() == caches[0].lengths.tolist()
            np.testing.assert_allclose(
                caches[1].keys[:, :, : n + 3].numpy(),
                caches[0].keys[:, :, : n + 3].numpy(),
                0,
                1e-6,
            )
    assert prompt.captures == 1
