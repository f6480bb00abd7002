"""Independent definitions: every row once more, by other means than the row itself.

Long double for functions, Python's own integers for integers, plain loops for sums and windows.
`TRUTHS[name]` is (function, units in the last place allowed); 0 means equal bits or equal numbers.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from tinytorch.base.dtypes import as_dtype


def wide(x):
    return x.astype(np.longdouble) if x.dtype.kind == "f" else x


def elementwise(function):
    """Each element in long double, or as a Python integer, wrapped to the dtype afterwards."""

    def truth(*xs):
        shape = np.broadcast_shapes(*(x.shape for x in xs))
        kind = xs[-1].dtype
        with np.errstate(all="ignore"):
            if kind.kind == "f":
                return np.asarray(function(*(np.broadcast_to(wide(x), shape) for x in xs)))
        flat = [np.broadcast_to(x, shape).ravel().tolist() for x in xs]
        values = [function(*row) for row in zip(*flat, strict=True)]
        if all(isinstance(v, bool) for v in values):
            return np.array(values, bool).reshape(shape)
        low, width = (np.iinfo(kind).min, 2 ** (8 * kind.itemsize)) if kind.kind in "iu" else (0, 2)
        return np.array([(int(v) - low) % width + low for v in values], kind).reshape(shape)

    return truth


def is_array(x) -> bool:
    return isinstance(x, np.ndarray)


def integer_power(a, b):
    if b >= 0:
        return a**b
    return 0 if a == 0 or abs(a) > 1 else a ** (-b)


def floor_quotient(a, b):
    if is_array(a):
        # Python's rule: divide what is left after the remainder, then round to the nearest whole
        left = remainder(a, b)
        plain = np.where((left != 0) | (b == 0), np.floor(a / b), np.rint((a - left) / b))
        below_zero = np.isinf(b) & np.isfinite(a) & (a != 0) & (np.signbit(a) != np.signbit(b))
        plain = np.where(below_zero, -1.0, plain)
        return np.where(np.isnan(left) & (b != 0), np.nan, plain)
    return a // b if b else 0


def remainder(a, b):
    if is_array(a):
        left = np.fmod(a, b)
        left = np.where((left != 0) & (np.signbit(left) != np.signbit(b)), left + b, left)
        return np.where(left == 0, np.copysign(0 * left, b), left)
    return a % b if b else 0


def larger(a, b):
    if is_array(a):
        return np.where(np.isnan(a) | (a > b), a, b)
    return max(a, b)


def smaller(a, b):
    if is_array(a):
        return np.where(np.isnan(a) | (a < b), a, b)
    return min(a, b)


def sign(x):
    if is_array(x):
        return np.where(np.isnan(x), x, (x > 0) * 1.0 - (x < 0) * 1.0)
    return (x > 0) - (x < 0)


def shift(by):
    def truth(a, b):
        count = b.astype(np.int64)
        bits = 8 * a.dtype.itemsize
        count = np.where((count < 0) | (count >= bits), bits, count)
        values = [by(int(v), int(n)) for v, n in np.broadcast(a, count)]
        low = int(np.iinfo(a.dtype).min)
        shape = np.broadcast_shapes(a.shape, b.shape)
        return np.array([(v - low) % 2**bits + low for v in values], a.dtype).reshape(shape)

    return truth


def cast(x, *, dtype):
    """One number at a time, by Python's integers."""
    target = as_dtype(dtype)
    if target.kind == "f":
        return x.astype(target.compute)
    if target.kind == "b":
        return np.array([bool(v) for v in x.ravel().tolist()], bool).reshape(x.shape)
    info = np.iinfo(target.storage)

    def one(v):
        if isinstance(v, float):
            return 0 if math.isnan(v) else int(max(info.min, min(info.max, v)))
        return (v - info.min) % (info.max - info.min + 1) + info.min

    return np.array([one(v) for v in x.ravel().tolist()], target.storage).reshape(x.shape)


