"""The native code that cuts a text into words and words into tokens, in one pass over its bytes.

It does what `split` and `merged` (words.py, merges.py) define, to the last
id; tests hold the two together. A word that was seen before is found in a table of words. A short
one is merged by looking for the best pair again and again, a long one by a heap, so that no word
costs more than n log n. Everything it needs lies in arrays that it is given (`Fields`).

    encode(text, n, fields) -> how many ids; below 0: what is missing

where `text` has PADDING zero bytes behind its n, and `fields` is an array of 8-byte numbers and
addresses. It stops where a word needs more memory than it has, and goes on from there when it is
called again.

Knows bytes, tables and tokens' numbers, never texts or vocabularies.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

from tinytorch.codegen.builder import Function, Value, vector
from tinytorch.text.words import POINTS, SPACE, Words

NAME = "tinytorch_encode"
PADDING = 64  # zero bytes behind a text, so that a key is read in one piece wherever a word begins
SLACK = 8  # ids that are written at once
KEY = 32  # bytes of the longest word that is kept
ENTRY = 64  # bytes of a kept word: its key, then HELD numbers
HELD = 8  # length + 256 * count, then at most 7 ids
SHORT = 64  # symbols of the longest word without a heap
NONE = -1  # in a table of pairs: no such pair
CHARACTER = 0xFFFFFFFF  # the first half of the key of a character's token
BROKEN = POINTS  # stands for a byte that is no UTF-8
# Numbers without pattern: pi's hexadecimal digits, made odd (Knuth vol. 3, section 6.4)
MIXERS = (0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89)


class Fields(IntEnum):
    """What lies where in the array `fields`."""

    CLASSES = 0  # address of a byte for each code point, and one for BROKEN
    BYTE_IDS = 1  # address of 256 int32
    PAIR_KEYS = 2  # address of int64: first << 32 | second, NONE where there is nothing
    PAIR_VALUES = 3  # address of int64: rank << 32 | token
    PAIR_SHIFT = 4  # 64 - bits of a place in the table of pairs
    PAIR_MASK = 5
    KEPT = 6  # address of the kept words, ENTRY bytes each
    KEPT_SHIFT = 7  # 64 - bits of a place among them
    WORK = 8  # address of memory for one word
    CAPACITY = 9  # symbols of a word for which it is enough
    OUT = 10  # address of the ids, int32: at most a text's bytes, and SLACK
    AT = 11  # where in the text the next word begins; 0 before a text, and again after it
    COUNT = 12  # ids written; likewise


def work_bytes(symbols: int) -> int:
    """Memory for a word of so many symbols: three numbers a symbol, and a heap of two records."""
    return (3 * 4 + 2 * 16) * (symbols + 2)


class _Flow(Function):
    """A function with variables in memory, which LLVM puts into registers, and with free loops."""

    def variable(self, name: str, start: Value) -> _Variable:
        """A number that changes."""
        name = self.fresh(name + ".var")
        self.lines.insert(0, f'  %"{name}" = alloca {start.type}')
        made = _Variable(self, Value(f'%"{name}"', "ptr"), start.type)
        made.set(start)
        return made

    @contextmanager
    def repeat(self, name: str) -> Generator[_Repeat, None, None]:
        """Do the body again and again, until one of its ways leaves."""
        loop = _Repeat(self, self.fresh(name))
        self.branch(loop.head)
        self.block(loop.head)
        yield loop
        self.branch(loop.head)
        self.block(loop.done)

    @contextmanager
    def either(self, condition: Value, name: str = "case") -> Generator[_Either, None, None]:
        """Two ways: what is written first, and behind `otherwise()`."""
        ways = _Either(self, self.fresh(name))
        self.branch_if(condition, ways.yes, ways.no)
        self.block(ways.yes)
        yield ways
        self.branch(ways.done)
        if not ways.parted:
            self.block(ways.no)
            self.branch(ways.done)
        self.block(ways.done)

    def number(self, n: int, type: str = "i64") -> Value:
        """A constant."""
        return self.const(type, n - (1 << 64) if n >= 1 << 63 else n)

    def field(self, name: Fields) -> Value:
        """A number of the array of fields."""
        return self.load(self.at(self.fields, self.index(name), "i64"), "i64", stem=name.name)

    def table(self, name: Fields) -> Value:
        """An address of the array of fields."""
        return self.load_pointer(self.at(self.fields, self.index(name), "i64"), name.name)

    def byte(self, pointer: Value, at: Value, ahead: int = 0) -> Value:
        """A byte as i64."""
        there = self.at(pointer, self.add(at, self.index(ahead)), "i8")
        return self.convert(self.load(there, "i8"), "i64", signed=False)

    def pick(self, pointer: Value, at: Value) -> Value:
        """An element of an array of int32, as i64."""
        there = self.load(self.at(pointer, at, "i32"), "i32")
        return self.convert(there, "i64", signed=False)

    def put(self, value: Value, pointer: Value, at: Value) -> None:
        """Store into an array of int32."""
        self.store(self.convert(value, "i32"), self.at(pointer, at, "i32"))

    def is_one_of(self, value: Value, *numbers: int) -> Value:
        """Whether it is one of these."""
        first, *rest = (self.compare("eq", value, self.index(n)) for n in numbers)
        for other in rest:
            first = self.op("or", first, other)
        return first


class _Variable:
    def __init__(self, f: _Flow, place: Value, type: str):
        self._f, self._place, self._type = f, place, type

    def get(self) -> Value:
        return self._f.load(self._place, self._type)

    def set(self, value: Value) -> None:
        self._f.store(value, self._place)

    def add(self, value: Value | int) -> None:
        f = self._f
        self.set(f.add(self.get(), f.index(value) if isinstance(value, int) else value))


class _Repeat:
    def __init__(self, f: _Flow, name: str):
        self._f, self.head, self.done = f, f"{name}.head", f"{name}.done"
        self._name = name

    def leave_if(self, condition: Value) -> None:
        """End the loop if the condition holds."""
        on = self._f.fresh(f"{self._name}.on")
        self._f.branch_if(condition, self.done, on)
        self._f.block(on)

    def again_if(self, condition: Value) -> None:
        """Begin the next turn at once if the condition holds."""
        on = self._f.fresh(f"{self._name}.on")
        self._f.branch_if(condition, self.head, on)
        self._f.block(on)


class _Either:
    def __init__(self, f: _Flow, name: str):
        self._f, self.parted = f, False
        self.yes, self.no, self.done = f"{name}.yes", f"{name}.no", f"{name}.done"

    def otherwise(self) -> None:
        """What follows is done where the condition does not hold."""
        self.parted = True
        self._f.branch(self.done)
        self._f.block(self.no)


_INLINE, _CALLED = "alwaysinline nounwind", "noinline nounwind"


def module_text(words: Words, by_characters: bool) -> str:
    """The module for one kind of tokenizer.

    Args:
        words: "gpt2" cuts by GPT-2's pattern, "blanks" before each run of blanks, "whole" not.
        by_characters: a word's symbols are its characters' tokens, where there are such; else, and
            always without this, those of its bytes.
    """
    functions = [
        _decode(), _lookup(), _symbols(by_characters), _merge_short(), _sift_up(), _sift_down(),
        _push(), _merge_long(), _class_at(), _word_end(words), _word(), _encode(),
    ]  # fmt: skip
    texts = [f.finish() for f in functions]
    declared = frozenset[str]().union(*(f.declarations for f in functions))
    return "\n".join([*sorted(declared), *texts]) + "\n"


def _function(
    name: str, parameters: list[tuple[str, str]], result: str, attributes: str = _CALLED
) -> _Flow:
    return _Flow(name, parameters, result, attributes, "internal")


# --- characters ---


def _decode() -> _Flow:
    """decode(text, place) -> code point | bytes << 32 of a character that is not ASCII.

    Source: Unicode 16, table 3-7: what is well-formed UTF-8. A byte that belongs to no such
    sequence is one character, BROKEN, as Python's "surrogateescape" has it.
    """
    f = _function("decode", [("text", "ptr"), ("place", "i64")], "i64")
    first, *rest = (f.byte(f.text, f.place, i) for i in range(4))
    result = f.number(BROKEN | 1 << 32)
    point, follows = first, f.const("i1", 1)
    # of each length: lead bytes, bits of the lead byte, code points
    ranges = {
        2: (0xC2, 0xE0, 0x1F, 0x80, 0x800),
        3: (0xE0, 0xF0, 0x0F, 0x800, 0x10000),
        4: (0xF0, 0xF5, 0x07, 0x10000, BROKEN),
    }
    for length, (low, high, bits, least, above) in ranges.items():
        point = f.op("and", first, f.index(bits))
        follows = f.const("i1", 1)
        for byte in rest[: length - 1]:
            point = f.op("shl", point, f.index(6))
            point = f.op("or", point, f.op("and", byte, f.index(0x3F)), "point")
            continues = f.compare("eq", f.op("and", byte, f.index(0xC0)), f.index(0x80))
            follows = f.op("and", follows, continues, "follows")
        for condition in (
            f.compare("ge", first, f.index(low)), f.compare("lt", first, f.index(high)),
            f.compare("ge", point, f.index(least)), f.compare("lt", point, f.index(above)),
            f.compare("ne", f.op("lshr", point, f.index(11)), f.index(0x1B)),  # no surrogate
        ):  # fmt: skip
            follows = f.op("and", follows, condition, "follows")
        found = f.op("or", point, f.number(length << 32))
        result = f.select(follows, found, result, "result")
    f.ret(result)
    return f


def _character(f: _Flow, text: Value, place: Value) -> Value:
    """The character at a place, as `decode` gives it; ASCII without a call."""
    byte = f.byte(text, place)
    found = f.variable("character", f.op("or", byte, f.number(1 << 32)))
    with f.when(f.compare("ge", byte, f.index(0x80)), "wide"):
        found.set(f.call("i64", "decode", text, place))
    return found.get()


def _low(f: _Flow, value: Value) -> Value:
    return f.op("and", value, f.number(0xFFFFFFFF), "low")


def _high(f: _Flow, value: Value) -> Value:
    return f.op("lshr", value, f.index(32), "high")


def _class_at() -> _Flow:
    """class_at(text, place, classes) -> class | bytes << 32 of the character at a place."""
    parameters = [("text", "ptr"), ("place", "i64"), ("classes", "ptr")]
    f = _function("class_at", parameters, "i64", _INLINE)
    found = _character(f, f.text, f.place)
    kind = f.byte(f.classes, _low(f, found))
    f.ret(f.op("or", kind, f.op("shl", _high(f, found), f.index(32))))
    return f


# --- words ---


def _word_end(words: Words) -> _Flow:
    """word_end(text, start, n, fields) -> where the word that begins at `start` < n ends."""
    parameters = [("text", "ptr"), ("start", "i64"), ("n", "i64"), ("fields", "ptr")]
    f = _function("word_end", parameters, "i64", _INLINE)
    if words == "gpt2":
        f.ret(_gpt2_end(f))
    elif words == "blanks":
        end = f.variable("end", f.start)
        for how in ("ne", "eq"):  # a run of blanks, then one of others
            with f.repeat("run") as loop:
                loop.leave_if(f.compare("ge", end.get(), f.n))
                loop.leave_if(f.compare(how, f.byte(f.text, end.get()), f.index(ord(" "))))
                end.add(1)
        f.ret(end.get())
    else:
        f.ret(f.n)
    return f


def _gpt2_end(f: _Flow) -> Value:
    """GPT-2's pattern; see `gpt2_words` in words.py. Its alternatives are taken in their order."""
    classes = f.table(Fields.CLASSES)
    first = f.byte(f.text, f.start)
    end = f.variable("end", f.start)
    with f.when(f.compare("eq", first, f.index(ord("'"))), "quote"):
        letter, after = f.byte(f.text, f.start, 1), f.byte(f.text, f.start, 2)
        ending = f.is_one_of(letter, *b"sdmt")
        end.add(f.select(ending, f.index(2), f.index(0)))
        both = f.op("or", f.op("shl", letter, f.index(8)), after)
        ending = f.is_one_of(both, *(int.from_bytes(e, "big") for e in (b"re", b"ve", b"ll")))
        end.add(f.select(ending, f.index(3), f.index(0)))
    with f.when(f.compare("eq", end.get(), f.start), "run"):
        is_blank = f.compare("eq", first, f.index(ord(" ")))
        follows = f.compare("lt", f.add(f.start, f.index(1)), f.n)
        begin = f.add(f.start, f.convert(f.op("and", is_blank, follows), "i64"), "begin")
        kind = _low(f, f.call("i64", "class_at", f.text, begin, classes))
        space = f.compare("eq", kind, f.index(SPACE))
        end.set(f.select(space, f.start, begin))
        last = f.variable("last", f.start)
        with f.repeat("same") as loop:
            loop.leave_if(f.compare("ge", end.get(), f.n))
            here = f.call("i64", "class_at", f.text, end.get(), classes)
            loop.leave_if(f.compare("ne", _low(f, here), kind))
            last.set(end.get())
            end.add(_high(f, here))
        # White space before a word leaves its last character to the word, or alone.
        left = f.op("and", space, f.compare("lt", end.get(), f.n))
        left = f.op("and", left, f.compare("gt", last.get(), f.start))
        end.set(f.select(left, last.get(), end.get()))
    return end.get()


