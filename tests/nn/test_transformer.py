"""transformer.py and positions.py: shortcuts, norms, places."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.embedding import positions


def tokens(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


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


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match="hidden is not a whole number"):
        nn.TransformerBlock(8, hidden=0)
    with pytest.raises(SettingError, match="norm_first is a yes or no"):
        nn.TransformerBlock(8, norm_first=1)
    with pytest.raises(SettingError, match="do not share the size"):
        nn.TransformerBlock(8, 3)
    with pytest.raises(SettingError, match="size is odd"):
        nn.SinusoidalPositions(4, 3)
    with pytest.raises(SettingError, match="head_size is odd"):
        nn.RotaryPositions(5)
    with pytest.raises(SettingError, match="no such kind"):
        positions("rotary", 4, 4)


# --- positions ---


def test_sinusoidal_positions_are_those_of_the_paper():
    """Closed form: section 3.5 of Vaswani et al. 2017, entry by entry."""
    table = nn.SinusoidalPositions(20, 6).to(tt.float64)(tt.zeros(20, 6, dtype="float64")).numpy()
    for t in range(20):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            # The table is kept in float32: half a unit in the last place of 1 is 6e-8.
            assert table[t, 2 * i] == pytest.approx(np.sin(angle), abs=6e-8)
            assert table[t, 2 * i + 1] == pytest.approx(np.cos(angle), abs=6e-8)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_distance_alone(interleaved):
    """Invariant: the product of q at m and k at n is a function of m - n; lengths stay."""
    turn = nn.RotaryPositions(8, interleaved=interleaved)
    q, k = tt.Tensor(tokens(1, 8)), tt.Tensor(tokens(1, 8)[:, ::-1].copy())
    products = [
        float((turn(q, start=m) * turn(k, start=n)).sum().item()) for m, n in ((3, 1), (103, 101))
    ]
    assert products[0] == pytest.approx(products[1], rel=1e-12)
    assert float((turn(q, start=7) ** 2).sum().item()) == pytest.approx(float((q * q).sum().item()))
    assert np.array_equal(turn(q).numpy(), q.numpy())


def test_rotary_pairs_are_permutations_of_each_other():
    """Invariant: neighbours (2 i, 2 i + 1) against (i, i + D / 2)."""
    x = tokens(5, 6)
    order = np.array([0, 2, 4, 1, 3, 5])
    halves = nn.RotaryPositions(6)(tt.Tensor(x[:, order])).numpy()
    neighbours = nn.RotaryPositions(6, interleaved=True)(tt.Tensor(x)).numpy()
    np.testing.assert_allclose(halves, neighbours[:, order], rtol=1e-14)


def test_rotary_angles_far_out_keep_their_digits():
    """Ground truth: NumPy in float64, at place 10^6; angles in float32 would be off by 0.06."""
    x = np.array([[1.0, 0.0]], np.float32)
    out = nn.RotaryPositions(2)(tt.Tensor(x), start=10**6).numpy()
    assert out[0] == pytest.approx([np.cos(1e6), np.sin(1e6)], abs=1e-7)


@pytest.mark.parametrize("kind", [nn.LearnedPositions, nn.SinusoidalPositions])
def test_a_start_shifts_the_places(kind):
    """Invariant: x[t] at start s gets row s + t; s is a number or a Tensor, compiled too."""
    layer = kind(8, 4)
    x = tt.zeros(2, 3, 4)
    rows = layer(tt.zeros(8, 4)).detach().numpy()
    for start in (2, tt.tensor(2)):
        out = layer(x, start=start).detach().numpy()
        assert np.array_equal(out, np.broadcast_to(rows[2:5], (2, 3, 4)))
    compiled = tt.compile(lambda x, start: layer(x, start=start))
    assert np.array_equal(compiled(x, tt.tensor(2)).detach().numpy(), out)
    with pytest.raises(ShapeError, match=r"start \+ T <= 8"):
        layer(x, start=6)
    with pytest.raises(ShapeError, match="C = 4"):
        layer(tt.zeros(2, 3, 5))


def test_positions_by_name():
    """Ground truth: the classes; learned ones train, fixed ones do not (S4-68)."""
    learned, fixed = positions("learned", 8, 4), positions("sinusoidal", 8, 4)
    assert [p.shape for p in learned.parameters()] == [(8, 4)] and not list(fixed.parameters())
    assert positions("none", 8, 4) is None
    assert list(fixed.state_dict()) == []
