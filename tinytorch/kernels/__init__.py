"""How is it done at the machine's limit? Matrix products, attention, convolution, pooling as tiles.

Knows tiles, registers and layouts, never graphs or tensors.
"""
