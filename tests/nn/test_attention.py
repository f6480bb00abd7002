"""attention.py: the function, layers with heads, the block; invariants and errors."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F

RNG = np.random.default_rng(0)


def tokens(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def attention(*args, dtype=tt.float64, **settings):
    tt.manual_seed(4)
    return nn.MultiHeadAttention(*args, **settings).to(dtype).eval()


def test_tokens_without_positions_are_a_set():
    """Invariant: permuting the tokens permutes the outputs."""
    layer, x, order = attention(8, 2), tokens(1, 5, 8), RNG.permutation(5)
    a, b = layer(tt.Tensor(x)).detach().numpy(), layer(tt.Tensor(x[:, order])).detach().numpy()
    np.testing.assert_allclose(b, a[:, order], rtol=1e-12)


@pytest.mark.parametrize("masked", [True, False])
def test_a_hidden_token_is_a_token_left_out(masked):
    """Invariant: masks of (B, T, S) and of (T, S) hide keys as if they were not there."""
    layer, x = attention(8, 2), tokens(2, 5, 8)
    keep = np.array([True, True, False, True, False])
    mask = np.broadcast_to(keep, (2, 5, 5)) if masked else np.broadcast_to(keep, (5, 5))
    hidden = layer(tt.Tensor(x), mask=tt.Tensor(mask.copy())).detach().numpy()
    short = layer(tt.Tensor(x), tt.Tensor(x[:, keep])).detach().numpy()
    np.testing.assert_allclose(hidden, short, rtol=1e-12)


def test_each_sample_has_a_mask_of_its_own():
    """Invariant: padding of one sample does not touch the other."""
    layer, x = attention(8, 2), tokens(2, 4, 8)
    padding = np.array([[True] * 4, [True, True, False, False]])
    together = layer(tt.Tensor(x), mask=tt.Tensor(padding[:, None, :])).detach().numpy()
    np.testing.assert_allclose(together[:1], layer(tt.Tensor(x[:1])).detach().numpy(), rtol=1e-12)
    alone = layer(tt.Tensor(x[1:]), tt.Tensor(x[1:, :2])).detach().numpy()
    np.testing.assert_allclose(together[1:], alone, rtol=1e-12)


def test_the_future_has_no_influence_and_the_past_has():
    """Ground truth: the gradient of output t with respect to token s is 0 exactly where s > t."""
    layer = attention(8, 2, causal=True)
    for t in range(4):
        x = tt.Tensor(tokens(1, 4, 8), requires_grad=True)
        layer(x)[:, t].sum().backward()
        reached = np.abs(x.grad.numpy()).max(axis=(0, 2)) > 0
        assert reached.tolist() == [s <= t for s in range(4)]


def test_grouped_queries_are_heads_that_share_their_keys():
    """Invariant: the same as full heads whose key and value weights are repeated."""
    few, full = attention(8, 4, kv_heads=2), attention(8, 4)
    state = few.state_dict()
    for name in ("in_proj_weight", "in_proj_bias"):
        value = state[name].numpy()
        q, k, v = value[:8], value[8:12], value[12:]
        k, v = (np.repeat(p.reshape(2, 2, -1), 2, axis=0).reshape(8, -1) for p in (k, v))
        parts = [q.reshape(8, -1), k, v]
        state[name] = np.concatenate(parts).reshape(full.state_dict()[name].shape)
    full.load_state_dict(state)
    x = tt.Tensor(tokens(2, 5, 8))
    np.testing.assert_allclose(few(x).detach().numpy(), full(x).detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("size", "width"), [(0, 2), (4, 6), (4, 2), (3, 0), (0, 0)])
def test_heads_of_any_size_and_values_of_another(size, width, causal):
    """Ground truth: softmax and product written out; no numbers to compare: the mean of values."""
    shapes = (2, 3, 5, size), (2, 3, 5, size), (2, 3, 5, width)
    q, k, v = (np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes))
    sees = np.tril(np.ones((5, 5))) if causal else np.ones((5, 5))
    scores = np.exp(q @ k.swapaxes(2, 3) * 0.5) * sees
    wanted = scores / scores.sum(-1, keepdims=True) @ v
    weight = np.random.default_rng(9).normal(size=wanted.shape)

    def ask(q, k, v):
        def loss(q, k, v):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.5)
            return (y * tt.tensor(weight)).sum()

        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.5), tt.grad(
            loss, (0, 1, 2)
        )(q, k, v)

    of_values = (scores / scores.sum(-1, keepdims=True)).swapaxes(2, 3) @ weight
    for way in (ask, tt.compile(ask)):
        y, grads = way(*(tt.tensor(x) for x in (q, k, v)))
        np.testing.assert_allclose(y.numpy(), wanted, 1e-9, 1e-12)
        np.testing.assert_allclose(grads[2].numpy(), of_values, 1e-9, 1e-12)
        assert [g.shape for g in grads] == [*shapes]
    if not size:  # no scale is needed
        given = [tt.tensor(x) for x in (q, k, v)]
        y = F.scaled_dot_product_attention(*given, is_causal=causal)
        np.testing.assert_allclose(y.numpy(), wanted, 1e-9, 1e-12)


def test_dropout_drops_weights_in_training_alone():
    """Closed form: equal keys, values 1: the output is the share of weights kept, over 1 - p."""
    q, v = tt.zeros(1, 1, 1, 4), tt.ones(1, 1, 4000, 4)
    tt.manual_seed(0)
    out = F.scaled_dot_product_attention(q, tt.zeros(1, 1, 4000, 4), v, dropout_p=0.25)
    # 5 standard deviations of the mean of 4000 draws: 5 sqrt(0.25 * 0.75 / 4000) / 0.75 = 0.046.
    assert out.numpy().ravel() == pytest.approx([1.0] * 4, abs=0.046)
    layer = nn.MultiHeadAttention(4, 1, dropout=0.5)
    x = tt.Tensor(tokens(1, 6, 4, dtype=np.float32))
    assert not np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())
    layer.eval()
    assert np.array_equal(layer(x).detach().numpy(), layer(x).detach().numpy())


def test_single_tokens_attend_to_themselves_alone():
    """Invariant: of (N, C), no sample depends on another (ruling C1)."""
    layer = nn.SelfAttention(6).to(tt.float64)
    x = tokens(5, 6)
    a = layer(tt.Tensor(x)).detach().numpy()
    for i in range(5):
        alone = layer(tt.Tensor(x[i : i + 1])).detach().numpy()
        np.testing.assert_allclose(a[i : i + 1], alone, rtol=1e-12)


def test_files_with_the_former_names_load():
    """Ground truth: the same weights under the names before PyTorch's."""
    block, other = (nn.Sequential(nn.MultiHeadAttention(6, 2)) for _ in range(2))
    former = {
        "0.qkv.weight": "0.in_proj_weight", "0.qkv.bias": "0.in_proj_bias",
        "0.out.weight": "0.out_proj.weight", "0.out.bias": "0.out_proj.bias",
    }  # fmt: skip
    state = block.state_dict()
    other.load_state_dict({old: state[new] for old, new in former.items()})
    for name, value in other.state_dict().items():
        assert np.array_equal(value.numpy(), state[name].numpy())


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: nn.MultiHeadAttention(10, 3), "the heads do not share the size evenly"),
        (lambda: nn.MultiHeadAttention(12, 6, kv_heads=4), "the queries do not share the keys"),
        (lambda: nn.MultiHeadAttention(8, 2, dropout=1.5), "dropout is outside its range"),
        (lambda: nn.MultiHeadAttention(8, 2, kdim=0), "kdim is not a whole number"),
        (lambda: nn.SelfAttention(8, 3), "SelfAttention: the heads do not share"),
        (lambda: nn.KeyValueCache(1, 2, 0, 4), "length is not a whole number"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_bad_shapes_are_named():
    """Ground truth: the shapes in the docstring."""
    layer = nn.MultiHeadAttention(8, 2, kdim=5)
    with pytest.raises(ShapeError, match=r"key has the wrong shape[\s\S]*C = kdim = 5"):
        layer(tt.zeros(2, 3, 8), tt.zeros(2, 3, 8))
    with pytest.raises(ShapeError, match=r"value has the wrong shape[\s\S]*C = vdim = 8"):
        layer(tt.zeros(2, 3, 8), tt.zeros(2, 3, 5))
    with pytest.raises(ShapeError, match="the queries do not share the keys evenly"):
        q, k = tt.zeros(1, 4, 2, 3), tt.zeros(1, 3, 2, 3)
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


# --- the function ---


def naive_attention(q, k, v, mask):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(-1, keepdims=True)) * mask
    return powers / np.maximum(powers.sum(-1, keepdims=True), 1e-300) @ v


