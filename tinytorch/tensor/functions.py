"""All functions of Tensors in one place, as `import tinytorch` shows them.

Knows names only: PyTorch's, and those of the Python array API standard. Each file lists the
functions that it offers.
"""

from __future__ import annotations

import math

from tinytorch.tensor import (
    contractions,
    creation,
    elementwise,
    indexing,
    interchange,
    operands,
    random,
    reductions,
    row_functions,
    shaping,
)
from tinytorch.tensor.contractions import *  # noqa: F403
from tinytorch.tensor.creation import *  # noqa: F403
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.elementwise import *  # noqa: F403
from tinytorch.tensor.elementwise import power
from tinytorch.tensor.indexing import *  # noqa: F403
from tinytorch.tensor.interchange import *  # noqa: F403
from tinytorch.tensor.operands import *  # noqa: F403
from tinytorch.tensor.random import *  # noqa: F403
from tinytorch.tensor.reductions import *  # noqa: F403
from tinytorch.tensor.row_functions import *  # noqa: F403
from tinytorch.tensor.shaping import *  # noqa: F403
from tinytorch.tensor.shaping import concat

cat = concat
pow = power
as_tensor = asarray
inf = float("inf")
nan = float("nan")
pi = math.pi
e = math.e
newaxis = None

__all__ = ["as_tensor", "cat", "e", "inf", "nan", "newaxis", "pi", "pow"]
__all__ += contractions.__all__
__all__ += creation.__all__
__all__ += elementwise.__all__
__all__ += indexing.__all__
__all__ += interchange.__all__
__all__ += operands.__all__
__all__ += random.__all__
__all__ += reductions.__all__
__all__ += row_functions.__all__
__all__ += shaping.__all__
