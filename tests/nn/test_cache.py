"""cache.py: attention with a cache is attention without: any length, window, page and type."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import IndexRangeError, SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.cache import PIECE


def tokens(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def attention(*args, dtype=tt.float64, **settings):
    tt.manual_seed(4)
    return nn.MultiHeadAttention(*args, **settings).to(dtype).eval()


def grown(layer, x: tt.Tensor, sizes: list[int], **settings) -> np.ndarray:
    """The outputs for x, handed to the layer in pieces, with a cache."""
    cache, out, at = layer.new_cache(x.shape[0], 16, **settings), [], 0
    with tt.no_grad():
        for n in sizes:
            out.append(layer(x[:, at : at + n], cache=cache).numpy())
            at += n
    return np.concatenate(out, 1)


@pytest.mark.parametrize("sizes", [[1] * 6, [4, 1, 1], [2, 3, 1], [6]])
@pytest.mark.parametrize("settings", [{}, {"kv_heads": 1}, {"positions": nn.RotaryPositions(4)}])
def test_cached_is_full(sizes, settings):
    """Invariant: piece by piece with a cache = all at once, float64."""
    layer = attention(8, 2, causal=True, **settings)
    x = tt.Tensor(tokens(2, 6, 8))
    full = layer(x).detach().numpy()
    np.testing.assert_allclose(grown(layer, x, sizes), full, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [{}, {"kv_heads": 1, "positions": nn.RotaryPositions(4)}])
def test_cached_is_full_in_one_compiled_program(settings):
    """Invariant: one program for every length agrees with all at once (float32, 8 terms)."""
    layer = attention(8, 2, causal=True, dtype=tt.float32, **settings)
    x = tt.Tensor(tokens(2, 6, 8, dtype=np.float32))
    cache = layer.new_cache(2, 16)

    @tt.compile
    def next_token(piece):
        return layer(piece, cache=cache)

    out = [next_token(x[:, t : t + 1]).numpy() for t in range(6)]
    np.testing.assert_allclose(
        np.concatenate(out, 1), layer(x).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert cache.lengths.tolist() == [6, 6] and next_token.captures == 1


def test_a_cache_says_when_it_is_full_and_can_be_emptied():
    """Ground truth: its length; a compiled step stops before anything is written past the end."""
    layer = nn.MultiHeadAttention(8, 2, causal=True)
    cache, x = layer.new_cache(1, 2), tt.zeros(1, 1, 8)
    first = layer(x, cache=cache).detach().numpy()
    layer(x, cache=cache)
    with pytest.raises(ShapeError, match="no room is left"):
        layer(x, cache=cache)
    compiled = tt.compile(lambda piece: layer(piece, cache=cache))
    held = cache.keys.numpy().copy()
    with pytest.raises(IndexRangeError):
        compiled(x)
    assert cache.lengths.tolist() == [2] and np.array_equal(cache.keys.numpy(), held)
    cache.clear()
    assert np.array_equal(layer(x, cache=cache).detach().numpy(), first)


def test_a_cache_refuses_what_is_not_its_own():
    """Ground truth: its sizes; and a mask beside its own."""
    layer = nn.MultiHeadAttention(8, 2, causal=True)
    with pytest.raises(ShapeError, match="do not fit into it"):
        layer(tt.zeros(3, 1, 8), cache=layer.new_cache(2, 4))
    with pytest.raises(SettingError, match="with a cache there is no mask"):
        layer(tt.zeros(1, 1, 8), mask=tt.ones(1, 4) > 0, cache=layer.new_cache(1, 4))
    with pytest.raises(SettingError, match="does not fit the kernel"):
        layer.new_cache(1, 40, page=40)
    with pytest.raises(SettingError, match="there is no layer"):
        nn.ModelCache([])


def test_a_cache_is_state():
    """Invariant: a cache loaded from another's state goes on like it."""
    layer = nn.MultiHeadAttention(8, 2, causal=True)
    x = tt.Tensor(tokens(1, 3, 8, dtype=np.float32))
    first, second = layer.new_cache(1, 4), layer.new_cache(1, 4)
    layer(x[:, :2], cache=first)
    second.load_state_dict(first.state_dict())
    a, b = (layer(x[:, 2:], cache=c).detach().numpy() for c in (first, second))
    assert np.array_equal(a, b)
    assert repr(first) == "KeyValueCache(batch=1, heads=2, length=4, head_size=4)"


# --- the cache alone: queries, keys and values are given


