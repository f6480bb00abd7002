"""A DCGAN on MNIST: pictures, and how near their distribution comes to that of the data.

Radford et al. 2016 (https://arxiv.org/abs/1511.06434): Adam with rate 2e-4 and beta1 0.5, batches
of 128. The distance is Frechet's (Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6)
between 64 features of a small classifier of our own, in place of Inception's: its size says
nothing, its ratio to that between training and test images does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine, learn, mnist, shuffled
from benchmarks.record import Record
from tinytorch import inspection, nn
from tinytorch.models import DCGANDiscriminator, DCGANGenerator
from tinytorch.nn import functional as F

ARCHIVE = ""
LATENT, WIDTH, SIZE = 64, 16, 32
IMAGES, EPOCHS, BATCH, RATE, BETA, SEED = 10_000, 10, 128, 2e-4, 0.5, 0
FULL = {"IMAGES": 60_000}
MEASURED = 5000  # pictures of each side of the distance
SHOWN = 10


def run(folder: Path, log: Path) -> dict:
    """Train, measure the distance after each epoch, draw."""
    record = Record(log, "What does a DCGAN draw on MNIST, and how near is it to the data?", {
        "latent": LATENT, "width": WIDTH, "pixels": f"28x28 within {SIZE}x{SIZE}", "batch": BATCH,
        "images": IMAGES, "epochs": EPOCHS, "rate": RATE, "beta1": BETA, "seed": SEED,
        "smaller than the paper": "width 16 for 64 to 128, MNIST for photographs",
    })  # fmt: skip
    x, y = mnist(folder, "train", IMAGES)
    tested, truth = mnist(folder, "test")
    x, tested = (np.pad(a, ((0, 0), (0, 0), (2, 2), (2, 2))) * 2 - 1 for a in (x, tested))
    tt.manual_seed(SEED)
    features = classifier((x, y), (tested, truth))
    wanted = features(tested[:MEASURED])
    floor = distance(features(x[:MEASURED]), wanted)
    generator = DCGANGenerator(LATENT, SIZE, 1, WIDTH)
    discriminator = DCGANDiscriminator(SIZE, 1, WIDTH)
    step = training_step(generator, discriminator)
    first = distance(features(samples(generator, MEASURED)), wanted)
    record.row(epoch=0, distance=first, between_training_and_test=floor)
    for epoch in range(EPOCHS):
        order, steps, losses = shuffled(len(x), SEED, epoch), len(x) // BATCH, []
        for i in range(steps):
            losses.append(step(x[order[i * BATCH : (i + 1) * BATCH]]))
        of_d, of_g = np.array([[v.item() for v in pair] for pair in losses]).mean(0)
        last = distance(features(samples(generator, MEASURED)), wanted)
        record.row(epoch=epoch + 1, distance=last, discriminator=of_d, generator=of_g)
        drawn = samples(generator, 8 * SHOWN)
        shown = inspection.sheet(drawn / 2 + 0.5, SHOWN, scale=2)
        inspection.save_figure(log.with_name("gan.png"), shown)
    record.picture()
    record.claim("samples come near the data", "Radford et al. 2016, section 4",
                 f"distance {first:.1f} untrained, {last:.1f} after {EPOCHS} epochs; {floor:.2f} "
                 "between training and test images; near: a twentieth of the untrained",
                 last < first / 20)  # fmt: skip
    return record.keep()


def training_step(generator: DCGANGenerator, discriminator: DCGANDiscriminator):
    """One step of both, compiled to one program: the discriminator's, then the generator's."""
    adams = [
        tt.optim.Adam(net.parameters(), lr=RATE, betas=(BETA, 0.999))
        for net in (discriminator, generator)
    ]

    @tt.compile
    def step(real):
        fake = generator(tt.randn(BATCH, LATENT))
        ones, zeros = tt.ones(BATCH), tt.zeros(BATCH)
        loss_d = F.binary_cross_entropy_with_logits(discriminator(real), ones)
        loss_d = loss_d + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        loss_d.backward()
        adams[0].step()
        adams[0].zero_grad()
        loss_g = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
        loss_g.backward()
        adams[1].step()
        for adam in adams:
            adam.zero_grad()
        return loss_d.detach(), loss_g.detach()

    return step


def samples(generator: DCGANGenerator, count: int) -> np.ndarray:
    """Pictures in [-1, 1], made in evaluation mode."""
    generator.eval()
    made = [generator.sample(min(500, count - i)).numpy() for i in range(0, count, 500)]
    generator.train()
    return np.concatenate(made)


def classifier(train, test):
    """64 numbers of an image: the last hidden layer of a network that learned the digits."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 256), nn.ReLU(), nn.Linear(256, 64),
                        nn.ReLU(), nn.Linear(64, 10))  # fmt: skip
    adam = tt.optim.AdamW(net.parameters(), lr=2e-3)
    rows = learn(net, adam, train, test, epochs=3, batch=BATCH, seed=SEED, cool=half_cosine)
    print(f"classifier: {100 * rows[-1]['test_accuracy']:.2f} % right", flush=True)
    hidden = list(net)[:-1]

    def features(images: np.ndarray) -> np.ndarray:
        with tt.no_grad():
            out = tt.Tensor(images)
            for layer in hidden:
                out = layer(out)
            return out.numpy().astype(np.float64)

    return features


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean a - mean b|^2 + trace(A + B - 2 sqrt(A B)), with covariances A and B."""
    shift = a.mean(0) - b.mean(0)
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ other @ root)  # sqrt(A B) has the same trace
    return float(shift @ shift + np.trace(one) + np.trace(other)
                 - 2 * np.sqrt(np.maximum(inner, 0)).sum())  # fmt: skip
