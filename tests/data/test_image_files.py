"""image_files.py: pictures written here, of sizes, modes and kinds whose pixels are known."""

import builtins
import io

import numpy as np
import pytest
from PIL import Image

from tinytorch.base.errors import FileFormatError, MissingError, NotFoundError, SettingError
from tinytorch.data import image_files, load_image


def saved(folder, picture, name="x.png", **settings):
    picture.save(folder / name, **settings)
    return folder / name


def random_picture(mode="RGB", size=(6, 4)) -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], *channels), np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_of_the_size_asked_for_is_its_bytes(tmp_path):
    """Closed form: bytes / 255, channels first; nothing is done."""
    picture = random_picture()
    found = load_image(saved(tmp_path, picture), (3, 4, 6))
    assert found.pixels.dtype == np.float32 and found.done == "6 x 4 PNG"
    expected = np.asarray(picture).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(found.pixels, expected)
    assert found.pixels.flags.c_contiguous
    inverted = load_image(saved(tmp_path, picture), (3, 4, 6), invert=True)
    assert np.array_equal(inverted.pixels, 1 - expected) and "exchanged" in inverted.done


def test_the_middle_is_cut_out_and_made_smaller(tmp_path):
    """Closed form: bilinear by halves is 3/8 of the two pixels inside and 1/8 of each neighbour."""
    stripes = np.zeros((8, 12), np.uint8)
    stripes[:, 2:10] = np.repeat([0, 255, 0, 255], 2)
    stripes[:, :2] = stripes[:, 10:] = 77
    found = load_image(saved(tmp_path, Image.fromarray(stripes)), (1, 4, 4))
    assert found.done == "12 x 8 PNG, its middle 8 x 8, resized to 4 x 4"
    row = np.array([77 + 255, 6 * 255, 2 * 255, 6 * 255 + 77]) / (8 * 255)
    assert np.allclose(found.pixels[0], row, atol=1 / 255)


def test_one_grey_stays_grey_in_every_mode(tmp_path):
    """Invariant: a picture of one grey is that grey, in any mode, of any size, in 1 or 3 channels;
    ground truth of what is told: the docstring."""
    for mode in ("L", "LA", "P", "RGB", "RGBA"):
        path = saved(tmp_path, Image.new("L", (40, 30), 51).convert(mode), f"{mode}.png")
        for channels in (1, 3):
            found = load_image(path, (channels, 8, 8))
            assert np.allclose(found.pixels, 0.2, rtol=1e-6), mode
            assert ("colours made grey" in found.done) == (
                channels == 1 and mode in ("P", "RGB", "RGBA")
            )
    bits = load_image(saved(tmp_path, Image.new("1", (5, 5), 1)), (1, 8, 8))
    assert np.array_equal(bits.pixels, np.ones((1, 8, 8)))


def test_transparent_parts_are_white(tmp_path):
    """Closed form: black at alpha 0, 51 and 255 over white."""
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[..., 3] = [0, 51, 255]
    found = load_image(saved(tmp_path, Image.fromarray(pixels)), (3, 1, 3))
    assert np.allclose(found.pixels[0, 0], [1, 0.8, 0], atol=1 / 255)
    assert "transparent parts made white" in found.done


def test_pictures_are_turned_as_the_camera_says(tmp_path):
    """Ground truth: EXIF's orientations 6 and 3: right side up by a quarter and half a turn."""
    picture = Image.fromarray(np.array([[10, 20, 30]], np.uint8))
    exif = Image.Exif()
    exif[image_files.TURNED] = 6
    found = load_image(saved(tmp_path, picture, exif=exif), (1, 3, 1))
    assert np.rint(255 * found.pixels).ravel().tolist() == [10, 20, 30]
    assert "turned as its camera says" in found.done
    exif[image_files.TURNED] = 3
    found = load_image(saved(tmp_path, picture, exif=exif), (1, 1, 3))
    assert np.rint(255 * found.pixels).ravel().tolist() == [30, 20, 10]


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "WEBP", "GIF"])
def test_other_kinds_are_read(tmp_path, kind):
    """Ground truth: one colour, which no kind changes by much; the file's name does not count."""
    path = saved(tmp_path, Image.new("RGB", (16, 16), (200, 100, 50)), "x.bin", format=kind)
    found = load_image(path, (3, 16, 16))
    assert np.abs(found.pixels.mean((1, 2)) * 255 - [200, 100, 50]).max() < 4
    assert found.done == f"16 x 16 {kind}"


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    """Ground truth: three pictures of one grey each."""
    frames = [Image.new("L", (4, 4), grey) for grey in (51, 102, 153)]
    path = saved(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    found = load_image(path, (1, 4, 4))
    assert np.allclose(found.pixels, 0.2, atol=1 / 255)
    assert found.done.startswith("4 x 4 GIF, the first of 3 pictures")


def damaged() -> dict[str, bytes]:
    whole = io.BytesIO()
    random_picture(size=(40, 40)).save(whole, "PNG")
    content = whole.getvalue()
    jpeg = io.BytesIO()
    random_picture(size=(64, 64)).save(jpeg, "JPEG")
    return {
        "nothing": b"", "text": b"no picture at all", "half": content[: len(content) // 2],
        "flipped": content[:200] + bytes([content[200] ^ 255]) + content[201:],
        "header": content[:20], "half a jpeg": jpeg.getvalue()[:1500],
    }  # fmt: skip


@pytest.mark.parametrize("what", damaged())
def test_damaged_files_are_refused(tmp_path, what):
    """Ground truth: files cut short, with a changed byte, or of another kind."""
    path = tmp_path / "x.png"
    path.write_bytes(damaged()[what])
    with pytest.raises(FileFormatError, match=r"x.png is no picture that can be read"):
        load_image(path, (3, 8, 8))


def test_deep_and_huge_pictures_are_refused(tmp_path, monkeypatch):
    """Ground truth: 16 bits a pixel; more pixels than are allowed, by us and by Pillow."""
    deep = Image.fromarray(np.zeros((4, 4), np.uint16))
    with pytest.raises(FileFormatError, match="more than 8 bits"):
        load_image(saved(tmp_path, deep), (1, 4, 4))
    path = saved(tmp_path, random_picture())
    monkeypatch.setattr(image_files, "MOST", 23)
    with pytest.raises(FileFormatError, match=r"too large(.|\n)*6 x 4"):
        load_image(path, (3, 8, 8))
    for most in (20, 5):  # above the first Pillow warns, above twice of it it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(FileFormatError, match="too large"):
            load_image(path, (3, 8, 8))


def test_what_cannot_be_asked_is_named(tmp_path):
    """Ground truth: the docstring."""
    with pytest.raises(NotFoundError):
        load_image(tmp_path / "none.png", (3, 8, 8))
    with pytest.raises(FileFormatError, match="not a regular file"):
        load_image(tmp_path, (3, 8, 8))
    with pytest.raises(SettingError, match="another number of channels"):
        load_image(tmp_path / "none.png", (2, 8, 8))
    with pytest.raises(SettingError, match="invert"):
        load_image(tmp_path / "none.png", (3, 8, 8), invert="yes")


def test_without_pillow_it_is_said_what_to_install(tmp_path, monkeypatch):
    """Ground truth: an import that fails, as where it is not installed."""
    path, real = saved(tmp_path, random_picture()), builtins.__import__

    def refusing(name, *rest, **named):
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(MissingError, match=r"pip install(.|\n)*images"):
        load_image(path, (3, 8, 8))