@pytest.mark.parametrize(("t", "s"), [(4, 4), (2, 5), (1, 3)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_as_primitive_and_as_composition(t, s, causal):
    """Ground truth: the formula in NumPy, float64; sums of 5 terms, so 1e-12 is ample."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (t, s, s))
    mask = np.tril(np.ones((t, s)), s - t) if causal else np.ones((t, s))
    expected = naive_attention(q, k, v, mask)
    tensors = [tt.Tensor(x) for x in (q, k, v)]
    fused = F.scaled_dot_product_attention(*tensors, is_causal=causal)
    np.testing.assert_allclose(fused.numpy(), expected, rtol=1e-12, atol=1e-12)
    masked = F.scaled_dot_product_attention(*tensors, attn_mask=tt.Tensor(mask > 0))
    np.testing.assert_allclose(masked.numpy(), expected, rtol=1e-12, atol=1e-12)
    added = F.scaled_dot_product_attention(
        *tensors, attn_mask=tt.zeros(s, dtype="float64"), is_causal=causal
    )
    np.testing.assert_allclose(added.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_attention_takes_any_leading_axes():
    """Invariant: heads are independent."""
    q = tt.Tensor(np.random.default_rng(0).standard_normal((2, 2, 3, 4, 5)))
    five = F.scaled_dot_product_attention(q, q, q)
    four = F.scaled_dot_product_attention(q[0], q[0], q[0])
    two = F.scaled_dot_product_attention(q[0, 1, 2], q[0, 1, 2], q[0, 1, 2])
    np.testing.assert_allclose(five.numpy()[0], four.numpy(), rtol=1e-14)
    np.testing.assert_allclose(four.numpy()[1, 2], two.numpy(), rtol=1e-14)
    with pytest.raises(ShapeError, match="leading axes differ"):
        F.scaled_dot_product_attention(q, q[:, :, :2], q[:, :, :2])
    shared = F.scaled_dot_product_attention(q, q[0], q[0, :, :1])  # they broadcast
    alone = F.scaled_dot_product_attention(q[1, 1], q[0, 1], q[0, 1, :1].broadcast_to(3, 4, 5))
    np.testing.assert_allclose(shared.numpy()[1, 1], alone.numpy(), rtol=1e-14)


def test_a_query_that_sees_nothing_gets_zeros_and_a_finite_gradient():
    """Ground truth: an empty weighted sum."""
    q = tt.Tensor(np.random.default_rng(0).standard_normal((1, 1, 2, 3)), requires_grad=True)
    mask = tt.Tensor(np.array([[True, True], [False, False]]))
    out = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert out.detach().numpy()[0, 0, 1].tolist() == [0.0, 0.0, 0.0]
    out.sum().backward()
    assert np.isfinite(q.grad.numpy()).all()


def test_causal_attention_does_not_see_the_future():
    """Invariant: changing the last token changes no output before it."""
    layer = nn.MultiHeadAttention(8, 2, causal=True)
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    changed = x.copy()
    changed[0, -1] += 1.0
    first, second = layer(tt.Tensor(x)).detach().numpy(), layer(tt.Tensor(changed)).detach().numpy()
    assert np.array_equal(first[:, :-1], second[:, :-1])
    assert not np.array_equal(first[:, -1], second[:, -1])


def test_what_does_not_fit_is_named():
    """Ground truth: the docstrings."""
    with pytest.raises(SettingError, match="do not share the size evenly"):
        nn.MultiHeadAttention(10, 3)
    with pytest.raises(ShapeError, match=r"\(B, T, C\) with C = d_model = 8"):
        nn.MultiHeadAttention(8, 2)(tt.zeros(2, 8))


def test_leading_axes_that_are_missing_count_as_one():
    """Invariant: three sequences of queries beside one of keys: each as if it were alone."""
    rng = np.random.default_rng(0)
    q, k = tt.Tensor(rng.standard_normal((3, 2, 4, 5))), tt.Tensor(rng.standard_normal((2, 6, 5)))
    out = F.scaled_dot_product_attention(q, k, k)
    assert out.shape == (3, 2, 4, 5)
    for i in range(3):
        alone = F.scaled_dot_product_attention(q[i], k, k)
        np.testing.assert_allclose(out[i].numpy(), alone.numpy(), rtol=1e-14)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_key_that_is_hidden_from_all_queries_may_be_nan(heads):
    """Invariant: as if it were left out, in the gradient too, whatever the number of heads."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, heads, n, 3)) for n in (2, 3, 3))
    k[:, :, 1], v[:, :, 1] = np.nan, np.inf
    kept, mask = [0, 2], np.array([[True, False, True]] * 2)
    outcomes = []
    for keys, values, seen in ((k, v, mask), (k[:, :, kept], v[:, :, kept], mask[:, kept])):
        query = tt.Tensor(q, requires_grad=True)
        out = F.scaled_dot_product_attention(
            query, tt.Tensor(keys), tt.Tensor(values), attn_mask=tt.Tensor(seen)
        )
        out.sum().backward()
        outcomes.append((out.detach().numpy(), query.grad.numpy()))
    for found, wanted in zip(*outcomes, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13)


# --- the block ---


def test_parameters_are_12_c_squared():
    """Closed form: 4 C^2 of attention and 8 C^2 of the MLP, 9 C of biases, 4 C of norms."""
    block = nn.TransformerBlock(32, 4)
    assert sum(p.size for p in block.parameters()) == 12 * 32**2 + 9 * 32 + 4 * 32


def test_with_parts_that_give_zero_the_input_passes():
    """Invariant: the shortcut is the identity, and its gradient 1."""
    block = nn.TransformerBlock(6, 2).to(tt.float64)
    for layer in (block.self_attn.out_proj, block.linear2):
        with tt.no_grad():
            layer.weight.zero_()
            layer.bias.zero_()
    x = tt.Tensor(tokens(2, 3, 6), requires_grad=True)
    y = block(x)
    assert np.array_equal(y.detach().numpy(), x.detach().numpy())
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), np.ones((2, 3, 6)))


