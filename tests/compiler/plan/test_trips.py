"""Places of trips against lists written by hand."""

from tinytorch.compiler.plan.trips import Walk, Way


def test_a_walk_goes_on_by_its_step_and_comes_back():
    """Ground truth: rows of a stack, backward; two places by turns."""
    assert [Walk(0, 24, -8, 4).at(t) for t in range(4)] == [24, 16, 8, 0]
    assert [Walk(1, 4, 16, 2).at(t) for t in range(5)] == [4, 20, 4, 20, 4]
    assert [Walk(2, 12).at(t) for t in range(3)] == [12, 12, 12]


def test_the_first_and_the_last_trip_may_go_elsewhere():
    """Ground truth: what is carried: from the initial value, by turns, to the result."""
    each, first, last = Walk(2), Walk(0), Walk(1)
    way = Way(each, first, last)
    assert [way.of(t, 4) for t in range(4)] == [first, each, each, last]
    assert way.of(0, 1) is last  # of a single trip the last counts
    assert [Way(each).of(t, 2) for t in range(2)] == [each, each]
    assert Way(each, first).of(0, 1) is first
