"""Muon: momentum whose step is made orthogonal, so that every direction of a matrix moves alike.

Knows matrices; vectors belong to another rule (`Together`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import SettingError
from tinytorch.optim.group import Part
from tinytorch.optim.norms import common_length
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.tensor import Tensor

# Jordan 2024: of the quintics a x + b x^3 + c x^5 that bring singular values in (0, 1] near 1, one
# with the greatest slope at 0; the results lie in about [0.7, 1.2].
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7  # as in Jordan's code: a gradient of zeros gives a step of zeros


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    For each matrix p (K, C) with gradient g

        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g       with nesterov; else u = m
        o = orthogonal(u)                           singular values of u all made about 1
        p = p * (1 - lr * weight_decay) - lr * sqrt(max(1, K / C)) * o

    Args:
        params: Tensors of at least two axes (all but the first count as C), or groups of them;
            None: see `bind`.
        lr: step size, in [0, inf); default 1e-3.
        weight_decay: pull towards zero, in [0, inf); default 0.1, as in PyTorch.
        momentum: how much of the past m stays, in [0, 1); default 0.95.
        nesterov: look ahead along the new direction; default True.
        ns_steps: times the polynomial is applied, at least 1; default 5.

    Raises:
        SettingError: a setting outside its range, or a parameter that is no matrix.

    Cost: 1 extra array per parameter; each step 2 ns_steps products of the matrix with itself.

    Differs from PyTorch: the polynomial runs in the parameter's number type, not in bfloat16;
    parameters of more than two axes are taken as matrices.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        >>> muon = tt.optim.Muon([w], lr=0.1, weight_decay=0.0)
        >>> (w * tt.Tensor([[1.0, 0.0], [0.0, 100.0]])).sum().backward()
        >>> before = w.detach().clone()
        >>> muon.step()
        >>> (before - w.detach()).numpy().round(2)    # 1 and 100 alike: about lr
        array([[0.07, 0.  ],
               [0.  , 0.07]], dtype=float32)
    """

    def __init__(
        self, params: Iterable | None = None, lr: float = 1e-3, weight_decay: float = 0.1,
        momentum: float = 0.95, nesterov: bool = True, ns_steps: int = 5,
    ):  # fmt: skip
        super().__init__(
            params, lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov,
            ns_steps=ns_steps,
        )  # fmt: skip

    def check(self, settings: dict) -> dict:
        """Ranges of the settings."""
        return {
            **self.in_ranges(settings, weight_decay="[0, inf)", momentum="[0, 1)"),
            "nesterov": flag(self.name, "nesterov", settings["nesterov"]),
            "ns_steps": whole(self.name, "ns_steps", settings["ns_steps"], at_least=1),
        }

    def slot_names(self, settings: dict) -> tuple[str, ...]:
        """PyTorch's name for m."""
        return ("momentum_buffer",)

    def accept(self, parameter: Tensor) -> None:
        """Only what is a matrix has singular values."""
        if parameter.ndim < 2:
            raise SettingError(
                "Muon moves matrices",
                got=f"a parameter {tuple(parameter.shape)}",
                rule="at least two axes",
                fix="tt.optim.Together(Muon(matrices), AdamW(the_rest))",
            )

    def update(self, group: Part) -> None:
        """One step of the rule above."""
        momentum, steps = group.settings["momentum"], group.settings["ns_steps"]
        shrink = 1.0 - group.lr * group.settings["weight_decay"]
        for p, g, slots in group.live(whole=True):
            m = slots["momentum_buffer"]
            m *= momentum
            m += (1.0 - momentum) * g
            u = momentum * m + (1.0 - momentum) * g if group.settings["nesterov"] else m
            o = orthogonal(u.reshape(u.shape[0], -1), steps).reshape(p.shape)
            rate = group.lr * math.sqrt(max(1.0, p.shape[0] * p.shape[0] / p.size))
            p *= shrink.astype(p.dtype)
            p -= rate.astype(p.dtype) * o


def orthogonal(x: Tensor, steps: int) -> Tensor:
    """The matrix `x` with its singular values brought near 1, by `steps` of Newton-Schulz.

        x = x / |x|                                 no singular value above 1
        x = a x + b (x x^T) x + c (x x^T)^2 x       `steps` times: a polynomial of each of them

    Args:
        x: (K, C).
        steps: at least 1.

    Example:
        >>> import tinytorch as tt
        >>> orthogonal(tt.Tensor([[0.0, 3.0], [-1.0, 0.0]]), 5).numpy().round(1)
        array([[ 0. ,  0.8],
               [-1.1,  0. ]], dtype=float32)
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x  # the smaller square is the cheaper one
    x = x / common_length([x], 2).astype(x.dtype).maximum(EPS)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if tall else x
