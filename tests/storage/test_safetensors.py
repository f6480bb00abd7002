"""Arrays in safetensors files: round trips, the format's own library as peer, damaged files."""

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinytorch.base.dtypes import bfloat16, float16, float32, from_bfloat16, round_to_bfloat16
from tinytorch.base.errors import DTypeError, FileFormatError
from tinytorch.storage import load, read, save
from tinytorch.storage.safetensors import NAMES

PLAIN = [d for d in NAMES if d is not bfloat16]


def every_dtype():
    rng = np.random.default_rng(0)
    return {
        **{d.name: (rng.integers(0, 2, (3, 5)).astype(d.storage), d) for d in PLAIN},
        "bfloat16": (round_to_bfloat16(rng.standard_normal((2, 3))), bfloat16),
        "number": (np.asarray(2.5, np.float32), float32),
        "empty": (np.empty((0, 4), np.float16), float16),
    }


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, (array, dtype) in wanted.items():
        got, got_dtype = found[name]
        assert got_dtype is dtype
        assert got.shape == array.shape and got.dtype == array.dtype
        assert got.tobytes() == array.tobytes(), name


def test_every_dtype_comes_back(tmp_path):
    """Ground truth: the bytes that were saved."""
    arrays = every_dtype()
    save(tmp_path / "x", arrays, {"seed": "0"})
    file = read(tmp_path / "x")
    assert_same(file.arrays, arrays)
    assert file.metadata == {"seed": "0"}
    assert all(a.flags.aligned and not a.flags.writeable for a, _ in file.arrays.values())


def test_layouts_are_made_contiguous(tmp_path):
    """Ground truth: NumPy's own copy of a transposed, reversed, big-endian view."""
    x = np.arange(12, dtype=">i4").reshape(3, 4).T[::-1]
    save(tmp_path / "x", {"x": x})
    assert np.array_equal(load(tmp_path / "x")["x"][0], x)


@pytest.mark.peer
def test_the_peer_reads_what_we_write(tmp_path):
    """Ground truth: the safetensors library, bit for bit (bfloat16 through torch)."""
    arrays = every_dtype()
    save(tmp_path / "x", arrays, {"seed": "0"})
    theirs = safetensors.torch.load_file(tmp_path / "x")
    assert theirs.keys() == arrays.keys()
    for name, (array, dtype) in arrays.items():
        x = theirs[name]
        if dtype is bfloat16:
            assert np.array_equal(x.float().numpy(), from_bfloat16(array))
        else:
            assert np.array_equal(x.numpy(), array) and x.numpy().dtype == array.dtype


@pytest.mark.peer
def test_we_read_what_the_peer_writes(tmp_path):
    """Ground truth: the arrays given to the safetensors library."""
    arrays = {name: array for name, (array, d) in every_dtype().items() if d is not bfloat16}
    safetensors.numpy.save_file(arrays, tmp_path / "x", {"from": "peer"})
    file = read(tmp_path / "x")
    assert_same(file.arrays, {n: (a, every_dtype()[n][1]) for n, a in arrays.items()})
    assert file.metadata == {"from": "peer"}
    b = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    safetensors.torch.save_file({"b": b}, tmp_path / "b")
    bits, dtype = load(tmp_path / "b")["b"]
    assert dtype is bfloat16
    assert np.array_equal(from_bfloat16(bits), b.float().numpy())


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__"),
        hnp.arrays(
            st.sampled_from([d.storage for d in PLAIN]), hnp.array_shapes(min_dims=0, min_side=0)
        ),
        max_size=4,
    ),
    st.dictionaries(st.text('abc \n"'), st.text("xyz é"), max_size=2),
)
def test_any_arrays_come_back(tmp_path_factory, arrays, metadata):
    """Ground truth: the bytes that were saved, for any names, shapes and types."""
    path = tmp_path_factory.mktemp("any") / "x"
    save(path, arrays, metadata)
    file = read(path)
    assert file.metadata == metadata
    assert {n: (a.shape, a.dtype, a.tobytes()) for n, (a, _) in file.arrays.items()} == {
        n: (a.shape, a.dtype, a.tobytes()) for n, a in arrays.items()
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "x"
    save(path, every_dtype(), {"seed": "0"})
    return path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_files_are_refused_or_read(sound, tmp_path_factory, data):
    """Ground truth: never anything but FileFormatError, and what is read can be used whole."""
    content = bytearray(sound)
    head = 8 + int.from_bytes(sound[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(head + 8, len(content) - 1)))
        match data.draw(st.sampled_from(["flip", "digit", "cut", "insert", "delete"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "digit":
                content[at] = ord(data.draw(st.sampled_from('0123456789[]{},:"')))
            case "cut":
                del content[data.draw(st.integers(0, len(content))) :]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
            case "delete":
                del content[at]
        if not content:
            break
    path = tmp_path_factory.mktemp("mutated") / "x"
    path.write_bytes(content)
    try:
        arrays = load(path)
    except FileFormatError:
        return
    assert all(array.tobytes() is not None for array, _ in arrays.values())


def test_every_truncation_is_refused(sound, tmp_path):
    """Ground truth: a file without its end is not the file."""
    for length in range(0, len(sound), 7):
        (tmp_path / "x").write_bytes(sound[:length])
        with pytest.raises(FileFormatError):
            load(tmp_path / "x")


def test_impossible_lengths(tmp_path):
    """Ground truth: a length beyond the file or the format's limit allocates nothing."""
    for length in (2**63, 2**64 - 1, 100_000_001, 9):
        (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + b"{}" + b" " * 6)
        with pytest.raises(FileFormatError, match="length is impossible"):
            load(tmp_path / "x")


def raw(text: bytes, data: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + data


def test_bools_are_zero_or_one(tmp_path):
    """Ground truth: NumPy's bool has two values; a byte of 2 would be a third."""
    text = b'{"x":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "x").write_bytes(raw(text, b"\x01\x02"))
    with pytest.raises(FileFormatError, match="not a bool"):
        load(tmp_path / "x")


def test_shapes_numpy_cannot_hold(tmp_path):
    """Ground truth: NumPy refuses the shape although it has no elements."""
    text = b'{"x":{"dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[0,0]}}'
    (tmp_path / "x").write_bytes(raw(text, b""))
    with pytest.raises(FileFormatError, match="no array can have"):
        load(tmp_path / "x")


def test_unaligned_files_are_copied_into_alignment(tmp_path):
    """Ground truth: the numbers written by hand at an odd address."""
    text = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    text += b" " * (1 - len(text) % 2)
    (tmp_path / "x").write_bytes(raw(text, np.array([1.5, -2], "<f4").tobytes()))
    array, _ = load(tmp_path / "x")["x"]
    assert array.flags.aligned and array.tolist() == [1.5, -2]


def test_types_that_do_not_fit(tmp_path):
    """Ground truth: float64 bits under the name float32 would be read as other numbers."""
    with pytest.raises(DTypeError, match="cannot be saved as it is"):
        save(tmp_path / "x", {"x": np.zeros(2, np.complex64)})
    with pytest.raises(DTypeError, match="cannot be saved as it is"):
        save(tmp_path / "x", {"x": (np.zeros(2), float32)})
    with pytest.raises(DTypeError, match="cannot be saved as it is"):
        save(tmp_path / "x", {"x": np.zeros(2, np.uint16)})
    assert not (tmp_path / "x").exists()
