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

from tinytorch.codegen.builder import Value, vector
from tinytorch.text.flow import INLINE, Fields, Flow, function, high, low
from tinytorch.text.word_kernel import character, class_at, decode, word_end
from tinytorch.text.words import Words

NAME = "tinytorch_encode"
PADDING = 64  # zero bytes behind a text, so that a key is read in one piece wherever a word begins
SLACK = 8  # ids that are written at once
KEY = 32  # bytes of the longest word that is kept
ENTRY = 64  # bytes of a kept word: its key, then HELD numbers
HELD = 8  # length + 256 * count, then at most 7 ids
SHORT = 64  # symbols of the longest word without a heap
NONE = -1  # in a table of pairs: no such pair
CHARACTER = 0xFFFFFFFF  # the first half of the key of a character's token
# Note [words that are tokens]
# Some tokenizers give a word that is a token that token, whatever the merges make of it. Where they
# make something else, its tokens are a way through the table of pairs: from NODE, a node and a
# token lead to the next node, and the last node and END to the token.
NODE = 0x80000000
END = 0xFFFFFFFF
# Numbers without pattern: pi's hexadecimal digits, made odd (Knuth vol. 3, section 6.4)
MIXERS = (0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89)


def work_bytes(symbols: int) -> int:
    """Memory for a word of so many symbols: three numbers a symbol, and a heap of two records."""
    return (3 * 4 + 2 * 16) * (symbols + 2)


def module_text(words: Words, by_characters: bool, whole_words: bool = False) -> str:
    """The module for one kind of tokenizer.

    Args:
        words: how a text is cut, see `split` in words.py.
        by_characters: a word's symbols are its characters' tokens, where there are such; else, and
            always without this, those of its bytes.
        whole_words: whether a word that is a token is that token; see Note [words that are tokens].
    """
    functions = [
        decode(), _lookup(), _symbols(by_characters), _merge_short(), _sift_up(), _sift_down(),
        _push(), _merge_long(), class_at(), word_end(words), _whole_word(),
        _word(whole_words), _encode(),
    ]  # fmt: skip
    texts = [f.finish() for f in functions]
    declared = frozenset[str]().union(*(f.declarations for f in functions))
    return "\n".join([*sorted(declared), *texts]) + "\n"


# --- pairs ---


def _lookup() -> Flow:
    """lookup(fields, key) -> rank << 32 | token of a pair, or NONE."""
    f = function("lookup", [("fields", "ptr"), ("key", "i64")], "i64", INLINE)
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


def _pair(f: Flow, first: Value, second: Value) -> Value:
    return f.op("or", f.op("shl", first, f.index(32)), second, "pair")


def _symbols(by_characters: bool) -> Flow:
    """symbols(text, start, end, fields, ids) -> how many a word has; their tokens are in `ids`."""
    parameters = [
        ("text", "ptr"), ("start", "i64"), ("end", "i64"), ("fields", "ptr"), ("ids", "ptr")
    ]  # fmt: skip
    f = function("symbols", parameters, "i64")
    byte_ids = f.table(Fields.BYTE_IDS)
    place, count = f.variable("place", f.start), f.variable("count", f.index(0))
    with f.repeat("symbol") as loop:
        loop.leave_if(f.compare("ge", place.get(), f.end))
        if by_characters:
            found = character(f, f.text, place.get())
            key = f.op("or", low(f, found), f.number(CHARACTER << 32))
            token = f.call("i64", "lookup", f.fields, key)
            with f.when(f.compare("ne", token, f.index(NONE)), "known"):
                f.put(token, f.ids, count.get())
                count.add(1)
                place.add(high(f, found))
            loop.again_if(f.compare("ne", token, f.index(NONE)))
            stop = f.add(place.get(), high(f, found))
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


def _merge_short() -> Flow:
    """merge_short(ids, left, right, ranks, count, fields) -> how many tokens are left in `ids`.

    Tokens are a linked list; the rank of a pair stands at its first token, and is the largest
    number where there is no such pair, or no such token any more.
    """
    names = ("ids", "left", "right", "ranks", "count", "fields")
    f = function("merge_short", [(n, "i64" if n == "count" else "ptr") for n in names], "i64")
    wide, none = vector(LANES, "i32"), f.index(-1)
    nothing = f.const(wide, -1)
    last = f.sub(f.count, f.index(1))

    def look(place: Value, following: Value) -> None:
        pair = _pair(f, f.pick(f.ids, place), f.pick(f.ids, following))
        f.put(high(f, f.call("i64", "lookup", f.fields, pair)), f.ranks, place)

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


