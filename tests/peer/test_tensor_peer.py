"""The Tensor floor beside PyTorch: values and gradients in float64, and what keeps its dtype."""

import numpy as np
import pytest
import torch

import tinytorch as tt

pytestmark = pytest.mark.peer
RNG = np.random.Generator(np.random.Philox(5))
X = RNG.standard_normal((3, 4, 5))

# Each on a Tensor of either library; float64, at most 60 terms a sum: 1e-12 is 60 eps with room.
SAME = {
    "softmax": lambda L, x: L.softmax(x, 1),
    "log_softmax": lambda L, x: L.log_softmax(x, -1),
    "logsumexp": lambda L, x: L.logsumexp(x, 1),
    "var": lambda L, x: x.var(1),
    "std": lambda L, x: x.std(-1, keepdim=True),
    "mean": lambda L, x: x.mean((0, 2)),
    "amax": lambda L, x: x.amax(1),
    "prod": lambda L, x: x.prod(1),
    "cumsum": lambda L, x: L.cumsum(x, 1),
    "argmax": lambda L, x: x.argmax(1),
    "argmin of all": lambda L, x: x.argmin(),
    "sigmoid": lambda L, x: L.sigmoid(x),
    "relu": lambda L, x: L.relu(x),
    "log1p": lambda L, x: L.log1p(x * x),
    "clip": lambda L, x: L.clip(x, -0.5, 0.5),
    "pow": lambda L, x: (x * x + 1) ** 1.7 + x**2 + x**3,
    "matmul": lambda L, x: x @ x.mT,
    "matmul of a vector": lambda L, x: L.matmul(x, x[0, 0]),
    "index": lambda L, x: x[1:, None, [0, 2], ..., 1],
    "two indices": lambda L, x: x[[0, 1], [1, 3]],
    "where": lambda L, x: L.where(x > 0, x, x * 0.1),
    "roll": lambda L, x: L.roll(x, 2, 1),
    "flip": lambda L, x: L.flip(x, (0, 2)),
    "tril": lambda L, x: L.tril(x, 1),
    "repeat": lambda L, x: x.repeat(2, 1, 3),
    "repeat_interleave": lambda L, x: x.repeat_interleave(2, 1),
    "split": lambda L, x: L.concat(L.split(x, 3, 1)[::-1], 1),
    "chunk": lambda L, x: L.stack(L.chunk(x, 3, 0), 1),
    "unbind": lambda L, x: L.unbind(x, 1)[2],
    "flatten": lambda L, x: L.flatten(x, 1),
    "permute": lambda L, x: x.permute(2, 0, 1).reshape(5, -1),
    "squeeze": lambda L, x: x.unsqueeze(1).squeeze().transpose(0, 1),
    "sort": lambda L, x: L.argsort(x, 1),
    "erf": lambda L, x: L.erf(x),
    "remainder": lambda L, x: x % 0.7,
}


@pytest.mark.parametrize("name", SAME)
def test_value_and_gradient(name):
    """PyTorch: shape, values, and the gradient for one random cotangent."""
    f = SAME[name]
    ours, theirs = tt.Tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    y, z = f(tt, ours), f(torch, theirs)
    assert y.shape == tuple(z.shape)
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    if z.requires_grad:
        g = RNG.standard_normal(y.shape)
        y.backward(g)
        z.backward(torch.tensor(g))
        assert np.allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_and_pooling(stride, groups):
    """PyTorch, float64, 36 terms a sum."""
    x, w = RNG.standard_normal((2, 4, 9, 8)), RNG.standard_normal((6, 4 // groups, 3, 3))
    ours = [tt.Tensor(a, requires_grad=True) for a in (x, w)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w)]
    y = tt.convolution(*ours, stride=stride, padding=1, groups=groups)
    z = torch.nn.functional.conv2d(*theirs, stride=stride, padding=1, groups=groups)
    y, z = tt.max_pool2d(y, 2), torch.nn.functional.max_pool2d(z, 2)
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    (y * y).sum().backward()
    (z * z).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    """PyTorch's scaled_dot_product_attention, float64."""
    q, k, v = (RNG.standard_normal((2, 3, 7, 4)) for _ in range(3))
    ours = [tt.Tensor(a, requires_grad=True) for a in (q, k, v)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    y = tt.attention(*ours, causal=causal)
    z = torch.nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal)
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    (y * y).sum().backward()
    (z * z).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-11, atol=1e-11)


