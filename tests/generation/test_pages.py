"""pages.py: who has which page, what is kept, what goes first."""

import pytest

from tinytorch.generation.pages import Pages, keys_of


def test_pages_are_counted():
    """Ground truth: by hand: two holders, then one, then none; kept pages count as free."""
    pages = Pages(4)
    a, b = pages.take(2)
    pages.keep(a, b"a")
    assert (pages.free, pages.find(b"a"), pages.find(b"b")) == (2, a, None)
    pages.give_back([a, b])
    assert pages.free == 3
    pages.give_back([a])
    assert pages.free == 4 and pages.find(b"a") == a and pages.free == 3


def test_who_was_used_longest_ago_goes():
    """Ground truth: by hand; of one sequence its last page goes first."""
    pages = Pages(4)
    for names in ((b"1", b"2"), (b"3", b"4")):
        taken = pages.take(2)
        for page, name in zip(taken, names, strict=True):
            pages.keep(page, name)
        pages.give_back(taken)
    pages.give_back([pages.find(b"1")])
    gone = []
    for _ in range(4):
        pages.take(1)
        gone += [n for n in (b"1", b"2", b"3", b"4") if n not in gone and not known(pages, n)]
    assert gone == [b"2", b"4", b"3", b"1"]


def known(pages, name):
    return name in pages._of_key


def test_a_key_has_one_page_and_a_page_one_key():
    """Ground truth: the first that was kept; another one with the same key is nobody's later."""
    pages = Pages(2)
    a, b = pages.take(2)
    for page, key in ((a, b"x"), (b, b"x"), (a, b"y")):
        pages.keep(page, key)
    assert pages.find(b"x") == a and pages.find(b"y") is None
    pages.give_back([a, b, a])
    assert pages.free == 2 and pages.find(b"x") == a


def test_forgotten_pages_are_free():
    """Invariant: as many pages as before, and none is found; who has one has it still."""
    pages = Pages(3)
    taken = pages.take(3)
    for i, page in enumerate(taken):
        pages.keep(page, bytes([i]))
    pages.give_back(taken[:2])
    pages.forget()
    assert pages.free == 2 and all(pages.find(bytes([i])) is None for i in range(3))
    pages.give_back(taken[2:])
    assert sorted(pages.take(3)) == sorted(taken)


@pytest.mark.parametrize("size", [1, 4])
def test_keys_are_of_all_tokens_before(size):
    """Invariant: equal where the tokens up to there are, else not."""
    one = keys_of(list(range(16)), size)
    other = keys_of([9, *range(1, 16)], size)
    assert len(one) == 16 // size and len(set(one) | set(other)) == 2 * len(one)
    assert keys_of(list(range(15)), size) == one[: 15 // size]