def reduction(fold, out=None):
    """Each cell's elements as a list, folded by Python."""

    def truth(x, *, axes, keepdims):
        kept = [a for a in range(x.ndim) if a not in axes]
        cells = x.transpose(kept + list(axes)).reshape(
            *(x.shape[a] for a in kept), -1 if x.size else 0
        )
        shape = [x.shape[a] for a in kept]
        full = [1 if a in axes else n for a, n in enumerate(x.shape)] if keepdims else shape
        values = [fold(cells[i].tolist()) if cells.size else fold([]) for i in np.ndindex(*shape)]
        if x.dtype.kind in "iu":
            values = [(int(v) - int(np.iinfo(x.dtype).min)) % 2 ** (8 * x.dtype.itemsize)
                      + int(np.iinfo(x.dtype).min) for v in values]  # fmt: skip
        return np.array(values, out or x.dtype).reshape(full)

    return truth


def nan_first(choose):
    return lambda cell: next((v for v in cell if v != v), None) or choose(cell)


def position(better):
    def truth(x, *, axis):
        def first(line):
            best = 0
            for i, v in enumerate(line):
                if line[best] == line[best] and (v != v or better(v, line[best])):
                    best = i
            return best

        moved = np.moveaxis(x, axis, -1)
        values = [first(moved[i].tolist()) for i in np.ndindex(moved.shape[:-1])]
        return np.array(values, np.int64).reshape(moved.shape[:-1])

    return truth


def along(function):
    """A function of a Python list, applied along an axis."""

    def truth(x, *, axis, **params):
        moved = np.moveaxis(x, axis, -1)
        lines = [function(moved[i].tolist(), x.dtype) for i in np.ndindex(moved.shape[:-1])]
        out = np.array(lines).reshape(moved.shape) if lines else moved
        return np.moveaxis(out, -1, axis)

    return truth


def running(line, dtype):
    sums = [math.fsum(line[: i + 1]) for i in range(len(line))]
    if dtype.kind == "f":
        return sums
    low, width = np.iinfo(dtype).min, 2 ** (8 * dtype.itemsize)
    return [(int(v) - low) % width + low for v in sums]


def order(line, dtype):
    return sorted(
        range(len(line)), key=lambda i: (line[i] != line[i], 0 if line[i] != line[i] else line[i])
    )


def gathered(shape, pick, dtype):
    """An array whose element at i is pick(i)."""
    return np.array([pick(i) for i in np.ndindex(*shape)], dtype).reshape(shape)


def slice_truth(x, *, start, stop, step):
    ranges = [range(a, b, s) for a, b, s in zip(start, stop, step, strict=True)]
    shape = tuple(map(len, ranges))
    return gathered(
        shape, lambda i: x[tuple(r[j] for r, j in zip(ranges, i, strict=True))], x.dtype
    )


def pad_truth(x, *, before, after, value=0.0):
    return np.pad(x, list(zip(before, after, strict=True)), constant_values=value) if x.ndim else x


def where_truth(condition, a, b):
    triple = np.broadcast_arrays(condition, a, b)
    return gathered(
        triple[0].shape, lambda i: triple[1][i] if triple[0][i] else triple[2][i], a.dtype
    )


def scatter_truth(g, index, *, axis, size):
    out = np.zeros((*g.shape[:axis], size, *g.shape[axis + index.ndim :]), g.dtype)
    for i in np.ndindex(g.shape):
        place = index[i[axis : axis + index.ndim]]
        out[(*i[:axis], place, *i[axis + index.ndim :])] += g[i]
    return out


def take_truth(x, index, *, axis):
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    n = index.ndim
    return gathered(
        shape, lambda i: x[(*i[:axis], index[i[axis : axis + n]], *i[axis + n :])], x.dtype
    )


def scatter_along_truth(g, index, *, axis, size):
    out = np.zeros((*g.shape[:axis], size, *g.shape[axis + 1 :]), g.dtype)
    for i in np.ndindex(g.shape):
        out[(*i[:axis], index[i], *i[axis + 1 :])] += g[i]
    return out


def slice_update_truth(x, y, start_index):
    out = x.copy()
    for i in np.ndindex(y.shape):
        out[tuple(int(s) % n + j for s, n, j in zip(start_index, x.shape, i, strict=True))] = y[i]
    return out


def put_rows_truth(x, y, index):
    out = x.copy()
    for i, row in zip(index, y, strict=True):
        out[i] = row
    return out


def matmul_truth(a, b, *, dtype=None):
    if a.dtype.kind in "iu":
        exact = np.einsum("...mk,...kn->...mn", a.astype(object), b.astype(object))
        return exact.astype(np.int64).astype(a.dtype if dtype is None else as_dtype(dtype).compute)
    out = np.einsum("...mk,...kn->...mn", wide(a), wide(b))
    return out.astype(a.dtype if dtype is None else as_dtype(dtype).compute)


