"""Running a compiled program: its memory, its native call, and what it leaves in Tensors.

Knows recordings and launch plans; never passes.
"""
