"""A name that is not there: what to write instead.

Knows PyTorch's names and the words that say the same here; never what a name stands for. Modules
ask it from their `__getattr__`, which runs only when a name was not found; classes hold the names
of the table. The message is worked out when somebody reads it: `hasattr` and `getattr` with a
default stay cheap.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tinytorch.base.errors import UnknownNameError

PAGE = "docs/from_pytorch.md"
_CPU = "leave it out: the CPU is the only device"
_NEEDS = "tt.nn.functional."

# What PyTorch's programs write and what says the same here, by what the name is looked for in.
# docs/from_pytorch.md shows this table; a test holds them together and evaluates the code.
INSTEAD: dict[str, dict[str, str]] = {
    "tinytorch": {
        "accelerator": _CPU,
        "addmm": "x + a @ b",
        "atleast_1d": "x.reshape(-1) if x.ndim == 0 else x",
        "ao": "tt.compression.quantize(model)",
        "autograd": "tt.grad, tt.custom_vjp, tt.compile(model, check_nan=True)",
        "backends": _CPU,
        "bmm": "x @ y",
        "clamp": "tt.clip(x, 0.0, 1.0)",
        "clone": "x.clone()",
        "concatenate": "tt.cat([x, y])",
        "cuda": _CPU,
        "detach": "x.detach()",
        "device": _CPU,
        "div": "x / y",
        "double": "tt.float64",
        "float": "tt.float32",
        "get_default_dtype": "tt.float32",
        "get_num_threads": "tt.num_threads()",
        "get_rng_state": "tt.default_generator.state_dict()",
        "half": "tt.float16",
        "hstack": "tt.cat([x, y], -1)",
        "inference_mode": "tt.no_grad()",
        "int": "tt.int32",
        "is_floating_point": "x.dtype.is_float",
        "lerp": "x + 0.5 * (y - x)",
        "load": "tt.training.load_weights(model, path)",
        "long": "tt.int64",
        "mm": "x @ y",
        "mul": "x * y",
        "mv": "x @ y[:, 0]",
        "neg": "-x",
        "numel": "x.size",
        "ravel": "x.reshape(-1)",
        "rms_norm": "nn.functional.rms_norm(x, (2,))",
        "save": "tt.training.save_weights(model, path)",
        "select": "x[:, 0]",
        "set_default_dtype": "tt.tensor([1.0], dtype=tt.float64)",
        "set_grad_enabled": "tt.no_grad()",
        "set_num_interop_threads": "tt.set_num_threads(2)",
        "short": "tt.int16",
        "std_mean": "(x.std(), x.mean())",
        "sub": "x - y",
        "swapaxes": "x.swapaxes(0, 1)",
        "t": "x.T",
        "take_along_dim": "tt.take_along_axis(x, tt.argsort(x, 1), 1)",
        "true_divide": "x / y",
        "unique": "tt.unique_values(x)",
        "utils": "tt.data",
        "var_mean": "(x.var(), x.mean())",
        "vstack": "tt.cat([x, y], 0)",
    },
    "Tensor": {
        "bitwise_and": "(x > 0) & (y > 0)",
        "byte": "x.astype(tt.uint8)",
        "char": "x.astype(tt.int8)",
        "clamp_max": "x.clip(max=1.0)",
        "clamp_min": "x.clip(min=0.0)",
        "cuda": _CPU,
        "fill_diagonal_": "x.copy_(tt.where(tt.eye(2) == 1, 0.0, x))",
        "get_device": _CPU,
        "grad_fn": "x.requires_grad",
        "is_cuda": _CPU,
        "is_floating_point": "x.dtype.is_float",
        "mv": "x @ y[:, 0]",
        "ndimension": "x.ndim",
        "nelement": "x.size",
        "new_full": "tt.full((2,), 1.0, x.dtype)",
        "new_ones": "tt.ones(2, dtype=x.dtype)",
        "new_tensor": "tt.tensor([1.0], dtype=x.dtype)",
        "new_zeros": "tt.zeros(2, dtype=x.dtype)",
        "normal_": "x.copy_(tt.randn(x.shape))",
        "pin_memory": _CPU,
        "ravel": "x.reshape(-1)",
        "relu_": "x.copy_(x.relu())",
        "short": "x.astype(tt.int16)",
        "squeeze_": "x.squeeze()",
        "t": "x.T",
        "true_divide": "x / y",
        "type": "x.astype(tt.float64)",
        "uniform_": "x.copy_(tt.rand(x.shape))",
        "unsqueeze_": "x.unsqueeze(0)",
        "where": "tt.where(x > 0, x, y)",
    },
    "Module": {
        "add_module": "setattr(model, 'layer', nn.ReLU())",
        "bfloat16": "model.to(tt.bfloat16)",
        "cpu": _CPU,
        "cuda": _CPU,
        "double": "model.to(tt.float64)",
        "float": "model.to(tt.float32)",
        "half": "model.to(tt.float16)",
        "register_parameter": "setattr(model, 'scale', nn.Parameter([1.0]))",
        "type": "model.to(tt.float64)",
        # Keras and scikit-learn
        "compile": "tt.training.Trainer(model, tt.optim.Adam(lr=1e-3), nn.CrossEntropyLoss())",
        "fit": "tt.training.Trainer(model, tt.optim.Adam(lr=1e-3), nn.CrossEntropyLoss()).train",
        "predict": "model(x)",
    },
    "nn": {
        "ParameterList": "[nn.Parameter([1.0])]",
        "ParameterDict": "{'scale': nn.Parameter([1.0])}",
        "TransformerEncoderLayer": "nn.TransformerBlock",
        "utils": "tt.optim.clip_grad_norm_",
        "parameter": "nn.Parameter",
    },
    "nn.functional": {},
    "optim": {"lr_scheduler": "tt.optim.StepLR"},
    "data": {},
}


def names_of(owner: str, known: Callable[[], Iterable[str]]) -> Callable[[str], Any]:
    """A module's `__getattr__`: raises an error that says what to write.

    Args:
        owner: a key of INSTEAD.
        known: the names there are.
    """

    def __getattr__(name: str) -> Any:
        raise unknown(owner, name, known)

    return __getattr__


class MissingName:
    """What stands in a class for a name of PyTorch's that its objects do not have.

    A class with a `__getattr__` pays for it at each attribute that is there (0.05 us), so the names
    of the table are put into the class, and an attribute of that name of an object goes before.
    """

    def __init__(self, owner: str, name: str):
        self.owner, self.name = owner, name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        raise unknown(self.owner, self.name, lambda: dir(owner))


def put_missing_names(owner: str, into: type) -> None:
    """Let objects of a class say what to write for the names of the table."""
    for name in INSTEAD[owner]:
        setattr(into, name, MissingName(owner, name))


def unknown(owner: str, name: str, known: Callable[[], Iterable[str]]) -> AttributeError:
    """The error for a name that `owner` does not have. A name with underscores is not explained."""
    where = f"module 'tinytorch.{owner}'" if owner.islower() else f"a {owner}"
    where = where.replace("tinytorch.tinytorch", "tinytorch")
    if name.startswith("_"):
        return AttributeError(f"{where} has no attribute {name!r}")
    return UnknownNameError(where, name, lambda: _parts(owner, name, known))


def _parts(owner: str, name: str, known: Callable[[], Iterable[str]]) -> tuple[str, str]:
    """(rule, fix) of the message."""
    instead = INSTEAD.get(owner, {}).get(name) or _elsewhere(owner, name)
    if instead:
        return f"PyTorch's names and what says the same here: {PAGE}", instead
    near = difflib.get_close_matches(name, [n for n in known() if not n.startswith("_")], 3, 0.6)
    fix = " or ".join(near) if near else f"dir() lists what there is; see {PAGE}"
    return "a name that is there" + ("; the nearest are below" if near else ""), fix


def _elsewhere(owner: str, name: str) -> str:
    """The same name in another place, as code."""
    top = sys.modules.get("tinytorch")
    if top is None:
        return ""
    functional = getattr(sys.modules.get("tinytorch.nn"), "functional", None)
    method = getattr(top.Tensor, name, None)
    if owner in ("tinytorch", "nn", "nn.functional"):
        if method is not None:
            return f"x.{name}(...)" if callable(method) else f"x.{name}"
        if owner != "tinytorch" and name in top.__all__:
            return f"tt.{name}(...)"
    if owner != "nn.functional" and functional is not None and hasattr(functional, name):
        return f"{_NEEDS}{name}(...)"
    return ""
