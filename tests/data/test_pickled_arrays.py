"""Pickles of plain data: read without executing; everything else is refused."""

import collections
import pickle
import pickletools
import random

import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.data import pickled_arrays as module
from tinytorch.data.pickled_arrays import read_pickled_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([1, -2], ">i4"),
    np.zeros((0, 3), np.float16),
    np.array(True),
]
VALUE = {
    "batch_label": "training batch 1 of 5, ä",
    "labels": [0, 9, 255, 256, 65536, -1, 2**40, -(2**40), 2**2000],
    "plain": (None, True, False, 1.5, -0.0, b"\x00\xff\n'\"\\", (), (1,), (1, 2), (1, 2, 3, 4)),
    "deep": {"a": [{"b": []}], 3: "three"},
    "data": ARRAYS,
}
# The beginning of an official file, as Python 2 wrote it, with two pictures of two bytes.
PYTHON2 = (
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05"
    b"(K\x06K\x09eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
    b"K\x00\x85q\x09U\x01b\x87Rq\x0a(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87R"
    b"q\x0c(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x04\x00\x00\x00\x01\x02\x03"
    b"\x04tbU\x09filenamesq\x0d]q\x0eU\x05a.pngq\x0fau."
)


def same(a, b):
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol(protocol):
    """Ground truth: the value that the standard library pickled."""
    assert same(read_pickled_arrays(pickle.dumps(VALUE, protocol), "x"), VALUE)


def test_a_file_of_python_2():
    """Ground truth: bytes written by hand after an official file."""
    value = read_pickled_arrays(PYTHON2, "data_batch_1")
    assert value[b"labels"] == [6, 9] and value[b"batch_label"] == b"training batch 1 of 5"
    assert value[b"data"].tolist() == [[1, 2], [3, 4]] and value[b"filenames"] == [b"a.png"]


def test_strings_of_protocol_0():
    """Ground truth: Python 2's repr of a string, written by hand."""
    assert read_pickled_arrays(b"S'a\\n\\x00\\\\\\'b'\np0\n.", "x") == b"a\n\x00\\'b"
    with pytest.raises(FileFormatError, match="unknown escape"):
        read_pickled_arrays(b"S'\\d'\n.", "x")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))

    def __repr__(self):  # a test has one name in every process
        return "Evil()"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        Evil(),
        {"a": [Evil()]},
        collections.OrderedDict(a=1),
        {1, 2},
        1 + 2j,
        np.float64(1),
        np.array([b"text"]),
        np.zeros(2, "i4,f4"),
        np.array(["2026-11-21"], "datetime64[D]"),
    ],
    ids=repr,
)
def test_what_is_not_plain_is_refused(value, protocol):
    """Ground truth: the documented list; the file that would execute something does not."""
    with pytest.raises(FileFormatError, match="not a pickle of plain data"):
        read_pickled_arrays(pickle.dumps(value, protocol), "x")


def test_arrays_of_objects_are_refused():
    """Ground truth: an array of objects holds a pickled list, not bytes."""
    with pytest.raises(FileFormatError, match="not a pickle of plain data"):
        read_pickled_arrays(pickle.dumps(np.array([Evil(), None])), "x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"(.",
        b"N",
        b"K\x01K\x02a.",
        b"]K\x01u.",
        b"}K\x01K\x02K\x03u.",
        b"h\x00.",
        b"cnumpy\nndarray\n.",
        b"cos\nsystem\nS'true'\n\x85R.",
        b"cnumpy\ndtype\n(U\x02u1tR(K\x03tb.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xffa.",
        b"]" * 3000 + b"a" * 2999 + b".",
        b"cnumpy.core.multiarray\n_reconstruct\n)R.",
    ],
)
def test_damaged_streams_are_refused(content):
    """Ground truth: each breaks a rule of the format, or asks for something else."""
    with pytest.raises(FileFormatError):
        read_pickled_arrays(content, "x")


def test_sharing_does_not_take_for_ever():
    """Ground truth: 60 lists that each hold the one before twice: 2**60 places, 60 lists."""
    content = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60)) + b"."
    value = read_pickled_arrays(content, "x")
    assert value[0] is value[1]


