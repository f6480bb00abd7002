"""How does a model leave? As object code with a C header, as a package that is checked, as ONNX.

Knows models, files and machine code; never training or data sets.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.export.loaded import LoadedLibrary
from tinytorch.export.native import NativeLibrary, native
from tinytorch.export.onnx import onnx
from tinytorch.export.package import Package, load_package, package_for_production

__all__ = [
    "LoadedLibrary", "NativeLibrary", "Package", "load_package", "native", "onnx",
    "package_for_production",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("export", lambda: __all__)