def test_the_gradient_reaches_the_first_of_many_blocks():
    """Ground truth: Xiong et al. 2020: with norms first the gradient neither fades nor explodes.

    24 blocks; a part that multiplied the gradient by 0.5 would leave 6e-8 of it.
    """
    tt.manual_seed(0)
    blocks = nn.Sequential(*(nn.TransformerBlock(16, 2) for _ in range(24)))
    x = tt.Tensor(tokens(2, 4, 16, dtype=np.float32), requires_grad=True)
    out = blocks(x)
    weights = tt.Tensor(np.random.default_rng(2).standard_normal(out.shape).astype(np.float32))
    (out * weights).sum().backward()
    share = np.linalg.norm(x.grad.numpy()) / np.linalg.norm(weights.numpy())
    assert 0.5 < share < 50


def test_drop_path_skips_whole_samples():
    """Invariant: a sample whose parts are dropped comes out as it went in."""
    tt.manual_seed(0)
    block = nn.TransformerBlock(6, 2, drop_path=0.5)
    x = tokens(64, 2, 6, dtype=np.float32)
    same = (block(tt.Tensor(x)).detach().numpy() == x).all(axis=(1, 2))
    # A sample skips both parts with probability 1/4: 16 of 64, 5 standard deviations are 17.
    assert 1 <= same.sum() <= 33
    assert not (block.eval()(tt.Tensor(x)).detach().numpy() == x).all(axis=(1, 2)).any()