def _close(f: Flow) -> Value:
    """Move the tokens that are left together; how many there are."""
    count = f.variable("count", f.index(0))
    with f.loop("close", f.index(0), f.count) as i:
        token = f.pick(f.ids, i.index)
        f.put(token, f.ids, count.get())
        count.add(f.convert(f.compare("ne", token, f.number(0xFFFFFFFF)), "i64"))
    return count.get()


# --- merging a long word: tokens are a linked list, pairs that can be merged a heap ---


def _record(f: Flow, heap: Value, place: Value) -> tuple[Value, Value]:
    """The key (rank << 32 | place) and the pair of a heap's record."""
    there = f.at(heap, f.op("shl", place, f.index(1)), "i64")
    return f.load(there, "i64"), f.load(f.at(there, f.index(1), "i64"), "i64")


def _keep(f: Flow, record: tuple[Value, Value], heap: Value, place: Value) -> None:
    there = f.at(heap, f.op("shl", place, f.index(1)), "i64")
    f.store(record[0], there)
    f.store(record[1], f.at(there, f.index(1), "i64"))


def _sift_up() -> Flow:
    """sift_up(heap, place, key, pair): put a record there, or further up where it belongs."""
    f = function("sift_up", [("heap", "ptr"), ("place", "i64"), ("key", "i64"), ("pair", "i64")],
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


def _sift_down() -> Flow:
    """sift_down(heap, size, key, pair): put a record at the top, or further down."""
    f = function("sift_down", [("heap", "ptr"), ("size", "i64"), ("key", "i64"), ("pair", "i64")],
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


def _push() -> Flow:
    """push(heap, size, ids, place, following, fields) -> the heap's size with this pair in it."""
    f = function("push", [("heap", "ptr"), ("size", "i64"), ("ids", "ptr"), ("place", "i64"),
                           ("following", "i64"), ("fields", "ptr")], "i64")  # fmt: skip
    pair = _pair(f, f.pick(f.ids, f.place), f.pick(f.ids, f.following))
    value = f.call("i64", "lookup", f.fields, pair)
    size = f.variable("size", f.size)
    with f.when(f.compare("ne", value, f.index(NONE)), "found"):
        key = _pair(f, high(f, value), f.place)
        f.call("void", "sift_up", f.heap, f.size, key, pair)
        size.add(1)
    f.ret(size.get())
    return f


def _merge_long() -> Flow:
    """merge_long(ids, left, right, heap, count, fields) -> how many tokens are left in `ids`.

    The three lists have one place more than there are tokens: the end, whose token is none.
    """
    names = ("ids", "left", "right", "heap", "count", "fields")
    f = function("merge_long", [(n, "i64" if n == "count" else "ptr") for n in names], "i64")
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
        at = low(f, key)
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


def _whole_word() -> Flow:
    """whole_word(ids, count, fields) -> how many tokens are left: 1 of a word that is one."""
    f = function("whole_word", [("ids", "ptr"), ("count", "i64"), ("fields", "ptr")], "i64")
    node, at = f.variable("node", f.number(NODE)), f.variable("at", f.index(0))
    found, result = f.variable("found", f.index(0)), f.variable("result", f.count)
    with f.repeat("way") as loop:
        loop.leave_if(f.compare("ge", at.get(), f.count))
        found.set(f.call("i64", "lookup", f.fields, _pair(f, node.get(), f.pick(f.ids, at.get()))))
        loop.leave_if(f.compare("eq", found.get(), f.index(NONE)))
        node.set(low(f, found.get()))
        at.add(1)
    with f.when(f.compare("eq", at.get(), f.count), "through"):
        token = f.call("i64", "lookup", f.fields, _pair(f, node.get(), f.number(END)))
        with f.when(f.compare("ne", token, f.index(NONE)), "token"):
            f.put(token, f.ids, f.index(0))
            result.set(f.index(1))
    f.ret(result.get())
    return f


def _word(whole_words: bool) -> Flow:
    """word(text, start, end, fields, out) -> how many tokens; -1: too little memory for it."""
    parameters = [("text", "ptr"), ("start", "i64"), ("end", "i64"), ("fields", "ptr"),
                  ("out", "ptr")]  # fmt: skip
    f = function("word", parameters, "i64")
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
        if whole_words:
            result.set(f.call("i64", "whole_word", ids, result.get(), f.fields))
        with f.loop("copy", f.index(0), result.get()) as i:
            f.put(f.pick(ids, i.index), f.out, i.index)
    f.ret(result.get())
    return f


def _key(f: Flow, start: Value, length: Value) -> tuple[Value, Value]:
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


def _encode() -> Flow:
    """The whole text; below 0: less the length of a word that is too long for the memory."""
    f = Flow(NAME, [("text", "ptr"), ("n", "i64"), ("fields", "ptr")], "i64")
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
