"""The contract that every model keeps. A model that is not in MODELS fails the first test."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import export, models, nn
from tinytorch.compiler.pipeline import compile_graph
from tinytorch.nn import functional as F


@dataclass
class Case:
    """A tiny model, eight samples, and the golden list of its state's names."""

    make: Callable[[], nn.Module]
    inputs: np.ndarray
    targets: np.ndarray
    output: tuple[int, ...]
    loss: Callable
    names: list[str]
    first_loss: float | None = None  # of a model that knows nothing; None: log K
    by_heart: Callable | None = None  # a loss that can come to 0; None: loss
    steps: int = 60  # that it may take to learn them


RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((8, 1, 8, 8)).astype(np.float32)
LABELS = RNG.integers(0, 3, 8)
TOKENS = RNG.integers(0, 7, (8, 6))
STAGE = [
    "conv1.weight", "norm1.weight", "norm1.bias", "norm1.running_mean", "norm1.running_var",
    "norm1.num_batches_tracked", "conv2.weight", "norm2.weight", "norm2.bias", "norm2.running_mean",
    "norm2.running_var", "norm2.num_batches_tracked",
]  # fmt: skip
BLOCK = [
    f"{part}{kind}"
    for part in (
        "self_attn.in_proj_",
        "self_attn.out_proj.",
        "linear1.",
        "linear2.",
        "norm1.",
        "norm2.",
    )
    for kind in ("weight", "bias")
]
PICTURES = RNG.standard_normal((8, 3, 16, 16)).astype(np.float32)
NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


def two(*prefix: str) -> list[str]:
    """Names of a block of two convolutions with norms."""
    where = "".join(prefix)
    return [
        n for i in (1, 2)
        for n in (f"{where}conv{i}.weight", *(f"{where}bn{i}.{k}" for k in NORM))
    ]  # fmt: skip


def layers(prefix: str, kinds: dict[int, list[str]]) -> list[str]:
    return [f"{prefix}.{i}.{name}" for i, names in kinds.items() for name in names]


LINEAR = ["weight", "bias"]
WHITE = RNG.random((8, 1, 8, 8)).astype(np.float32).round()  # pixels 0 and 1
NOISE = RNG.standard_normal((8, 12)).astype(np.float32)
PAINTINGS = np.tanh(RNG.standard_normal((8, 1, 16, 16))).astype(np.float32)
REAL = RNG.integers(0, 2, 8).astype(np.float32)
# one thing for each picture, as large as TinyYOLO's prior
THINGS = np.concatenate([LABELS[:, None], RNG.random((8, 2)), np.full((8, 2), 0.25)], 1)[
    :, None
].astype(np.float32)
STEM = ["conv1.weight", *(f"bn1.{k}" for k in NORM)]
ENCODER = [
    *(f"{n}.weight" for n in ("tokens", "positions", "segments", "norm")), "norm.bias",
    *(f"blocks.{i}.{n}" for i in range(2) for n in BLOCK),
]  # fmt: skip
CROSS = [
    *BLOCK[:4], *(f"multihead_attn.{n}" for n in ("in_proj_weight", "in_proj_bias")),
    "multihead_attn.out_proj.weight", "multihead_attn.out_proj.bias", *BLOCK[4:],
    "norm3.weight", "norm3.bias",
]  # fmt: skip
SMALL_BERT = models.BERTConfig(7, layers=2, heads=2, size=16, length=8, dropout=0.0)
SMALL_SEQ2SEQ = models.Seq2SeqConfig(7, layers=1, heads=2, size=16, length=8)


def from_onnx():
    """The MLP below, as it comes back from a file."""
    with tempfile.TemporaryDirectory() as folder:
        export.onnx(models.MLP([64, 16, 3]), f"{folder}/a.onnx", IMAGES[:1], batch="N")
        return models.load_onnx(f"{folder}/a.onnx").train()


class Translator(models.Seq2Seq):
    """With one text for both halves, so that it has one input."""

    def forward(self, tokens):
        """(B, T) -> logits."""
        return super().forward(tokens, tokens)


def stirred(model: nn.Module) -> nn.Module:
    """With other filters than those that hand on: before a batch norm the gradient of the one
    number that is not 0 would be a rounding error, and AdamW moves by its sign."""
    with tt.no_grad():
        for p in model.parameters():
            if p.ndim == 4 and p.requires_grad:
                p += 0.2 * tt.randn(*p.shape)
    return model


