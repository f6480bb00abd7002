"""bert.py: counts, padding, segments, sentence vectors, hidden tokens, errors."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import (
    BERT,
    BERTClassifier,
    BERTConfig,
    BERTMaskedLM,
    mask_tokens,
    masked_lm_loss,
)

SMALL = BERTConfig(19, layers=2, heads=2, size=16, length=12, dropout=0.0)


def made(kind=BERT, config=SMALL, **settings):
    tt.manual_seed(0)
    net = kind(config, **settings).eval()
    with tt.no_grad():
        for p in net.parameters():  # first weights of 0.02 tell little
            if len(p.shape) == 2:
                p *= 5.0
    return net


def tokens(*shape):
    return tt.from_numpy(np.random.default_rng(0).integers(0, 19, shape))


def test_bert_base_has_as_many_weights_as_published():
    """Closed form, layer by layer: 109,482,240 with the pooler, what transformers counts too."""
    c, hidden = 768, 3072
    block = 4 * c * (c + 1) + hidden * (c + 1) + c * (hidden + 1) + 4 * c
    wanted = (30522 + 512 + 2) * c + 2 * c + 12 * block + c * (c + 1)
    small = made()
    ours = sum(p.size for p in small.parameters())
    c, hidden = 16, 64
    block = 4 * c * (c + 1) + hidden * (c + 1) + c * (hidden + 1) + 4 * c
    assert ours == (19 + 12 + 2) * c + 2 * c + 2 * block + c * (c + 1) and wanted == 109_482_240


def test_every_token_sees_all_others():
    """Ground truth: the gradient of each output with respect to each token is not 0."""
    net = made()
    x = tt.Tensor(net.tokens.weight.detach().numpy(), requires_grad=True)
    net.tokens.weight = tt.nn.Parameter(x)
    out = net(tt.arange(5).unsqueeze(0))
    for t in range(5):
        net.tokens.weight.grad = None
        (out[0, t] * tt.arange(16)).sum().backward(retain_graph=True)
        assert (np.abs(net.tokens.weight.grad.numpy()[:5]).max(1) > 0).all()


@pytest.mark.parametrize("kind", [BERT, BERTMaskedLM, BERTClassifier])
def test_padding_is_as_if_it_were_not_there(kind):
    """Invariant: a text of 4 tokens, padded to 7, gives what it gives alone."""
    net, x = made(kind), tokens(2, 7)
    mask = tt.arange(7).unsqueeze(0).broadcast_to(2, 7) < 4
    padded, alone = net(x, mask).detach().numpy(), net(x[:, :4]).detach().numpy()
    if kind is not BERTClassifier:
        padded = padded[:, :4]
    np.testing.assert_allclose(padded, alone, rtol=1e-4, atol=1e-5)  # float32, sums of 64
    assert not np.allclose(net(x).detach().numpy()[..., :4, :], padded[..., :4, :], atol=1e-4)


def test_segments_are_told_apart():
    """Ground truth: segment 0 is the default, segment 1 has another vector."""
    net, x = made(), tokens(1, 5)
    none, ones = (
        net(x, segments=tt.full((1, 5), n, dtype="int64")).detach().numpy() for n in (0, 1)
    )
    assert np.array_equal(none, net(x).detach().numpy()) and not np.allclose(none, ones)


def test_sentence_vectors_are_means_of_length_one():
    """Closed form: the mean over tokens that count, divided by its length; nothing counts: 0."""
    net, x = made(), tokens(3, 6)
    mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [0] * 6], bool)
    features = net(x, tt.Tensor(mask)).detach().numpy()
    found = net.embed(x, tt.Tensor(mask)).detach().numpy()
    for row, keep, vector in zip(features[:2], mask[:2], found[:2], strict=True):
        mean = row[keep].mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)
    assert not found[2].any()
    np.testing.assert_allclose(np.linalg.norm(net.embed(x).detach().numpy(), axis=1), 1, rtol=1e-6)


def test_shares_of_hidden_tokens():
    """Closed form: 15 % are chosen; of these 80 % hidden, 10 % any token, 10 % as they were.

    Five standard deviations of a share p of n draws: 5 sqrt(p (1 - p) / n).
    """
    tt.manual_seed(0)
    x = tt.full((200, 500), 3, dtype="int64")
    inputs, targets = (y.numpy() for y in mask_tokens(x, 19, 18))
    chosen = targets != -100
    assert abs(chosen.mean() - 0.15) < 5 * (0.15 * 0.85 / 1e5) ** 0.5
    assert (targets[chosen] == 3).all() and (inputs[~chosen] == 3).all()
    shown, n = inputs[chosen], chosen.sum()
    hidden = 0.8 + 0.1 / 19  # some of those that become any token become the mask, or stay
    assert abs((shown == 18).mean() - hidden) < 5 * (0.8 * 0.2 / n) ** 0.5
    assert abs((shown == 3).mean() - (0.1 + 0.1 / 19)) < 5 * (0.1 * 0.9 / n) ** 0.5
    others = np.bincount(shown, minlength=19)[[i for i in range(18) if i != 3]] / n
    assert (abs(others - 0.1 / 19) < 5 * (0.1 / 19 / n) ** 0.5).all()


def test_marks_and_padding_are_never_hidden():
    """Ground truth: the mask; a share of 1 chooses all others."""
    x, mask = tokens(2, 5), np.array([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]], bool)
    _, targets = mask_tokens(x, 19, 18, share=1.0, mask=tt.Tensor(mask))
    assert np.array_equal(targets.numpy(), np.where(mask, x.numpy(), -100))


def test_the_loss_is_of_hidden_tokens_alone():
    """Closed form: mean -log softmax at the targets, by hand; equal logits give log V."""
    logits = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    targets = np.array([[-100, 2, -100], [4, -100, -100]])
    odds = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -(odds[0, 1, 2] + odds[1, 0, 4]) / 2
    found = masked_lm_loss(tt.Tensor(logits), tt.from_numpy(targets)).item()
    assert found == pytest.approx(wanted, rel=1e-6)
    equal = masked_lm_loss(tt.zeros(2, 3, 5), tt.from_numpy(targets))
    assert equal.item() == pytest.approx(np.log(5))


def test_the_guess_shares_the_table_of_tokens():
    """Ground truth: one Parameter."""
    net = made(BERTMaskedLM)
    assert net.head.weight is net.bert.tokens.weight


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: BERTConfig(0), "vocab is not a whole number"),
        (lambda: BERTConfig(9, size=10, heads=3), "do not share the size evenly"),
        (lambda: BERTConfig(9, mlp="swiglu"), "there is no such mlp"),
        (lambda: BERTConfig(9, attention_dropout=1.0), "attention_dropout is outside its range"),
        (lambda: BERTConfig(9, hidden=0), "hidden is not a whole number"),
        (lambda: BERTClassifier(SMALL, 0), "classes is not a whole number"),
        (lambda: made(pooler=False).pooled(tt.zeros(1, 2, 16)), "there is no pooler"),
        (lambda: mask_tokens(tokens(1, 2), 19, 19), "the mask is not in the vocabulary"),
        (lambda: mask_tokens(tokens(1, 2), 19, 18, share=2.0), "share is outside its range"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"tokens": tokens(1, 13)}, r"T <= length = 12"),
        ({"tokens": tokens(3)}, "the tokens do not fit"),
        ({"tokens": tokens(1, 3), "mask": tt.ones(1, 4)}, "the mask is not shaped like the tokens"),
        ({"tokens": tokens(1, 3), "segments": tokens(3)}, "the segments is not shaped"),
    ],
)
def test_bad_shapes_are_named(given, phrase):
    """Ground truth: the shapes in the docstring."""
    with pytest.raises(ShapeError, match=phrase):
        made()(**given)


def test_dropout_is_for_training_alone():
    """Invariant: evaluation repeats itself, training does not."""
    net = made(config=replace(SMALL, dropout=0.5, attention_dropout=0.5))
    x = tokens(2, 6)
    assert np.array_equal(net(x).detach().numpy(), net(x).detach().numpy())
    net.train()
    assert not np.array_equal(net(x).detach().numpy(), net(x).detach().numpy())
