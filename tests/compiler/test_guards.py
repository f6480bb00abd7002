"""What a function saw of the Python around it."""

import types

from tinytorch.compiler.guards import guards_of

SCALE = 2.0
UNUSED = 5


def helper(x):
    return x * SCALE


def names(function):
    return {g.shown for g in guards_of(function)}


def test_globals_and_cells_that_the_code_names_are_guarded():
    """Ground truth: the names written in the functions below."""
    rate = 0.1

    def step(x):
        return helper(x) * rate

    assert names(step) == {"rate", "helper", "SCALE"}


def test_a_changed_number_is_seen_and_an_equal_one_is_not():
    """Closed form: 0.1 -> 0.1 holds, 0.1 -> 0.2 does not, 1 -> True does not (another type)."""
    rate = 0.1

    def step(x):
        return x * rate

    (guard,) = guards_of(step)
    assert guard.holds()
    rate = float("0.1")
    assert guard.holds()
    rate = 0.2
    assert not guard.holds()
    assert guard.change() == "'rate' was 0.1 and is now 0.2"


def test_not_a_number_is_equal_to_itself():
    """Closed form: nan != nan in Python, yet nothing has changed."""
    rate = float("nan")

    def step(x):
        return x * rate

    (guard,) = guards_of(step)
    rate = float("nan")
    assert guard.holds()


def test_attributes_of_a_plain_object_are_guarded():
    """Ground truth: `config.steps` is named in the code, `config.other` is not."""
    config = types.SimpleNamespace(steps=3, other=4)

    def step(x):
        return x * config.steps

    assert names(step) == {"config", "config.steps"}
    guard = next(g for g in guards_of(step) if g.shown == "config.steps")
    config.steps = 4
    assert not guard.holds()


def test_self_of_a_bound_method_is_guarded():
    """Ground truth: `self.rate` is named in the method."""

    class Trainer:
        def __init__(self):
            self.rate, self.name = 0.5, "t"

        def step(self, x):
            return x * self.rate

    trainer = Trainer()
    assert names(trainer.step) == {"self.rate"}


def test_names_inside_nested_code_are_seen():
    """Ground truth: a name read only inside a lambda or a comprehension is still read."""

    def step(x):
        return [y * UNUSED for y in (lambda: x)()]

    assert "UNUSED" in names(step)


def test_another_object_under_the_same_name_is_seen():
    """Invariant: identity for objects, equality for numbers."""
    w = [1.0]

    def step(x):
        return x * w[0]

    (guard,) = guards_of(step)
    assert guard.holds()
    w = [1.0]
    assert not guard.holds()
    assert "another object" in guard.change()


def test_an_attribute_is_not_the_global_of_the_same_name():
    """Ground truth: `o.step` reads no global called `step`; names in the code say both alike."""
    namespace = {"step": 1.0, "o": None}
    exec("def f():\n    return o.step\n", namespace)
    assert "step" not in {g.shown for g in guards_of(namespace["f"])}
