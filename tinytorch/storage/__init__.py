"""How do arrays live on disk? Strict safetensors, written atomically.

Knows arrays and files, never models.
"""

from tinytorch.storage.atomic import replacing
from tinytorch.storage.safetensors import File, load, read, save

__all__ = ["File", "load", "read", "replacing", "save"]
