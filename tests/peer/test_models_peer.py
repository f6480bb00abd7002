"""Models against PyTorch: the same logits and gradients from the same weights, by name.

Each model is written once more with torch's functions, reading our state by PyTorch's names; the
layouts need no change. float64: sums of at most a few thousand products, roundings of 1e-16.
"""

import numpy as np
import pytest
import torch
from torch.nn import functional as T

import tinytorch as tt
from tinytorch import models

pytestmark = pytest.mark.peer

RNG = np.random.default_rng(0)


class Weights:
    """Our state as torch tensors, asked for by name below a prefix."""

    def __init__(self, state: dict, prefix: str = ""):
        self.state, self.prefix = state, prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.state[f"{self.prefix}{name}"]

    def __contains__(self, name: str) -> bool:
        return f"{self.prefix}{name}" in self.state

    def at(self, path: str) -> "Weights":
        return Weights(self.state, f"{self.prefix}{path}.")

    def linear(self, x):
        return T.linear(x, self["weight"], self["bias"] if "bias" in self else None)

    def conv(self, x, stride=1, padding=0, transposed=False):
        op = T.conv_transpose2d if transposed else T.conv2d
        bias = self["bias"] if "bias" in self else None
        return op(x, self["weight"], bias, stride=stride, padding=padding)

    def norm(self, x, training):
        running = (self["running_mean"].clone(), self["running_var"].clone())
        return T.batch_norm(x, *running, self["weight"], self["bias"], training, 0.1, 1e-5)

    def layer_norm(self, x):
        return T.layer_norm(x, x.shape[-1:], self["weight"], self["bias"])


def mlp(w, x, training):
    x = T.relu(w.at("layers.0").linear(x.flatten(1)))
    return w.at("layers.1").linear(x)


def cnn(w, x, training):
    for i in range(2):
        stage = w.at(f"stages.{i}")
        for j in (1, 2):
            x = T.relu(stage.at(f"norm{j}").norm(stage.at(f"conv{j}").conv(x, 1, 1), training))
        x = T.max_pool2d(x, 2)
    return w.at("head").linear(x.flatten(1))


def lenet(w, x, training):
    x = T.max_pool2d(T.relu(w.at("conv1").conv(x, 1, 2)), 2)
    x = T.max_pool2d(T.relu(w.at("conv2").conv(x)), 2).flatten(1)
    return w.at("fc3").linear(T.relu(w.at("fc2").linear(T.relu(w.at("fc1").linear(x)))))


def cifar_resnet(w, x, training):
    x = T.relu(w.at("bn1").norm(w.at("conv1").conv(x, 1, 1), training))
    for stage in (1, 2, 3):
        for i in range(2):
            block, stride = w.at(f"layer{stage}.{i}"), 2 if stage > 1 and i == 0 else 1
            out = T.relu(block.at("bn1").norm(block.at("conv1").conv(x, stride, 1), training))
            out = block.at("bn2").norm(block.at("conv2").conv(out, 1, 1), training)
            if stride == 2:
                half = x.shape[1] // 2
                x = T.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
            x = T.relu(out + x)
    return w.at("linear").linear(x.mean((2, 3)))


def resnet(convolutions):
    strides = {2: {1: True}, 3: {2: True}}[convolutions]  # which convolution has the stride
    padding = {2: (1, 1), 3: (0, 1, 0)}[convolutions]

    def forward(w, x, training):
        x = T.relu(w.at("bn1").norm(w.at("conv1").conv(x, 2, 3), training))
        x = T.max_pool2d(x, 3, 2, 1)
        for stage in (1, 2, 3, 4):
            block, out, stride = w.at(f"layer{stage}.0"), x, 2 if stage > 1 else 1
            for i in range(1, convolutions + 1):
                step = stride if i in strides else 1
                out = block.at(f"conv{i}").conv(out, step, padding[i - 1])
                out = block.at(f"bn{i}").norm(out, training)
                out = T.relu(out) if i < convolutions else out
            if "downsample.0.weight" in block:
                x = block.at("downsample.0").conv(x, stride)
                x = block.at("downsample.1").norm(x, training)
            x = T.relu(x + out)
        return w.at("fc").linear(x.mean((2, 3)))

    return forward


def transformer_block(w, x, heads, causal):
    batch, length, size = x.shape
    y = w.at("norm1").layer_norm(x)
    qkv = T.linear(y, w["self_attn.in_proj_weight"], w["self_attn.in_proj_bias"])
    q, k, v = (part.reshape(batch, length, heads, -1).transpose(1, 2) for part in qkv.chunk(3, -1))
    y = T.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    x = x + w.at("self_attn.out_proj").linear(y.reshape(batch, length, size))
    y = T.gelu(w.at("linear1").linear(w.at("norm2").layer_norm(x)))
    return x + w.at("linear2").linear(y)


