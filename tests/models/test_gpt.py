"""gpt.py: settings, errors, counts, first values."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import GPT, GPTConfig, next_token_loss


def weights(model) -> int:
    return sum(p.size for p in model.parameters())


def test_parameter_counts():
    """Closed form, layer by layer."""
    c = 48
    block = 2 * 2 * c + 3 * c * (c + 1) + c * (c + 1) + 4 * c * (c + 1) + c * (4 * c + 1)
    gpt = GPT(GPTConfig(vocab=65, size=c))
    assert weights(gpt) == 65 * c + 256 * c + 6 * block + 2 * c + 65 * c


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
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
