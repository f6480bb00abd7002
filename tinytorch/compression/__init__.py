"""How does it get smaller? Weights of 8 or 4 bits in the place of float32.

Knows modules and their weights, never what a model is for. A compressed model is the same model:
it is called, compiled, saved and loaded as before.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.compression.observe import Observer
from tinytorch.compression.quantize import bytes_of, quantize

__all__ = ["Observer", "bytes_of", "quantize"]

_explain_all(globals(), __all__)
__getattr__ = _names_of("compression", lambda: __all__)
