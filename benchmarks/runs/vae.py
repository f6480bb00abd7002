"""A variational autoencoder on MNIST: its bound on held-out images, and pictures of its own.

Kingma, Welling 2013 (https://arxiv.org/abs/1312.6114), appendix C: one hidden layer of 500 units in
encoder and decoder, 20 latent numbers, Bernoulli pixels; figure 2 (N_z = 20) ends near a test bound
of -100 nats, read off the curve, after 10^8 samples seen. Here ReLU and Adam in place of tanh and
Adagrad, 40 epochs (2.4 million samples).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine, mnist, shuffled
from benchmarks.record import Record
from tinytorch import inspection, nn

ARCHIVE = ""
HIDDEN, LATENT = 500, 20  # of the paper
CURVE, CURVE_ERROR = -100, 5  # nats: the end of the figure's curve, and how exactly it can be read
EPOCHS, BATCH, RATE, SEED = 40, 100, 2e-3, 0
SHOWN = 10


class VAE(nn.Module):
    """Image (N, 784) -> latent mean and log variance; latent numbers -> logits of pixels."""

    def __init__(self):
        self.encoder = nn.Sequential(
            nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784))

    def forward(self, x):
        """(N, 784) -> (reconstruction, divergence): mean nats an image, their sum is -bound."""
        found = self.encoder(x)
        mean, logvar = found[:, :LATENT], found[:, LATENT:]
        z = mean + (logvar * 0.5).exp() * tt.randn(*mean.shape)
        logits = self.decoder(z)
        # -log p(x|z) of Bernoulli pixels: log(1 + e^l) - x l, in the form that cannot overflow
        softplus = tt.maximum(logits, 0.0) + (1.0 + (-logits.abs()).exp()).log()
        reconstruction = (softplus - x * logits).sum(1).mean()
        divergence = 0.5 * (mean * mean + logvar.exp() - 1.0 - logvar).sum(1).mean()  # appendix B
        return reconstruction, divergence


def run(folder: Path, log: Path) -> dict:
    """Train, bound after each epoch, pictures at the end."""
    record = Record(log, "Which bound does a VAE reach on MNIST, and what does it draw?", {
        "hidden": HIDDEN, "latent": LATENT, "epochs": EPOCHS, "batch": BATCH, "rate": RATE,
        "seed": SEED, "pixels": "grey values in [0, 1] as probabilities, as in the paper",
    })  # fmt: skip
    train, test = (mnist(folder, split)[0].reshape(-1, 784) for split in ("train", "test"))
    tt.manual_seed(SEED)
    net = VAE()
    adam = tt.optim.Adam(net.parameters(), lr=RATE)

    @tt.compile
    def step(x):
        reconstruction, divergence = net(x)
        (reconstruction + divergence).backward()
        adam.step()
        adam.zero_grad()
        return (reconstruction + divergence).detach()

    @tt.compile
    def measure(x):
        with tt.no_grad():
            return net(x)

    bound = -np.inf
    for epoch in range(EPOCHS):
        order, steps, total = shuffled(len(train), SEED, epoch), len(train) // BATCH, 0.0
        for i in range(steps):
            adam.lr = RATE * half_cosine((epoch + i / steps) / EPOCHS)
            total += step(train[order[i * BATCH : (i + 1) * BATCH]]).item()
        parts = np.array([[v.item() for v in measure(test[i : i + BATCH])]
                          for i in range(0, len(test), BATCH)]).mean(0)  # fmt: skip
        bound = -float(parts.sum())
        record.row(epoch=epoch + 1, train_bound=-total / steps, test_bound=bound,
                   reconstruction=float(parts[0]), divergence=float(parts[1]))  # fmt: skip
    draw(net, test, record.picture())
    record.claim(
        "the test bound comes to about -100 nats", "Kingma, Welling 2013, figure 2, N_z = 20",
        f"{bound:.1f} nats after {EPOCHS * len(train):,} samples", bound > CURVE - CURVE_ERROR,
    )  # fmt: skip
    return record.keep()


def draw(net: VAE, test: np.ndarray, path: Path) -> None:
    """Two rows of test images, two of their reconstructions, six of samples from the prior."""
    chosen = test[: 2 * SHOWN]
    with tt.no_grad():
        mean = net.encoder(tt.Tensor(chosen))[:, :LATENT]
        again = net.decoder(mean).sigmoid().numpy()
        samples = net.decoder(tt.randn(6 * SHOWN, LATENT)).sigmoid().numpy()
    images = np.concatenate([chosen, again, samples]).reshape(-1, 1, 28, 28)
    inspection.save_figure(path, inspection.sheet(images, SHOWN, scale=2))
