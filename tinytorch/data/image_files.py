"""A picture of the user's own, as a network takes it: any size and mode of PNG, JPEG and others.

Knows files, pixels and what was done to them, never networks. Pillow reads the files.
"""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinytorch.base import files
from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import FileFormatError, MissingError, SettingError, TinyTorchError

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 64 << 20  # bytes of a file
MOST = 1 << 26  # pixels: 8192 x 8192; a small file can hold more than memory has
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
# Modes of Pillow that have 8 bits a number or fewer; those of 16 and 32 would have to be cut.
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
GREYS = ("1", "L", "LA", "La")  # those of them without colours
COLOURS = {1: "L", 3: "RGB"}  # by channels
PAPER = (255, 255, 255, 255)  # white shows where a picture is transparent
TURNED = 0x0112  # EXIF's tag "Orientation"; 1: as it is


class LoadedImage(NamedTuple):
    """A picture as numbers, and what was done to it.

    Args:
        pixels: (C, H, W) float32 in [0, 1].
        done: "640 x 480 JPEG, its middle 480 x 480, resized to 32 x 32".
    """

    pixels: np.ndarray
    done: str


def load_image(
    path: str | os.PathLike[str], shape: tuple[int, int, int], *, invert: bool = False
) -> LoadedImage:
    """A picture file in the size and colours that a network takes.

    Nothing is guessed silently: all that is done stands in the result. The picture is turned as its
    camera says; transparent parts become white; its middle, in the shape asked for, is cut out and
    resized (bilinear, each new pixel the mean of what it covers); colours become grey, or grey
    colours, where the network wants it (ITU-R 601).

    Args:
        path: PNG, JPEG, BMP, GIF (the first picture) or WebP.
        shape: (C, H, W) of the result; C is 1 or 3.
        invert: 1 - x at the end: MNIST's digits are light on dark, ink is dark on light. Default
            False.

    Raises:
        MissingError: Pillow is not installed.
        NotFoundError: there is no such file.
        FileFormatError: it is no picture, damaged, of more than 8 bits a colour, or too large.
        SettingError: another shape.

    Cost: the whole picture in memory, 4 bytes a pixel.

    Source: Keras does the same with `crop_to_aspect_ratio=True`, torchvision with Resize and
    CenterCrop.

    Example:
        >>> import tempfile, PIL.Image
        >>> path = tempfile.mkdtemp() + "/wide.png"
        >>> PIL.Image.new("RGB", (64, 48), "white").save(path)
        >>> found = load_image(path, (1, 28, 28))
        >>> found.pixels.shape, float(found.pixels.min())
        ((1, 28, 28), 1.0)
        >>> found.done
        '64 x 48 PNG, its middle 48 x 48, resized to 28 x 28, colours made grey'
    """
    channels, height, width = (whole("load_image", "shape", n, at_least=1) for n in shape)
    flag("load_image", "invert", invert)
    if channels not in COLOURS:
        raise SettingError(
            "load_image: a picture has another number of channels",
            got=f"shape={tuple(shape)}",
            rule="(1, H, W), grey, or (3, H, W), in colour",
            fix=f"load_image(path, (3, {height}, {width}))",
        )
    content = files.contents(files.user_path(path), LONGEST, links=True)
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingError(
            "picture files are read by Pillow, which is not installed",
            got=str(error),
            rule="an optional library: data sets need none",
            fix='pip install "tinytorch-ml[images]"',
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                _check(path, picture)
                picture.load()
                fitted, done = _fitted(picture, COLOURS[channels], (width, height))
    except TinyTorchError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from None
    except Exception as error:  # Pillow's readers raise all kinds for damaged files
        raise FileFormatError(
            f"{path} is no picture that can be read",
            got=f"{type(error).__name__}: {error}",
            rule="a whole file of " + ", ".join(FORMATS),
            fix="open it in a picture viewer, and save it as PNG",
        ) from None
    pixels = np.asarray(fitted, np.float32).reshape(height, width, channels).transpose(2, 0, 1)
    pixels = np.ascontiguousarray(pixels / np.float32(255))
    if invert:
        return LoadedImage(1 - pixels, done + ", light and dark exchanged")
    return LoadedImage(pixels, done)


def _check(path: str | os.PathLike[str], picture: Image) -> None:
    """Refuse what would be cut silently, or would not fit into memory; no pixel is read before."""
    if picture.width * picture.height > MOST:
        raise _too_large(path, f"{picture.width} x {picture.height} pixels")
    if picture.mode not in MODES:
        raise FileFormatError(
            f"{path} has more than 8 bits a colour",
            got=f"mode {picture.mode}",
            rule="8 bits: which of the 16 count, only its owner knows",
            fix="save it with 8 bits a colour",
        )


def _too_large(path: str | os.PathLike[str], got: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is too large a picture",
        got=got,
        rule=f"at most {MOST} pixels",
        fix="a smaller copy: the network sees some thousand pixels of it",
    )


def _fitted(picture: Image, mode: str, size: tuple[int, int]) -> tuple[Image, str]:
    """The middle of a picture in another mode and (width, height), and what was done."""
    from PIL import Image, ImageOps

    done = [f"{picture.width} x {picture.height} {picture.format}"]
    if getattr(picture, "n_frames", 1) > 1:
        done[0] += f", the first of {getattr(picture, 'n_frames', 1)} pictures"
    turned = ImageOps.exif_transpose(picture)
    if turned.size != picture.size or picture.getexif().get(TURNED, 1) != 1:
        done.append("turned as its camera says")
    if turned.has_transparency_data:
        seen = turned.convert("RGBA")
        paper = Image.new("RGBA", seen.size, PAPER)
        turned = Image.alpha_composite(paper, seen)
        done.append("transparent parts made white")
    coloured = turned.convert("RGB")
    wide, high = turned.size
    side = min(wide / size[0], high / size[1])
    across, down = side * size[0], side * size[1]
    box = ((wide - across) / 2, (high - down) / 2, (wide + across) / 2, (high + down) / 2)
    if (round(across), round(down)) != turned.size:
        done.append(f"its middle {round(across)} x {round(down)}")
    if (round(across), round(down)) != size:
        done.append(f"resized to {size[0]} x {size[1]}")
    if mode == "L" and picture.mode not in GREYS:
        done.append("colours made grey")
    resized = coloured.resize(size, Image.Resampling.BILINEAR, box)
    return resized.convert(mode), ", ".join(done)
