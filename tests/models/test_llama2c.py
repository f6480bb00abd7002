"""llama2.c's files: a real one against a decoder in NumPy, one made here, and damaged ones."""

import struct

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.models import load_llama2c
from tinytorch.text import load_tokenizer

SIZES = {"dim": 8, "hidden": 6, "layers": 2, "heads": 4, "shared": 2, "vocab": 5, "length": 9}
WEIGHTS = 5 * 8 + 2 * (8 + 8 * 8 + 2 * 4 * 8 + 8 * 8 + 8 + 3 * 6 * 8) + 8 + 2 * 9 * 1


def written(path, weights=None, **changes):
    """A file with random weights and these sizes."""
    rng = np.random.default_rng(0)
    n = WEIGHTS if weights is None else weights
    header = struct.pack("<7i", *(SIZES | changes).values())
    path.write_bytes(header + rng.standard_normal(n).astype("<f4").tobytes())
    return path


class Slow:
    """Llama in NumPy, one token at a time, float64, after run.c: rotary pairs are neighbours."""

    def __init__(self, path):
        data = path.read_bytes()
        dim, hidden, layers, heads, shared, vocab, length = struct.unpack("<7i", data[:28])
        self.heads, self.group, self.layers = heads, heads // shared, layers
        numbers, self.at = np.frombuffer(data, "<f4", offset=28).astype(np.float64), 0
        tied, vocab, wide = vocab > 0, abs(vocab), dim // heads * shared

        def take(*shape):
            count = int(np.prod(shape))
            self.at += count
            return numbers[self.at - count : self.at].reshape(shape)

        self.tokens = take(vocab, dim)
        self.norm1, self.q = take(layers, dim), take(layers, dim, dim)
        self.k, self.v = take(layers, wide, dim), take(layers, wide, dim)
        self.o, self.norm2 = take(layers, dim, dim), take(layers, dim)
        self.w1, self.w2 = take(layers, hidden, dim), take(layers, dim, hidden)
        self.w3, self.norm = take(layers, hidden, dim), take(dim)
        take(2, length, dim // heads // 2)
        self.head = self.tokens if tied else take(vocab, dim)
        assert self.at == len(numbers)
        self.keys = [[] for _ in range(layers)]
        self.values = [[] for _ in range(layers)]

    @staticmethod
    def _normed(x, weight):
        return x / np.sqrt((x * x).mean() + 1e-5) * weight

    def _turned(self, x, place):
        pairs = x.reshape(-1, len(x[0]) // 2, 2)
        angle = place * 10000.0 ** (-np.arange(pairs.shape[1]) / pairs.shape[1])
        turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angle)
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    def logits(self, token):
        """Of the token that follows, after all that went in before."""
        x, place = self.tokens[token], len(self.keys[0])
        for i in range(self.layers):
            y = self._normed(x, self.norm1[i])
            size = len(x) // self.heads
            q = self._turned((self.q[i] @ y).reshape(-1, size), place)
            self.keys[i].append(self._turned((self.k[i] @ y).reshape(-1, size), place))
            self.values[i].append((self.v[i] @ y).reshape(-1, size))
            seen = []
            for head in range(self.heads):
                keys = np.stack([k[head // self.group] for k in self.keys[i]])
                values = np.stack([v[head // self.group] for v in self.values[i]])
                scores = np.exp(keys @ q[head] / np.sqrt(size))
                seen.append(scores / scores.sum() @ values)
            x = x + self.o[i] @ np.concatenate(seen)
            y = self._normed(x, self.norm2[i])
            gate = self.w1[i] @ y
            x = x + self.w2[i] @ (gate / (1 + np.exp(-gate)) * (self.w3[i] @ y))
        return self.head @ self._normed(x, self.norm)


@pytest.mark.data
def test_greedy_text_of_stories260k(official_data):
    """Ground truth: the decoder above: the same 256 tokens, and logits to 1e-3 on the way."""
    path = official_data / "llama2c-stories260K" / "stories260K.bin"
    model, slow = load_llama2c(path), Slow(path)
    numbers = (path.stat().st_size - 28) // 4 - 2 * 512 * 4  # without cosines and sines
    assert sum(p.size for p in model.parameters()) == numbers == 260_032
    cache = model.new_cache(1, 256)

    @tt.compile
    def step(token):
        with tt.no_grad():
            return model(token, cache)

    token, text, wanted = 1, [], []  # 1 begins a text
    for _ in range(256):
        logits = slow.logits(token)
        found = step(tt.tensor([[token]])).numpy()[0, 0]
        np.testing.assert_allclose(found, logits, rtol=0, atol=1e-3)
        token = int(logits.argmax())
        wanted.append(token)
        text.append(int(found.argmax()))
    assert text == wanted
    tokenizer = load_tokenizer(path.with_name("tok512.bin"))
    begin = "Once upon a time, there was a little girl named Lily. She loved to play outside"
    assert tokenizer.decode(text).startswith(begin)


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_made_here(tied, tmp_path):
    """Ground truth: the decoder above, on random weights with grouped queries; all at once."""
    vocab, more = (5, 0) if tied else (-5, 5 * 8)
    path = written(tmp_path / "a.bin", WEIGHTS + more, vocab=vocab)
    model, slow = load_llama2c(path), Slow(path)
    assert model.config.tied is tied and not model.training
    tokens = [0, 4, 2, 2, 1, 3]
    wanted = np.stack([slow.logits(t) for t in tokens])
    found = model(tt.tensor([tokens])).detach().numpy()[0]
    assert wanted.std() > 1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"dim": 0}, "its sizes are impossible"),
        ({"layers": -1}, "its sizes are impossible"),
        ({"vocab": 0}, "its sizes are impossible"),
        ({"shared": 3}, "its sizes are impossible"),
        ({"heads": 3, "shared": 1}, "its sizes do not go together"),
        ({"heads": 8, "shared": 2}, "heads of an even size"),
        ({"layers": 3}, "it ends early"),
        ({"layers": 1}, "it is too long"),
        ({"vocab": 2**31 - 1, "hidden": 2**31 - 1, "layers": 2**31 - 1}, "it ends early"),
        ({"dim": 0x616B3432}, "it is of a newer format"),
    ],
)
def test_impossible_sizes_are_named(changes, phrase, tmp_path):
    """Ground truth: the header, and as many bytes as it needs."""
    with pytest.raises(FileFormatError, match=phrase) as caught:
        load_llama2c(written(tmp_path / "a.bin", **changes))
    assert caught.value.rule and caught.value.fix


@pytest.mark.parametrize("length", [0, 27, 28, 100, -1])
def test_truncated_files_are_named(length, tmp_path):
    """Ground truth: the bytes that the header needs."""
    path = written(tmp_path / "a.bin")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileFormatError, match="it is too short|it ends early"):
        load_llama2c(path)


def test_no_such_file(tmp_path):
    """Ground truth: the folder."""
    with pytest.raises(NotFoundError):
        load_llama2c(tmp_path / "none.bin")
