"""speed_recipe.py and its peer: rates, operations, and that both sides take the same steps."""

from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from benchmarks import peer_speed_recipe as peer
from benchmarks import speed_recipe as ours
from tinytorch.compression import flops_of
from tinytorch.models import WhitenedCNN

TINY = ours.Length(75.0, 60.0, (4, 8, 8), epochs=3, batch=8, bias_epochs=1)


def test_rates_fall_in_a_line_and_go_with_the_batch():
    """Closed form: airbench94_muon.py at 2,000 pictures and 256 channels, losses summed; Muon's
    rate with the root of the batch."""
    assert [ours.share_left(i, 4) for i in (0, 1, 4, 9)] == [1, 0.75, 0, 0]
    assert ours.share_left(0, 0) == 0
    same = ours.rates(replace(ours.LENGTHS["large"], batch=2000))
    wanted = {"shifts": 106.0, "head": 1340.0, "filters": 0.24}
    assert {k: same[k] for k in wanted} == pytest.approx(wanted)
    # each step pulls by rate times decay: 2e-6 a picture
    assert same["shifts"] * same["shifts decay"] == pytest.approx(4e-3)
    assert same["head"] * same["head decay"] == pytest.approx(4e-3)
    assert ours.rates(replace(TINY, batch=500))["filters"] == pytest.approx(0.12)


def test_operations_of_a_training():
    """Ground truth: the recorded graph's count, of which all but sums and maxima are products."""
    length = replace(ours.LENGTHS["middle"], epochs=3, bias_epochs=3)
    counted = flops_of(WhitenedCNN(length.widths).eval(), tt.zeros(1, 3, 32, 32))
    whitening = 2 * 12 * 24 * 32 * 32
    wanted = 3 * 50_000 * (3 * counted - whitening)
    assert ours.work(length) == pytest.approx(wanted, rel=0.05)
    assert ours.work(replace(length, bias_epochs=1)) < ours.work(length)


def test_both_sides_take_the_same_steps():
    """Ground truth: PyTorch's network, optimizers and losses from the same weights: the shift of
    patches learns for one step of three. Rounding moves a step by its angle: 1e-4 of a loss."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    mine = ours.Training(TINY, images, seed=1, compiled=False)
    start = {name: x.numpy().copy() for name, x in mine.net.state_dict().items()}
    theirs = peer.Training(TINY, start, compiled=False)
    for i in range(3):
        part = slice(8 * i, 8 * (i + 1))
        mine.set_rates(i, 3)
        loss = mine.step(images[part], labels[part]).item()
        assert loss == pytest.approx(theirs.step(images[part], labels[part], i, 3), rel=1e-3)
    assert not mine.bias.requires_grad
    assert mine.net.whiten.bias.numpy().any()
    plain, by_views = mine.accuracy(images[:4], labels[:4])
    assert 0 <= plain <= 100 and 0 <= by_views <= 100