def parts(batch, time, heads=4, shared=2, size=24, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = ((batch, heads, time, size), *((batch, shared, time, size),) * 2)
    return [tt.Tensor(rng.standard_normal(s).astype(dtype)) for s in shapes]


def attended(cache, q, k, v, sizes, compiled=True):
    """What a cache gives for pieces of the given sizes, by one program for each size."""
    attend = tt.compile(cache.attend) if compiled else cache.attend
    out, at = [], 0
    for n in sizes:
        out.append(attend(*(x[:, :, at : at + n] for x in (q, k, v))).numpy())
        at += n
    return np.concatenate(out, 2)


def plain(q, k, v, window=None):
    """Without a cache, in float64."""
    q, k, v = (x.astype(tt.float64) for x in (q, k, v))
    t = q.shape[2]
    places = np.arange(t)
    seen = places[None] <= places[:, None]
    if window:
        seen &= places[None] > places[:, None] - window
    mask = tt.Tensor(seen)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).numpy()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("pages", [{}, {"page": 32}])
def test_windows_and_pages(compiled, window, pages):
    """Ground truth: attention with a mask, float64; a cache for a window has less room than there
    are tokens. 400 terms of float32: 400 * 2^-24 = 2.4e-5 of the largest."""
    q, k, v = parts(2, 400)
    cache = nn.KeyValueCache(2, 2, 400, 24, window=window, **pages)
    if pages:
        columns = cache.table.shape[1]
        order = np.random.default_rng(3).permutation(2 * columns)
        cache.table.assign_(tt.Tensor(order.reshape(2, columns)))
    assert (cache.keys.shape[2] * (columns if pages else 1) < 400) == (window is not None)
    out = attended(cache, q, k, v, [200, *[1] * 8, 92, 100], compiled)
    np.testing.assert_allclose(out, plain(q, k, v, window), rtol=0, atol=5e-5)
    assert cache.lengths.tolist() == [400, 400]


