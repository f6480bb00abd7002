"""Loop nests: expressions, and the kernels written for them."""
