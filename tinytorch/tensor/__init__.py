"""How does a gradient flow? Tensors over buffers, the tape, derivatives, random numbers.

Knows arrays and primitives, never layers or the compiler.
"""