def test_a_window_takes_pieces_of_a_bounded_size():
    """Ground truth: the room; what is in the window would be overwritten."""
    cache = nn.KeyValueCache(1, 2, 2000, 24, window=8)
    q, k, v = parts(1, PIECE + 64)
    with pytest.raises(ShapeError, match="forgets what is in the window"):
        tt.compile(cache.attend)(q, k, v)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_types(dtype):
    """Ground truth: attention without a cache of the same rounded numbers, in float64."""
    q, k, v = (x.astype(dtype) for x in parts(2, 40))
    cache = nn.KeyValueCache(2, 2, 40, 24, dtype)
    out = attended(cache, q, k, v, [38, 1, 1]) if dtype != "bfloat16" else None
    if out is None:
        attend = tt.compile(cache.attend)
        out = attend(q, k, v).astype(tt.float64).numpy()
    bound = {"float64": 1e-13, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    np.testing.assert_allclose(out.astype(float), plain(q, k, v), rtol=0, atol=bound)


def test_keys_and_values_of_bytes():
    """Derived bound: a value is off by half a step, 1/254 of its row's largest (3.9 here), so the
    mean of values is too; logits by that times |q| over sqrt(D), which moves the weights."""
    q, k, v = parts(2, 60)
    cache = nn.KeyValueCache(2, 2, 60, 24, "int8")
    out = attended(cache, q, k, v, [50, *[1] * 10])
    wanted = plain(q, k, v)
    assert cache.keys.dtype is tt.int8 and np.abs(out - wanted).max() < 4 * 3.9 / 254
    again = attended(nn.KeyValueCache(2, 2, 60, 24, "int8"), q, k, v, [60], compiled=False)
    np.testing.assert_allclose(out, again, rtol=0, atol=1e-4)
    zeros = [tt.zeros(1, 2, 1, 24)] * 3
    small = nn.KeyValueCache(1, 2, 4, 24, "int8")
    assert not np.abs(tt.compile(small.attend)(*zeros).numpy()).max()


@pytest.mark.parametrize("settings", [{}, {"window": 50}, {"dtype": "int8"}])
def test_a_row_is_the_same_to_the_last_bit_whatever_comes_with_it(settings):
    """Invariant: batch, pieces, pages, threads and the memory of others change no bit of a row."""
    q, k, v = parts(3, 130)
    kind = {"dtype": "float32"} | settings

    def bits(rows, sizes, length=130, threads=None, **more):
        cache = nn.KeyValueCache(len(rows), 2, length, 24, **(kind | more))
        if "page" in more:
            table = np.arange(cache.table.shape[0] * cache.table.shape[1])[::-1]
            cache.table.assign_(tt.Tensor(table.reshape(cache.table.shape).copy()))
        own = [x[rows] for x in (q, k, v)]
        if threads is None:
            return attended(cache, *own, sizes)[0].tobytes()
        try:
            tt.set_num_threads(threads)
            return attended(cache, *own, sizes)[0].tobytes()
        finally:
            tt.set_num_threads(None)

    ones = [100, *[1] * 30]
    wanted = bits([1], ones)
    assert bits([1, 0, 2], ones) == wanted
    assert bits([1], [64, 33, 33]) == wanted
    assert bits([1], ones, length=700) == wanted
    assert bits([1, 2], ones, page=64) == wanted
    assert bits([1, 0], ones, threads=1) == wanted


def test_what_is_not_filled_is_not_read():
    """Invariant: NaN in all places that are not filled changes nothing."""
    q, k, v = parts(2, 50)
    for dtype in ("float32", "int8"):
        clean, dirty = (nn.KeyValueCache(2, 2, 100, 24, dtype) for _ in range(2))
        for name in ("keys", "values", "key_scales", "value_scales"):
            held = getattr(dirty, name)
            if held is not None:
                held.fill_(np.nan if held.dtype.is_float else 99)
        a, b = (attended(c, q, k, v, [48, 1, 1]) for c in (clean, dirty))
        assert np.array_equal(a, b)


def test_sequences_have_lengths_of_their_own():
    """Ground truth: each alone; a sequence is cut, and goes on beside one that is not."""
    q, k, v = parts(2, 40)
    cache = nn.KeyValueCache(2, 2, 64, 24)
    attended(cache, q, k, v, [40])
    cache.cut([40, 7])
    more = parts(2, 3, seed=5)
    together = attended(cache, *more, [3])
    for row, length in ((0, 40), (1, 7)):
        alone = nn.KeyValueCache(1, 2, 64, 24)
        attended(alone, *(x[row : row + 1, :, :length] for x in (q, k, v)), [length])
        out = attended(alone, *(x[row : row + 1] for x in more), [3])
        assert np.array_equal(out[0], together[row])
    for wrong in (50, [-1, 0]):
        with pytest.raises(SettingError, match="cannot be cut there"):
            cache.cut(wrong)


def test_a_window_is_cut_only_where_its_past_is_still_there():
    """Ground truth: the room of the ring, by counting."""
    q, k, v = parts(1, 400)
    cache = nn.KeyValueCache(1, 2, 1000, 24, window=10)
    attended(cache, q, k, v, [250, 150])
    room = cache.keys.shape[2]
    with pytest.raises(SettingError, match="cannot be cut there"):
        cache.cut(400 - room + 9)
    cache.cut(400 - room + 10)
    at = 400 - room + 10
    out = attended(cache, *(x[:, :, at:] for x in (q, k, v)), [1])
    np.testing.assert_allclose(out, plain(q, k, v, 10)[:, :, at : at + 1], rtol=0, atol=1e-5)
    cache.cut(0)


def test_beams_go_on_from_each_other():
    """Invariant: after reorder each row is the row it was told to follow."""
    q, k, v = parts(3, 20)
    cache = nn.KeyValueCache(3, 2, 32, 24, "int8")
    attended(cache, q, k, v, [20])
    cache.cut([20, 11, 15])
    cache.reorder([1, 1, 0])
    assert cache.lengths.tolist() == [11, 11, 20]
    one = [x[:1] for x in parts(1, 1, seed=6)]
    out = attended(cache, *(tt.concat([x] * 3) for x in one), [1])
    assert np.array_equal(out[0], out[1]) and not np.array_equal(out[0], out[2])
    with pytest.raises(SettingError, match="pages are not copied"):
        nn.KeyValueCache(2, 2, 64, 24, page=32).reorder([0, 0])


def test_layers_of_a_model_count_once():
    """Ground truth: two blocks, all at once; each reads the positions before the new tokens."""
    tt.manual_seed(0)
    settings = {"attention": {"positions": nn.RotaryPositions(4)}}
    blocks = [nn.TransformerBlock(8, 2, causal=True, **settings).eval() for _ in range(2)]
    cache = nn.ModelCache([b.new_cache(2, 12) for b in blocks])
    x = tt.Tensor(tokens(2, 7, 8, dtype=np.float32))

    def through(y, cached):
        for i, block in enumerate(blocks):
            y = block(y, cache=cache[i]) if cached else block(y)
        return y

    step = tt.compile(lambda y: through(y, True))
    with tt.no_grad():
        out = [step(x[:, :5]), *(step(x[:, t : t + 1]) for t in (5, 6))]
        wanted = through(x, False).numpy()
    np.testing.assert_allclose(tt.concat(out, 1).numpy(), wanted, rtol=0, atol=1e-5)
    assert cache.lengths.tolist() == [7, 7] and (cache.batch, cache.length, len(cache)) == (
        2,
        12,
        2,
    )
    cache.cut(6)
    np.testing.assert_allclose(step(x[:, 6:]).numpy(), wanted[:, 6:], rtol=0, atol=1e-5)
    cache.reorder([1, 0])
    np.testing.assert_allclose(through(x[[1, 0], :0], True).shape, (2, 0, 8))
    cache.clear()
    assert [c.lengths.tolist() for c in cache] == [[0, 0]] * 2