MODELS = {
    "BERT": Case(
        lambda: models.BERT(SMALL_BERT, pooler=False), TOKENS,
        RNG.standard_normal((8, 6, 16)).astype(np.float32), (8, 6, 16), F.mse_loss, ENCODER,
        first_loss=2.0, steps=300,  # the variance of the targets, and that of a norm
    ),
    "BERTMaskedLM": Case(
        lambda: models.BERTMaskedLM(SMALL_BERT), TOKENS, (TOKENS * 3 + 1) % 7, (8, 6, 7),
        models.masked_lm_loss,
        [
            *(f"bert.{n}" for n in ENCODER), "transform.weight", "transform.bias", "norm.weight",
            "norm.bias", "head.weight", "head.bias",
        ],
    ),
    "BERTClassifier": Case(
        lambda: models.BERTClassifier(SMALL_BERT, 3), TOKENS, LABELS, (8, 3), F.cross_entropy,
        [
            *(f"bert.{n}" for n in ENCODER), "bert.pooler.weight", "bert.pooler.bias",
            "classifier.weight", "classifier.bias",
        ],
    ),
    "Seq2Seq": Case(
        lambda: Translator(SMALL_SEQ2SEQ), TOKENS, (TOKENS * 3 + 1) % 7, (8, 6, 7),
        models.next_token_loss,
        [
            "tokens.weight", "source_positions.weight", "target_positions.weight",
            *(f"encoder.0.{n}" for n in BLOCK), *(f"decoder.0.{n}" for n in CROSS),
            "encoder_norm.weight", "encoder_norm.bias", "decoder_norm.weight", "decoder_norm.bias",
            "head.weight",
        ],
    ),
    "MLP": Case(
        lambda: models.MLP([64, 16, 3]), IMAGES, LABELS, (8, 3), F.cross_entropy,
        ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"],
    ),
    "ONNXModel": Case(
        from_onnx, IMAGES, LABELS, (8, 3), F.cross_entropy,
        ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"],
    ),
    "CNN": Case(
        lambda: models.CNN(8, classes=3, widths=(4, 8)), IMAGES, LABELS, (8, 3), F.cross_entropy,
        [f"stages.{i}.{n}" for i in range(2) for n in STAGE] + ["head.weight", "head.bias"],
    ),
    "GPT": Case(
        lambda: models.GPT(models.GPTConfig(vocab=7, layers=2, heads=2, size=16, length=8)),
        TOKENS, (TOKENS * 3 + 1) % 7, (8, 6, 7), models.next_token_loss,
        ["tokens.weight", "positions.weight"] + [f"blocks.{i}.{n}" for i in range(2) for n in BLOCK]
        + ["norm.weight", "norm.bias", "head.weight"],
    ),
    "LeNet": Case(
        lambda: models.LeNet(8, classes=3), IMAGES, LABELS, (8, 3), F.cross_entropy,
        [f"{n}.{k}" for n in ("conv1", "conv2", "fc1", "fc2", "fc3") for k in ("weight", "bias")],
    ),
    "CifarResNet": Case(
        lambda: models.CifarResNet(1, classes=3, width=4), PICTURES, LABELS, (8, 3),
        F.cross_entropy,
        STEM + [n for i in (1, 2, 3) for n in two(f"layer{i}.0.")]
        + ["linear.weight", "linear.bias"],
    ),
    "ResNet": Case(
        lambda: models.ResNet([1, 1, 1, 1], classes=3, width=4), PICTURES, LABELS, (8, 3),
        F.cross_entropy,
        STEM + two("layer1.0.")
        + [
            n for i in (2, 3, 4) for n in (
                *two(f"layer{i}.0."), f"layer{i}.0.downsample.0.weight",
                *(f"layer{i}.0.downsample.1.{k}" for k in NORM),
            )
        ] + ["fc.weight", "fc.bias"],
    ),
    "SwiftCNN": Case(
        lambda: models.SwiftCNN(classes=3, width=4, inner=(2, 4, 4), blocks=1), PICTURES, LABELS,
        (8, 3), F.cross_entropy,
        STEM + [n for i in (1, 2, 3) for n in two(f"layer{i}.0.")]
        + ["linear.weight", "linear.bias"],
    ),
    "TinyYOLO": Case(
        lambda: models.TinyYOLO(3, 3, widths=(4, 8, 8, 8)), PICTURES, THINGS, (8, 8, 2, 2),
        models.yolo_loss,
        layers("features", {
            0: ["weight"], 1: NORM, 4: ["weight"], 5: NORM, 8: ["weight"], 9: NORM,
            12: ["weight"], 13: NORM,
        }) + ["head.weight", "head.bias"],
        # of three empty cells and a full one log 2 and a half of it, of the class log 3, of the
        # place 5 times two variances of a uniform number; the sides are as the prior says
        first_loss=2.5 * np.log(2) + np.log(3) + 10 / 12, steps=100,
    ),
    "ConvVAE": Case(
        lambda: models.ConvVAE(8, latent=12, width=16), WHITE, WHITE, (8, 1, 8, 8),
        models.vae_loss,
        [
            *layers("encoder", {0: LINEAR, 2: LINEAR, 5: LINEAR}),
            "expand.weight", "expand.bias", *layers("decoder", {0: LINEAR, 2: LINEAR}),
        ],
        first_loss=64 * np.log(2),  # bits of 64 pixels; the divergence is small at first
        by_heart=lambda out, y: F.binary_cross_entropy_with_logits(out.logits, y), steps=100,
    ),
    "DCGANGenerator": Case(
        lambda: models.DCGANGenerator(12, 16, 1, width=8), NOISE, PAINTINGS, (8, 1, 16, 16),
        F.mse_loss,
        layers("main", {0: ["weight"], 1: NORM, 3: ["weight"], 4: NORM, 6: ["weight"]}),
        first_loss=float((PAINTINGS**2).mean()), steps=100,  # it paints almost nothing
    ),
    "DCGANDiscriminator": Case(
        lambda: models.DCGANDiscriminator(16, 1, width=8), PAINTINGS, REAL, (8,),
        F.binary_cross_entropy_with_logits,
        layers("main", {0: ["weight"], 2: ["weight"], 3: NORM, 5: ["weight"]}),
        first_loss=np.log(2),
    ),
    "VisionTransformer": Case(
        lambda: models.VisionTransformer(16, 8, 16, depth=2, heads=2, classes=3), PICTURES, LABELS,
        (8, 3), F.cross_entropy,
        ["positions", "patch_embedding.weight", "patch_embedding.bias"]
        + [f"blocks.{i}.{n}" for i in range(2) for n in BLOCK]
        + ["norm.weight", "norm.bias"]
        + [f"classifier.layers.{i}.{k}" for i in (0, 1) for k in ("weight", "bias")],
    ),
    "WhitenedCNN": Case(
        lambda: stirred(models.WhitenedCNN((4, 8, 8), classes=3)), PICTURES, LABELS, (8, 3),
        F.cross_entropy,
        ["whiten.weight", "whiten.bias"] + [f"groups.{i}.{n}" for i in range(3) for n in STAGE]
        + ["head.weight"],
        by_heart=lambda out, y: F.cross_entropy(8.0 * out, y),  # the 8 of width that it divides by
    ),
}  # fmt: skip
each_model = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())


