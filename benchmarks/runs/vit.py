"""The vision transformer on CIFAR-10: does it reach 80 % of the test pictures?

The documents' network (patches of 4, d_model 256, six blocks) in bf16, with crop and flip; Muon
moves the matrices of the blocks and AdamW the rest. A checkpoint after each epoch lies beside the
record while the run lasts, and an interrupted run goes on from it.
"""

from __future__ import annotations

from pathlib import Path

import tinytorch as tt
from benchmarks.record import Record
from tinytorch.data import Compose, DataLoader, Normalize, RandomCrop, RandomFlip, load_cifar10
from tinytorch.models import VisionTransformer
from tinytorch.training import Trainer

ASKED = 0.80
EPOCHS, BATCH, WARMUP, SEED = 16, 128, 2, 0
MUON_LR, ADAM_LR, DECAY, SMOOTHING = 0.01, 1e-3, 0.05, 0.1
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training pictures


def run(folder: Path, log: Path) -> dict:
    """Train, measure after each epoch."""
    record = Record(log, "Does the documents' vision transformer reach 80 % on CIFAR-10?", {
        "epochs": EPOCHS, "batch": BATCH, "warm-up epochs": WARMUP, "seed": SEED,
        "optimizer": f"Muon lr {MUON_LR} for the blocks' matrices, AdamW lr {ADAM_LR}",
        "weight_decay": DECAY, "label_smoothing": SMOOTHING, "precision": "bf16",
    })  # fmt: skip
    tt.manual_seed(SEED)
    net = VisionTransformer(image_size=32, patch_size=4, d_model=256)
    normalize = Normalize(MEAN, STD)
    crop = Compose([RandomCrop(32, padding=4), RandomFlip(), normalize])
    train, test = (load_cifar10(t, folder, as_bytes=True) for t in (True, False))
    loader = DataLoader(train, BATCH, shuffle=True, drop_last=True, seed=SEED, transform=crop)
    optimizer = optimizer_of(net)
    trainer = Trainer(
        net, optimizer, tt.nn.CrossEntropyLoss(label_smoothing=SMOOTHING),
        metrics={"accuracy": tt.training.accuracy}, precision="bf16", schedule_every="step",
        schedule=tt.optim.WarmupCosineLR(
            optimizer, warmup=WARMUP * len(loader), total=EPOCHS * len(loader)
        ),
    )  # fmt: skip
    history = trainer.train(
        loader, EPOCHS, validation=DataLoader(test, 500, transform=normalize),
        checkpoint=log.with_suffix(".checkpoints"), resume=True,
    )  # fmt: skip
    for row in history:
        record.row(**row)
    found = history.last["val_accuracy"]
    text = f"{100 * found:.2f} % after {len(history)} epochs"
    record.claim("a ViT reaches 80 % on CIFAR-10", "what was asked", text, found >= ASKED)
    return record.keep()


def optimizer_of(net: VisionTransformer) -> tt.optim.Optimizer:
    """Muon for what multiplies inside the blocks, AdamW for the rest."""
    named = list(net.named_parameters())
    matrices = [p for n, p in named if n.startswith("blocks") and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    muon = tt.optim.Muon(matrices, lr=MUON_LR, weight_decay=DECAY)
    return tt.optim.Together(muon, tt.optim.AdamW(rest, lr=ADAM_LR, weight_decay=DECAY))