def vit(w, x, training):
    x = T.unfold(x, 4, stride=4).transpose(1, 2)  # (B, T, C P P)
    x = w.at("patch_embedding").linear(x) + w["positions"]
    for i in range(2):
        x = transformer_block(w.at(f"blocks.{i}"), x, 2, causal=False)
    x = w.at("norm").layer_norm(x).mean(1)
    return w.at("classifier.layers.1").linear(T.relu(w.at("classifier.layers.0").linear(x)))


def gpt(w, tokens, training):
    x = w["tokens.weight"][tokens] + w["positions.weight"][: tokens.shape[1]]
    for i in range(2):
        x = transformer_block(w.at(f"blocks.{i}"), x, 2, causal=True)
    return w.at("head").linear(w.at("norm").layer_norm(x))


def vae(w, x, training):
    """In evaluation: the latent numbers are their means."""
    for i in (0, 2):
        x = T.relu(w.at(f"encoder.{i}").conv(x, 2, 1))
    mean, _ = w.at("encoder.5").linear(x.flatten(1)).chunk(2, 1)
    x = T.relu(w.at("expand").linear(mean)).reshape(-1, 8, 2, 2)
    x = T.relu(w.at("decoder.0").conv(x, 2, 1, transposed=True))
    return w.at("decoder.2").conv(x, 2, 1, transposed=True)


def generator(w, z, training):
    x = w.at("main.0").conv(z[:, :, None, None], transposed=True)
    x = T.relu(w.at("main.1").norm(x, training))
    x = w.at("main.3").conv(x, 2, 1, transposed=True)
    x = T.relu(w.at("main.4").norm(x, training))
    return torch.tanh(w.at("main.6").conv(x, 2, 1, transposed=True))


def discriminator(w, x, training):
    x = T.leaky_relu(w.at("main.0").conv(x, 2, 1), 0.2)
    x = T.leaky_relu(w.at("main.3").norm(w.at("main.2").conv(x, 2, 1), training), 0.2)
    return w.at("main.5").conv(x).reshape(-1)


def images(channels, size):
    return RNG.standard_normal((4, channels, size, size))


MODELS = {
    "MLP": (lambda: models.MLP([64, 16, 5]), mlp, images(1, 8)),
    "CNN": (lambda: models.CNN(8, 3, 5, (4, 8)), cnn, images(3, 8)),
    "LeNet": (lambda: models.LeNet(28, classes=5), lenet, images(1, 28)),
    "CifarResNet": (lambda: models.CifarResNet(2, width=4), cifar_resnet, images(3, 16)),
    "ResNet-18": (lambda: models.ResNet([1] * 4, width=4, classes=5), resnet(2), images(3, 40)),
    "ResNet-50": (
        lambda: models.ResNet([1] * 4, True, width=4, classes=5), resnet(3), images(3, 40),
    ),
    "VisionTransformer": (
        lambda: models.VisionTransformer(8, 4, 16, depth=2, heads=2), vit, images(3, 8),
    ),
    "GPT": (
        lambda: models.GPT(models.GPTConfig(vocab=7, layers=2, heads=2, size=16, length=8)), gpt,
        RNG.integers(0, 7, (3, 6)),
    ),
    "ConvVAE": (lambda: models.ConvVAE(8, latent=3, width=4), vae, images(1, 8)),
    "DCGANGenerator": (
        lambda: models.DCGANGenerator(5, 16, 3, width=4), generator, RNG.standard_normal((4, 5)),
    ),
    "DCGANDiscriminator": (
        lambda: models.DCGANDiscriminator(16, 3, width=4), discriminator, images(3, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("make", "forward", "x"), MODELS.values(), ids=MODELS.keys())
def test_outputs_and_gradients(make, forward, x, training):
    """Ground truth: torch's functions on the same weights; gradients of a weighted sum.

    Norms of a batch divide by deviations as small as 1e-2, which enlarges roundings some 100 times
    a layer; what cancels to zero is compared with the largest gradient.
    """
    tt.manual_seed(0)
    ours = make().to(tt.float64).train(training and forward is not vae)
    state = {name: torch.tensor(t.numpy()) for name, t in ours.state_dict().items()}
    names = dict(ours.named_parameters())
    for name in names:
        state[name].requires_grad_()
    mine = ours(tt.Tensor(x))
    mine = mine.logits if isinstance(mine, models.VAEOutput) else mine
    theirs = forward(Weights(state), torch.tensor(x), training)
    np.testing.assert_allclose(
        mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-11
    )
    pull = np.random.default_rng(1).standard_normal(mine.shape)
    (mine * tt.Tensor(pull)).sum().backward()
    (theirs * torch.tensor(pull)).sum().backward()
    for name, parameter in names.items():
        if state[name].grad is None:  # torch never touched it
            assert parameter.grad is None or not parameter.grad.numpy().any(), name
            continue
        exact = state[name].grad.numpy()
        found = parameter.grad.numpy()
        np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-10 * max(1, abs(exact).max()))