def test_ten_thousand_mutations_crash_nothing():
    """Ground truth: the only error is FileFormatError, for any bytes."""
    source = random.Random(0)
    originals = [PYTHON2, *(pickle.dumps(VALUE, p) for p in PROTOCOLS)]
    refused = 0
    for _ in range(10_000):
        content = bytearray(source.choice(originals))
        for _ in range(source.randint(1, 4)):
            kind, at = source.randrange(3), source.randrange(len(content))
            if kind == 0:
                content[at] = source.randrange(256)
            elif kind == 1:
                del content[at : at + source.randint(1, 8)]
            else:
                content[at:at] = bytes(source.randrange(256) for _ in range(source.randint(1, 4)))
        try:
            read_pickled_arrays(bytes(content), "x")
        except FileFormatError:
            refused += 1
    assert refused > 5000


def shared(depth: int, tail: bytes) -> bytes:
    """A pickle of a few bytes whose top value has 2 ** depth leaves: each tuple stands twice in the
    next. `tail` does something with it."""
    out = b"\x80\x04K\x01"
    for i in range(depth):
        out += b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86"
    return out + tail


@pytest.mark.parametrize(
    "tail",
    [
        b"cnumpy.core.numeric\n_frombuffer\nq\xf0" + b"C\x01aq\xf1K\x05\x87R.",
        b"\x85R.",
        b"}\x94h\xfaK\x01s.",
    ],
)
def test_what_is_nested_without_end_is_refused_at_once(tail):
    """Ground truth: time: 205 bytes took 4.6 s and a message of 201 MB."""
    import time

    began = time.process_time()
    with pytest.raises(FileFormatError) as told:
        read_pickled_arrays(shared(60, tail), "x")
    assert time.process_time() - began < 1 and len(str(told.value)) < 1000


NESTED = shared(60, b"")


