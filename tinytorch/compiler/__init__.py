"""How does a program become kernels? Capture, rewriting, fusion, layout, memory, lowering, calls.

Knows graphs and schedules, never layers or training loops.
"""
