"""embedding.py: tokens outside their table, its sparse path (with tensor and optim), positions."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import DTypeError, IndexRangeError, SettingError, ShapeError
from tinytorch.compiler.graph.graph import step_reference
from tinytorch.compiler.record.recording import record
from tinytorch.nn import functional as F
from tinytorch.nn.embedding import inside, positions
from tinytorch.tensor.tensor import RowGradient
from tinytorch.training import Trainer

TOKENS = np.array([[7, 3, 7], [0, 3, 9]])


READ = [0, 3, 7, 9]


RULES = {
    "SGD": lambda p: tt.optim.SGD(p, lr=0.1),
    "SGD momentum": lambda p: tt.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda p: tt.optim.Adam(p, lr=0.1),
    "AdamW": lambda p: tt.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "RMSprop": lambda p: tt.optim.RMSprop(p, lr=0.1),
    "Lion": lambda p: tt.optim.Lion(p, lr=0.1),
}


each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def table(sparse: bool, **settings) -> nn.Embedding:
    tt.manual_seed(3)
    return nn.Embedding(10, 4, sparse=sparse, **settings).to(tt.float64)


def loss_of(layer, tokens=TOKENS) -> tt.Tensor:
    out = layer(tt.Tensor(tokens))
    weights = np.random.default_rng(0).standard_normal(out.shape)
    return (out * out * tt.Tensor(weights)).sum()


def test_the_sparse_gradient_is_the_dense_one():
    """Invariant: the same numbers; rows twice in a batch, and two batches, add up."""
    layers = table(True), table(False)
    for layer in layers:
        loss_of(layer).backward()
        loss_of(layer, np.array([3, 1])).backward()
    a, b = (layer.weight.grad for layer in layers)
    assert isinstance(a, RowGradient) and not isinstance(b, RowGradient)
    assert a.shape == b.shape and a.dtype is b.dtype
    assert a.rows().tolist() == [0, 1, 3, 7, 9]
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-15)
    np.testing.assert_allclose(a.joined().numpy(), b.numpy(), rtol=1e-15)


def test_a_table_read_in_two_ways_has_the_sum_of_both_gradients():
    """Invariant: rows and a whole table add up (a head that shares the embedding's weight)."""
    layers = table(True), table(False)
    for layer in layers:
        x = layer(tt.Tensor(TOKENS))
        (nn.functional.linear(x, layer.weight) ** 2).sum().backward()
    a, b = (layer.weight.grad.numpy() for layer in layers)
    np.testing.assert_allclose(a, b, rtol=1e-14)


@each_rule
def test_one_step_from_the_start_is_the_dense_one(rule):
    """Invariant: with all averages 0, rows that were not read move by weight decay alone."""
    layers = table(True), table(False)
    for layer in layers:
        optimizer = rule(layer.parameters())
        loss_of(layer).backward()
        optimizer.step()
    a, b = (layer.weight.detach().numpy() for layer in layers)
    np.testing.assert_allclose(a[READ], b[READ], rtol=1e-14)
    others = sorted(set(range(10)) - set(READ))
    assert np.array_equal(a[others], table(True).weight.detach().numpy()[others])


@each_rule
def test_rows_move_as_if_the_table_were_theirs_alone(rule):
    """Ground truth: a dense table of the rows that were read, in every step the same ones."""
    whole, small = table(True), nn.Embedding(4, 4).to(tt.float64)
    small.load_state_dict({"weight": whole.weight.detach().numpy()[READ]})
    places = np.searchsorted(READ, TOKENS)
    optimizers = rule(whole.parameters()), rule(small.parameters())
    for _ in range(5):
        for layer, optimizer, tokens in zip(
            (whole, small), optimizers, (TOKENS, places), strict=True
        ):
            optimizer.zero_grad()
            loss_of(layer, tokens).backward()
            optimizer.step()
    found = whole.weight.detach().numpy()[READ]
    np.testing.assert_allclose(found, small.weight.detach().numpy(), rtol=1e-13)


@each_rule
@pytest.mark.parametrize("forget_after", [True, False])
def test_compiled_is_eager(rule, forget_after):
    """Ground truth: eager, float32, rows that change from step to step; sums of 3 terms."""
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, 10, (2, 3)) for _ in range(4)]
    found = []
    for through in (lambda f: f, tt.compile):
        layer = table(True).to(tt.float32)
        optimizer = rule(layer.parameters())

        def step(tokens, layer=layer, optimizer=optimizer):
            if not forget_after:
                optimizer.zero_grad()
            loss = loss_of(layer, tokens)
            loss.backward()
            optimizer.step()
            if forget_after:
                optimizer.zero_grad()
            return loss

        call = through(step)
        losses = [call(tt.Tensor(batch)).item() for batch in batches]
        gradient = layer.weight.grad
        found.append((losses, layer.weight.detach().numpy(), gradient))
    (losses, weight, gradient), (others, other, second) = found
    np.testing.assert_allclose(others, losses, rtol=1e-5)
    np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-6)
    if forget_after:
        assert gradient is None and second is None
    else:
        np.testing.assert_allclose(second.numpy(), gradient.numpy(), rtol=1e-4, atol=1e-6)