# --- pairs ---


def _lookup() -> _Flow:
    """lookup(fields, key) -> rank << 32 | token of a pair, or NONE."""
    f = _function("lookup", [("fields", "ptr"), ("key", "i64")], "i64", _INLINE)
    keys, values = f.table(Fields.PAIR_KEYS), f.table(Fields.PAIR_VALUES)
    start = f.op("lshr", f.mul(f.key, f.number(MIXERS[0])), f.field(Fields.PAIR_SHIFT))
    place, result = f.variable("place", start), f.variable("result", f.index(NONE))
    mask = f.field(Fields.PAIR_MASK)
    with f.repeat("probe") as loop:
        held = f.load(f.at(keys, place.get(), "i64"), "i64", stem="held")
        with f.when(f.compare("eq", held, f.key), "found"):
            result.set(f.load(f.at(values, place.get(), "i64"), "i64"))
        loop.leave_if(f.compare("eq", held, f.key))
        loop.leave_if(f.compare("eq", held, f.index(NONE)))
        place.set(f.op("and", f.add(place.get(), f.index(1)), mask))
    f.ret(result.get())
    return f


def _pair(f: _Flow, first: Value, second: Value) -> Value:
    return f.op("or", f.op("shl", first, f.index(32)), second, "pair")


def _symbols(by_characters: bool) -> _Flow:
    """symbols(text, start, end, fields, ids) -> how many a word has; their tokens are in `ids`."""
    parameters = [
        ("text", "ptr"), ("start", "i64"), ("end", "i64"), ("fields", "ptr"), ("ids", "ptr")
    ]  # fmt: skip
    f = _function("symbols", parameters, "i64")
    byte_ids = f.table(Fields.BYTE_IDS)
    place, count = f.variable("place", f.start), f.variable("count", f.index(0))
    with f.repeat("symbol") as loop:
        loop.leave_if(f.compare("ge", place.get(), f.end))
        if by_characters:
            found = _character(f, f.text, place.get())
            key = f.op("or", _low(f, found), f.number(CHARACTER << 32))
            token = f.call("i64", "lookup", f.fields, key)
            with f.when(f.compare("ne", token, f.index(NONE)), "known"):
                f.put(token, f.ids, count.get())
                count.add(1)
                place.add(_high(f, found))
            loop.again_if(f.compare("ne", token, f.index(NONE)))
            stop = f.add(place.get(), _high(f, found))
        else:
            stop = f.end
        with f.repeat("byte") as inner:
            inner.leave_if(f.compare("ge", place.get(), stop))
            f.put(f.pick(byte_ids, f.byte(f.text, place.get())), f.ids, count.get())
            count.add(1)
            place.add(1)
    f.ret(count.get())
    return f


