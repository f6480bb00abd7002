"""betas: the pair of numbers that several rules average with.

Knows ranges, never rules.
"""

from __future__ import annotations

from tinytorch.base.checks import number
from tinytorch.base.errors import SettingError


def checked_betas(owner: str, betas) -> tuple[float, float]:
    """`betas` as two floats if each lies in [0, 1), else a SettingError.

    >>> checked_betas("Adam", [0.9, 0.999])
    (0.9, 0.999)
    """
    if not isinstance(betas, (list, tuple)) or len(betas) != 2:
        raise SettingError(
            f"{owner}: betas are two numbers",
            got=f"betas={betas!r}",
            rule="(beta1, beta2), each in [0, 1)",
            fix=f"{owner}(..., betas=(0.9, 0.999))",
        )
    first, second = (number(owner, f"betas[{i}]", b, "[0, 1)") for i, b in enumerate(betas))
    return first, second
