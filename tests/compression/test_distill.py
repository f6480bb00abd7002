"""A student learns from a teacher: the loss and its gradient, what moves, what does not."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.compression.distill import Taught, distillation_loss
from tinytorch.data import DataLoader, load_digits
from tinytorch.models import GPT, GPTConfig, next_token_loss
from tinytorch.training.history import Silent


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)])
@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.9), (1.0, 0.5), (2.5, 1.0), (3.0, 0.0)])
def test_loss_and_gradient(shape, temperature, alpha):
    """Closed form (Hinton et al. 2015, equations 1 and 2) in float64: the loss by its formula; N
    times its gradient is alpha T (softmax(s / T) - softmax(t / T)) + (1 - alpha) (softmax(s) -
    one-hot)."""
    s, t = normal(*shape), normal(*shape, seed=1)
    labels = np.random.default_rng(2).integers(0, 4, shape[:-1])
    n = labels.size
    hard = next_token_loss if len(shape) == 3 else nn.functional.cross_entropy
    student = tt.Tensor(s, requires_grad=True)
    teacher = tt.Tensor(t, requires_grad=True)
    loss = distillation_loss(student, teacher, tt.Tensor(labels), temperature, alpha, hard)
    p, q = softmax(t / temperature), softmax(s / temperature)
    one_hot = np.eye(4)[labels]
    soft = (p * (np.log(p) - np.log(q))).sum() / n
    plain = -(one_hot * np.log(softmax(s))).sum() / n
    wanted = alpha * temperature**2 * soft + (1 - alpha) * plain
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    loss.backward()
    gradient = alpha * temperature * (q - p) + (1 - alpha) * (softmax(s) - one_hot)
    np.testing.assert_allclose(student.grad.numpy(), gradient / n, rtol=1e-9, atol=1e-15)
    assert teacher.grad is None


def test_at_high_temperature_it_matches_logits():
    """Closed form (section 2.1): for T -> inf and centred logits the soft gradient is
    (s - t) / (N K)."""
    s, t = (x - x.mean(-1, keepdims=True) for x in (normal(3, 6), normal(3, 6, seed=1)))
    student = tt.Tensor(s, requires_grad=True)
    distillation_loss(student, tt.Tensor(t), tt.tensor([0, 1, 2]), 1e4, 1.0).backward()
    np.testing.assert_allclose(student.grad.numpy() * 18, s - t, rtol=0, atol=1e-3)


def test_digits_in_one_program():
    """Ground truth: the teacher's weights and mode before; a step by hand, to the last places; the
    student's own answers when it is measured."""
    tt.manual_seed(0)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10))
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images, labels = load_digits("train").take(range(64))
    before = {n: x.clone() for n, x in (*teacher.named_parameters(), *teacher.named_buffers())}
    teacher.eval()
    s, t = (m(tt.Tensor(images)).softmax(-1).detach().numpy() for m in (student, teacher))
    weight = student[1].weight.detach().numpy().copy()
    teacher.train()
    history = compression.distill(
        student, teacher, [(images, labels)], temperature=1.0, alpha=1.0,
        optimizer=tt.optim.SGD(lr=0.5), validation=[(images, labels)], progress=Silent(),
    )  # fmt: skip
    step = (s - t).T @ images.reshape(64, -1) / 64
    np.testing.assert_allclose(student[1].weight.numpy(), weight - 0.5 * step, rtol=0, atol=1e-6)
    assert teacher.training and teacher[2].training
    for name, x in (*teacher.named_parameters(), *teacher.named_buffers()):
        np.testing.assert_array_equal(x.numpy(), before[name].numpy())
        assert x.grad is None
    right = student(tt.Tensor(images)).numpy().argmax(1) == labels
    assert history.last["val_accuracy"] == pytest.approx(right.mean())
    assert {"loss", "accuracy", "val_loss"} <= set(history.last)


def test_a_student_learns_what_only_its_teacher_knows():
    """Ground truth: labels that say nothing (alpha = 1 leaves them out): the student agrees with a
    teacher on test digits it has never seen."""
    tt.manual_seed(1)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    images = load_digits("train").take(range(1280))[0]
    loader = DataLoader([*zip(images, np.zeros(1280, np.int64), strict=True)], 64, shuffle=True)
    compression.distill(student, teacher, loader, 8, alpha=1.0, lr=1e-2, progress=Silent())
    test = tt.Tensor(load_digits("test").take(range(355))[0])
    agree = student(test).numpy().argmax(1) == teacher(test).numpy().argmax(1)
    assert agree.mean() > 0.9


def test_language_models():
    """Invariant: a student that is a copy of its teacher stays where it is (alpha = 1)."""
    tt.manual_seed(0)
    teacher, student = (GPT(GPTConfig(17, layers=1, heads=2, size=16, length=8)) for _ in range(2))
    student.load_state_dict(teacher.state_dict())
    tokens = np.random.default_rng(0).integers(0, 17, (4, 9))
    history = compression.distill(
        student, teacher, [(tokens[:, :-1], tokens[:, 1:])], alpha=1.0, loss=next_token_loss,
        optimizer=tt.optim.SGD(lr=0.1), compile=False, progress=Silent(),
    )  # fmt: skip
    assert abs(history.last["loss"]) < 1e-6
    for a, b in zip(student.parameters(), teacher.parameters(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-6)


def test_the_teacher_is_no_part():
    """Ground truth: names: neither parameters nor state of the teacher."""
    both = Taught(nn.Linear(2, 2), nn.Linear(2, 2))
    assert sorted(both.state_dict()) == ["student.bias", "student.weight"]
    x = tt.ones(1, 2)
    assert len(both(x)) == 2 and both.eval()(x).shape == (1, 2)


A, B = nn.Linear(2, 3), nn.Linear(2, 3)
test_mistakes = mistakes(
    (lambda: compression.distill(3, B, []), ArgumentTypeError, "the student is no model"),
    (lambda: compression.distill(A, "b", []), ArgumentTypeError, "teacher is no model"),
    (lambda: compression.distill(A, A, []), SettingError, "share a part"),
    (lambda: compression.distill(A, B, [], temperature=0), SettingError, "temperature"),
    (lambda: compression.distill(A, B, [], alpha=1.5), SettingError, "alpha"),
    (
        lambda: distillation_loss(tt.ones(2, 3), tt.ones(2, 4), tt.tensor([0, 1])),
        ShapeError, "do not give the same",
    ),
)  # fmt: skip


def test_a_run_that_stopped_goes_on(tmp_path):
    """Invariant: two epochs, and one and then another from its checkpoint, to the last bit."""
    images, labels = load_digits("train").take(range(96))
    found = []
    for stops in ((2,), (1, 2)):
        for epochs in stops:
            tt.manual_seed(0)
            teacher, student = (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2))
            loader = DataLoader(list(zip(images, labels, strict=True)), 32, shuffle=True, seed=1)
            compression.distill(
                student, teacher, loader, epochs, checkpoint=tmp_path / str(stops), resume=True,
                compile=False, progress=Silent(),
            )  # fmt: skip
        found.append(student[1].weight.numpy())
    assert np.array_equal(*found)
