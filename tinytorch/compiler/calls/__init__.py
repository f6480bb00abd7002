"""Library calls: primitives for which a kernel is written by hand."""
