"""context.py: logits with a cache are logits without, few programs serve all lengths, reuse."""

import copy
import gc
import weakref

import numpy as np
import pytest

import tinytorch as tt
from tests.generation.models import LEARNED, ROTARY, logits_of, made
from tinytorch.base.errors import SettingError
from tinytorch.generation import Context
from tinytorch.generation.context import borrow, checked_prompt, give_back, pieces_of

IDS = np.random.default_rng(0).integers(0, 50, 96).tolist()


@pytest.mark.parametrize("config", [LEARNED, ROTARY])
def test_cached_logits_are_the_logits_at_every_position(config):
    """Invariant: float32, 1e-5 of the largest; in pieces, one by one and a few at a time; and no
    program is recorded for another length."""
    model = made(config)
    wanted = logits_of(model, IDS)
    bound = 1e-5 * np.abs(wanted).max()
    context, at = Context(model), 0
    for n in (7, 1, 40, 2, 1, 1, 3, 20):
        logits = context.read(IDS[at : at + n])
        at += n
        np.testing.assert_allclose(logits, wanted[at - 1], rtol=0, atol=bound)
    assert context.compilations == 3  # one token, up to 16 and up to 64
    for n in (4, 1, 9):
        logits = context.read_each(IDS[at : at + n])
        np.testing.assert_allclose(logits, wanted[at : at + n], rtol=0, atol=bound)
        at += n
    assert context.compilations == 4 and context.room == 96 - at
    assert context.tokens == IDS[:at]


@pytest.mark.parametrize("settings", [{"dtype": "int8"}, {"window": 96}])
def test_other_caches(settings):
    """Invariant: a window of the whole length changes nothing; bytes change logits by about 1 %."""
    model = made(ROTARY)
    wanted = logits_of(model, IDS)[-1]
    logits = Context(model, **settings).read(IDS)
    bound = 0.05 if "dtype" in settings else 1e-5
    assert np.abs(logits - wanted).max() < bound * np.abs(wanted).max()


def test_tokens_come_in_any_form():
    """Invariant: lists, tuples, arrays of one or two axes; one token or several."""
    model = made()
    wanted = [Context(model).read(IDS[:n]) for n in (4, 5)]
    for form in (list, tuple, np.array, lambda ids: np.array([ids])):
        context = Context(model)
        assert np.array_equal(context.read(form(IDS[:4])), wanted[0])
        np.testing.assert_allclose(context.read(form(IDS[4:5])), wanted[1], rtol=0, atol=1e-4)
        assert context.tokens == IDS[:5]


