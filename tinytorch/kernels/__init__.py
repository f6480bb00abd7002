"""How is it done at the machine's limit? Matrix products, attention, convolution, pooling as tiles.

Knows tiles, registers and layouts, never graphs or tensors; how work is cut in tiles is in
codegen/kernel.py. In the order of reading:

    register_tile, packing            how a tile multiplies, and the order in which it reads
    even_tiles, gemm_plan, gemm_arithmetic, gemm, grouped_dots, sparse
                                      matrix products: sizes, micro-kernels, the loops around them
    attention_spec, attention, attention_gradient
    convolution                       forward, and the gradient of the filters
    pooling, axis_ops, gather_scatter, random_bits
"""
