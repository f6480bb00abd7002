"""The native code that finds where the words of a text end, character by character.

It does what `split` (words.py) defines. Knows bytes, characters and their classes, never tokens.
"""

from __future__ import annotations

from tinytorch.codegen.builder import Value
from tinytorch.text.flow import INLINE, Fields, Flow, Variable, function, high, low
from tinytorch.text.words import ALPHA, DIGITS, NUMBER, OTHER, POINTS, SPACE, Words

BROKEN = POINTS  # stands for a byte that is no UTF-8


# --- characters ---


def decode() -> Flow:
    """decode(text, place) -> code point | bytes << 32 of a character that is not ASCII.

    Source: Unicode 16, table 3-7: what is well-formed UTF-8. A byte that belongs to no such
    sequence is one character, BROKEN, as Python's "surrogateescape" has it.
    """
    f = function("decode", [("text", "ptr"), ("place", "i64")], "i64")
    first, *rest = (f.byte(f.text, f.place, i) for i in range(4))
    result = f.number(BROKEN | 1 << 32)
    point, follows = first, f.const("i1", 1)
    # of each length: lead bytes, bits of the lead byte, code points
    ranges = {
        2: (0xC2, 0xE0, 0x1F, 0x80, 0x800),
        3: (0xE0, 0xF0, 0x0F, 0x800, 0x10000),
        4: (0xF0, 0xF5, 0x07, 0x10000, BROKEN),
    }
    for length, (lead, end, bits, least, above) in ranges.items():
        point = f.op("and", first, f.index(bits))
        follows = f.const("i1", 1)
        for byte in rest[: length - 1]:
            point = f.op("shl", point, f.index(6))
            point = f.op("or", point, f.op("and", byte, f.index(0x3F)), "point")
            continues = f.compare("eq", f.op("and", byte, f.index(0xC0)), f.index(0x80))
            follows = f.op("and", follows, continues, "follows")
        for condition in (
            f.compare("ge", first, f.index(lead)), f.compare("lt", first, f.index(end)),
            f.compare("ge", point, f.index(least)), f.compare("lt", point, f.index(above)),
            f.compare("ne", f.op("lshr", point, f.index(11)), f.index(0x1B)),  # no surrogate
        ):  # fmt: skip
            follows = f.op("and", follows, condition, "follows")
        found = f.op("or", point, f.number(length << 32))
        result = f.select(follows, found, result, "result")
    f.ret(result)
    return f


def character(f: Flow, text: Value, place: Value) -> Value:
    """The character at a place, as `decode` gives it; ASCII without a call."""
    byte = f.byte(text, place)
    found = f.variable("character", f.op("or", byte, f.number(1 << 32)))
    with f.when(f.compare("ge", byte, f.index(0x80)), "wide"):
        found.set(f.call("i64", "decode", text, place))
    return found.get()


def class_at() -> Flow:
    """class_at(text, place, classes) -> class | bytes << 32 of the character at a place."""
    parameters = [("text", "ptr"), ("place", "i64"), ("classes", "ptr")]
    f = function("class_at", parameters, "i64", INLINE)
    found = character(f, f.text, f.place)
    kind = f.byte(f.classes, low(f, found))
    f.ret(f.op("or", kind, f.op("shl", high(f, found), f.index(32))))
    return f


# --- words ---


def word_end(words: Words) -> Flow:
    """word_end(text, start, n, fields) -> where the word that begins at `start` < n ends."""
    parameters = [("text", "ptr"), ("start", "i64"), ("n", "i64"), ("fields", "ptr")]
    f = function("word_end", parameters, "i64", INLINE)
    if words == "gpt2":
        f.ret(_gpt2_end(f))
    elif words in DIGITS:
        f.ret(_later_end(f, DIGITS[words], to_the_end=words == "cl100k"))
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


def _gpt2_end(f: Flow) -> Value:
    """GPT-2's pattern; see `gpt2_words` in words.py. Its alternatives are taken in their order."""
    classes = f.table(Fields.CLASSES)
    first = f.byte(f.text, f.start)
    end = f.variable("end", f.start)
    with f.when(f.compare("eq", first, f.index(ord("'"))), "quote"):
        _contraction(f, end, fold=0)
    with f.when(f.compare("eq", end.get(), f.start), "run"):
        is_blank = f.compare("eq", first, f.index(ord(" ")))
        follows = f.compare("lt", f.add(f.start, f.index(1)), f.n)
        begin = f.add(f.start, f.convert(f.op("and", is_blank, follows), "i64"), "begin")
        kind = low(f, f.call("i64", "class_at", f.text, begin, classes))
        space = f.compare("eq", kind, f.index(SPACE))
        end.set(f.select(space, f.start, begin))
        last = _run(f, end, kind)
        left = f.op("and", space, _is_left(f, end, last))
        end.set(f.select(left, last.get(), end.get()))
    return end.get()


