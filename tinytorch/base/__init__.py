"""How do we fail, how are we configured? Errors, number types, settings, checks of arguments.

Knows NumPy and the operating system, never operations or tensors.
"""
