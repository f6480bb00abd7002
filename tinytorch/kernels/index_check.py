"""Looks at indices before anything is written: the first one outside its axis stops the program.

Knows integers and the status words, never graphs.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Function
from tinytorch.codegen.kernel import Kernel, Operand
from tinytorch.kernels.naming import named_kernel

WIDTH = 8  # 64-bit lanes of a 512-bit vector; narrower targets split it


def index_check(count: int, index: Operand, size: int, number: int) -> Kernel:
    """The kernel over buffers "index" and "status".

    Args:
        count: how many indices, one after the other in memory.
        index: their type and offset; the stride is 1.
        size: of the axis: indices from -size to size - 1 are good.
        number: what status word 0 becomes if one is bad (word 1: the first bad index).
    """
    llvm, signed = index.dtype.llvm, index.dtype.kind == "i"

    def body(f: Function, p) -> None:
        base = f.at(p["index"], f.index(index.offset), llvm)
        type = f"<{WIDTH} x i64>"
        low, high = f.const(type, -size), f.const(type, size)

        def bad(mask, at):
            x = f.load(f.at(base, at, llvm), f"<{WIDTH} x {llvm}>", mask=mask)
            x = f.convert(x, "i64", signed)
            outside = f.op("or", f.compare("lt", x, low), f.compare("ge", x, high))
            return outside if mask is None else f.op("and", outside, mask)

        whole = count // WIDTH * WIDTH
        with f.loop("i", 0, whole, WIDTH, carry=[f.const(f"<{WIDTH} x i1>", 0)]) as i:
            i.next(f.op("or", i.carried[0], bad(None, i.index)))
        (any_bad,) = i.results
        if count % WIDTH:
            left = f.mask_below(WIDTH, f.index(count % WIDTH))
            any_bad = f.op("or", any_bad, bad(left, f.index(whole)))
        found = f.define("i8", f"bitcast <{WIDTH} x i1> {any_bad.text} to i8", "found")
        with f.when(f.compare("ne", found, f.const("i8", 0)), "report"):
            with f.loop("j", 0, count, carry=[f.index(0), f.const("i1", 0)]) as j:
                x = f.convert(f.load(f.at(base, j.index, llvm), llvm), "i64", signed)
                outside = f.op(
                    "or", f.compare("lt", x, f.index(-size)), f.compare("ge", x, f.index(size))
                )
                new = f.op("and", outside, f.op("xor", j.carried[1], f.const("i1", 1)))
                j.next(f.select(new, x, j.carried[0]), f.op("or", outside, j.carried[1]))
            f.store(j.results[0], f.at(p["status"], f.index(1), "i64"))
            f.emit(f"store atomic i64 {number}, ptr {p['status'].text} release, align 8")

    return named_kernel(
        "index_check", ("index", "status"), body, tiles=1, flops=0,
        bytes=count * index.dtype.itemsize, label="check indices",
    )  # fmt: skip
