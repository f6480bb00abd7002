"""CIFAR-10 batches of 128, cropped, mirrored and normalised: how fast they come.

Every setting has pictures made from a seed, as many and as large as CIFAR-10's, so that it runs
without the files. A run is 20 batches of an endless loader.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.cases import Side

TITLE = "data: 20 batches of 128 pictures 3x32x32, random crop with padding 4 and flip, normalised"
PICTURES, BATCH, BATCHES, SEED = 50_000, 128, 20, 1
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
STEP = 0.002  # seconds a batch is used, in the setting about prefetching
WORKERS = (0, 1, 2)  # of PyTorch's loader; more than there are cores only slow each other
AGAINST = {
    "PyTorch's DataLoader": [f"{n} workers" for n in WORKERS],
    "a loop over samples": ["loop with np.pad"],
    "a loop without np.pad": ["loop"],
    "PyTorch code for whole batches": [f"batched, {n} workers" for n in WORKERS],
    "in memory, not left in the file": ["in memory"],
    "without prefetching, 2 ms a step": ["one after the other"],
}


def settings() -> list[dict]:
    """What the loader is compared with."""
    return [{"name": name} for name in AGAINST]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """The random choices of our first batch, so that the others can make the same one."""
    from tinytorch.data import Stream

    stream = Stream(SEED)
    top, left = stream.whole(9, BATCH), stream.whole(9, BATCH)
    return {"top": top, "left": left, "flip": stream.chance(0.5, BATCH)}


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """50,000 pictures of noise and their labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PICTURES, 3, 32, 32), dtype=np.uint8)
    return images, rng.integers(0, 10, PICTURES)


def mapped(images: np.ndarray):
    """The pictures left in a file, which is in the system's cache."""
    from tinytorch.data import map_npy

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        out = map_npy(Path(folder) / "images.npy")
        out[0]  # opened: the file's name may go, its pages stay
        return out


def loader(images, labels, shuffle: bool, prefetch: int = 0):
    """Our loader as one writes it."""
    from tinytorch.data import Compose, DataLoader, ImageDataset, Normalize, RandomCrop, RandomFlip

    data = ImageDataset(images, labels, as_bytes=True)
    transform = Compose([RandomCrop(32, padding=4), RandomFlip(), Normalize(MEAN, STD)])
    return DataLoader(
        data, BATCH, shuffle=shuffle, seed=SEED, transform=transform, prefetch=prefetch
    )


def drawing(batches: Iterator, use: float = 0.0):
    """A run: the next 20 batches, each used for a while by somebody who needs no Python."""

    def run() -> None:
        for _ in range(BATCHES):
            next(batches)
            if use:
                time.sleep(use)

    return run


def endless(loader) -> Iterator:
    """Epoch after epoch."""
    while True:
        yield from loader


def our_side(left_in_file: bool, prefetch: int, use: float) -> Side:
    """Our loader as a side."""
    images, labels = pictures()
    source = mapped(images) if left_in_file else images

    def show() -> dict[str, np.ndarray]:
        x, y = next(iter(loader(source, labels, shuffle=False)))
        return {"x": x, "y": y}

    return Side(drawing(endless(loader(source, labels, True, prefetch)), use), show)


