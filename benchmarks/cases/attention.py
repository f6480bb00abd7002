"""Attention by itself: forward, causal, and with its gradient."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "attention: batch, heads, tokens, size of a head"
SHAPES = ((8, 8, 256, 64), (1, 12, 1024, 64))


def settings() -> list[dict]:
    """Forward, and forward with backward; each with and without the causal mask."""
    return [
        {"name": f"attention {shape} {what}{' causal' if causal else ''} {p}", "shape": shape,
         "what": what, "causal": causal, "precision": p}
        for shape in SHAPES
        for p in ("float32", "bf16")
        for what in ("forward", "forward+backward")
        for causal in (False, True)
    ]  # fmt: skip


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """q, k, v and the cotangent."""
    return {
        name: numbers(tuple(setting["shape"]), seed)
        for seed, name in enumerate(("q", "k", "v", "g"))
    }


def ours(setting: dict, arrays: dict) -> Side:
    """tt.nn.functional.scaled_dot_product_attention in a compiled function."""
    import tinytorch as tt

    type = "bfloat16" if setting["precision"] == "bf16" else "float32"
    q, k, v, g = (tt.Tensor(arrays[x]).to(type) for x in "qkvg")
    causal = setting["causal"]

    def forward(q, k, v):
        return tt.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def both(q, k, v, g):
        out, pull = tt.vjp(forward, q, k, v)
        return out, *pull(g)

    if setting["what"] == "forward":
        run = tt.compile(forward)
        return Side(lambda: run(q, k, v), lambda: _shown([run(q, k, v)]))
    run = tt.compile(both)
    return Side(lambda: run(q, k, v, g), lambda: _shown(run(q, k, v, g)))


def _shown(tensors) -> dict[str, np.ndarray]:
    return {f"{i}": t.to("float32").numpy() for i, t in enumerate(tensors)}


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch's scaled_dot_product_attention."""
    import torch

    whole = setting["precision"] == "float32" or variant.endswith(training_step.IN_FLOAT32)
    type = torch.float32 if whole else torch.bfloat16
    q, k, v, g = (torch.from_numpy(arrays[x]).to(type) for x in "qkvg")
    causal = setting["causal"]
    attend = torch.nn.functional.scaled_dot_product_attention
    if setting["what"] == "forward":

        def run():
            return [attend(q, k, v, is_causal=causal)]
    else:
        leaves = [x.requires_grad_() for x in (q, k, v)]

        def run():
            out = attend(*leaves, is_causal=causal)
            return [out, *torch.autograd.grad(out, leaves, g)]

    def show() -> dict[str, np.ndarray]:
        return {f"{i}": t.detach().float().numpy() for i, t in enumerate(run())}

    return Side(run, show)


def variants(setting: dict) -> list[str]:
    """One fused call has nothing to compile."""
    return training_step.variants(setting["precision"], ("eager",))


def tolerance(setting: dict) -> float:
    """Weights have the relative error of their logits, some 100 eps; with bfloat16 P is rounded to
    2**-9 before it is used, and so are the gradients."""
    return 3e-2 if setting["precision"] == "bf16" else 2e-5


def work(setting: dict) -> tuple[int, int]:
    """4 D operations forward and 10 D backward for every pair that is seen."""
    b, a, t, d = setting["shape"]
    pairs = b * a * (t * (t + 1) // 2 if setting["causal"] else t * t)
    return (4 if setting["what"] == "forward" else 14) * d * pairs, 0
