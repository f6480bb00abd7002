"""One training step of a small network in JAX, jitted as a whole, with AdamW written out.

Knows the names of our MLP's weights; JAX is imported by the process that plays this side only.
"""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side

BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-8, 1e-2  # the defaults of AdamW on all sides


def step(arrays: dict[str, np.ndarray]) -> Side:
    """The step: weights and averages are donated, so that they are updated in place.

    Args:
        arrays: "x", "y", and the weights layers.0.weight, layers.0.bias, layers.1.weight ...
    """
    import jax
    import jax.numpy as jnp

    given = training_step.weights_of(arrays)
    depth = len(given) // 2
    x, y = jnp.asarray(arrays["x"]), jnp.asarray(arrays["y"].astype(np.int32))

    def loss_of(weights, x, y):
        for i in range(depth):
            x = x @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]
            x = jax.nn.relu(x) if i < depth - 1 else x
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    def moved(t, p, g, m, v):
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g * g
        m_hat, v_hat = m / (1 - BETAS[0] ** t), v / (1 - BETAS[1] ** t)
        rate = training_step.RATE
        return p * (1 - rate * DECAY) - rate * m_hat / (jnp.sqrt(v_hat) + EPSILON), m, v

    def train(state, x, y):
        t = state["t"] + 1
        loss, gradients = jax.value_and_grad(loss_of)(state["p"], x, y)
        new = {n: moved(t, state["p"][n], g, state["m"][n], state["v"][n])
               for n, g in gradients.items()}  # fmt: skip
        p, m, v = ({n: of[i] for n, of in new.items()} for i in range(3))
        return {"t": t, "p": p, "m": m, "v": v}, loss

    compiled = jax.jit(train, donate_argnums=0)
    held = {
        "t": jnp.float32(0),
        "p": {n: jnp.asarray(w) for n, w in given.items()},
        "m": {n: jnp.zeros(w.shape) for n, w in given.items()},
        "v": {n: jnp.zeros(w.shape) for n, w in given.items()},
    }
    state = [held]

    def run():
        state[0], loss = compiled(state[0], x, y)
        return loss.block_until_ready()

    def show() -> dict[str, np.ndarray]:
        losses = [float(run()) for _ in range(training_step.SHOWN_STEPS)]
        return {"losses": np.array(losses), "weight": np.asarray(state[0]["p"][next(iter(given))])}

    return Side(run, show)