def test_a_rule_that_mixes_rows_sees_the_whole_table():
    """Invariant: Muon moves a sparse table as it moves a dense one."""
    layers = table(True), table(False)
    for layer in layers:
        optimizer = tt.optim.Muon(layer.parameters(), lr=0.1)
        loss_of(layer).backward()
        optimizer.step()
    a, b = (layer.weight.detach().numpy() for layer in layers)
    np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_keeps_rows_and_gives_the_dense_length(limit):
    """Invariant: the length of the whole table's gradient, whose other rows are 0."""
    layers = table(True), table(False)
    lengths = []
    for layer in layers:
        loss_of(layer).backward()
        lengths.append(tt.optim.clip_grad_norm_(layer.parameters(), limit).item())
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-14)
    a, b = (layer.weight.grad for layer in layers)
    assert isinstance(a, RowGradient)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-13)


@pytest.mark.parametrize("settings", [{"accumulate": 3, "clip_norm": 1.0}, {"ema": 0.9}])
def test_the_trainer_trains_it_eager_and_compiled(settings, capsys):
    """Ground truth: eager NumPy, float32, 4 steps of Adam: a few roundings of numbers of size 3."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (64, 3))
    batches = [(x[i : i + 16], x[i : i + 16].sum(1) % 4) for i in range(0, 64, 16)]
    found = []
    for compiled in (False, True):
        tt.manual_seed(0)
        model = nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Flatten(), nn.Linear(24, 4))
        adam = tt.optim.Adam(model.parameters(), lr=0.01)
        Trainer(model, adam, compile=compiled, progress=False, **settings).train(batches, 1)
        found.append(model.state_dict()["0.weight"].numpy())
    np.testing.assert_allclose(*found, atol=1e-5)


def test_it_is_a_tensor_everywhere_else():
    """Invariant: arithmetic, reading and copying go through the whole table."""
    layer = table(True)
    loss_of(layer).backward()
    g = layer.weight.grad
    whole = g.numpy()
    np.testing.assert_allclose((g + 1.0).numpy(), whole + 1.0)
    np.testing.assert_allclose((1.0 + g).numpy(), whole + 1.0)
    np.testing.assert_allclose((2.0 * g).numpy(), 2 * whole)
    np.testing.assert_allclose((g * tt.Tensor(whole)).numpy(), whole * whole)
    np.testing.assert_allclose(g.abs().max().item(), np.abs(whole).max())
    np.testing.assert_allclose(g.sum().item(), whole.sum(), rtol=1e-12)
    np.testing.assert_allclose(g.sum(0).numpy(), whole.sum(0), rtol=1e-12)
    np.testing.assert_allclose((g + tt.Tensor(whole)).numpy(), 2 * whole)
    assert g.astype("float32").dtype is tt.float32
    assert repr(g) == "RowGradient(6 of 10 rows, float64)"


def test_second_derivatives_of_a_sparse_table():
    """Ground truth: finite differences, to second order."""
    index = tt.Tensor(TOKENS)

    def f(weight):
        return nn.functional.embedding(index, weight, sparse=True) ** 3

    assert tt.gradcheck(f, (table(True).weight.detach(),))


def test_a_padding_row_is_zero_at_first_and_stays():
    """Ground truth: the docstring, dense and sparse, for a row counted from the end too."""
    for sparse in (True, False):
        layer = table(sparse, padding_idx=-3)
        assert layer.padding_idx == 7 and not layer.weight[7].detach().numpy().any()
        sgd = tt.optim.SGD(layer.parameters(), lr=0.1)
        (layer(tt.Tensor(TOKENS)) + 1.0).sum().backward()
        assert not layer.weight.grad.numpy()[7].any()
        sgd.step()
        assert not layer.weight[7].detach().numpy().any()
    with pytest.raises(IndexRangeError, match="padding_idx points outside the table"):
        nn.Embedding(10, 4, padding_idx=10)


def test_first_values_can_be_chosen():
    """Closed form: the deviation of 40000 normal numbers lies within 2 % of std."""
    tt.manual_seed(0)
    assert nn.Embedding(1000, 40, std=0.02).weight.detach().numpy().std() == pytest.approx(
        0.02, rel=0.02
    )


def test_a_token_past_the_table_was_told_of_a_last_layer():
    """Ground truth: the table of 4 rows needs 8 for token 7, and is no last layer."""
    with pytest.raises(IndexRangeError, match="token: 8 rows"):
        nn.Embedding(4, 2)(tt.tensor([7]))


def test_the_first_row_counted_from_the_end_is_a_padding_row():
    """Ground truth: -9 of 9 rows is row 0, -10 is none."""
    weight, tokens = tt.ones(9, 2).requires_grad_(), tt.tensor([0, 1])
    nn.functional.embedding(tokens, weight, padding_idx=-9).sum().backward()
    assert weight.grad.tolist()[:2] == [[0.0, 0.0], [1.0, 1.0]]
    with pytest.raises(IndexRangeError, match="padding_idx points outside"):
        nn.functional.embedding(tokens, weight, padding_idx=-10)


def test_shape_and_sum_of_row_gradients():
    """Ground truth: the whole table; equal types stay rows, others become a table."""
    index = tt.tensor([2, 0])
    one = RowGradient(index, tt.ones(2, 3, 4), 5)
    assert one.shape == (5, 3, 4) == one.dense().shape
    both = one + RowGradient(tt.tensor([2]), tt.ones(1, 3, 4), 5)
    assert type(both) is RowGradient and both.dense().numpy()[2, 0, 0] == 2.0
    other = one + RowGradient(tt.tensor([2]), tt.ones(1, 3, 4, dtype="float64"), 5)
    assert type(other) is not RowGradient
    assert other.dtype is tt.float64 and other.numpy()[2, 0, 0] == 2.0


def test_embedding_refuses_tokens_outside_its_table():
    """Ground truth: [0, V); -1 is a mistake, not the last row."""
    table = nn.Embedding(4, 2)
    for wrong in (4, -1):
        with pytest.raises(IndexRangeError, match=rf"token\[1\] = {wrong}, 1 of 2"):
            table(tt.tensor([0, wrong]))
    with pytest.raises(DTypeError, match="tokens are whole numbers"):
        table(tt.Tensor([0.5]))


def test_a_size_is_named():
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match="embedding_dim is not a whole number"):
        nn.Embedding(3, 0)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_captured_program_refuses_too(wrong):
    """Ground truth: [0, K). NumPy counts -1 from the end; the graph must not."""
    logits, labels = np.zeros((2, 4), np.float32), np.array([0, wrong])
    graph = record(F.cross_entropy, (logits, labels), {}).graph
    with pytest.raises(IndexRangeError):
        step_reference(graph, dict(zip(graph.arguments, (logits, labels), strict=True)))


def test_small_unsigned_labels_are_taken():
    """Ground truth: bytes as read from a file are labels like any other."""
    labels = tt.Tensor(np.array([0, 3], np.uint8))
    assert inside("f", "label", labels, 4).dtype is tt.int64
    assert F.cross_entropy(tt.zeros(2, 4), labels).item() == pytest.approx(np.log(4))


def test_one_hot():
    """Ground truth: rows of the unit matrix."""
    labels = np.array([[0, 2], [1, 1]])
    assert np.array_equal(F.one_hot(tt.Tensor(labels), 3).numpy(), np.eye(3)[labels])
    with pytest.raises(IndexRangeError, match=r"one_hot: a label[\s\S]*0 <= label < 3"):
        F.one_hot(tt.tensor([3]), 3)
    with pytest.raises(SettingError, match="num_classes is not a whole number"):
        F.one_hot(tt.tensor([0]), 0)


def features(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


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
    q, k = tt.Tensor(features(1, 8)), tt.Tensor(features(1, 8)[:, ::-1].copy())
    products = [
        float((turn(q, start=m) * turn(k, start=n)).sum().item()) for m, n in ((3, 1), (103, 101))
    ]
    assert products[0] == pytest.approx(products[1], rel=1e-12)
    assert float((turn(q, start=7) ** 2).sum().item()) == pytest.approx(float((q * q).sum().item()))
    assert np.array_equal(turn(q).numpy(), q.numpy())


def test_rotary_pairs_are_permutations_of_each_other():
    """Invariant: neighbours (2 i, 2 i + 1) against (i, i + D / 2)."""
    x = features(5, 6)
    order = np.array([0, 2, 4, 1, 3, 5])
    halves = nn.RotaryPositions(6)(tt.Tensor(x[:, order])).numpy()
    neighbours = nn.RotaryPositions(6, interleaved=True)(tt.Tensor(x)).numpy()
    np.testing.assert_allclose(halves, neighbours[:, order], rtol=1e-14)


def test_a_rotary_scale_is_of_all_that_is_turned():
    """Invariant: turning and enlarging go one after the other; scores grow by the square."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    plain, large = nn.RotaryPositions(4), nn.RotaryPositions(4, scale=1.5)
    np.testing.assert_allclose(
        large(tt.Tensor(x), start=2).numpy(), 1.5 * plain(tt.Tensor(x), start=2).numpy(), rtol=1e-6
    )
    with pytest.raises(SettingError, match="scale is outside its range"):
        nn.RotaryPositions(4, scale=0.0)