def sparse_truth(x, values, columns, starts):
    """The whole matrix, zeros and all, of numbers put in one by one."""
    w = np.zeros((len(starts) - 1, x.shape[1]), np.longdouble)
    for n in range(len(w)):
        for i in range(starts[n], starts[n + 1]):
            w[n, columns[i]] += values[i]
    return np.einsum("mk,nk->mn", wide(x), w).astype(x.dtype)


def grouped_truth(x, weight, scale, *, bits, group):
    """Number by number, bytes taken apart by Python's own integers."""
    size = group * bits // 8
    out = np.zeros((*x.shape[:-1], weight.shape[0]), np.float64)
    for i in np.ndindex(out.shape):
        for k in range(x.shape[-1]):
            g, place = divmod(k, group)
            if bits == 8:
                w = int(weight[i[-1], g * size + place])
            else:
                half, place = divmod(place, size)
                w = (int(weight[i[-1], g * size + place]) >> 4 * half) % 16 - 8
            out[i] += int(x[(*i[:-1], k)]) * w * float(scale[i[-1], g])
    return out.astype(np.float32)


def taps(out_shape, weight_shape, image_shape, stride, padding, dilation, groups):
    """Every (output position, filter position, image position) that belong together."""
    n, o, oh, ow = out_shape
    _, cg, kh, kw = weight_shape
    for b, f, y, x, c, i, j in itertools.product(*map(range, (n, o, oh, ow, cg, kh, kw))):
        row = y * stride[0] + i * dilation[0] - padding[0][0]
        column = x * stride[1] + j * dilation[1] - padding[1][0]
        if 0 <= row < image_shape[2] and 0 <= column < image_shape[3]:
            channel = f // (o // groups) * cg + c
            yield (b, f, y, x), (f, c, i, j), (b, channel, row, column)


def conv_shape(x, w, stride, padding, dilation):
    sizes = [
        len(range(0, n + sum(p) - d * (k - 1), s))
        for n, k, s, p, d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)
    ]
    return (x[0], w[0], *sizes)


def convolution_truth(x, w, *, stride, padding, dilation, groups, dtype=None):
    shape = conv_shape(x.shape, w.shape, stride, padding, dilation)
    out = np.zeros(shape, np.longdouble)
    if dtype is not None:
        x, w = (v.astype(np.longdouble) for v in (x, w))
    for place, tap, source in taps(shape, w.shape, x.shape, stride, padding, dilation, groups):
        out[place] += w[tap] * x[source]
    return out if dtype is None else out.astype(as_dtype(dtype).compute)


def input_gradient_truth(g, w, *, input_shape, **window):
    out = np.zeros(input_shape, np.longdouble)
    for place, tap, source in taps(g.shape, w.shape, input_shape, **window):
        out[source] += w[tap] * g[place]
    return out


def weight_gradient_truth(g, x, *, weight_shape, **window):
    out = np.zeros(weight_shape, np.longdouble)
    for place, tap, source in taps(g.shape, weight_shape, x.shape, **window):
        out[tap] += g[place] * x[source]
    return out


def probabilities(q, k, causal, scale):
    """(P, lse), row by row in long double."""
    (b, a, t, _), s = q.shape, k.shape[2]
    p, lse = np.zeros((b, a, t, s), np.longdouble), np.full((b, a, t), -np.inf, np.longdouble)
    for i in np.ndindex(b, a, t):
        seen = range(max(0, min(s, i[2] + s - t + 1)) if causal else s)
        scores = [scale * np.dot(wide(q)[i], wide(k)[i[0], i[1], j]) for j in seen]
        if scores:
            top = max(scores)
            lse[i] = top + np.log(sum(np.exp(x - top) for x in scores))
            p[i][: len(scores)] = [np.exp(x - lse[i]) for x in scores]
    return p, lse


def attention_truth(q, k, v, *, causal, scale):
    p, lse = probabilities(q, k, causal, scale)
    return np.einsum("bats,basd->batd", p, wide(v)), lse