# --- merging a short word: the best pair, again and again ---

LANES = 8  # ranks that are compared at once


def _merge_short() -> _Flow:
    """merge_short(ids, left, right, ranks, count, fields) -> how many tokens are left in `ids`.

    Tokens are a linked list; the rank of a pair stands at its first token, and is the largest
    number where there is no such pair, or no such token any more.
    """
    names = ("ids", "left", "right", "ranks", "count", "fields")
    f = _function("merge_short", [(n, "i64" if n == "count" else "ptr") for n in names], "i64")
    wide, none = vector(LANES, "i32"), f.index(-1)
    nothing = f.const(wide, -1)
    last = f.sub(f.count, f.index(1))

    def look(place: Value, following: Value) -> None:
        pair = _pair(f, f.pick(f.ids, place), f.pick(f.ids, following))
        f.put(_high(f, f.call("i64", "lookup", f.fields, pair)), f.ranks, place)

    with f.loop("clear", f.index(0), f.count, LANES) as i:
        f.store(nothing, f.at(f.ranks, i.index, "i32"))
    with f.loop("link", f.index(0), f.count) as i:
        following = f.add(i.index, f.index(1))
        f.put(i.index, f.left, following)
        f.put(following, f.right, i.index)
        with f.when(f.compare("lt", i.index, last), "pair"):
            look(i.index, following)
    with f.repeat("turn") as turn:
        with f.loop("least", f.index(0), f.count, LANES, carry=[nothing]) as i:
            ranks = f.load(f.at(f.ranks, i.index, "i32"), wide)
            i.next(f.intrinsic("umin", wide, ranks, i.carried[0]))
        least = f.intrinsic("vector.reduce.umin", "i32", i.results[0], suffix="v8i32")
        turn.leave_if(f.compare("eq", least, f.const("i32", -1)))
        block, found = f.variable("block", f.index(-LANES)), f.variable("found", f.const("i8", 0))
        with f.repeat("where") as where:
            block.add(LANES)
            ranks = f.load(f.at(f.ranks, block.get(), "i32"), wide)
            found.set(f.bitcast(f.compare("eq", ranks, f.splat(least, LANES)), "i8"))
            where.leave_if(f.compare("ne", found.get(), f.const("i8", 0)))
        lane = f.intrinsic("cttz", "i8", found.get(), f.const("i1", 1))
        at = f.add(block.get(), f.convert(lane, "i64", signed=False))
        after = f.pick(f.right, at)
        pair = _pair(f, f.pick(f.ids, at), f.pick(f.ids, after))
        f.put(f.call("i64", "lookup", f.fields, pair), f.ids, at)
        f.put(none, f.ids, after)
        f.put(none, f.ranks, at)
        f.put(none, f.ranks, after)
        with f.when(f.compare("gt", at, f.index(0)), "before"):
            look(f.pick(f.left, at), at)
        following = f.pick(f.right, after)
        f.put(following, f.right, at)
        f.put(at, f.left, following)
        with f.when(f.compare("lt", following, f.count), "behind"):
            look(at, following)
    f.ret(_close(f))
    return f


