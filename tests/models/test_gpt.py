"""gpt.py: settings, errors, counts, first values."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.models import GPT, GPTConfig, next_token_loss

GPT2 = GPTConfig(17, layers=2, heads=2, size=16, length=12, mlp="gelu_tanh", tied=True)
LLAMA = GPTConfig(
    17, layers=2, heads=4, size=16, length=12, kv_heads=2, positions="rotary", norm="rms",
    mlp="swiglu", bias=False,
)  # fmt: skip
each_kind = pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["GPT-2", "Llama"])


def lively(config: GPTConfig) -> GPT:
    """A model whose logits differ by numbers of size 1: first weights of 0.02 tell little."""
    tt.manual_seed(3)
    model = GPT(config).eval()
    with tt.no_grad():
        for p in model.parameters():
            if len(p.shape) == 2:
                p *= 10.0
    return model


def weights(model) -> int:
    return sum(p.size for p in model.parameters())


def test_parameter_counts():
    """Closed form, layer by layer."""
    c = 48
    block = 2 * 2 * c + 3 * c * (c + 1) + c * (c + 1) + 4 * c * (c + 1) + c * (4 * c + 1)
    gpt = GPT(GPTConfig(vocab=65, size=c))
    assert weights(gpt) == 65 * c + 256 * c + 6 * block + 2 * c + 65 * c


def test_parameter_counts_of_llama():
    """Closed form: grouped queries, three matrices, no biases, a norm without shift."""
    c, hidden = 16, 64  # 8 * 16 / 3 = 42.7, rounded up to a multiple of 32
    block = c * (c + 2 * 8) + c * c + 3 * c * hidden + 2 * c
    assert LLAMA.width == hidden and weights(GPT(LLAMA)) == 17 * c + 2 * block + c + 17 * c
    assert weights(GPT(replace(LLAMA, tied=True))) == 17 * c + 2 * block + c


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: GPTConfig(9, positions="sinusoidal"), "GPTConfig: there is no such positions"),
        (lambda: GPTConfig(9, norm="batch"), "one of 'layer', 'rms'"),
        (lambda: GPTConfig(9, mlp="relu"), "one of 'gelu', 'gelu_tanh', 'swiglu'"),
        (lambda: GPTConfig(9, tied=1), "tied is a yes or no"),
        (lambda: GPTConfig(9, norm_eps=-1.0), "norm_eps is outside its range"),
        (lambda: GPTConfig(9, hidden=0), "hidden is not a whole number"),
        (lambda: GPT(GPTConfig(9, heads=6, kv_heads=4)), "do not share the keys evenly"),
        (lambda: GPT(GPTConfig(9, heads=2, size=6, positions="rotary")), "head_size is odd"),
        (lambda: GPT(LLAMA).new_cache(1, 13), "the model has not so many places"),
        (lambda: GPT(LLAMA).new_cache(1, 0), "length is not a whole number"),
        (lambda: GPTConfig(vocab=0), "vocab is not a whole number"),
        (lambda: GPTConfig(vocab=9, size=10, heads=3), "do not share the size evenly"),
        (lambda: GPTConfig(vocab=9, dropout=1.0), "dropout is outside its range"),
    ],
)
def test_bad_sizes_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_gpt_refuses_more_tokens_than_positions():
    """Ground truth: T <= length."""
    gpt = GPT(GPTConfig(vocab=5, layers=1, heads=1, size=4, length=3))
    with pytest.raises(ShapeError, match=r"T <= length = 3"):
        gpt(tt.zeros(1, 4, dtype="int64"))


def test_gpt_does_not_see_the_future():
    """Invariant: another last token changes no logits before it."""
    gpt = GPT(GPTConfig(vocab=5, layers=2, heads=2, size=8, length=4))
    a, b = (gpt(tt.tensor([[1, 2, 3, last]])).detach().numpy() for last in (0, 4))
    assert np.array_equal(a[:, :-1], b[:, :-1])


def test_gpt_starts_with_the_deviation_of_its_paper():
    """Closed form: 0.02, and 0.02 / sqrt(2 L) where a layer writes to the residual stream."""
    tt.manual_seed(0)
    gpt = GPT(GPTConfig(vocab=50, layers=2, heads=2, size=128, length=64))
    block = gpt.blocks[0]
    assert block.linear1.weight.detach().numpy().std() == pytest.approx(0.02, rel=0.02)
    assert block.linear2.weight.detach().numpy().std() == pytest.approx(0.01, rel=0.02)
    assert not block.linear1.bias.detach().numpy().any()


def test_next_token_loss_of_equal_logits():
    """Closed form: log V."""
    loss = next_token_loss(tt.zeros(2, 3, 7), tt.zeros(2, 3, dtype="int64"))
    assert loss.item() == pytest.approx(np.log(7))


def test_checkpointed_blocks_are_the_same_model_in_less_memory():
    """Invariant: two compiled steps with dropout, to the last bit. Closed form: of six blocks one
    is there at a time, so the arena is less than half; the kept rows of five blocks are not."""

    def trained(checkpoint: bool):
        tt.manual_seed(2)
        config = GPTConfig(17, layers=6, heads=2, size=32, length=64, dropout=0.1)
        model = GPT(replace(config, checkpoint=checkpoint))
        optimizer = tt.optim.AdamW(model.parameters(), lr=1e-2)

        @tt.compile
        def step(tokens, targets):
            loss = next_token_loss(model(tokens), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        tokens = tt.arange(8 * 65).reshape(8, 65) % 17
        losses = [step(tokens[:, :-1], tokens[:, 1:]).item() for _ in range(2)]
        return losses, model.state_dict(), step.stages()["plan the arena"].peak

    losses, weights, most = trained(False)
    again, same, less = trained(True)
    assert losses == again and less < most / 2
    for name, weight in weights.items():
        assert np.array_equal(weight.numpy(), same[name].numpy()), name


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 1, 1, 4], [11, 1]])
@each_kind
def test_cached_logits_are_the_logits(config, pieces):
    """Invariant: piece by piece with a cache = all at once, at every position; float32, 1e-5."""
    model = lively(config)
    tokens = tt.from_numpy(np.random.default_rng(0).integers(0, 17, (2, 12)))
    cache, at, found = model.new_cache(2), 0, []
    with tt.no_grad():
        wanted = model(tokens).numpy()
        for n in pieces:
            found.append(model(tokens[:, at : at + n], cache).numpy())
            at += n
    assert wanted.std() > 0.3
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, rtol=0, atol=1e-5)


@each_kind
def test_one_compiled_program_goes_on_with_a_cache(config):
    """Invariant: compiled token by token = all at once, eagerly; float32, 1e-5."""
    model = lively(config)
    tokens = tt.from_numpy(np.random.default_rng(0).integers(0, 17, (2, 12)))
    cache = model.new_cache(2)
    step = tt.compile(lambda token: model(token, cache))
    with tt.no_grad():
        wanted = model(tokens).numpy()
        found = [step(tokens[:, i : i + 1]).numpy() for i in range(12)]
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, rtol=0, atol=1e-5)
    assert cache.lengths.tolist() == [12] * cache.batch


@each_kind
def test_features_and_head_are_the_model(config):
    """Invariant: head(features) = logits, with and without a cache."""
    model, tokens = lively(config), tt.zeros(1, 3, dtype="int64")
    wanted = model(tokens).detach().numpy()
    assert np.array_equal(model.head(model.features(tokens)).detach().numpy(), wanted)
    held = model.features(tokens, model.new_cache(1, 3))
    assert held.shape == (1, 3, 16)
    np.testing.assert_allclose(model.head(held).detach().numpy(), wanted, rtol=0, atol=1e-5)


@each_kind
def test_a_full_cache_and_that_of_another_model_are_named(config):
    """Ground truth: T <= room, and a cache a layer."""
    model, cache = GPT(config), GPT(config).new_cache(1, 2)
    model(tt.zeros(1, 2, dtype="int64"), cache)
    with pytest.raises((ShapeError, IndexRangeError)):
        model(tt.zeros(1, 1, dtype="int64"), cache)
    with pytest.raises(ShapeError, match="that of another model"):
        model(tt.zeros(1, 2, dtype="int64"), GPT(replace(config, layers=3)).new_cache(1, 2))


def test_a_tied_head_is_the_table_of_tokens():
    """Ground truth: one Parameter under two names; its gradient is the sum of both uses; a compiled
    step and a loaded file leave them one."""
    model = GPT(GPT2)
    assert model.head.weight is model.tokens.weight
    assert list(model.state_dict())[-1] == "head.weight"
    tokens = tt.tensor([[1, 2, 3]])
    optimizer = tt.optim.SGD(model.parameters(), lr=0.1)

    @tt.compile
    def step(tokens):
        loss = next_token_loss(model(tokens), tokens)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    untied = GPT(replace(GPT2, tied=False))
    untied.load_state_dict(model.state_dict())
    next_token_loss(untied(tokens), tokens).backward()
    both = untied.head.weight.grad.numpy() + untied.tokens.weight.grad.numpy()
    before = model.head.weight.detach().numpy().copy()
    step(tokens)
    moved = (before - model.tokens.weight.detach().numpy()) / 0.1
    np.testing.assert_allclose(moved, both, rtol=1e-3, atol=1e-6)  # differences of numbers of 0.02
    model.load_state_dict(model.state_dict())
    assert model.head.weight is model.tokens.weight