def test_rotary_factors_stretch_waves():
    """Invariant: with factors of 2 place 2 t is what place t is without; a pair has its own."""
    x = np.random.default_rng(0).standard_normal((1, 4))
    plain, twice = nn.RotaryPositions(4), nn.RotaryPositions(4, factors=(2.0, 2.0))
    a, b = (turn(tt.Tensor(x), start=n).numpy() for turn, n in ((plain, 3), (twice, 6)))
    np.testing.assert_allclose(a, b, rtol=1e-12)
    one = nn.RotaryPositions(4, factors=[1.0, 5.0])(tt.Tensor(x), start=3).numpy()
    assert np.array_equal(one[:, ::2], plain(tt.Tensor(x), start=3).numpy()[:, ::2])
    assert not np.allclose(one[:, 1::2], a[:, 1::2])
    with pytest.raises(SettingError, match="each pair has its own factor"):
        nn.RotaryPositions(4, factors=(1.0,))
    with pytest.raises(SettingError, match="factors is outside its range"):
        nn.RotaryPositions(4, factors=(1.0, 0.0))


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


def test_bad_settings_of_positions_are_named():
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match="size is odd"):
        nn.SinusoidalPositions(4, 3)
    with pytest.raises(SettingError, match="head_size is odd"):
        nn.RotaryPositions(5)
    with pytest.raises(SettingError, match="no such kind"):
        positions("rotary", 4, 4)