def test_dlpack_with_torch():
    """PyTorch: the same memory both ways."""
    x = tt.ones(3)
    assert torch.from_dlpack(x).data_ptr() == x._buffer.address
    t = torch.ones(3)
    assert tt.asarray(t)._buffer.address == t.data_ptr()


def test_dlpack_with_torch_both_ways():
    """PyTorch: the same memory, each number type, strides, bfloat16; a write reaches both."""
    for dtype in (
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ):
        x = tt.ones(3, 2, dtype=dtype)
        theirs = torch.from_dlpack(x)
        assert theirs.dtype is getattr(torch, dtype) and theirs.data_ptr() == x.data_ptr()
        back = tt.from_dlpack(theirs)
        assert back.dtype is x.dtype and back.data_ptr() == x.data_ptr()
    x = tt.Tensor([[1.5, -2.0], [3.0, 0.25]], dtype="bfloat16")
    theirs = torch.from_dlpack(x)
    assert theirs.dtype is torch.bfloat16 and theirs.float().tolist() == x.tolist()
    assert tt.from_dlpack(theirs.T).tolist() == x.T.tolist()
    t = torch.arange(6.0).reshape(2, 3)
    y = tt.from_dlpack(t.T)
    assert y.shape == (3, 2) and y.stride() == tuple(t.T.stride()) and y.data_ptr() == t.data_ptr()
    y += 1.0
    assert t[0].tolist() == [1.0, 2.0, 3.0] and y[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert torch.from_dlpack(tt.ones(2, 3).T).shape == (3, 2)


def test_torch_and_numpy_read_a_tensor():
    """PyTorch: torch.asarray and torch.frombuffer see the numbers."""
    x = tt.Tensor([1.0, 2.0])
    assert torch.asarray(np.array(x)).tolist() == [1.0, 2.0]
    assert torch.from_dlpack(x).tolist() == [1.0, 2.0]


FUNCTIONS = {
    "topk": lambda L, x: L.topk(x, 2, 1)[0],
    "einsum": lambda L, x: L.einsum("bij,bkj->bik", x, x),
    "atan2": lambda L, x: L.atan2(x, x * x + 1.0),
    "hypot": lambda L, x: L.hypot(x, x * 0.5),
    "logaddexp": lambda L, x: L.logaddexp(x, x * 2.0),
    "expm1": lambda L, x: L.expm1(x),
    "asinh": lambda L, x: L.asinh(x),
    "cosh": lambda L, x: L.cosh(x),
    "cumprod": lambda L, x: L.cumprod(x, 1),
    "diagonal": lambda L, x: L.diagonal(x[0]),
    "masked_fill": lambda L, x: x.masked_fill(x > 0, 3.0),
    "tile": lambda L, x: L.tile(x, (2, 1, 1)),
    "repeat_interleave": lambda L, x: L.repeat_interleave(x, 3, 0),
    "outer": lambda L, x: L.outer(x[0, 0], x[1, 1]),
    "clamp": lambda L, x: x.clamp(-0.3, 0.4),
    "trace": lambda L, x: L.trace(x[0]),
    "copysign": lambda L, x: L.copysign(x, -x),
    "assigned": lambda L, x: _assigned(x),
}  # fmt: skip


def _assigned(x):
    y = x * 2.0
    y[0] = x[1] * 3.0
    y += x
    y.mul_(x).add_(x, alpha=2)
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_gradients(name):
    """PyTorch: values and the gradient for a random cotangent, float64, at most 20 terms a sum."""
    ours, theirs = tt.Tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    y, z = FUNCTIONS[name](tt, ours), FUNCTIONS[name](torch, theirs)
    assert y.shape == tuple(z.shape)
    assert np.allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-13, atol=1e-13)
    g = RNG.standard_normal(y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    assert np.allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-12)