def test_prompts_longer_than_a_piece():
    """Ground truth: without a cache; 300 tokens are two pieces, of up to 256 and up to 64."""
    from dataclasses import replace

    model = made(replace(ROTARY, length=320))
    ids = np.random.default_rng(1).integers(0, 50, 300).tolist()
    wanted = logits_of(model, ids)[-1]
    context = Context(model)
    np.testing.assert_allclose(context.read(ids), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert context.compilations == 2


def test_pieces_of_a_prompt():
    """Invariant: together the prompt, each at least half as long as what it is read with, but for
    the last; each size and the smallest prompts by hand."""
    sizes = (16, 64, 256)
    for count in range(1, 1100):
        found = list(pieces_of(count, sizes))
        assert sum(part for part, _ in found) == count
        assert all(part <= size and size in sizes for part, size in found)
        assert all(2 * part >= size for part, size in found if size > 16)
        assert sum(size for _, size in found) <= max(16, 2 * count)
    assert [list(pieces_of(n, sizes)) for n in (1, 16, 64, 256)] == [
        [(1, 16)], [(16, 16)], [(64, 64)], [(256, 256)]
    ]  # fmt: skip
    assert list(pieces_of(9, (4,))) == [(4, 4), (4, 4), (1, 4)]


def test_what_prompts_have_in_common_is_kept():
    """Ground truth: the longest common beginning by hand; the logits are the same to the bit."""
    model, context = made(), None
    context = Context(model)
    context.read(IDS[:20])
    other = [*IDS[:12], 49, 48, 47]
    assert context.keep(other) == 12 and context.tokens == IDS[:12]
    logits = context.read(other[12:])
    fresh = Context(model)
    fresh.read(other[:12])
    assert np.array_equal(fresh.read(other[12:]), logits)
    assert context.keep(other) == 14  # the last is read again: its logits are wanted
    with tt.no_grad():
        model.head.weight.assign_(model.head.weight * 2.0)
    assert context.keep(other) == 0 and context.cache.lengths.tolist() == [0]


def middle(x):
    x[7, 3] = 5.0


def trained(model):
    """A compiled step that writes every weight."""
    optimizer = tt.optim.SGD(model.parameters(), lr=0.5)

    @tt.compile
    def step(tokens):
        logits = model(tokens)
        (logits * logits).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(tt.zeros(1, 3, dtype="int64"))


@pytest.mark.parametrize(
    "write",
    [
        lambda model: middle(model.head.weight.detach()),
        lambda model: middle(model.blocks[1].linear1.weight.data),
        lambda model: middle(model.tokens.weight.detach().numpy()),
        lambda model: setattr(model, "norm", tt.nn.LayerNorm(32)),
        lambda model: model.load_state_dict(made(seed=1).state_dict()),
        trained,
    ],
)
def test_every_changed_weight_is_noticed(write):
    """Ground truth: one number in the middle of an array, by a view, by NumPy; another module;
    all of them, by a compiled step. A cache that is used changes nothing."""
    model = made()
    context = Context(model)
    context.read(IDS[:20])
    assert context.keep(IDS[:30]) == 20
    context.read(IDS[20:30])
    write(model)
    assert context.keep(IDS[:30]) == 0 and context.tokens == []
    logits = context.read(IDS[:30])
    wanted = logits_of(model, IDS[:30])[-1]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_window_that_has_lost_the_past_begins_anew():
    """Ground truth: a window of 4 in a cache of 288 places, cut from 600 tokens to 10."""
    from dataclasses import replace

    context = Context(made(replace(ROTARY, length=700)), window=4)
    ids = np.random.default_rng(1).integers(0, 50, 600).tolist()
    context.read(ids)
    assert context.keep(ids[:10]) == 0 and context.tokens == []


def test_batches():
    """Invariant: each row is its own sequence."""
    model = made()
    context = Context(model, batch=2)
    logits = context.read(np.array([IDS[:9], IDS[9:18]]))
    for row in range(2):
        wanted = logits_of(model, IDS[9 * row : 9 * row + 9])[-1]
        np.testing.assert_allclose(logits[row], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_contexts_go_with_their_model():
    """Invariant: one that was given back is borrowed again, by no copy; it keeps no model alive."""
    model = made()
    first = borrow(model)
    first.read(IDS[:5])
    give_back(first)
    assert borrow(copy.deepcopy(model)) is not first
    assert borrow(model) is first and not first.tokens
    give_back(first)
    for _ in range(9):
        give_back(Context(model))
    assert len(vars(model)["_idle_contexts"].contexts) == 4
    seen = weakref.ref(model)
    del model, first
    gc.collect()
    assert seen() is None


def test_a_model_in_training_is_in_training_behind():
    """Invariant: dropout does nothing meanwhile, and the flags are what they were."""
    from dataclasses import replace

    model = made(replace(LEARNED, dropout=0.5)).train()
    model.norm.eval()
    logits = Context(model).read(IDS[:9])
    assert model.training and model.dropout.training and not model.norm.training
    wanted = logits_of(model.eval(), IDS[:9])[-1]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4)


def test_what_does_not_fit_is_refused():
    """Ground truth: the length, the vocabulary; and the context goes on."""
    context = Context(made(), 8)
    context.read(IDS[:6])
    for wrong in ([], IDS[:3]):
        with pytest.raises(SettingError, match="do not fit the context"):
            context.read(wrong)
    context.read(IDS[6:8])
    for wrong, phrase in (
        ([], "no sequence"),
        ([1.5], "no sequence"),
        ([[1]], "no sequence"),
        ([50], "not in the model's vocabulary"),
        ([-1], "not in the model"),
    ):
        with pytest.raises(SettingError, match=phrase):
            checked_prompt("generate", wrong, 50)
    assert checked_prompt("generate", tt.tensor([3, 4]).numpy(), 50) == [3, 4]