def _close(f: _Flow) -> Value:
    """Move the tokens that are left together; how many there are."""
    count = f.variable("count", f.index(0))
    with f.loop("close", f.index(0), f.count) as i:
        token = f.pick(f.ids, i.index)
        f.put(token, f.ids, count.get())
        count.add(f.convert(f.compare("ne", token, f.number(0xFFFFFFFF)), "i64"))
    return count.get()


# --- merging a long word: tokens are a linked list, pairs that can be merged a heap ---


def _record(f: _Flow, heap: Value, place: Value) -> tuple[Value, Value]:
    """The key (rank << 32 | place) and the pair of a heap's record."""
    there = f.at(heap, f.op("shl", place, f.index(1)), "i64")
    return f.load(there, "i64"), f.load(f.at(there, f.index(1), "i64"), "i64")


def _keep(f: _Flow, record: tuple[Value, Value], heap: Value, place: Value) -> None:
    there = f.at(heap, f.op("shl", place, f.index(1)), "i64")
    f.store(record[0], there)
    f.store(record[1], f.at(there, f.index(1), "i64"))


def _sift_up() -> _Flow:
    """sift_up(heap, place, key, pair): put a record there, or further up where it belongs."""
    f = _function("sift_up", [("heap", "ptr"), ("place", "i64"), ("key", "i64"), ("pair", "i64")],
                  "void")  # fmt: skip
    place = f.variable("place", f.place)
    with f.repeat("up") as loop:
        loop.leave_if(f.compare("eq", place.get(), f.index(0)))
        above = f.op("lshr", f.sub(place.get(), f.index(1)), f.index(1))
        record = _record(f, f.heap, above)
        loop.leave_if(f.compare("le", record[0], f.key, signed=False))
        _keep(f, record, f.heap, place.get())
        place.set(above)
    _keep(f, (f.key, f.pair), f.heap, place.get())
    return f