def ours(setting: dict, arrays: dict) -> Side:
    """tinytorch.data.DataLoader in one thread; with prefetching where that is the question."""
    name = setting["name"]
    waits = name.startswith("without prefetching")
    return our_side(name.startswith("in memory"), 2 if waits else 0, STEP if waits else 0.0)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The other way of doing it."""
    if variant == "in memory":
        return our_side(False, 0, 0.0)
    if variant == "one after the other":
        return our_side(False, 0, STEP)
    if variant.startswith("loop"):
        return sample_loop(arrays, variant == "loop with np.pad")
    return torch_side(int(variant.split()[-2]), variant.startswith("batched"), arrays)


def sample_loop(arrays: dict, plain: bool) -> Side:
    """NumPy, one sample after the other, as a data set's `__getitem__` does it.

    Args:
        arrays: the choices of the first batch.
        plain: pad as one writes it, by np.pad, whose own work is 15 us; else by hand.
    """
    images, labels = pictures()
    mean = np.array(MEAN, np.float32).reshape(3, 1, 1)
    std = np.array(STD, np.float32).reshape(3, 1, 1)

    def augmented(i: int, top: int, left: int, flip: bool) -> np.ndarray:
        if plain:
            padded = np.pad(images[i], ((0, 0), (4, 4), (4, 4)))
        else:
            padded = np.zeros((3, 40, 40), np.uint8)
            padded[:, 4:36, 4:36] = images[i]
        x = padded[:, top : top + 32, left : left + 32]
        if flip:
            x = x[:, :, ::-1]
        return (x.astype(np.float32) / 255 - mean) / std

    def show() -> dict[str, np.ndarray]:
        choices = zip(arrays["top"], arrays["left"], arrays["flip"], strict=True)
        return {
            "x": np.stack([augmented(i, *choice) for i, choice in enumerate(choices)]),
            "y": labels[:BATCH],
        }

    def batches() -> Iterator:
        draw = random.Random(0)
        while True:
            chosen = np.random.default_rng(0).permutation(PICTURES)
            for at in range(0, PICTURES - BATCH, BATCH):
                here = chosen[at : at + BATCH].tolist()
                samples = [
                    augmented(
                        i, int(9 * draw.random()), int(9 * draw.random()), draw.random() < 0.5
                    )
                    for i in here
                ]
                yield np.stack(samples), labels[here]

    return Side(drawing(batches()), show)


def torch_side(workers: int, batched: bool, arrays: dict) -> Side:
    """torch.utils.data.DataLoader with worker processes that stay."""
    import torch
    from torch.nn.functional import pad
    from torch.utils.data import DataLoader

    images, labels = (torch.from_numpy(a) for a in pictures())
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (MEAN, STD))

    def one(i: int, top: int, left: int, flip: bool):
        x = pad(images[i], (4, 4, 4, 4))[:, top : top + 32, left : left + 32]
        return (x.flip(-1) if flip else x).float().div_(255).sub_(mean).div_(std)

    def many(indices, top, left, flip):
        padded = pad(images[indices], (4, 4, 4, 4))
        x = padded.unfold(2, 32, 1).unfold(3, 32, 1)[torch.arange(len(indices)), :, top, left]
        x = torch.where(flip[:, None, None, None], x.flip(-1), x)
        return x.float().div_(255).sub_(mean).div_(std)

    class Samples:
        def __len__(self):
            return PICTURES

        def __getitem__(self, i):
            flip = random.random() < 0.5
            return one(i, int(9 * random.random()), int(9 * random.random()), flip), labels[i]

    class Batches(Samples):
        def __getitems__(self, indices):
            n = len(indices)
            at = torch.as_tensor(indices)
            top, left = torch.randint(9, (2, n))
            return many(at, top, left, torch.rand(n) < 0.5), labels[at]

    def show() -> dict[str, np.ndarray]:
        choices = {k: torch.from_numpy(v) for k, v in arrays.items()}
        if batched:
            x = many(torch.arange(BATCH), choices["top"], choices["left"], choices["flip"])
        else:
            rows = zip(arrays["top"], arrays["left"], arrays["flip"], strict=True)
            x = torch.stack(
                [
                    one(i, int(top), int(left), bool(flip))
                    for i, (top, left, flip) in enumerate(rows)
                ]
            )
        return {"x": x.numpy(), "y": labels[:BATCH].numpy()}

    settings = {"persistent_workers": True, "prefetch_factor": 2} if workers else {}
    batches = DataLoader(
        Batches() if batched else Samples(), BATCH, shuffle=True, drop_last=True,
        num_workers=workers, collate_fn=(lambda batch: batch) if batched else None, **settings,
    )  # fmt: skip
    return Side(drawing(endless(batches)), show)


def variants(setting: dict) -> list[str]:
    """The ways of the other side."""
    return AGAINST[setting["name"]]


def tolerance(setting: dict) -> float:
    """Three roundings of float32 on numbers up to 2.75 of 2.75, one more in another order."""
    return 4 * float(np.finfo(np.float32).eps)


def work(setting: dict) -> tuple[int, int]:
    """No arithmetic to speak of: the time goes to moving bytes in small pieces."""
    return 0, 0
