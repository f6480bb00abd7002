"""Attention of queries and keys whose numbers differ by call."""

import pytest

import tinytorch as tt
from tests.compiler.lengths import MOST, check, floats

T = tt.dim("T", max=MOST)
S = (None, None, T)
attend = tt.nn.functional.scaled_dot_product_attention


def heads(n, *sizes):
    return tuple(floats(10 * n + i, 2, 3, size, 8) for i, size in enumerate(sizes))


@pytest.mark.parametrize("causal", [True, False])
def test_of_a_sequence_to_itself(causal):
    """Ground truth: eager; the kernel as it is with `causal`, scores written out without."""
    shapes = {"q": S, "k": S, "v": S}
    compiled = check(
        lambda q, k, v: attend(q, k, v, is_causal=causal), lambda n: heads(n, n, n, n), shapes
    )
    assert ("attention(" in compiled.graph()) == causal


@pytest.mark.parametrize("causal", [True, False])
def test_of_some_queries_to_keys_of_a_length(causal):
    """Ground truth: eager; two queries that see what came before, or all of it."""
    shapes = {"k": S, "v": S}
    check(
        lambda q, k, v: attend(q, k, v, is_causal=causal),
        lambda n: heads(n, 2, n, n),
        shapes,
        range(2, MOST + 1),
    )


@pytest.mark.parametrize("causal", [True, False])
def test_of_queries_of_a_length_to_some_keys(causal):
    """Ground truth: eager; a query that sees nothing gives 0."""
    check(lambda q, k, v: attend(q, k, v, is_causal=causal), lambda n: heads(n, n, 4, 4), {"q": S})


@pytest.mark.parametrize("causal", [True, False])
def test_the_gradients(causal):
    """Ground truth: eager."""

    def f(q, k, v):
        def loss(*qkv):
            return (attend(*qkv, is_causal=causal) * (q + 1)).sum()

        return tt.grad(loss, argnums=(0, 1, 2))(q, k, v)

    shapes = {"q": S, "k": S, "v": S}
    check(f, lambda n: heads(n, n, n, n), shapes, tolerance=1e-4)
