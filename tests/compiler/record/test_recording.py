"""Recordings: where the ends of a graph belong in the user's Python, and what is done again."""

import types

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.record.test_recorder import arrays_of, tensor
from tinytorch import nn
from tinytorch.compiler.graph.graph import step_reference
from tinytorch.compiler.record.recording import record
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


def test_a_training_step_is_one_graph():
    """Ground truth: the eager step; and every Tensor is as it was before the capture."""
    w = tensor(3, 2, requires_grad=True)
    count = Tensor(0.0)
    x, y = tensor(4, 3, seed=1), tensor(4, 2, seed=2)

    def step(x, y):
        w.grad = None
        loss = ((x @ w - y) ** 2).mean()
        loss.backward()
        with no_grad():
            count.assign_(count + 1)
            w.assign_(w - 0.1 * w.grad)
        w.grad = None
        return loss

    before = w.numpy().copy(), w._buffer, count._buffer
    captured = record(step, (x, y), {})
    assert (w._buffer, count._buffer) == before[1:]
    assert w._value is None and w.grad is None and w.is_leaf
    assert (w.numpy() == before[0]).all()
    (loss,), new = step_reference(captured.graph, arrays_of(captured, x.numpy(), y.numpy()))
    assert loss == step(x, y).numpy()
    made = {id(s): new[v] for v, s in zip(captured.graph.states, captured.sources, strict=True)}
    np.testing.assert_array_equal(made[id(w)], w.numpy())
    assert made[id(count)] == 1


def test_an_exception_leaves_everything_as_it_was():
    """Invariant: the error comes through, gradients and memory are untouched."""
    w = tensor(3, requires_grad=True)
    (w * w).sum().backward()
    gradient = w.grad

    def step(x):
        w.grad = None
        (w * x).sum().backward()
        with no_grad():
            w.assign_(w * 2)
        raise KeyError("from the user")

    with pytest.raises(KeyError, match="from the user"):
        record(step, (tensor(3),), {})
    assert w.grad is gradient and w._value is None
    assert (w * 1).tolist() == w.tolist()


def test_gradients_that_stay_are_results():
    """Ground truth: eager gradients; that a gradient was there before is remembered."""
    w = tensor(3, requires_grad=True)

    def f(x):
        (w * w * x).sum().backward()

    x = tensor(3, seed=3)
    captured = record(f, (x,), {})
    ((leaf, slot),) = captured.left
    assert leaf is w._node and slot.kind == "result"
    assert captured.gradients == [(leaf, False)]
    (gradient,), _ = step_reference(captured.graph, arrays_of(captured, x.numpy()))
    f(x)
    assert gradient.tolist() == w.grad.tolist()
    captured = record(f, (x,), {})
    assert captured.gradients == [(leaf, True)]
    assert any(s is leaf for s in captured.sources)  # it is added to what is there, in its memory
    assert not captured.left and len(captured.graph.updates) == 1
    _, updated = step_reference(captured.graph, arrays_of(captured, x.numpy()))
    (gradient,) = updated.values()
    f(x)
    assert gradient.tolist() == w.grad.tolist()


def test_zero_grad_inside_the_step_is_seen_before_anything_else():
    """Invariant: the gradient at the start is remembered though the step drops it at once."""
    w = tensor(3, requires_grad=True)
    (w * 1).sum().backward()

    def f(x):
        w.grad = None
        (w * x).sum().backward()

    captured = record(f, (tensor(3),), {})
    assert captured.gradients == [(w._node, True)]
    assert len(captured.graph.states) <= 1  # the old gradient is not read


def test_results_that_are_inputs_come_back_as_they_are():
    """Invariant: no node, no copy for a Tensor that the function hands through."""
    w = tensor(3)
    captured = record(lambda x: (x, w, {"n": 5}), (tensor(3),), {})
    assert captured.graph.results == []
    assert captured.result[0].kind == "argument"
    assert captured.result[1] is w
    assert captured.result[2] == {"n": 5}