def test_a_block_with_a_cache_is_the_block():
    """Invariant: token by token = all at once."""
    block = nn.TransformerBlock(8, 2, causal=True).to(tt.float64)
    x = tt.Tensor(tokens(2, 5, 8))
    full = block(x).detach().numpy()
    cache = block.new_cache(2, 5)
    parts = [block(x[:, t : t + 1], cache=cache).detach().numpy() for t in range(5)]
    np.testing.assert_allclose(np.concatenate(parts, 1), full, rtol=1e-12, atol=1e-14)


def test_bad_settings_of_a_block_are_named():
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match="hidden is not a whole number"):
        nn.TransformerBlock(8, hidden=0)
    with pytest.raises(SettingError, match="there is no such norm"):
        nn.TransformerBlock(8, norm="batch")
    with pytest.raises(SettingError, match="gated is a yes or no"):
        nn.TransformerBlock(8, gated="swiglu")
    with pytest.raises(SettingError, match="norm_first is a yes or no"):
        nn.TransformerBlock(8, norm_first=1)
    with pytest.raises(SettingError, match="do not share the size"):
        nn.TransformerBlock(8, 3)


def test_shared_keys_without_a_batch():
    """Ground truth: the same with a batch of one."""
    q, k, v = (tt.randn(heads, 5, 8) for heads in (4, 2, 2))
    alone = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    batch = (x.reshape(1, *x.shape) for x in (q, k, v))
    together = F.scaled_dot_product_attention(*batch, enable_gqa=True)
    np.testing.assert_array_equal(alone.numpy(), together.numpy()[0])
