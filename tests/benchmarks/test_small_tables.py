"""The two tables of operations and layouts run, and say what they are for."""

from benchmarks import layout, operation_cost


def test_views_are_cheaper_than_copies(monkeypatch):
    """O(1) against O(N): at 512 x 512 a copy costs more than twenty views."""
    monkeypatch.setattr(layout, "ROUNDS", 3)
    milliseconds = {what: ms for what, ms, _ in layout.rows(512)}
    views = [ms for what, ms in milliseconds.items() if what.endswith("a view")]
    assert len(views) == 3
    assert max(views) * 20 < milliseconds["x.T.contiguous(), a copy"]


def test_every_operation_is_compared_with_numpy(monkeypatch):
    """The table itself: each row runs both ways and gives the same numbers."""
    monkeypatch.setattr(operation_cost, "BLOCKS", 1)
    monkeypatch.setattr(operation_cost, "CALLS", 2)
    for name in operation_cost.cases():
        assert len(operation_cost.measure(name)) == 3
    assert set(operation_cost.OPERATIONS) <= set(operation_cost.cases())