def test_a_recording_that_does_not_run_leaves_nothing():
    """Invariant: no Tensor without numbers is found anywhere; put_again() puts them there."""
    kept, place = [], types.SimpleNamespace(x=1)

    def leave(x):
        kept.append(x * 2)
        place.x = x * 3
        place.y = (x, x)
        return x

    captured = record(leave, (tensor(3),), {})
    assert kept == [] and vars(place) == {"x": 1}
    captured.put_again()
    assert len(kept) == 1 and set(vars(place)) == {"x", "y"}


def slots(recording):
    """(kind, index) of each Slot of a result, in order."""
    return [(slot.kind, slot.index) for slot in recording.result]


def test_where_results_are_found():
    """Ground truth: by hand. A result is a node's; an argument and a Tensor from outside are
    themselves; a state is as it was before, or as it is after the update; a view is taken again."""
    w, given = tensor(3), tensor(3)

    def f(x):
        before = w * 1
        old = w.clone()
        w.assign_(w + x)
        return [before, x, old, w.clone(), x + 0, before[1:], before]

    recording = record(f, (given,), {})
    assert slots(recording) == [
        ("result", 0), ("argument", 0), ("before", 0), ("after", 0), ("result", 1), ("view", 0),
        ("result", 0),
    ]  # fmt: skip
    assert recording.repeats and len(recording.graph.results) == 2
    assert recording.given == recording.graph.states
    ((base, rows),) = recording.returned_views
    assert (base.kind, base.index) == ("result", 0) and rows[0][1]["start"] == (1,)


def test_results_that_are_handed_out_once_are_no_repeats():
    """Ground truth: three results, each of its own node."""
    recording = record(lambda x: [x + 1, x + 2, (x * 2)[1:]], (tensor(3),), {})
    assert slots(recording) == [("result", 0), ("result", 1), ("result", 2)]
    assert not recording.repeats and not recording.ends


def test_one_value_in_two_tensors_is_a_repeat():
    """Ground truth: detach() makes another Tensor over the same numbers."""

    def f(x):
        y = x + 1
        return [y, y.detach()]

    assert record(f, (tensor(3),), {}).repeats


def test_an_argument_that_is_assigned_to_is_told():
    """Ground truth: the second of two arguments."""

    def f(x, y):
        y.assign_(x * 2)

    recording = record(f, (tensor(2), tensor(2)), {})
    ((number, slot),) = recording.assigned
    assert number == 1 and (slot.kind, slot.index) == ("result", 0)


def test_a_result_that_depends_on_what_gathers_a_gradient_ends_a_tape():
    """Ground truth: of the three only the first leads to w, and backward() did not go there."""
    w = tensor(3, requires_grad=True)
    recording = record(lambda x: [w * x, x * 2, (w * x).detach()], (tensor(3),), {})
    assert [slot.ends for slot in recording.result] == [True, False, False] and recording.ends


def plain():
    return types.SimpleNamespace(x=None, table={}, held=[])