def _later_end(f: Flow, digits: int, to_the_end: bool) -> Value:
    """The pattern of Llama 3 and its like; see `later_words` in words.py."""
    classes = f.table(Fields.CLASSES)
    first = f.byte(f.text, f.start)
    end = f.variable("end", f.start)
    here = f.call("i64", "class_at", f.text, f.start, classes)
    kind = low(f, here)
    with f.when(f.compare("eq", first, f.index(ord("'"))), "quote"):
        _contraction(f, end, fold=0x20)
        # Unicode's U+017F is a small s too, when large and small letters are the same.
        long_s = f.op("or", f.op("shl", f.byte(f.text, f.start, 1), f.index(8)),
                      f.byte(f.text, f.start, 2))  # fmt: skip
        long_s = f.compare("eq", long_s, f.index(int.from_bytes("\u017f".encode(), "big")))
        end.set(f.select(long_s, f.add(f.start, f.index(3)), end.get()))

    def begins(begin: Value, wanted: int) -> Value:
        """Whether there is a character of this class."""
        found = low(f, f.call("i64", "class_at", f.text, begin, classes))
        is_there = f.compare("lt", begin, f.n)
        return f.op("and", is_there, f.compare("eq", found, f.index(wanted)))

    with f.when(_is_at(f, end), "letters"):
        before = f.op("or", f.is_one_of(kind, ALPHA, NUMBER), f.is_one_of(first, *b"\r\n"))
        begin = f.select(before, f.start, f.add(f.start, high(f, here)))
        with f.when(begins(begin, ALPHA), "word"):
            end.set(begin)
            _run(f, end, f.index(ALPHA))
    with f.when(f.op("and", _is_at(f, end), f.compare("eq", kind, f.index(NUMBER))), "number"):
        _run(f, end, f.index(NUMBER), digits)
    with f.when(_is_at(f, end), "other"):
        blank = f.convert(f.compare("eq", first, f.index(ord(" "))), "i64", signed=False)
        begin = f.add(f.start, blank)
        with f.when(begins(begin, OTHER), "signs"):
            end.set(begin)
            _run(f, end, f.index(OTHER))
            with f.repeat("lines") as loop:
                loop.leave_if(f.compare("ge", end.get(), f.n))
                loop.leave_if(f.opposite(f.is_one_of(f.byte(f.text, end.get()), *b"\r\n")))
                end.add(1)
    with f.when(_is_at(f, end), "space"):
        line = f.variable("line", f.start)
        last = _run(f, end, f.index(SPACE), line=line)
        left = f.select(_is_left(f, end, last), last.get(), end.get())
        has_line = f.compare("gt", line.get(), f.start)
        if to_the_end:
            has_line = f.op("and", has_line, f.compare("lt", end.get(), f.n))
        end.set(f.select(has_line, line.get(), left))
    return end.get()


def _is_at(f: Flow, end: Variable) -> Value:
    """Whether no alternative has been taken yet."""
    return f.compare("eq", end.get(), f.start)


def _contraction(f: Flow, end: Variable, fold: int) -> None:
    """Go on behind 's, 't, 're, 've, 'm, 'll or 'd; with fold = 0x20 in capitals too."""
    letter, after = (f.op("or", f.byte(f.text, f.start, i), f.index(fold)) for i in (1, 2))
    ending = f.is_one_of(letter, *b"sdmt")
    end.add(f.select(ending, f.index(2), f.index(0)))
    both = f.op("or", f.op("shl", letter, f.index(8)), after)
    ending = f.is_one_of(both, *(int.from_bytes(e, "big") for e in (b"re", b"ve", b"ll")))
    end.add(f.select(ending, f.index(3), f.index(0)))


def _run(
    f: Flow, end: Variable, kind: Value, most: int | None = None, line: Variable | None = None
) -> Variable:
    """Go on behind the characters of a class, `most` of them.

    Returns:
        where the last of them begins; behind the last that ends a line is `line` afterwards.
    """
    classes, last = f.table(Fields.CLASSES), f.variable("last", f.start)
    count = f.variable("count", f.index(0))
    with f.repeat("same") as loop:
        loop.leave_if(f.compare("ge", end.get(), f.n))
        if most is not None:
            loop.leave_if(f.compare("ge", count.get(), f.index(most)))
            count.add(1)
        here = f.call("i64", "class_at", f.text, end.get(), classes)
        loop.leave_if(f.compare("ne", low(f, here), kind))
        last.set(end.get())
        end.add(high(f, here))
        if line is not None:
            ends = f.is_one_of(f.byte(f.text, last.get()), *b"\r\n")
            line.set(f.select(ends, end.get(), line.get()))
    return last


def _is_left(f: Flow, end: Variable, last: Variable) -> Value:
    """Whether white space stands before a word, to which it leaves its last character, or alone."""
    before = f.compare("lt", end.get(), f.n)
    return f.op("and", before, f.compare("gt", last.get(), f.start))