def tensor_of(output) -> tt.Tensor:
    """Of a model that gives several, the first."""
    return output[0] if isinstance(output, tuple) else output


def test_every_public_model_has_a_case():
    """Ground truth: the names models exports."""
    offered = {n: getattr(models, n) for n in models.__all__}
    modules = {n for n, x in offered.items() if inspect.isclass(x) and issubclass(x, nn.Module)}
    assert modules == set(MODELS), (
        f"MODELS of tests/test_every_model.py: {sorted(modules ^ set(MODELS))}"
    )


@each_model
def test_output_shape_and_state_names(case):
    """Ground truth: written by hand; names that change would orphan every saved file."""
    model = case.make()
    assert tuple(tensor_of(model(tt.Tensor(case.inputs))).shape) == case.output
    assert list(model.state_dict()) == case.names


@each_model
def test_overfits_eight_samples(case):
    """Ground truth: a model with more weights than samples can learn them by heart."""
    tt.manual_seed(0)
    model, x, y = case.make(), tt.Tensor(case.inputs), tt.Tensor(case.targets)
    wanted = case.by_heart or case.loss
    adamw = tt.optim.AdamW(model.parameters(), lr=0.01)
    first = wanted(model(x), y).item()
    for _ in range(case.steps):
        loss = wanted(model(x), y)
        loss.backward()
        adamw.step()
        adamw.zero_grad()
    assert loss.item() < 0.05 * first


