"""What a trained ResNet-20 looks for: filters of its first layer, maps of its stages.

He et al. 2015 (https://arxiv.org/abs/1512.03385) for the network; the weights are those of the data
folder `resnet-cifar10`, whose source states 8.27 % error on the CIFAR-10 test pictures (row S4-60).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from tinytorch import inspection, storage
from tinytorch.data import load_cifar10
from tinytorch.models import resnet20

ARCHIVE = ""
STATED = 8.27  # % error, the weights' source
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the weights were trained with
IMAGES, SHOWN = 1000, (1, 4, 13)  # test pictures: measured, drawn
FULL = {"IMAGES": 10_000}


def run(folder: Path, log: Path) -> dict:
    """Load the weights, measure them on some pictures, draw."""
    record = Record(log, "What does a trained ResNet-20 look for?", {
        "network": "resnet20", "weights": "resnet-cifar10", "measured on": IMAGES,
        "drawn": f"test pictures {', '.join(map(str, SHOWN))}; 15 maps of each stage",
    })  # fmt: skip
    network = resnet20()
    state = storage.load(next((folder / "resnet-cifar10").glob("*.safetensors")))
    missing, unused = network.load_state_dict(state, strict=False)
    # PyTorch once had no such count; evaluation does not use it.
    assert not unused and all(name.endswith("num_batches_tracked") for name in missing)
    network.eval()
    mean, std = (np.array(x, np.float32).reshape(3, 1, 1) for x in (MEAN, STD))
    images, labels = load_cifar10(False, folder).take(np.arange(IMAGES))
    images = (images - mean) / std

    @tt.compile
    def answer(x):
        with tt.no_grad():
            return network(x).argmax(axis=1)

    said = np.concatenate([answer(images[i : i + 500]).numpy() for i in range(0, IMAGES, 500)])
    error = 100 * float((said != labels).mean())
    record.row(images=IMAGES, test_error_percent=error)
    deviation = 100 * (STATED / 100 * (1 - STATED / 100) / IMAGES) ** 0.5
    record.claim(f"the weights are wrong on {STATED} % of the test pictures", "their source",
                 f"{error:.2f} % of {IMAGES}, expected within {3 * deviation:.1f} points",
                 abs(error - STATED) <= 3 * deviation)  # fmt: skip
    drawn = inspection.draw_filters(inspection.filters(network.conv1))
    inspection.save_figure(record.picture("-filters"), drawn)
    stages = [network.layer1, network.layer2, network.layer3]
    chosen = images[list(SHOWN)]
    maps = inspection.feature_maps(network, chosen, stages)
    drawn = inspection.draw_feature_maps(chosen, maps)
    inspection.save_figure(record.picture("-maps"), drawn)
    return record.keep()