def _sift_down() -> _Flow:
    """sift_down(heap, size, key, pair): put a record at the top, or further down."""
    f = _function("sift_down", [("heap", "ptr"), ("size", "i64"), ("key", "i64"), ("pair", "i64")],
                  "void")  # fmt: skip
    place = f.variable("place", f.index(0))
    with f.repeat("down") as loop:
        left = f.add(f.op("shl", place.get(), f.index(1)), f.index(1))
        loop.leave_if(f.compare("ge", left, f.size))
        # The last one of all may have no neighbour: then it is compared with itself.
        right = f.minimum(f.add(left, f.index(1)), f.sub(f.size, f.index(1)))
        one, two = _record(f, f.heap, left), _record(f, f.heap, right)
        less = f.compare("lt", two[0], one[0], signed=False)
        least = f.select(less, two[0], one[0]), f.select(less, two[1], one[1])
        loop.leave_if(f.compare("le", f.key, least[0], signed=False))
        _keep(f, least, f.heap, place.get())
        place.set(f.select(less, right, left))
    _keep(f, (f.key, f.pair), f.heap, place.get())
    return f


def _push() -> _Flow:
    """push(heap, size, ids, place, following, fields) -> the heap's size with this pair in it."""
    f = _function("push", [("heap", "ptr"), ("size", "i64"), ("ids", "ptr"), ("place", "i64"),
                           ("following", "i64"), ("fields", "ptr")], "i64")  # fmt: skip
    pair = _pair(f, f.pick(f.ids, f.place), f.pick(f.ids, f.following))
    value = f.call("i64", "lookup", f.fields, pair)
    size = f.variable("size", f.size)
    with f.when(f.compare("ne", value, f.index(NONE)), "found"):
        key = _pair(f, _high(f, value), f.place)
        f.call("void", "sift_up", f.heap, f.size, key, pair)
        size.add(1)
    f.ret(size.get())
    return f


