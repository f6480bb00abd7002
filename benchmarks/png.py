"""PNG files: arrays of bytes as pictures, without a library.

Knows bytes and pixels, never what they show. Source: https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"  # section 5.2
GREY, COLOUR = 0, 2  # colour types, table 1


def png(image: np.ndarray) -> bytes:
    """The file of a picture: (H, W) grey or (H, W, 3) red, green, blue; uint8."""
    image = np.ascontiguousarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, 3), not {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    kind = GREY if image.ndim == 2 else COLOUR
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    rows = image.reshape(height, -1)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1)  # filter 0: as it is
    packed = zlib.compress(unfiltered.tobytes(), 9)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a picture."""
    path.write_bytes(png(image))


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] as bytes; what lies outside is held inside."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def sheet(images: np.ndarray, columns: int, scale: int = 1, gap: int = 1) -> np.ndarray:
    """Pictures in rows, dark lines between them.

    Args:
        images: (N, C, H, W) uint8 with C = 1 or 3.
        columns: pictures in a row.
        scale: pixels of the sheet for a pixel of a picture, in each direction.
        gap: width of the lines.

    Returns:
        (height, width) if C is 1, else (height, width, 3); uint8.
    """
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    height, width = height * scale, width * scale
    out = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        large = image.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
        out[top : top + height, left : left + width] = large
    return out[..., 0] if channels == 1 else out
