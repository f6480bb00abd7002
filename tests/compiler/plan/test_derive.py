"""Tasks that need not run at each call. Ground truth: tasks by hand, counts, eager numbers."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tests.compiler.plan.test_lower import task
from tinytorch import nn
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.plan.arena import lifetimes_of
from tinytorch.compiler.plan.derive import check_derived, derive
from tinytorch.compiler.plan.stages import Storage, TaskList
from tinytorch.primitives.primitive import Spec

W, OUT = Value(Spec((4,), float32)), Value(Spec((4,), float32))
X, C, S, R = (Storage(kind, 16) for kind in ("argument", "constant", "state", "result"))
P, Q, T = (Storage("temporary", 16) for _ in range(3))
PACK, AGAIN, FILL = task([S], [P]), task([P, C], [Q]), task([], [T])
USE, LAST = task([X, Q], [T]), task([T, P], [R])


def program(*tasks, frozen: bool = True, **changes) -> TaskList:
    graph = Graph(states=[W], frozen=[W] if frozen else [])
    storages = [X, C, S, R, P, Q, T]
    whole = TaskList(
        list(tasks), storages, {}, {W: S}, {W: C}, {OUT: R}, graph, graph
    )  # fmt: skip
    return replace(whole, **changes)


def test_what_follows_from_frozen_states_comes_first():
    """Ground truth: by hand. T is filled with a constant, and then written by who reads X."""
    found = derive(program(FILL, PACK, USE, AGAIN, LAST))
    assert found.tasks == [PACK, AGAIN, FILL, USE, LAST] and found.derived == 2
    derived_alone = derive(program(PACK, AGAIN, FILL, LAST))
    assert derived_alone.derived == 3  # what reads nothing follows from nothing


def test_nothing_is_derived_where_nothing_is_frozen():
    """Ground truth: the program itself."""
    whole = program(PACK, AGAIN, USE, LAST, frozen=False)
    assert derive(whole) is whole


STATUS = Storage("status", 16)
LOOKUP = replace(AGAIN, looks_up=True)


def check(*reads):
    return replace(task(list(reads), [STATUS]), check=True)


def test_checks_of_frozen_indices_are_derived_and_so_is_what_needs_them():
    """Ground truth: by hand; a check of what is given at each call is made at each call."""
    frozen, each_call = check(S, P), check(X)
    found = derive(program(PACK, frozen, each_call, LOOKUP, USE, LAST))
    assert found.tasks[:3] == [PACK, frozen, LOOKUP] and found.derived == 3
    check_derived(replace(found, storages=[*found.storages, STATUS]))


def test_a_lookup_whose_check_may_be_made_at_each_call_is_not_derived():
    """Ground truth: by hand: the check reads what follows from a frozen state, and an argument."""
    found = derive(program(PACK, check(X, P), LOOKUP, USE, LAST))
    assert found.tasks[: found.derived] == [PACK]


def test_what_is_kept_is_alive_from_the_first_task_to_the_last():
    """Ground truth: by hand: P and Q are read at each call, where the packing is not repeated."""
    found = lifetimes_of(derive(program(PACK, AGAIN, FILL, USE, LAST)))
    assert found == {P: (0, 4), Q: (0, 4), T: (2, 4)}
    between = Storage("temporary", 16)
    tasks = task([S], [between]), task([between], [P]), task([X, P], [R])
    found = lifetimes_of(derive(program(*tasks, storages=[X, C, S, R, P, between])))
    assert found == {between: (0, 1), P: (0, 2)}


@pytest.mark.parametrize(("phrase", "tasks"), [
    ("must run at each call", [task([S], [R]), USE]),
    ("reads what is not there", [task([X], [P]), USE]),
    ("another task writes", [PACK, task([X], [P])]),
    ("reads what is not there", [LOOKUP, USE]),
])  # fmt: skip
def test_wrong_programs_are_refused(phrase, tasks):
    """Ground truth: each is wrong by construction."""
    with pytest.raises(CompileError, match=phrase):
        check_derived(program(*tasks, derived=1))


# the whole way: writes are seen


class Counted:
    """A compiled product with the squares of a frozen weight, which are derived."""

    def __init__(self, w: tt.Tensor, **settings):
        self.call = tt.compile(lambda x: x @ (w * w).T, freeze=True, threads=1, **settings)
        self.w, self.x = w, tt.Tensor(np.random.default_rng(1).standard_normal((64, 64)))

    def agrees(self) -> bool:
        """Whether it gives what NumPy gives now: sums of 64 products in float64."""
        wanted = self.x.numpy() @ np.square(self.w.detach().tolist()).T
        found = self.call(self.x).numpy()
        return bool(np.abs(found - wanted).max() <= 64 * 2**-53 * np.abs(wanted).max() * 64)


def weight() -> tt.Tensor:
    return tt.Tensor(np.random.default_rng(0).standard_normal((64, 64)), requires_grad=True)


def _fill(w: tt.Tensor) -> None:
    with tt.no_grad():
        w.mul_(2.0)


def _by_view(w: tt.Tensor) -> None:
    w.detach()[3].fill_(7.0)


def _by_numpy(w: tt.Tensor) -> None:
    w.detach().numpy()[2] = 5.0


def _by_dlpack(w: tt.Tensor) -> None:
    np.from_dlpack(w.detach())[2] = 5.0


def _by_state_dict(w: tt.Tensor) -> None:
    w.data.copy_(tt.ones(64, 64, dtype="float64"))


def _compiled(w: tt.Tensor) -> None:
    @tt.compile
    def grow():
        with tt.no_grad():
            w.assign_(w * 3.0)

    grow()
    del grow
    gc.collect()


def _trained(w: tt.Tensor) -> None:
    optimizer = tt.optim.SGD([w], lr=0.1)

    @tt.compile
    def step():
        loss = (w * w).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2):
        step()


def _moved(w: tt.Tensor) -> None:
    w.data = tt.Tensor(np.full((64, 64), 2.0))


WRITES = [_fill, _by_view, _by_numpy, _by_dlpack, _by_state_dict, _compiled, _trained, _moved]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_seen_however_it_is_done(write):
    """Ground truth: NumPy on the numbers of now; twice, since the second finds what was kept."""
    found = Counted(weight())
    assert found.agrees() and found.agrees()
    for _ in range(2):
        write(found.w)
        assert found.agrees() and found.agrees()


def test_a_write_between_the_calls_of_two_programs_is_seen_by_both():
    """Ground truth: NumPy: what one has looked at, the other has not."""
    w = weight()
    a, b = Counted(w), Counted(w)
    assert a.agrees() and b.agrees()
    _fill(w)
    assert a.agrees() and b.agrees()


def test_it_is_derived_once_for_each_write(monkeypatch):
    """Ground truth: counts: results handed out, and writes to other Tensors, are none."""
    found = Counted(weight())
    found.agrees()
    runner = found.call._last._idle[-1]
    assert runner.derivation
    ran = []
    for segment in runner.derivation:
        monkeypatch.setattr(segment, "run", lambda run=segment.run: (ran.append(1), run())[1])
    other = tt.zeros(3)
    for _ in range(3):
        found.call(found.x).numpy()
        other.fill_(2.0)
    assert not ran
    _fill(found.w)
    found.call(found.x)
    found.call(found.x)
    assert len(ran) == 1


def test_programs_of_equal_graphs_keep_what_is_theirs():
    """Ground truth: NumPy. Two functions over different weights share a program and its arenas."""
    a, b = Counted(weight()), Counted(tt.Tensor(np.ones((64, 64)), requires_grad=True))
    for _ in range(2):
        assert a.agrees() and b.agrees()


@pytest.mark.parametrize("target", targets(), ids=str)
def test_a_network_gives_the_same_numbers(target):
    """Ground truth: the program that is not frozen, within float32 sums of 9 x 16 products of size
    1 and two roundings more; bit for bit for any number of threads."""
    tt.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(16 * 4 * 4, 5),
    ).eval()  # fmt: skip
    x = tt.randn(3, 3, 16, 16)
    plain = tt.compile(model, target=target)(x).numpy()
    found = [tt.compile(model, target=target, freeze=True, threads=n)(x).numpy() for n in (1, 2, 3)]
    np.testing.assert_allclose(found[0], plain, rtol=0, atol=150 * 2**-24 * 10)
    assert all((f == found[0]).all() for f in found)


def test_a_loop_and_an_index():
    """Ground truth: eager. A table looked up with constant indices, a loop over a frozen state."""
    table, steps = tt.Tensor(np.arange(12.0).reshape(4, 3)), tt.Tensor(np.ones((5, 3)))

    def run(x):
        rows = nn.functional.embedding(tt.tensor([1, 3]), table)
        total, _ = tt.scan(lambda c, s: (c + s, c), x, steps)
        return rows * x, total

    x = tt.Tensor(np.ones(3))
    for mine, its in zip(tt.compile(run, freeze=True)(x), run(x), strict=True):
        np.testing.assert_array_equal(mine.numpy(), its.numpy())


def test_explain_says_what_is_derived():
    """Ground truth: by hand."""
    found = Counted(weight())
    found.agrees()
    assert "derived once of frozen states: 32.0 KiB" in found.call.explain()


@pytest.mark.parametrize("target", targets(), ids=str)
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_frozen_weight_is_packed_beforehand(rows, target):
    """Ground truth: eager, in float64 sums of 96 products of size 1; and packing is a task of its
    own that is derived, but for a few rows, which read weights as they lie."""
    layer = nn.Linear(96, 80).to(tt.float64)
    x = tt.Tensor(np.random.default_rng(3).standard_normal((rows, 96)))
    compiled = tt.compile(layer, freeze=True, target=target)
    with tt.no_grad():
        assert np.abs(compiled(x).numpy() - layer(x).numpy()).max() <= 96 * 2**-52 * 10
    assert rows == 3 or (compiled.stages()["derive"].derived > 0) == (rows == 64)
