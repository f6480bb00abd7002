"""Every runnable snippet of the founding documents runs, as its reader would run it.

The texts lie in tests/snippets, verbatim but for elisions. Where a document leaves a name to the
reader, the test gives it the framework's; where it asks for minutes of a triple loop, the test
replaces a number (ruling C5), and says which.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.core import layers, networks, training
from tinytorch.core.activations import ReLU, softmax
from tinytorch.core.attention import SelfAttention
from tinytorch.core.dataloader import CIFAR10Dataset
from tinytorch.core.layers import dense_uses, matmul_naive, matmul_optimized_v3, matmul_vectorized
from tinytorch.core.networks import MLP, Sequential, create_mlp

FOLDER = Path(__file__).parent / "snippets"
# The best of a few runs: a product of two threads that waits for a busy core says nothing about it.
TRIES = range(8)
PRODUCTS = {"matmul_naive": matmul_naive, "matmul_optimized_v3": matmul_optimized_v3}


def run(name: str, capped: dict[str, str] | None = None, **given) -> tuple[dict, str]:
    """Execute a snippet; gives its names and what it printed."""
    text = (FOLDER / f"{name}.txt").read_text()
    for old, new in (capped or {}).items():
        assert old in text
        text = text.replace(old, new)
    names, printed = {"__name__": "__main__", "np": np, "time": time, **given}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, name, "exec"), names)
    return names, printed.getvalue()


@pytest.fixture
def few_pictures(monkeypatch):
    """The real CIFAR-10, its first 96 pictures."""
    from tinytorch.core import dataloader

    whole = dataloader.load_cifar10

    def first(train=True, folder=None):
        data = whole(train, folder)
        assert len(data) == (50_000 if train else 10_000)
        data.images, data.labels = data.images[:96], data.labels[:96]
        return data

    monkeypatch.setattr(dataloader, "load_cifar10", first)


def test_every_snippet_is_run_by_a_test():
    """Ground truth: the folder. A snippet without a test would be a promise."""
    source = Path(__file__).read_text()
    used = set(re.findall(r'run\(\s*"(\w+)"', source))
    assert used == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.data
def test_the_complete_framework(few_pictures):
    """Rows S0-01..13. Ground truth: the document's shapes; all weights move; the loss falls."""
    with pytest.warns(UserWarning, match="leave the Softmax layer out"):
        names, printed = run("capstone_framework")
    model = names["model"]
    assert len(model) == 8 and len(names["dataloader"]) == 2
    assert model(tt.zeros(64, 3, 32, 32)).shape == (64, 10)
    fresh = tt.nn.Sequential(*model)
    losses = [float(x) for x in re.findall(r"loss[ =:]+([0-9.]+)", printed)]
    assert len(losses) >= 10 and losses[-1] < losses[0]
    tt.nn.functional.cross_entropy(fresh[:-1](tt.ones(2, 3, 32, 32)), tt.tensor([1, 2])).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_attention_naive_of_the_capstone():
    """Row S0-22, ruling C3. Ground truth: ours, an implementation of its own."""
    names, _ = run("capstone_attention", softmax=softmax)
    q, k, v = (tt.randn(5, 8) for _ in range(3))
    from tinytorch.core.attention import attention_naive, attention_optimized

    theirs = names["attention_naive"](q, k, v).numpy()
    np.testing.assert_array_equal(attention_naive(q, k, v).numpy(), theirs)
    # 8-term products and a softmax in another order: a few 6e-8 of numbers up to 10
    np.testing.assert_allclose(attention_optimized(q, k, v).numpy(), theirs, rtol=0, atol=1e-5)


