"""Averages of weights and of answers."""

import numpy as np

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, DataError, SettingError
from tinytorch.compression import Ensemble, WeightAverage, average_weights, refresh_batch_norm
from tinytorch.training import Trainer
from tinytorch.training.history import Silent

DATA = [(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))]


def net(seed=0):
    tt.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def test_the_mean_of_weights():
    """Closed form: the mean of each array, in float64; counts are the first model's; the models
    that are given do not change."""
    models = [net(i) for i in range(3)]
    before = [{n: x.clone().numpy() for n, x in m.state_dict().items()} for m in models]
    mean = average_weights(models)
    for name, x in mean.state_dict().items():
        if x.dtype.is_float:
            wanted = np.mean([b[name] for b in before], axis=0, dtype=np.float64)
            np.testing.assert_array_equal(x.numpy(), wanted.astype(np.float32))
        for model, old in zip(models, before, strict=True):
            np.testing.assert_array_equal(model.state_dict()[name].numpy(), old[name])
    linear = [nn.Linear(3, 2) for _ in range(2)]  # a linear model's mean answers with the mean
    x = tt.ones(1, 3)
    both = (linear[0](x) + linear[1](x)) / 2
    np.testing.assert_allclose(average_weights(linear)(x).numpy(), both.numpy(), atol=1e-6)


def test_statistics_are_computed_anew():
    """Closed form: the mean over batches of each batch's mean and unbiased variance; modes and
    momentum are those before, weights do not move."""
    model = net().eval()
    model[0].train()
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 4)).astype(np.float32), None) for _ in range(3)]
    assert refresh_batch_norm(model, batches) is model
    hidden = [model[0](tt.Tensor(x)).detach().numpy() for x, _ in batches]
    mean = np.mean([h.mean(0) for h in hidden], axis=0)
    variance = np.mean([h.var(0, ddof=1) for h in hidden], axis=0)
    np.testing.assert_allclose(model[1].running_mean.numpy(), mean, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var.numpy(), variance, rtol=1e-5)
    assert [m.training for m in model.modules()] == [False, True, False, False, False]
    assert model[1].momentum == 0.1
    assert refresh_batch_norm(nn.Linear(2, 2), []) is not None


def test_an_average_over_epochs_and_a_resumed_one(tmp_path):
    """Closed form: the mean of the weights after epochs 3, 4 and 5; resumed after 4 the same, bit
    for bit."""
    seen = []

    class Noting(compression.WeightAverage):
        def take(self, model):
            seen.append(model[0].weight.numpy().copy())
            super().take(model)

    def run(folder, *epochs):
        for n in epochs:
            model, average = net(), Noting(start=2)
            trainer = Trainer(model, tt.optim.SGD(lr=0.5), compile=False, callbacks=[average],
                              progress=Silent())  # fmt: skip
            trainer.train(DATA, n, checkpoint=folder, resume=True)
        return average.averaged(model), average.count

    whole, count = run(tmp_path / "a", 5)
    assert count == len(seen) == 3
    wanted = np.mean(seen, axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_allclose(whole[0].weight.numpy(), wanted, rtol=1e-6)
    again, count = run(tmp_path / "b", 4, 5)
    assert count == 3
    np.testing.assert_array_equal(again[0].weight.numpy(), whole[0].weight.numpy())


def test_an_ensemble():
    """Closed form: the mean of the members' probabilities, by NumPy; compiled and of one member the
    same; its members are parts."""
    models = [net(i).eval() for i in range(3)]
    x = tt.Tensor(np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32))
    wanted = np.mean([m(x).softmax(-1).detach().numpy() for m in models], axis=0)
    both = Ensemble(models)
    for call in (both, tt.compile(both)):
        found = call(x).softmax(-1).detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    alone = Ensemble(models[:1])(x).softmax(-1).detach().numpy()
    np.testing.assert_allclose(alone, models[0](x).softmax(-1).detach().numpy(), rtol=1e-6)
    assert len(list(both.parameters())) == 3 * len(list(models[0].parameters()))


def test_an_ensemble_far_from_overflow():
    """Closed form: a certain member among two: probabilities 1/2 (1 + p); logits of 1e4 too."""

    class Fixed(nn.Module):
        def __init__(self, logits):
            self.logits = tt.Tensor([logits])

        def forward(self, x):
            return self.logits

    out = Ensemble([Fixed([1e4, 0.0]), Fixed([0.0, 0.0])])(tt.ones(1)).exp().numpy()
    np.testing.assert_allclose(out, [[0.75, 0.25]], rtol=1e-5)


test_mistakes = mistakes(
    (lambda: average_weights([]), SettingError, "there is no model"),
    (lambda: average_weights([net(), 3]), ArgumentTypeError, "these are no models"),
    (lambda: average_weights(net()), ArgumentTypeError, "these are no models"),
    (lambda: average_weights([net(), nn.Linear(4, 5)]), SettingError, "are not alike"),
    (lambda: average_weights([nn.Linear(4, 5), nn.Linear(4, 6)]), SettingError, "not alike"),
    (lambda: Ensemble([]), SettingError, "there is no model"),
    (
        lambda: Ensemble([nn.Linear(4, 5), nn.Linear(4, 6)])(tt.ones(1, 4)),
        SettingError, "do not give the same",
    ),
    (lambda: refresh_batch_norm(net(), []), DataError, "there is no batch"),
    (lambda: WeightAverage(-1), SettingError, "start"),
    (lambda: WeightAverage().averaged(net()), SettingError, "nothing was averaged"),
)  # fmt: skip
