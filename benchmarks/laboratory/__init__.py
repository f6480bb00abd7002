"""The kernel laboratory: how a slow program becomes a fast one, a version at a time.

Knows numbered versions of four programs (a product of matrices, attention, a convolution, chains of
small operations), their counts of operations and bytes, and how to time them; the page is
docs/kernels.md, and scripts/kernel_laboratory measures it anew.

    versions     what a version is, how versions are timed and compared
    port_model   what llvm-mca says of an inner loop
    matmul, attention, convolution, fusion    the versions
"""