@each_model
def test_a_new_model_knows_nothing(case):
    """Closed form: equal chances for K classes give a loss of log K; first weights are small."""
    tt.manual_seed(1)
    loss = case.loss(case.make()(tt.Tensor(case.inputs)), tt.Tensor(case.targets)).item()
    expected = np.log(case.output[-1]) if case.first_loss is None else case.first_loss
    assert loss == pytest.approx(expected, rel=0.6)


@each_model
def test_five_compiled_steps_are_five_eager_steps(case):
    """Ground truth: eager NumPy: losses, weights, running statistics, optimizer state.

    AdamW divides by the root of the squared gradient: where a gradient is itself a rounding error
    (convolutions before batch norm, biases of keys) its sign is not determined, nor its step of lr.
    The losses are; weights are compared under SGD, which has no such division.
    """
    for rule, weights_too in ((tt.optim.AdamW, False), (tt.optim.SGD, True)):
        found = []
        for through in (lambda f: f, tt.compile):
            tt.manual_seed(0)
            model = case.make()
            optimizer = rule(model.parameters(), lr=0.01)

            def step(x, y, model=model, optimizer=optimizer):
                loss = case.loss(model(x), y)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                return loss

            call = through(step)
            x, y = tt.Tensor(case.inputs), tt.Tensor(case.targets)
            losses = np.array([call(x, y).item() for _ in range(5)])
            state = {n: t.numpy() for n, t in model.state_dict().items()}
            counts = [x.item() for n, x in optimizer.state_dict().items() if n.startswith("step.")]
            found.append((losses, state, max(counts)))  # what is frozen stands at 0
        (losses, state, steps), (losses_c, state_c, steps_c) = found
        np.testing.assert_allclose(losses_c, losses, rtol=1e-4)
        assert steps == steps_c == 5.0
        for name in state if weights_too else ():
            np.testing.assert_allclose(state_c[name], state[name], rtol=1e-4, atol=1e-5)


@each_model
def test_evaluation_treats_samples_alone(case):
    """Invariant: in evaluation an output does not depend on the rest of the batch."""
    model = case.make().eval()
    together = tensor_of(model(tt.Tensor(case.inputs))).detach().numpy()
    alone = tensor_of(model(tt.Tensor(case.inputs[2:3]))).detach().numpy()
    np.testing.assert_allclose(together[2:3], alone, rtol=1e-4, atol=1e-5)  # float32, sums of 64


NUMBERS = ["float32", "float64", "float16", "bfloat16", "bf16 precision"]


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("case", MODELS.values(), ids=MODELS)
def test_no_model_leaves_native_code(case, numbers):
    """Ground truth: counting the host calls of a training step and of evaluation, which is 0."""
    mixed = numbers == NUMBERS[-1]
    dtype = tt.float32 if mixed else getattr(tt, numbers)
    model = case.make().to(dtype)
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.001)
    precision = "bf16" if mixed else None

    def step(x, y):
        loss = case.loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def given(array):
        x = tt.Tensor(array) if array.dtype.kind == "f" else tt.from_numpy(array)
        return x.astype(dtype) if x.dtype.is_float else x

    arguments = given(case.inputs), given(case.targets)
    trained = tt.compile(step, precision=precision)
    assert not host_calls(trained, *arguments)
    model.eval()
    assert not host_calls(tt.compile(model, precision=precision), arguments[0])


def host_calls(compiled, *arguments) -> list[str]:
    """What Python does in a program; its passes run, no machine code is made."""
    with pytest.MonkeyPatch.context() as patch:
        found = []

        def planned(graph, target):
            plan, _ = compile_graph(graph, target)
            found.extend(task.symbol for task in plan.tasks if task.host is not None)
            raise StopIteration

        patch.setattr("tinytorch.compiler.compile.program_for", planned)
        with pytest.raises(StopIteration):
            compiled(*arguments)
    return found


def test_a_host_call_in_a_model_would_be_seen():
    """Closed form: one call of a user's function."""
    f = tt.compile(lambda x: tt.host_call(np.sort, x, x) + 1)
    assert host_calls(f, tt.ones(3)) == ["python.sort"]
