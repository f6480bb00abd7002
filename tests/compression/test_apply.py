"""The documents' names: each gives what the function behind it gives."""

import numpy as np

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError
from tinytorch.generation import generate
from tinytorch.models import GPT, GPTConfig
from tinytorch.nn.quantized import QuantizedWeight


def net():
    tt.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def gpt():
    tt.manual_seed(0)
    return GPT(GPTConfig(vocab=17, layers=1, heads=2, size=16, length=12)).eval()


def test_one_after_the_other():
    """Ground truth: the functions behind the names, bit for bit: quantised, then compiled."""
    x = tt.Tensor(np.random.default_rng(0).standard_normal((4, 8), np.float32))
    small = compression.apply_quantization(net(), [x])
    wanted = compression.quantize(net(), calibration=[x])
    np.testing.assert_array_equal(small(x).numpy(), wanted(x).numpy())
    four = compression.apply_quantization(net(), kind="int4")
    assert isinstance(four[0].weight, QuantizedWeight) and four[0].weight.kind == "int4"
    fast = compression.apply_acceleration(small)
    np.testing.assert_allclose(fast(x).numpy(), wanted(x).numpy(), rtol=0, atol=1e-5)
    assert "host calls: 0" in str(fast.explain())


def test_what_is_kept_answers_as_the_whole():
    """Ground truth: the logits of all tokens at once, to 1e-5; the same tokens go on."""
    model, tokens = gpt(), [3, 1, 4, 1, 5]
    context = compression.apply_caching(model)
    found = [context.read(tokens[:2]), *(context.read([t]) for t in tokens[2:])]
    whole = model(tt.tensor([tokens])).detach().numpy()[0, 1:]
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)
    alone = list(generate(model, tokens, 4, temperature=0))
    assert list(generate(model, tokens, 4, temperature=0, context=context)) == alone


def test_pruning_hands_on():
    """Ground truth: the two functions behind the name: zeros, and fewer neurons."""
    assert compression.sparsity_of(compression.apply_pruning(net(), 0.5)) == 0.5
    small = compression.apply_pruning(net(), 0.5, tt.ones(1, 8))
    assert small[0].weight.shape == (3, 8) and small[2].weight.shape == (3, 3)


test_mistakes = mistakes(
    (lambda: compression.apply_quantization(3), ArgumentTypeError, "this is no model"),
    (lambda: compression.apply_acceleration(3), ArgumentTypeError, "this is no model"),
    (lambda: compression.apply_caching(net()), ArgumentTypeError, "keeps nothing between tokens"),
    (lambda: compression.fine_tune_optimizations(3, []), ArgumentTypeError, "this is no model"),
)
