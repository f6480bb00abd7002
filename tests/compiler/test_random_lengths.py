"""Programs drawn at random over an axis of a length: compiled once = eager at every length."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tests.compiler.lengths import floats, plant

MOST, PROGRAMS, STEPS = 7, 25, 7
T = tt.dim("T", max=MOST)
MATRIX, ROWS = floats(80, 4, 4, low=-0.7, high=0.7), floats(81, 9, 4)
attend = tt.nn.functional.scaled_dot_product_attention

Step = Callable[[Any], Any]
# Of values (2, T, 4) to others of that shape; numbers stay small.
SAME: dict[str, Step] = {
    "tanh": lambda x: x.tanh(),
    "scaled": lambda x: x * 0.5 + 0.25,
    "softmax over T": lambda x: x.softmax(1),
    "softmax beside": lambda x: x.softmax(-1),
    "norm": lambda x: tt.nn.functional.layer_norm(x, (4,)),
    "less the mean": lambda x: x - x.mean(1, keepdim=True),
    "divided by the deviation": lambda x: x / (x.var(1, correction=0, keepdim=True) + 1.0).sqrt(),
    "product": lambda x: x @ MATRIX,
    "joined product": lambda x: (x.reshape(-1, 4) @ MATRIX).reshape(x.shape),
    "scores": lambda x: (x @ x.permute(0, 2, 1) / x.shape[1]).tanh() @ x * 0.5,
    "heads": lambda x: _heads(x, causal=False),
    "causal heads": lambda x: _heads(x, causal=True),
    "running sum": lambda x: x.cumsum(1) / x.shape[1],
    "backwards": lambda x: x.flip(1),
    "last beside each": lambda x: x - x[:, -1:],
    "shifted": lambda x: tt.concat([x[:, :1] * 0, x[:, :-1]], 1),
    "twice as long, half": lambda x: tt.concat([x, x * 0.5], 1)[:, x.shape[1] :],
    "positions": lambda x: x + tt.arange(x.shape[1]).reshape(-1, 1) * 0.1,
    "where": lambda x: tt.where(x > tt.amax(x, 1, True) - 0.5, x, 0.0),
    "turned twice": lambda x: x.permute(1, 0, 2).tanh().permute(1, 0, 2),
    "sorted": lambda x: x.sort(1).values,
    "rows of a table": lambda x: ROWS[tt.arange(x.shape[1]) + 1] + x,
    "gradient": lambda x: tt.grad(lambda z: (z.tanh() * z.softmax(1)).sum())(x),
    "gradient of a norm": lambda x: tt.grad(lambda z: (z - z.mean((0, 1))).tanh().square().mean())(
        x
    ),
}
# Of two of them.
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda x, y: x + y * 0.5,
    "product": lambda x, y: x * y.tanh(),
    "larger": lambda x, y: tt.maximum(x, y),
    "mixed over T": lambda x, y: (x @ y.permute(0, 2, 1)).softmax(-1) @ y,
}
# What is returned.
ENDS: dict[str, Step] = {
    "all": lambda x: x,
    "mean": lambda x: x.mean(),
    "sum over T": lambda x: x.sum(1),
    "last": lambda x: x[:, -1],
    "outer product": lambda x: x.reshape(-1, 4).T @ x.reshape(-1, 4) / x.shape[1],
    "greatest": lambda x: tt.amax(x, (1, 2)),
    "joined": lambda x: x.reshape(-1, 4),
}


def _heads(x: Any, causal: bool) -> Any:
    split = x.reshape(*x.shape[:2], 2, 2).permute(0, 2, 1, 3)
    out = attend(split, split, split, is_causal=causal)
    return out.permute(0, 2, 1, 3).reshape(x.shape)


def drawn(seed: str) -> tuple[Callable[[Any], tuple[Any, ...]], list[str]]:
    """A function of one array (2, T, 4), and the names of its steps."""
    chooser = random.Random(seed)
    steps: list[tuple[str, tuple[int, ...]]] = []
    for count in range(1, STEPS + 1):
        if chooser.random() < 0.3:
            steps.append(
                (chooser.choice([*PAIRS]), (chooser.randrange(count), chooser.randrange(count)))
            )
        else:
            steps.append((chooser.choice([*SAME]), (max(chooser.randrange(count), count - 3),)))
    ends = [chooser.choice([*ENDS]) for _ in range(2)]

    def f(x: Any) -> tuple[Any, ...]:
        pool = [x]
        for name, places in steps:
            step: Any = PAIRS[name] if len(places) == 2 else SAME[name]
            pool.append(step(*(pool[i] for i in places)))
        return tuple(
            ENDS[end](v) for end, v in zip(ends, (pool[-1], pool[STEPS // 2]), strict=True)
        )

    return f, [f"{name}{places}" for name, places in steps] + ends


def near(got: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    """Equal shapes, and numbers but for rounding."""
    return all(
        a.shape == b.shape and np.allclose(a, b, 2e-3, 2e-4, equal_nan=True)
        for a, b in zip(got, wanted, strict=True)
    )


@pytest.mark.parametrize("target", [t.name for t in targets()])
def test_random_programs_over_a_length(target):
    """Ground truth: eager; a step multiplies errors of 1e-7 by a few, mostly. Where one multiplies
    them by more (a norm of 4 numbers near each other, a tie), the program of that length alone
    differs from eager too: then that is the truth, with the same tolerance."""
    wrong = []
    for number in range(PROGRAMS):
        f, steps = drawn(f"{target} {number}")
        compiled = tt.compile(
            f, dynamic_shapes={"x": (None, T)}, target=target, threads=1 + number % 3
        )
        for n in (3, MOST, 1, 5):
            x = floats(number * 10 + n, 2, n, 4)
            with np.errstate(all="ignore"):
                wanted = [y.numpy() for y in f(x)]
            got = [y.numpy() for y in compiled(x)]
            plant(compiled)
            if not near(got, wanted):
                alone = [y.numpy() for y in tt.compile(f, target=target)(x)]
                if near(alone, wanted) or not near(got, alone):
                    wrong.append((number, n, steps))
                    break
        if compiled.captures != 1:
            wrong.append((number, "recorded", compiled.captures))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_step_is_drawn():
    """Invariant: what is listed is tried on each target."""
    seen = {name.split("(")[0] for n in range(PROGRAMS) for name in drawn(f"avx2 {n}")[1]}
    assert len(seen) > 0.7 * len({*SAME, *PAIRS, *ENDS})
