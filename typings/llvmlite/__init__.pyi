# What codegen/ uses of llvmlite, which comes without types.
__version__: str
