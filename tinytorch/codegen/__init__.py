"""How does a loop become machine code, and who runs it? IR, targets, object code, the thread team.

Knows LLVM IR, addresses and threads, never operations or tensors.
"""