PLACES = {
    "an attribute": (lambda o, t: setattr(o, "x", t), [("attr", "x")]),
    "a new attribute": (lambda o, t: setattr(o, "y", t), [("attr", "y")]),
    "a tuple in an attribute": (lambda o, t: setattr(o, "x", (t, 1)), [("attr", "x")]),
    "an element": (lambda o, t: o.table.update(k=t), [("item", "k")]),
    "the end of a list": (lambda o, t: o.held.append(t), [("extend", None)]),
    "two places": (
        lambda o, t: (setattr(o, "x", t), o.held.append(t)), [("attr", "x"), ("extend", None)]
    ),
    "a tuple of numbers": (lambda o, t: setattr(o, "x", (1, 2)), []),
    "nowhere": (lambda o, t: None, []),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_what_later_runs_do_again(name):
    """Ground truth: where the form puts the Tensor; each run can put another one there."""
    put, expected = PLACES[name]
    place = plain()
    recording = record(lambda x: put(place, x * 2), (tensor(3),), {})
    escapes = recording.escapes
    assert escapes.again
    assert sorted((e.kind, e.key) for e in escapes.effects) == sorted(expected)
    assert len(escapes.adopted) == bool(expected)
    for effect in escapes.effects:
        effect.do([7] if effect.kind == "extend" else 7)
    found = [vars(place).get("x"), vars(place).get("y"), *place.table.values(), *place.held]
    assert found.count(7) == len(expected)


@pytest.mark.parametrize(
    "put, into",
    [
        (lambda o, t: o.table.update(k={t: 1}), "dict"),
        (lambda o, t: o.held.append(types.SimpleNamespace(t=t)), "list"),
        (lambda o, t: o.held.insert(0, t), "list"),
        (lambda o, t: (setattr(o, "x", t), o.held.insert(0, t)), "list"),  # nor what could be
    ],
)
def test_what_cannot_be_done_again_is_recorded_again(put, into):
    """Ground truth: a key, an object and an element that moves others are not repeated alone."""
    place = plain()
    place.held.append(1)
    recording = record(lambda x: put(place, x * 2), (tensor(3),), {})
    escapes = recording.escapes
    assert not escapes.again and escapes.effects == [] and len(escapes.adopted) == 1
    assert f"into a {into}" in escapes.why


def test_a_new_leaf_with_a_gradient_is_recorded_again():
    """Ground truth: its gradient would have to be made anew at each call, with the Tensor."""
    place = plain()

    def f(x):
        place.x = nn.Parameter(tt.ones(3))
        (place.x * x).sum().backward()

    recording = record(f, (tensor(3),), {})
    escapes, ((leaf, slot),) = recording.escapes, recording.left
    assert not escapes.again and escapes.effects == []
    assert leaf is escapes.adopted[0][0]._node and slot.kind == "result"


def test_a_place_that_changes_hands_is_read_at_each_call():
    """Ground truth: `o.x = o.x + 1` reads whatever lies there; `o.w` stays a state."""
    place = types.SimpleNamespace(x=tensor(3), w=tensor(3))

    def f(y):
        place.x = place.x + y * place.w

    recording = record(f, (tensor(3),), {})
    (carried,) = recording.carried
    assert (carried.guard.kind, carried.guard.key) == ("attr", "x")
    assert recording.sources == [place.w] and len(recording.graph.arguments) == 2
    assert all(g.key != "x" for g in recording.guards)
    assert carried.leaves()[0] is place.x
    place.x = tensor(4)  # of another shape
    assert carried.leaves() is None
    del place.x
    assert carried.leaves() is None


def test_a_place_that_is_also_reached_otherwise_stays_a_state():
    """Ground truth: the Tensor in `o.x` is also in `o.y`, which is read too."""
    shared = tensor(3)
    place = types.SimpleNamespace(x=shared, y=shared)

    def f(z):
        place.x = place.x + place.y * z

    recording = record(f, (tensor(3),), {})
    assert not recording.carried and len(recording.graph.states) == 1


def test_a_place_whose_tensor_also_lies_in_a_list_stays_a_state():
    """Ground truth: the Tensor in `o.x` is an element of a list that is gone through."""
    shared = tensor(3)
    place = types.SimpleNamespace(x=shared, held=[shared])

    def f(z):
        for t in place.held:
            z = z + t
        place.x = place.x + z

    recording = record(f, (tensor(3),), {})
    assert not recording.carried and len(recording.graph.states) == 1


def test_single_numbers_are_lifted_when_asked():
    """Ground truth: 0.5 is a constant of the graph, or a state with that number."""

    def f(x):
        return x * tt.full((), 0.5)

    fixed = record(f, (tensor(3),), {})
    lifted = record(f, (tensor(3),), {}, lift_numbers=True)
    assert not fixed.graph.states and len(lifted.graph.states) == 1
    assert lifted.sources[0].item() == 0.5
    x = np.ones(3, "f4")
    for recording in (fixed, lifted):
        (out,), _ = step_reference(recording.graph, arrays_of(recording, x))
        assert out.tolist() == [0.5, 0.5, 0.5]
