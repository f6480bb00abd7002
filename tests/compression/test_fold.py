"""Batch norms folded away: which ones, and that nothing else changes."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.models import CNN, CifarResNet, ResNet


def numbers(*shape, seed=0):
    return tt.Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def lived(model):
    """A model whose norms have statistics, scales and shifts of their own."""
    draw = np.random.default_rng(3)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            shape = module.running_mean.shape
            module.running_mean.assign_(tt.Tensor(draw.normal(0, 1, shape).astype(np.float32)))
            module.running_var.assign_(tt.Tensor(draw.uniform(0.3, 3, shape).astype(np.float32)))
            module.weight.data = tt.Tensor(draw.uniform(0.5, 2, shape).astype(np.float32))
            module.bias.data = tt.Tensor(draw.normal(0, 1, shape).astype(np.float32))
    return model.eval()


MODELS = {
    "cnn": (lambda: CNN(8, 3, widths=(4, 6)), (2, 3, 8, 8), 4),
    "cifar resnet": (lambda: CifarResNet(1, width=4), (2, 3, 16, 16), 7),
    "resnet": (lambda: ResNet([1, 1, 1, 1], True, classes=5, width=4), (1, 3, 32, 32), 17),
    "mlp": (
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)),
        (4, 5), 1,
    ),
    "transposed, grouped": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6),
        ),
        (2, 4, 5, 5), 2,
    ),
    "signal": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4)), (2, 2, 9), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_before(name):
    """Ground truth: the model itself in evaluation mode, to rounding; all its norms are gone."""
    tt.manual_seed(0)
    make, shape, count = MODELS[name]
    model, x = lived(make()), numbers(*shape)
    folded = compression.fold_batch_norm(model, x)
    with tt.no_grad():
        right, found = model(x).numpy(), folded(x).numpy()
    np.testing.assert_allclose(found, right, rtol=0, atol=2e-5 * np.abs(right).max())
    kinds = [type(module) for module in folded.modules()]
    assert kinds.count(nn.Identity) == count
    assert nn.BatchNorm2d not in kinds and nn.BatchNorm1d not in kinds
    assert sum(p.size for p in folded.parameters()) <= sum(p.size for p in model.parameters())


class Branching(nn.Module):
    """What the first layer gives is read twice; the second layer is called twice."""

    def __init__(self):
        self.first, self.norm1 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.second, self.norm2 = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.third, self.norm3 = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.first(x)
        z = self.norm2(self.second(self.norm1(y) + y))
        return self.norm3(self.third(self.second(z)))


def test_what_others_read_stays():
    """Ground truth: the graph by hand: only the third layer's output is read by its norm alone, and
    made by a layer that is called once."""
    model = lived(Branching())
    x = numbers(3, 4)
    folded = compression.fold_batch_norm(model, x)
    assert isinstance(folded.norm3, nn.Identity)
    assert isinstance(folded.norm1, nn.BatchNorm1d) and isinstance(folded.norm2, nn.BatchNorm1d)
    np.testing.assert_allclose(
        folded(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_the_model_that_is_given_does_not_change():
    """Ground truth: its state before, its mode, and what is compiled of it."""
    model = lived(CNN(8, 1, widths=(4,))).train()
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    folded = compression.fold_batch_norm(model, numbers(1, 1, 8, 8))
    assert model.training and not folded.training
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_bad_input_is_named():
    """Ground truth: a model without such norms; no model; no example."""
    with pytest.raises(SettingError, match="no batch norm that can be folded"):
        compression.fold_batch_norm(nn.MLP([4, 3, 2]), numbers(1, 4))
    with pytest.raises(ArgumentTypeError, match="this is no model"):
        compression.fold_batch_norm("model", numbers(1, 4))
    with pytest.raises(ArgumentTypeError, match="not what a model is given"):
        compression.fold_batch_norm(nn.MLP([4, 3, 2]), (4, 3))
