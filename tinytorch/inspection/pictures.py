"""Pictures as arrays of bytes: many side by side in one, and PNG files, without a library.

Knows bytes and pixels, never what they show. Source: https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import ShapeError
from tinytorch.inspection.given import floats

SIGNATURE = b"\x89PNG\r\n\x1a\n"  # section 5.2
GREY, COLOUR = 0, 2  # colour types, table 1


def png(picture: np.ndarray) -> bytes:
    """The file of a picture.

    Args:
        picture: (H, W) grey or (H, W, 3) red, green, blue; uint8.

    Raises:
        ShapeError: it is something else.

    Cost: a pass over the pixels by zlib, at its best: 1 s for 20 million.

    Example:
        >>> png(np.zeros((4, 4), np.uint8))[1:4]
        b'PNG'
    """
    pixels = np.ascontiguousarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ShapeError(
            "png: this is no picture",
            got=f"{pixels.dtype} {pixels.shape}",
            rule="uint8 (H, W) or (H, W, 3)",
            fix="png(sheet(images, columns=8))",
        )
    height, width = pixels.shape[:2]
    kind = GREY if pixels.ndim == 2 else COLOUR
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    rows = pixels.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1)  # filter 0: as it is
    packed = zlib.compress(unfiltered.tobytes(), 9)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def spread(images: np.ndarray) -> np.ndarray:
    """Each image (N, C, H, W) from its least number, 0, to its largest, 1."""
    low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    # 1e-9: an image of one number becomes zeros, and nothing is divided by 0.
    return (images - low) / np.maximum(high - low, 1e-9)


def sheet(images: Any, columns: int = 8, scale: int = 1, gap: int = 1) -> np.ndarray:
    """Images in rows, dark lines between them.

    Args:
        images: (N, C, H, W) with C = 1 or 3: uint8 as they are, other numbers from 0 to 1; what
            lies outside is held inside.
        columns: images in a row at most, at least 1; default 8.
        scale: pixels of the sheet for a pixel of an image, in each direction; default 1.
        gap: width of the lines; default 1.

    Returns:
        a picture: (height, width) if C is 1, else (height, width, 3); uint8.

    Raises:
        ShapeError: the images are something else.

    Source: torchvision's `make_grid` draws such sheets.

    Example:
        >>> sheet(np.ones((3, 1, 4, 4)), columns=2).shape
        (9, 9)
    """
    columns = whole("sheet", "columns", columns, at_least=1)
    scale, gap = whole("sheet", "scale", scale, at_least=1), whole("sheet", "gap", gap, at_least=0)
    numbers = floats("sheet", "images", images, "(N, C, H, W)")
    is_bytes = getattr(images, "dtype", None) == np.uint8
    pixels = as_bytes(numbers / 255 if is_bytes else numbers)
    n, channels, height, width = pixels.shape
    if channels not in (1, 3):
        raise ShapeError(
            "sheet: these are no images",
            got=f"images {pixels.shape}",
            rule="(N, C, H, W) with C = 1, grey, or 3, colours",
            fix="images.reshape(-1, 1, H, W): each channel by itself",
        )
    columns = min(columns, n)
    rows = -(-n // columns)
    height, width = height * scale, width * scale
    out = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.uint8)
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        large = image.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
        out[top : top + height, left : left + width] = large
    return out[..., 0] if channels == 1 else out


def as_bytes(numbers: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as bytes; what lies outside is held inside."""
    return np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)
