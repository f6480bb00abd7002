"""Library calls: primitives that have kernels of their own."""
