"""seq2seq.py: who sees whom, the cache, padding, counts, errors."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import Seq2Seq, Seq2SeqConfig

SMALL = Seq2SeqConfig(19, layers=2, heads=2, size=16, length=12)


def made(config=SMALL):
    tt.manual_seed(0)
    net = Seq2Seq(config).eval()
    with tt.no_grad():
        for p in net.parameters():  # first weights of 0.02 tell little
            if len(p.shape) == 2:
                p *= 5.0
    return net


def tokens(*shape, seed=0):
    return tt.from_numpy(np.random.default_rng(seed).integers(0, 19, shape))


def test_parameter_counts():
    """Closed form: 12 C^2 an encoder block, 16 C^2 a decoder block, biases and norms beside."""
    c = 16
    attention, mlp, norm = 4 * c * (c + 1), 8 * c * c + 5 * c, 2 * c
    block = 2 * (attention + mlp + 2 * norm) + 2 * (2 * attention + mlp + 3 * norm)
    wanted = 19 * c + 2 * 12 * c + block + 2 * norm
    assert sum(p.size for p in Seq2Seq(SMALL).parameters()) == wanted
    last = Seq2Seq(replace(SMALL, norm_first=False))
    assert sum(p.size for p in last.parameters()) == wanted - 2 * norm


def test_the_target_sees_its_past_and_all_of_the_source():
    """Invariant: another last token of the target changes nothing before it, of the source all."""
    net, source, target = made(), tokens(1, 5), tokens(1, 4, seed=1).numpy()
    changed = target.copy()
    changed[0, -1] = (changed[0, -1] + 1) % 19
    a, b = (net(source, tt.from_numpy(t)).detach().numpy() for t in (target, changed))
    assert np.array_equal(a[:, :-1], b[:, :-1]) and not np.allclose(a[:, -1], b[:, -1])
    other = source.numpy().copy()
    other[0, -1] = (other[0, -1] + 1) % 19
    c = net(tt.from_numpy(other), tt.from_numpy(target)).detach().numpy()
    assert (np.abs(a - c).max(-1) > 1e-4).all()


def test_padding_of_the_source_is_as_if_it_were_not_there():
    """Invariant: a source of 4 tokens, padded to 7, gives what it gives alone."""
    net, source, target = made(), tokens(2, 7), tokens(2, 3, seed=1)
    mask = tt.arange(7).unsqueeze(0).broadcast_to(2, 7) < 4
    padded = net(source, target, mask).detach().numpy()
    alone = net(source[:, :4], target).detach().numpy()
    np.testing.assert_allclose(padded, alone, rtol=1e-4, atol=1e-5)  # float32, sums of 64


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 6, [3, 1, 2]])
def test_cached_logits_are_the_logits(pieces, norm_first):
    """Invariant: piece by piece with a cache = all at once, at every position; float32, 1e-5."""
    net, source = made(replace(SMALL, norm_first=norm_first)), tokens(2, 7)
    target, mask = tokens(2, 6, seed=1), tt.arange(14).reshape(2, 7) != 3
    with tt.no_grad():
        memory, cache, at, found = net.encode(source, mask), net.new_cache(2), 0, []
        for n in pieces:
            found.append(net.decode(target[:, at : at + n], memory, mask, cache).numpy())
            at += n
        wanted = net(source, target, mask).numpy()
    assert wanted.std() > 0.1
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, rtol=0, atol=1e-5)


def test_the_keys_and_values_of_a_memory_are_computed_once():
    """Invariant: kept = computed again in each step, 1e-5; and a step has two products a block
    less."""
    net, target, found, products = made(), tokens(2, 6, seed=1), [], []
    mask = tt.arange(14).reshape(2, 7) != 3
    with tt.no_grad():
        memory = net.encode(tokens(2, 7), mask)
        for given in (memory, net.keys_values(memory)):
            cache = net.new_cache(2)

            @tt.compile
            def step(token, given, cache=cache):
                return net.decode(token, given, mask, cache)

            steps = [step(target[:, t : t + 1], given).numpy() for t in range(6)]
            found.append(np.concatenate(steps, 1))
            products.append(step.graph().count("matmul("))
            assert step.captures == 1
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)
    assert products[0] - products[1] == 2 * SMALL.layers
    other = Seq2Seq(replace(SMALL, heads=4))
    with pytest.raises(ShapeError, match="are not of this layer"):
        other.decode(target, net.keys_values(memory))


def test_it_learns_to_turn_texts_around():
    """Ground truth: the task itself: the target is the source backwards, all of 40 by heart."""
    tt.manual_seed(0)
    net = Seq2Seq(Seq2SeqConfig(8, layers=1, heads=2, size=32, length=8))
    optimizer = tt.optim.AdamW(net.parameters(), lr=5e-3)
    source = np.random.default_rng(0).integers(1, 8, (40, 5))
    begin = np.concatenate([np.zeros((40, 1), int), source[:, :0:-1]], 1)

    @tt.compile
    def step(source, begin, wanted):
        logits = net(source, begin)
        loss = tt.nn.functional.cross_entropy(logits.reshape(-1, 8), wanted.reshape(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    given = [tt.from_numpy(np.ascontiguousarray(x)) for x in (source, begin, source[:, ::-1])]
    for _ in range(150):
        loss = step(*given)
    assert loss.item() < 0.05


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: Seq2SeqConfig(0), "vocab is not a whole number"),
        (lambda: Seq2SeqConfig(9, size=10, heads=3), "do not share the size evenly"),
        (lambda: Seq2SeqConfig(9, dropout=1.0), "dropout is outside its range"),
        (lambda: Seq2SeqConfig(9, norm_first=None), "norm_first is a yes or no"),
        (lambda: made().new_cache(1, 13), "the model has not so many places"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_texts_that_are_too_long_are_named():
    """Ground truth: T <= length, of either text."""
    with pytest.raises(ShapeError, match=r"the source does not fit[\s\S]*T <= length = 12"):
        made()(tokens(1, 13), tokens(1, 2))
    with pytest.raises(ShapeError, match="the target does not fit"):
        made()(tokens(1, 2), tokens(1, 13))