def _merge_long() -> _Flow:
    """merge_long(ids, left, right, heap, count, fields) -> how many tokens are left in `ids`.

    The three lists have one place more than there are tokens: the end, whose token is none.
    """
    names = ("ids", "left", "right", "heap", "count", "fields")
    f = _function("merge_long", [(n, "i64" if n == "count" else "ptr") for n in names], "i64")
    none = f.index(-1)
    size = f.variable("size", f.index(0))

    def push(place: Value, following: Value) -> None:
        given = (f.heap, size.get(), f.ids, place, following, f.fields)
        size.set(f.call("i64", "push", *given))

    f.put(none, f.ids, f.count)
    with f.loop("link", f.index(0), f.count) as i:
        following = f.add(i.index, f.index(1))
        f.put(i.index, f.left, following)
        f.put(following, f.right, i.index)
        push(i.index, following)
    with f.repeat("turn") as turn:
        turn.leave_if(f.compare("eq", size.get(), f.index(0)))
        key, pair = _record(f, f.heap, f.index(0))
        size.add(-1)
        f.call("void", "sift_down", f.heap, size.get(), *_record(f, f.heap, size.get()))
        at = _low(f, key)
        after = f.pick(f.right, at)
        now = _pair(f, f.pick(f.ids, at), f.pick(f.ids, after))
        turn.again_if(f.compare("ne", now, pair))  # its tokens are gone
        f.put(f.call("i64", "lookup", f.fields, pair), f.ids, at)
        f.put(none, f.ids, after)
        following = f.pick(f.right, after)
        f.put(following, f.right, at)
        f.put(at, f.left, following)
        with f.when(f.compare("gt", at, f.index(0)), "before"):
            push(f.pick(f.left, at), at)
        push(at, following)
    f.ret(_close(f))
    return f


# --- words that were seen, and the whole text ---


def _word() -> _Flow:
    """word(text, start, end, fields, out) -> how many tokens; -1: too little memory for it."""
    parameters = [("text", "ptr"), ("start", "i64"), ("end", "i64"), ("fields", "ptr"),
                  ("out", "ptr")]  # fmt: skip
    f = _function("word", parameters, "i64")
    capacity = f.field(Fields.CAPACITY)
    result = f.variable("result", f.index(-1))
    with f.when(f.compare("le", f.sub(f.end, f.start), capacity), "fits"):
        room = f.add(capacity, f.index(2))
        ids = f.table(Fields.WORK)
        left, right = f.at(ids, room, "i32"), f.at(ids, f.mul(room, f.index(2)), "i32")
        heap = f.at(ids, f.mul(room, f.index(3)), "i32")
        count = f.call("i64", "symbols", f.text, f.start, f.end, f.fields, ids)
        with f.either(f.compare("le", count, f.index(SHORT)), "short") as ways:
            result.set(f.call("i64", "merge_short", ids, left, right, heap, count, f.fields))
            ways.otherwise()
            result.set(f.call("i64", "merge_long", ids, left, right, heap, count, f.fields))
        with f.loop("copy", f.index(0), result.get()) as i:
            f.put(f.pick(ids, i.index), f.out, i.index)
    f.ret(result.get())
    return f