def test_vision_transformer_of_the_capstone():
    """Rows S0-33..36. Ground truth: its parts, and ours beside them with the same sizes."""
    names, _ = run("capstone_vision_transformer", Dense=layers.Dense)
    theirs, ours = names["VisionTransformer"](), networks.VisionTransformer(32, 4, 256)
    assert len(theirs.transformer_blocks) == len(ours.blocks) == 6
    assert theirs.patch_embedding.weight.shape == ours.patch_embedding.weight.shape
    assert theirs.classifier.sizes == ours.classifier.sizes == (256, 128, 10)
    block = theirs.transformer_blocks[0]
    assert isinstance(block.attention, SelfAttention)
    assert block.mlp.sizes == (256, 1024, 256)
    assert ours(tt.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_basic_trainer_of_the_capstone():
    """Row S0-46. Ground truth: a separable problem is learned."""
    model = create_mlp([2, 8, 2])
    x = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)
    batches = [(x, (x[:, 0] > 0).astype(np.int64))]
    run(
        "capstone_basic_trainer", Trainer=training.Trainer, model=model, dataloader=batches,
        optimizer=tt.optim.Adam(lr=0.1), loss_fn=training.CrossEntropyLoss(),
    )  # fmt: skip
    assert (model(x).argmax(axis=1).numpy() == batches[0][1]).mean() > 0.9


@pytest.mark.data
def test_profile_of_the_capstone(few_pictures):
    """Phase 1, ruling C2. Ground truth: the profile saw the training of one epoch."""
    seen = []

    def train_one_epoch(model, data):
        seen.append(training.train_one_epoch(model, data).last["loss"])

    names, _ = run(
        "capstone_profile", CIFAR10Dataset=CIFAR10Dataset, train_one_epoch=train_one_epoch,
        your_best_model_from_module_11=lambda: create_mlp([3072, 32, 10]),
    )  # fmt: skip
    names["profile_current_implementation"]()
    assert len(seen) == 1 and 0 < seen[0] < 10


def test_an_earlier_model_of_the_capstone():
    """Row S0-100. Ground truth: one function, eager and compiled, gives one answer."""
    x, found = tt.randn(4, 3, 32, 32), {}

    def measure(model):
        found["same"] = np.abs(tt.compile(model)(x).numpy() - model(x).numpy()).max()

    run(
        "capstone_earlier_model", load_your_module_10_model=lambda: networks.CNN(32, 3),
        test_your_optimization=lambda model: found.update(shape=model(x).shape),
        measure_improvement=measure,
    )  # fmt: skip
    # 600-term sums twice: sqrt(600) x 6e-8, of outputs below 4
    assert found["shape"] == (4, 10) and found["same"] < 1e-5


def test_attention_extension_of_the_chapter():
    """Row S2-13. Ground truth: the shapes of the layers it makes."""
    names, _ = run("chapter_attention_extension")
    attention = names["MultiHeadAttention"](16, 4)
    assert attention.query(tt.zeros(2, 16)).shape == (2, 16)


def test_train_epoch_of_the_chapter():
    """Row S2-17. Ground truth: gradient descent on w**2 from 1, gradients adding up as written:
    w = 1 - 0.2 = 0.8, then 0.8 - 0.1 (2 + 1.6) = 0.44."""
    names, _ = run("chapter_train_epoch")
    w = tt.Tensor(np.float64(1.0), requires_grad=True)
    sgd = tt.optim.SGD([w], lr=0.1)
    names["train_epoch"](lambda batch: (w * w) * batch, [1.0, 1.0], sgd)
    assert w.item() == pytest.approx(0.44, abs=1e-12)


@pytest.mark.data
def test_profile_of_the_chapter(few_pictures):
    """Row S2-34. Ground truth: the printed profile names the training."""
    _, printed = run(
        "chapter_profile", create_mlp=create_mlp, train_model=training.train_model,
        cifar10_data=CIFAR10Dataset(),
    )  # fmt: skip
    assert "cumulative" in printed and "train_model" in printed


def test_matmul_of_the_chapter():
    """Row S2-36: the two names are there to be written."""
    names, _ = run("chapter_matmul")
    assert names["matmul_naive"](1, 2) is None and names["matmul_vectorized"](1, 2) is None


def test_speedup_of_the_chapter():
    """Rows S2-36, S2-37. Ground truth: its own assertion, and at least the 5 it asks for."""

    def speedup() -> float:
        _, printed = run(
            "chapter_speedup", {"randn(1000, 1000)": "randn(120, 120)"},
            matmul_naive=matmul_naive, matmul_vectorized=matmul_vectorized,
        )  # fmt: skip
        return float(re.search(r"Speedup: ([\d.]+)x", printed)[1])

    assert any(speedup() >= 5 for _ in TRIES)


