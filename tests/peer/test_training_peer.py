"""Ground truth: PyTorch, float64: the whole loop with accumulation, clipping and a schedule."""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch import nn
from tinytorch.training import LossScaler, Trainer, top_k
from tinytorch.training.history import Silent

pytestmark = pytest.mark.peer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((45, 6))
Y = RNG.integers(0, 4, 45)
WEIGHTS = np.array([0.5, 1.0, 2.0, 4.0])
SIZES = (7, 9, 4, 10, 6, 9)  # of the batches: two windows of three


def torchs() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    return torch.nn.Sequential(*layers).double()


def ours(source) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to("float64")
    model.load_state_dict({n: t.numpy() for n, t in source.state_dict().items()})
    return model


@pytest.mark.parametrize("compile", [False, True])
def test_the_loop_is_pytorchs_loop_over_the_joined_batches(compile):
    """AdamW, class weights and smoothing, norm clipped, rate halved after each update, 4 epochs.

    PyTorch is given each window as one batch; sums in another order differ by about 1e-15 a step,
    and AdamW's division by sqrt(v) enlarges that by at most 1e3 here.
    """
    peer = torchs()
    model = ours(peer)
    adamw = tt.optim.AdamW(model.parameters(), lr=0.05)
    loss = nn.CrossEntropyLoss(weight=tt.Tensor(WEIGHTS), label_smoothing=0.1)
    trainer = Trainer(
        model, adamw, loss, accumulate=3, clip_norm=0.3, schedule=tt.optim.StepLR(adamw, 1, 0.8),
        schedule_every="step", compile=compile, progress=Silent(),
    )  # fmt: skip
    ends = np.cumsum(SIZES)
    trainer.train([(X[e - n : e], Y[e - n : e]) for n, e in zip(SIZES, ends, strict=True)], 4)

    theirs = torch.optim.AdamW(peer.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(theirs, 1, 0.8)
    criterion = torch.nn.CrossEntropyLoss(torch.from_numpy(WEIGHTS), label_smoothing=0.1)
    for _ in range(4):
        for part in (slice(0, 20), slice(20, 45)):
            theirs.zero_grad()
            criterion(peer(torch.from_numpy(X[part])), torch.from_numpy(Y[part])).backward()
            torch.nn.utils.clip_grad_norm_(peer.parameters(), 0.3)
            theirs.step()
            schedule.step()
    for name, tensor in peer.state_dict().items():
        found = model.state_dict()[name].numpy()
        np.testing.assert_allclose(found, tensor.numpy(), rtol=1e-11, atol=1e-12)
    assert trainer.optimizer.lr == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)


def test_the_scale_moves_as_pytorchs():
    """torch.amp.GradScaler over the same overflows."""
    weight = torch.zeros(1, requires_grad=True)
    sgd = torch.optim.SGD([weight], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
    mine = LossScaler(scale=64.0, interval=3)
    for ok in RNG.random(40) < 0.8:
        weight.grad = torch.full((1,), 1.0 if ok else float("inf"))
        theirs.scale(torch.zeros(1))
        theirs.step(sgd)
        theirs.update()
        mine.update(tt.Tensor(bool(ok)))
        assert mine.scale.item() == theirs.get_scale()


def test_top_k_is_that_of_pytorch():
    """torch.topk on numbers that all differ."""
    output = RNG.standard_normal((60, 10)).astype(np.float32)
    target = RNG.integers(0, 10, 60)
    for k in (1, 3, 5):
        chosen = torch.from_numpy(output).topk(k).indices.numpy()
        expected = (chosen == target[:, None]).any(1).mean()
        assert top_k(k)(tt.Tensor(output), tt.Tensor(target)).item() == pytest.approx(expected)