@pytest.mark.parametrize(
    "content",
    [
        # an array of that shape; a dtype of that code; text of it; bytes encoded from it; a key
        b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + NESTED[2:]
        + b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1K\x00K\x01tR(K\x03X\x01\x00\x00\x00|NNNtb\x89C\x01a"
        + b"tb.",
        b"cnumpy\ndtype\n" + NESTED[2:] + b"\x85R.",
        b"c_codecs\nencode\n" + NESTED[2:] + b"X\x06\x00\x00\x00latin1\x86R.",
        b"}" + NESTED[2:] + b"K\x01s.",
        b"cos\x1b[2J\nsystem\n.",
        b"cnumpy\ndtype\n(X\x03\x00\x00\x00(1,K\x00K\x01tR(K\x03X\x01\x00\x00\x00|NNNtb.",
        b"cnumpy\ndtype\n(X\x08\x00\x00\x00i4,\x1b[2JK\x00K\x01tR(K\x03X\x01\x00\x00\x00|NNNtb.",
    ],
)  # fmt: skip
def test_messages_show_no_contents(content):
    """Ground truth: time and length: nothing of what is nested is printed, or gone through."""
    import time

    began = time.process_time()
    with pytest.raises(FileFormatError, match="not a pickle of plain data") as told:
        read_pickled_arrays(content, "x")
    assert time.process_time() - began < 1 and len(str(told.value)) < 1000
    assert str(told.value).replace("\n", "").isprintable()


def test_an_array_of_65_axes():
    """Ground truth: NumPy has at most 64."""
    x = pickle.dumps(np.zeros((1,) * 64, np.uint8), 2)
    one = b"K\x01" * 64
    assert one in x
    assert read_pickled_arrays(x, "x").ndim == 64
    with pytest.raises(FileFormatError, match="not a pickle of plain data"):
        read_pickled_arrays(x.replace(one, one + b"K\x01"), "x")


def test_keys_that_collide_are_refused():
    """Ground truth: Python's hash of a whole number is its remainder by 2 ** 61 - 1; a file of 1 MB
    with such keys took minutes."""
    with pytest.raises(FileFormatError, match="not a pickle of plain data"):
        read_pickled_arrays(pickle.dumps({i * (2**61 - 1): 0 for i in range(10)}, 2), "x")
    assert read_pickled_arrays(pickle.dumps({3: 0, b"a": 1, None: 2}, 2), "x") == {
        3: 0,
        b"a": 1,
        None: 2,
    }


def test_one_text_does_not_become_many_bytes():
    """Invariant: what is made is no larger than the file, however often it names one text."""
    text = b"\x80\x02X\x00\x00\x01\x00" + b"a" * (1 << 16) + b"q\x00X\x06\x00\x00\x00latin1q\x010"
    again = b"c_codecs\nencode\nh\x00h\x01\x86R"
    assert read_pickled_arrays(text + again + b".", "x") == b"a" * (1 << 16)
    with pytest.raises(FileFormatError, match="x") as caught:
        read_pickled_arrays(text + b"(" + again * 100 + b"l.", "x")
    assert "more bytes than the file has" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x82\x01.", b"\x83\x01\x00.", b"\x84\x01\x00\x00\x00.",  # EXT1, EXT2, EXT4
        b"Pname\n.", b"K\x01Q.",  # PERSID, BINPERSID
        b"(icollections\nOrderedDict\n.", b"(cnumpy\nndarray\no.",  # INST, OBJ
        b"cnumpy\nndarray\n)\x81.", b"cnumpy\nndarray\n)}\x92.",  # NEWOBJ, NEWOBJ_EX
        b"\x8f.", b"(\x91.",  # EMPTY_SET, FROZENSET
        b"\x97.", b"\x98.",  # NEXT_BUFFER, READONLY_BUFFER
        b"cnumpy\ndtype\n}X\x04\x00\x00\x00evilK\x01sb0N.",  # BUILD of a name
        b"cnumpy\ndtype\nN}X\x0c\x00\x00\x00__defaults__)s\x86b0N.",  # of its attributes
        b"]K\x01K\x01sN.", b"]K\x01b0N.", b"}K\x01aN.",  # SETITEM, BUILD and APPEND of others
    ],
)  # fmt: skip
def test_whatever_else_the_machine_of_pickle_does_is_refused(content):
    """Ground truth: the opcodes of pickletools beyond plain values: copyreg's registry, objects of
    classes, persistent ids, sets, buffers; and attributes set on what the file may name."""
    with pytest.raises(FileFormatError, match="not a pickle of plain data"):
        read_pickled_arrays(content, "x")


def test_every_opcode_is_plain_or_refused():
    """Ground truth: the list of pickletools; which of it plain values and arrays do not need."""
    refused = set()
    for opcode in pickletools.opcodes:
        reader = module._Reader(b"")
        reader.stack = [()] * 4
        try:
            reader.do(opcode.name, None)
        except module._Refused as reason:
            if "is not one of plain data" in str(reason):
                refused.add(opcode.name)
        except (AttributeError, TypeError):  # it looked at its argument
            pass
    assert refused == set(
        "EXT1 EXT2 EXT4 PERSID BINPERSID INST OBJ NEWOBJ NEWOBJ_EX EMPTY_SET ADDITEMS FROZENSET "
        "DUP POP_MARK NEXT_BUFFER READONLY_BUFFER STOP".split()
    )


def test_a_place_far_away_costs_nothing():
    """Ground truth: memory: the library's reader keeps a place for every number up to 2**32 - 1."""
    assert read_pickled_arrays(b"K\x07r\xff\xff\xff\xff0j\xff\xff\xff\xff.", "x") == 7


def test_lengths_without_content_cost_nothing():
    """Ground truth: memory: these ask for 2**40 bytes and have none."""
    for code in (b"\x8e", b"\x96", b"\x8d"):
        with pytest.raises(FileFormatError, match="not a pickle of plain data"):
            read_pickled_arrays(code + (1 << 40).to_bytes(8, "little") + b".", "x")


def test_long_strings_of_protocol_0():
    """Ground truth: Python 2's repr, with bytes above 127: pictures are longer than 1,024 bytes."""
    text = b"".join(b"\\x%02x" % i for i in range(256)) * 8
    assert read_pickled_arrays(b"S'" + text + b"'\n.", "x") == bytes(range(256)) * 8