def test_profile_of_the_guide():
    """Rows S3-01..03. Ground truth: with the naive product, >= 95 % of the time is in it."""
    names, printed = run("guide_profile", {"range(100)": "range(1)"})
    assert "Profiling Current TinyTorch Framework" in printed
    with dense_uses(matmul_naive):
        names, _ = run("guide_profile", {"range(100)": "range(1)"})
    stats = names["profile_results"]
    naive = next(row for key, row in stats.stats.items() if key[2] == "matmul_naive")
    assert naive[0] == 3 and naive[3] >= 0.95 * stats.total_tt


def test_baseline_of_the_guide():
    """Rows S3-04, S3-05, ruling C7. Ground truth: the guide's own lines."""
    sizes = {"[(100, 100), (500, 500), (1000, 1000), (2000, 2000)]": "[(30, 30), (60, 40)]"}
    _, printed = run("guide_baseline", sizes, **PRODUCTS)
    assert re.search(r"Size 60x40: TinyTorch=[\d.]+s, NumPy=[\d.]+s, Slowdown=[\d.]+x", printed)


def test_optimized_versions_of_the_guide():
    """Rows S3-06..10. Ground truth: its own assertions against the naive product at 1e-10, ours
    equal to the guide's, and the message for shapes that do not fit."""
    names, _ = run("guide_optimized")
    a, b = np.random.default_rng(0).standard_normal((2, 300, 300))
    ragged = a[:, :257], b[:257, 3:]
    for version in ("v1", "v2", "v3"):
        ours, guides = (
            getattr(layers, f"matmul_optimized_{version}"), names[f"matmul_optimized_{version}"],
        )  # fmt: skip
        np.testing.assert_array_equal(ours(*ragged), guides(*ragged))
        with pytest.raises(ValueError, match=r"Cannot multiply \(2, 3\) and \(2, 3\)"):
            ours(np.ones((2, 3)), np.ones((2, 3)))
    sizes = {"[(100, 100), (500, 500), (1000, 1000), (2000, 2000)]": "[(20, 30), (60, 60)]"}

    def speedup() -> float:
        _, printed = run("guide_compare", sizes, **{**names, **PRODUCTS})
        assert "Size 60x60:" in printed
        return float(re.findall(r"v3_memory +: [\d.]+s \(speedup: ([\d.]+)x", printed)[1])

    assert any(speedup() >= 80 for _ in TRIES)


def test_full_network_of_the_guide():
    """Rows S3-11..13, rulings C4..C6. Ground truth: its own assertion that both networks agree to
    1e-10, and at least the 70 it asks for."""

    def weights(inputs, outputs):
        return np.random.default_rng([inputs, outputs]).standard_normal((inputs, outputs)) * 0.1

    def dense(inputs, outputs):
        layer = layers.Dense(inputs, outputs)
        layer.weight = tt.nn.Parameter(tt.Tensor(weights(inputs, outputs).T))
        layer.bias = tt.nn.Parameter(tt.zeros(outputs, dtype="float64"))
        return layer

    names, _ = run("guide_dense_optimized", **PRODUCTS)

    class Seeded(names["DenseOptimized"]):
        def __init__(self, inputs, outputs):
            super().__init__(inputs, outputs)
            self.weight = weights(inputs, outputs)

    def speedup() -> float:
        with dense_uses(matmul_naive), tt.no_grad():
            _, printed = run(
                "guide_full_network", {"range(100)": "range(1)"}, Sequential=Sequential,
                Dense=dense, DenseOptimized=Seeded, ReLU=ReLU,
            )  # fmt: skip
        assert "Numerical correctness verified" in printed
        return float(re.search(r"Speedup: ([\d.]+)x", printed)[1])

    assert any(speedup() >= 70 for _ in TRIES)


def test_demo_of_the_guide():
    """Row S3-16. Ground truth: the line it prints above a speed-up of 50."""

    def printed() -> str:
        with dense_uses(matmul_naive), tt.no_grad():
            return run("guide_demo", {"range(1000)": "range(2)"})[1]

    assert any("Excellent optimization" in printed() for _ in TRIES)


def test_our_mlp_is_the_documents():
    """Row S0-35. Ground truth: the sizes the documents write."""
    assert MLP([256, 128, 10]).sizes == (256, 128, 10)