def attention_gradient_truth(g, q, k, v, out, lse, *, causal, scale):
    p, _ = probabilities(q, k, causal, scale)
    g_p = np.einsum("batd,basd->bats", wide(g), wide(v))
    g_s = scale * p * (g_p - (p * g_p).sum(-1, keepdims=True))  # the Jacobian of softmax
    return (
        np.einsum("bats,basd->batd", g_s, wide(k)),
        np.einsum("bats,batd->basd", g_s, wide(q)),
        np.einsum("bats,batd->basd", p, wide(g)),
    )


def put_tokens_truth(x, new, starts, counts, table, *, bound):
    """Token by token, a place found by Python's divmod."""
    out, n = x.copy(), x.shape[2]
    for b, t in np.ndindex(new.shape[0], new.shape[2]):
        if t < counts[b]:
            page, place = divmod(int(starts[b] + t) % (table.shape[1] * n), n)
            out[table[b, page], :, place] = new[b, :, t]
    return out


def cached_attention_truth(q, keys, values, starts, table, *scales, scale, window):
    """Key by key in long double, from the positions that each query sees."""
    n, room = keys.shape[2], table.shape[1] * keys.shape[2]
    by = [wide(s) for s in scales] or [np.ones((*keys.shape[:3], 1), np.longdouble)] * 2
    keys, values = (x.astype(np.longdouble) * s for x, s in zip((keys, values), by, strict=True))
    out, shared = np.zeros(q.shape, np.longdouble), q.shape[1] // keys.shape[1]
    for b, a, t in np.ndindex(q.shape[:3]):
        last = starts[b] + t
        seen = range(max(0, last - window + 1) if window else 0, last + 1)
        places = [(table[b, s % room // n], a // shared, s % room % n) for s in seen]
        powers = [np.exp(scale * np.dot(wide(q)[b, a, t], keys[at])) for at in places]
        out[b, a, t] = sum(p * values[at] for p, at in zip(powers, places, strict=True))
        out[b, a, t] /= sum(powers)
    return out


def max_pool_truth(x, *, kernel, stride, padding, dilation=(1, 1)):
    n, c, h, w = x.shape
    oh, ow = conv_shape(x.shape, (c, c, *kernel), stride, padding, dilation)[2:]
    out, index = np.zeros((n, c, oh, ow), x.dtype), np.zeros((n, c, oh, ow), np.int32)
    for b, f, i, j in np.ndindex(n, c, oh, ow):
        top, left = i * stride[0] - padding[0][0], j * stride[1] - padding[1][0]
        inside = [
            (y, z)
            for y in range(top, top + dilation[0] * kernel[0], dilation[0])
            for z in range(left, left + dilation[1] * kernel[1], dilation[1])
            if 0 <= y < h and 0 <= z < w
        ]
        best = next((p for p in inside if np.isnan(x[b, f][p])), None) or max(
            inside, key=lambda p: x[b, f][p]
        )
        out[b, f, i, j], index[b, f, i, j] = x[b, f][best], best[0] * w + best[1]
    return out, index


def pool_gradient_truth(g, index, *, input_shape):
    out = np.zeros(input_shape, g.dtype)
    for i in np.ndindex(g.shape):
        out[(*i[:2], *divmod(int(index[i]), input_shape[3]))] += g[i]
    return out


def pool_take_truth(x, index):
    return gathered(index.shape, lambda i: x[(*i[:2], *divmod(int(index[i]), x.shape[3]))], x.dtype)


def philox_block(counter: list[int], key: list[int]) -> list[int]:
    """Salmon et al. 2011, by Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high, low = divmod(0xD2511F53 * c[0], 2**32)
        other_high, other_low = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [other_high ^ c[1] ^ k[0], other_low, high ^ c[3] ^ k[1], low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def random_truth(state, *, shape):
    n = math.prod(shape)
    blocks = (n + 3) // 4
    start = int(state[2]) + (int(state[3]) << 32)
    made = []
    for block in range(blocks):
        at = (start + block) % 2**64
        made.append(philox_block([at % 2**32, at >> 32, 0, 0], [int(state[0]), int(state[1])]))
    values = [made[i % blocks][i // blocks] for i in range(n)]
    end = (start + blocks) % 2**64
    after = np.array([state[0], state[1], end % 2**32, end >> 32], np.uint32)
    return np.array(values, np.uint32).reshape(shape), after


def erf_truth(x):
    return np.array([math.erf(v) for v in x.ravel().tolist()]).reshape(x.shape)


def below_truth(x):
    """P(normal number < x) by the C library's erfc, whose value does not cancel below 0."""
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.ravel().tolist()]).reshape(x.shape)


def gelu_truth(x):
    return np.where(x == -np.inf, 0, x * np.where(x == -np.inf, 1, below_truth(x)))


def gelu_slope_truth(x):
    near = np.where(np.abs(x) < 50, x, np.where(np.isnan(x), x, 0))
    return below_truth(x) + near * np.exp(-near * near / 2) / math.sqrt(2 * math.pi)


def logical(function):
    return lambda *xs: elementwise(function)(*(x != 0 for x in xs)).astype(bool)


def scan_truth(*arrays, body, carries, stacked, length, reverse):
    """By recursion on the number of trips, each line by the truth of its row."""
    carried, xs, given = arrays[:carries], arrays[carries:][:stacked], arrays[carries + stacked :]
    if not length:
        ys = [np.zeros((0, *s.shape)) for s in body.outputs[carries:]]
        return (*carried, *ys)
    rest = [x[1:] if reverse else x[:-1] for x in xs]
    settings = {"body": body, "carries": carries, "stacked": stacked, "reverse": reverse}
    before = scan_truth(*carried, *rest, *given, length=length - 1, **settings)
    held = [*before[:carries], *(x[0] if reverse else x[-1] for x in xs), *given]
    for line in body.lines:
        held.append(TRUTHS[line.row.name][0](*(held[i] for i in line.inputs), **line.params))
    now = [np.asarray(held[i]) for i in body.results]
    pairs = zip(before[carries:], now[carries:], strict=True)
    ys = [np.array([new, *y] if reverse else [*y, new]) for y, new in pairs]
    return (*now[:carries], *ys)


def cond_truth(predicate, *given, true, false, results):
    """Line by line of the body that is taken, each by the truth of its row."""
    taken, other = (true, false) if predicate.tolist() else (false, true)
    held = list(given)
    for line in taken.lines:
        held.append(TRUTHS[line.row.name][0](*(held[i] for i in line.inputs), **line.params))
    out = [np.asarray(held[i]) for i in taken.results]
    nothing = [np.zeros(s.shape) for s in other.outputs[results:]]
    own = out[results:] + nothing if taken is true else nothing + out[results:]
    return (*out[:results], *own)


TRUTHS = {
    "neg": (elementwise(lambda x: -x), 0),
    "abs": (elementwise(abs), 0),
    "sign": (elementwise(sign), 0),
    "exp": (elementwise(np.exp), 2),
    "log": (elementwise(np.log), 2),
    "sqrt": (elementwise(np.sqrt), 1),
    "rsqrt": (elementwise(lambda x: 1 / np.sqrt(x)), 2),
    "sin": (elementwise(np.sin), 2),
    "cos": (elementwise(np.cos), 2),
    "tanh": (elementwise(np.tanh), 2),
    "erf": (erf_truth, 2),
    "gelu": (gelu_truth, 4),  # 1 + erf: its rounding is that of 1, where the sum is a third of it
    "gelu_slope": (gelu_slope_truth, 4),
    "floor": (elementwise(np.floor), 0),
    "ceil": (elementwise(np.ceil), 0),
    "round": (elementwise(np.rint), 0),
    "reciprocal": (elementwise(lambda x: 1 / x), 1),
    "logical_not": (lambda x: x == 0, 0),
    "bitwise_not": (elementwise(lambda v: (not v) if isinstance(v, bool) else -1 - v), 0),
    "isnan": (lambda x: x != x, 0),
    "isinf": (lambda x: np.abs(x) == np.inf, 0),
    "signbit": (lambda x: np.copysign(1.0, x) < 0, 0),
    "isfinite": (lambda x: np.abs(x) < np.inf, 0),
    "add": (elementwise(lambda a, b: (a or b) if a is True or a is False else a + b), 1),
    "sub": (elementwise(lambda a, b: a - b), 1),
    "mul": (elementwise(lambda a, b: a * b), 1),
    "div": (elementwise(lambda a, b: a / b), 1),
    "floor_div": (elementwise(floor_quotient), 0),
    "remainder": (elementwise(remainder), 1),
    "pow": (elementwise(lambda a, b: np.power(a, b) if is_array(a) else integer_power(a, b)), 2),
    "maximum": (elementwise(larger), 0),
    "minimum": (elementwise(smaller), 0),
    "equal": (lambda a, b: ~(a != b), 0),
    "not_equal": (lambda a, b: ~(a == b), 0),
    "less": (lambda a, b: np.where((a == b) | (a != a) | (b != b), False, ~(a >= b)), 0),
    "less_equal": (lambda a, b: (a < b) | (a == b), 0),
    "greater": (lambda a, b: b < a, 0),
    "greater_equal": (lambda a, b: (b < a) | (a == b), 0),
    "logical_and": (lambda a, b: (a != 0) & (b != 0), 0),
    "logical_or": (lambda a, b: (a != 0) | (b != 0), 0),
    "bitwise_and": (elementwise(lambda a, b: a & b), 0),
    "bitwise_or": (elementwise(lambda a, b: a | b), 0),
    "bitwise_xor": (elementwise(lambda a, b: a ^ b), 0),
    "shift_left": (shift(lambda v, n: v << n), 0),
    "shift_right": (shift(lambda v, n: v >> n), 0),
    "where": (where_truth, 0),
    "absorb": (lambda p, g: np.where((p != p) & (np.broadcast_to(g, p.shape) == 0), 0.0, p), 0),
    "cast": (cast, 0),
    "sum": (reduction(math.fsum), 8),
    "prod": (reduction(math.prod), 8),
    "max": (reduction(nan_first(lambda c: max(c))), 0),
    "min": (reduction(nan_first(lambda c: min(c))), 0),
    "any": (reduction(any, bool), 0),
    "all": (reduction(all, bool), 0),
    "argmax": (position(lambda v, best: v > best), 0),
    "argmin": (position(lambda v, best: v < best), 0),
    "cumsum": (along(running), 8),
    "sort": (along(lambda line, dtype: [line[i] for i in order(line, dtype)]), 0),
    "argsort": (along(order), 0),
    "reshape": (lambda x, *, shape: np.array(list(x.flat), x.dtype).reshape(shape), 0),
    "permute": (lambda x, *, axes: np.einsum(x, list(range(x.ndim)), list(axes)), 0),
    "broadcast_to": (lambda x, *, shape: x + np.zeros(shape, x.dtype), 0),
    "slice": (slice_truth, 0),
    "pad": (pad_truth, 0),
    "flip": (lambda x, *, axes: np.flip(x, axes), 0),
    "concatenate": (lambda *xs, axis: np.moveaxis(
        np.array([row for x in xs for row in np.moveaxis(x, axis, 0)], xs[0].dtype), 0, axis), 0),
    "slice_update": (slice_update_truth, 0),
    "put_rows": (put_rows_truth, 0),
    "iota": (lambda *, shape, axis, dtype: np.indices(shape)[axis].astype(dtype.compute), 0),
    "full": (lambda *, shape, value, dtype: np.array(
        [value] * math.prod(shape), dtype.compute).reshape(shape), 0),
    "take": (take_truth, 0),
    "scatter_add": (scatter_truth, 8),
    "take_along": (lambda x, index, *, axis: gathered(
        index.shape, lambda i: x[(*i[:axis], index[i], *i[axis + 1 :])], x.dtype), 0),
    "scatter_along": (scatter_along_truth, 8),
    "matmul": (matmul_truth, 16),
    "grouped_matmul": (grouped_truth, 16),
    "sparse_matmul": (sparse_truth, 16),
    "convolution": (convolution_truth, 32),
    "convolution_input_gradient": (input_gradient_truth, 32),
    "convolution_weight_gradient": (weight_gradient_truth, 32),
    "attention": (attention_truth, 32),
    "attention_gradient": (attention_gradient_truth, 64),
    "put_tokens": (put_tokens_truth, 0),
    "cached_attention": (cached_attention_truth, 32),
    "max_pool2d": (max_pool_truth, 0),
    "max_pool2d_gradient": (pool_gradient_truth, 8),
    "max_pool2d_take": (pool_take_truth, 0),
    "random_bits": (random_truth, 0),
    "host_call": (lambda after, *xs, function, results: (*function.function(*xs), after), 0),
    "scan": (scan_truth, 64),
    "cond": (cond_truth, 64),
}  # fmt: skip
