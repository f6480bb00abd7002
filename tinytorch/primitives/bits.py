"""Elementwise rows on the bits of integers.

A shift by the width or more leaves nothing but the sign. Knows two's complement. A shift count is
read as unsigned, so a negative one counts as too large.
"""

from __future__ import annotations

import numpy as np

from tinytorch.primitives.primitive import NOT_DIFFERENTIABLE, OpClass, Primitive, Sample
from tinytorch.primitives.samples import flags, numbers, of_dtype, two, wrong_kind, wrong_pair
from tinytorch.primitives.shapes import BITS, INTEGER, binary, unary


def _integers():
    return [
        *of_dtype(two(-90, 90), "int8")(),
        Sample(
            (
                numbers(5, low=0, high=2**32, dtype="uint32"),
                numbers(5, low=0, high=9, dtype="uint32"),
            )
        ),
        Sample(
            (numbers(5, low=-(2**60), high=2**60, dtype="int64"), np.array([1, 62, 63, 64, -1]))
        ),
    ]


def _row(name, numpy, kinds, doc, commutes=False):
    return Primitive(
        name,
        binary(name, kinds),
        numpy,
        vjp=NOT_DIFFERENTIABLE,
        samples=lambda: [
            *_integers(),
            *([Sample((flags(5), flags(5, seed=1)))] if kinds == BITS else []),
        ],
        error_samples=wrong_pair("int32", refused="float32", other="int8"),
        op_class=OpClass.ELEMENTWISE,
        commutes=commutes,
        doc=doc,
    )


bitwise_and = _row("bitwise_and", np.bitwise_and, BITS, "The bits set in both.", commutes=True)
bitwise_or = _row("bitwise_or", np.bitwise_or, BITS, "The bits set in either.", commutes=True)
bitwise_xor = _row(
    "bitwise_xor", np.bitwise_xor, BITS, "The bits set in one of them only.", commutes=True
)
shift_left = _row("shift_left", np.left_shift, INTEGER, "a * 2^b; 0 for b >= the width.")
shift_right = _row("shift_right", np.right_shift, INTEGER, "a / 2^b rounded down; the sign fills.")
bitwise_not = Primitive(
    "bitwise_not",
    unary("bitwise_not", BITS),
    np.bitwise_not,
    vjp=NOT_DIFFERENTIABLE,
    samples=lambda: [
        Sample((numbers(2, 3, low=-90, high=90, dtype="int8"),)),
        Sample((flags(0),)),
        Sample((flags(3),)),
    ],
    error_samples=wrong_kind("float32"),
    op_class=OpClass.ELEMENTWISE,
    doc="Every bit turned over; of a bool, not x.",
)