def _key(f: _Flow, start: Value, length: Value) -> tuple[Value, Value]:
    """The bytes of a word of at most KEY, zeros behind them, and its place among kept words."""
    wide = vector(KEY, "i8")
    found = f.load(f.at(f.text, start, "i8"), wide, stem="bytes")
    inside = f.compare("lt", f.step(KEY, "i8"), f.splat(f.convert(length, "i8"), KEY))
    key = f.bitcast(f.select(inside, found, f.const(wide, 0)), vector(4, "i64"), "key")
    mixed = length
    for lane, mixer in enumerate(MIXERS):
        mixed = f.op("xor", mixed, f.mul(f.extract(key, lane), f.number(mixer)), "mixed")
    mixed = f.op("xor", mixed, f.op("lshr", mixed, f.index(32)), "mixed")
    place = f.op("lshr", f.mul(mixed, f.number(MIXERS[3])), f.field(Fields.KEPT_SHIFT))
    return key, f.at(f.table(Fields.KEPT), f.mul(place, f.index(ENTRY)), "i8", "slot")


def _encode() -> _Flow:
    """The whole text; below 0: less the length of a word that is too long for the memory."""
    f = _Flow(NAME, [("text", "ptr"), ("n", "i64"), ("fields", "ptr")], "i64")
    at = f.variable("at", f.field(Fields.AT))
    count = f.variable("count", f.field(Fields.COUNT))
    missing, known = f.variable("missing", f.index(0)), f.variable("known", f.const("i1", 0))
    held_type, ids = vector(HELD, "i32"), f.table(Fields.OUT)
    with f.repeat("word") as loop:
        loop.leave_if(f.compare("ge", at.get(), f.n))
        start = at.get()
        end = f.call("i64", "word_end", f.text, start, f.n, f.fields)
        length = f.sub(end, start)
        out = f.at(ids, count.get(), "i32")
        is_short = f.compare("le", length, f.index(KEY))
        key, entry = _key(f, start, f.minimum(length, f.index(KEY)))
        held = f.load(f.at(entry, f.index(KEY), "i8"), held_type, 4, stem="held")
        note = f.convert(f.extract(held, HELD - 1), "i64", signed=False)
        differs = f.op("xor", f.load(entry, key.type), key)
        differs = f.intrinsic("vector.reduce.or", "i64", differs, suffix="v4i64")
        same = f.compare("eq", f.op("and", note, f.index(0xFF)), length)
        same = f.op("and", same, f.compare("eq", differs, f.index(0)))
        known.set(f.op("and", same, is_short))
        with f.either(known.get(), "known") as ways:
            f.store(held, out)
            count.add(f.op("lshr", note, f.index(8)))
            ways.otherwise()
            made = f.call("i64", "word", f.text, start, end, f.fields, out)
            with f.when(f.compare("lt", made, f.index(0)), "lacking"):
                missing.set(length)
            loop.leave_if(f.compare("lt", made, f.index(0)))
            count.add(made)
            fits = f.op("and", is_short, f.compare("lt", made, f.index(HELD)))
            with f.when(fits, "keep"):
                note = f.op("or", length, f.op("shl", made, f.index(8)))
                written = f.load(out, held_type, stem="written")
                written = f.insert(written, f.convert(note, "i32"), HELD - 1)
                f.store(key, entry, 8)
                f.store(written, f.at(entry, f.index(KEY), "i8"))
        at.set(end)
    done = f.compare("eq", missing.get(), f.index(0))
    for name, value in ((Fields.AT, at), (Fields.COUNT, count)):
        kept = f.select(done, f.index(0), value.get())
        f.store(kept, f.at(f.fields, f.index(name), "i64"))
    f.ret(f.select(done, count.get(), f.neg(missing.get())))
    return f
