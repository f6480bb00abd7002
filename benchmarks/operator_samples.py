"""`python -m benchmarks.operator_samples`: PyTorch's own operator samples, asked of our names.

PyTorch tests its operators with a table of sample inputs. Each operator whose name we have, as a
function, a function of `nn.functional` or a method, is called with each of its samples on both
sides: value, number type and shape must be PyTorch's, and so must the gradients of float32. What we
refuse with an error is counted apart from what is wrong. Needs PyTorch's test package, which needs
`expecttest`; the answers are kept in results/operator_samples.json.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from typing import Any

import numpy as np

from benchmarks import RESULTS

KEPT = RESULTS / "operator_samples.json"
KINDS = ("float32", "int64", "bool")
# The same name for something else, as docs/from_pytorch.md says; asked by another way or not at all
OTHER = {
    "take": "along an axis here, as in the array API; PyTorch's is of the flattened tensor",
    "T": "an attribute",
    "mT": "an attribute",
    "uniform": "PyTorch's fills in place",
    "normal": "PyTorch's takes tensors of means and deviations",
    "bool": "a dtype here",
    "bfloat16": "a dtype here",
    "bernoulli": "of one probability and a shape here; PyTorch's takes a tensor of probabilities",
}
# Their numbers are random, or not written: shape and number type are asked
RANDOM = frozenset(
    ("randn", "randn_like", "rand_like", "randint", "empty", "empty_like",
     "nn.functional.dropout", "nn.functional.dropout2d")
)  # fmt: skip
# Samples that begin with another argument than the function
IN_OTHER_ORDER = {
    "where": lambda function: lambda a, condition, b: function(condition, a, b),
    "nn.functional.embedding": lambda function: (
        lambda weight, tokens, **how: function(tokens, weight, **how)
    ),
}
IN_OTHER_ORDER["einsum"] = lambda function: lambda parts, equation: function(equation, parts)
METHODS = frozenset(("repeat", "expand", "view"))  # the function of that name is NumPy's


def our_name(name: str) -> Any:
    """What we call the operator, or None: (the way in words, the function)."""
    import tinytorch as tt
    from tinytorch.nn import functional

    if name in OTHER:
        return None
    if name.startswith("nn.functional."):
        last = name.rsplit(".", 1)[1]
        return IN_OTHER_ORDER.get(name, lambda f: f)(getattr(functional, last, None))
    if "." in name:
        return None
    found = None if name in METHODS else getattr(tt, name, None)
    if callable(found) and not isinstance(found, type):
        return IN_OTHER_ORDER.get(name, lambda f: f)(found)
    method = getattr(tt.Tensor, name, None)
    return method if callable(method) else None


def ours(x: Any, leaves: list | None = None) -> Any:
    """An argument of PyTorch's as one of ours; Tensors that want a gradient are put in leaves."""
    import torch

    import tinytorch as tt

    if isinstance(x, torch.Tensor):
        made = tt.Tensor(x.detach().numpy().copy())
        if x.requires_grad and leaves is not None:
            made.requires_grad = True
            leaves.append((x, made))
        return made
    if isinstance(x, torch.dtype):
        return getattr(tt, str(x).rsplit(".", 1)[1])
    if isinstance(x, torch.Size):
        return tuple(x)
    if isinstance(x, torch.device):
        return "cpu"
    if isinstance(x, (list, tuple)):
        return type(x)(ours(i, leaves) for i in x)
    if isinstance(x, dict):  # where numbers lie in memory is not asked
        return {k: ours(v, leaves) for k, v in x.items() if k != "memory_format"}
    return x


def flat(x: Any) -> list:
    """The parts of a result."""
    if isinstance(x, (list, tuple)):
        return [part for i in x for part in flat(i)]
    return [x]


def array(x: Any) -> np.ndarray:
    """A result of either side."""
    return np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)


def difference(found: Any, wanted: Any, values: bool) -> str | None:
    """What is not PyTorch's: "shape", "dtype", "value"; None if nothing."""
    mine, theirs = flat(found), flat(wanted)
    if len(mine) != len(theirs):
        return "shape"
    for a, b in zip(mine, theirs, strict=True):
        if hasattr(a, "dtype") and hasattr(b, "dtype"):
            if str(a.dtype).rsplit(".", 1)[1] != str(b.dtype).rsplit(".", 1)[1]:
                return "dtype"
        a, b = array(a), array(b)
        if a.shape != b.shape:
            return "shape"
        if values and not close(a, b):
            return "value"
    return None


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal, or floats within the roundings of a float32 sum of a few hundred terms."""
    if b.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    size = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    return np.allclose(a, b, 1e-4, 1e-5 * size, equal_nan=True)


def ask(op: Any, function: Any, sample: Any, kind: str) -> tuple[str, str, str]:
    """(verdict on the value, verdict on the gradients, in words)."""
    import torch

    from tinytorch.base.errors import TinyTorchError

    leaves: list = []
    given = ours((sample.input, *sample.args), leaves)
    named = ours(dict(sample.kwargs), leaves)
    wanted = op.op(sample.input, *sample.args, **sample.kwargs)
    try:
        found = function(*given, **named)
    except TinyTorchError as refusal:
        return "refused", "", str(refusal).split("\n")[0]
    except Exception as error:
        return "raw error", "", f"{type(error).__name__}: {error}"[:200]
    if reason := documented(op.name, sample):
        return "differs as documented", "", reason
    random = op.name in RANDOM or sample.kwargs.get("dropout_p")
    # which of equal elements comes first is PyTorch's choice of the moment
    if op.name == "topk" or (op.name == "sort" and not sample.kwargs.get("stable")):
        found, wanted = found[0], wanted[0]
    if op.name == "argsort" and not sample.kwargs.get("stable") and sample.input.shape:
        dim = sample.kwargs.get("dim", sample.args[0] if sample.args else -1)
        places = torch.tensor(found.numpy())
        found, wanted = (sample.input.gather(dim, i).detach() for i in (places, wanted))
    wrong = difference(found, wanted, not random)
    if wrong:
        return f"wrong {wrong}", "", f"{shown(found)}, not {shown(wanted)}"
    roots = [t for t in flat(wanted) if isinstance(t, torch.Tensor) and t.requires_grad]
    if kind != "float32" or not leaves or not roots or random:
        return "right", "", ""
    return "right", *gradients(flat(found), flat(wanted), leaves)


def documented(name: str, sample: Any) -> str | None:
    """Why a sample has another answer here, as the function's own page says; None: it has not."""
    if name.endswith("scaled_dot_product_attention") and sample.kwargs.get("is_causal"):
        if sample.input.shape[-2] != sample.args[0].shape[-2]:
            return "is_causal with T != S: the last query sees all keys"
    return None


def gradients(found: list, wanted: list, leaves: list) -> tuple[str, str]:
    """(verdict, in words) on the gradients of a weighted sum of all results."""
    import torch

    import tinytorch as tt

    loss = other = None
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if not (isinstance(b, torch.Tensor) and b.requires_grad):
            continue
        weights = np.random.default_rng(i).uniform(0.5, 1.5, tuple(b.shape)).astype(np.float32)
        weights = weights.astype(str(b.dtype).rsplit(".", 1)[1])
        term, their = (a * tt.Tensor(weights)).sum(), (b * torch.tensor(weights)).sum()
        loss, other = (term, their) if loss is None else (loss + term, other + their)
    inputs = [x for x, _ in leaves]
    theirs = torch.autograd.grad(other, inputs, allow_unused=True)  # type: ignore[arg-type]
    if all(g is None for g in theirs):
        return "", ""
    try:
        loss.backward()  # type: ignore[union-attr]
    except Exception as error:
        return "raw error", f"{type(error).__name__}: {error}"[:200]
    for (_, mine), g in zip(leaves, theirs, strict=True):
        want = np.zeros(mine.shape, np.float32) if g is None else g.numpy()
        have = np.zeros(mine.shape, np.float32) if mine.grad is None else mine.grad.numpy()
        if have.shape != want.shape or not close(have, want):
            return "wrong", f"{shown(mine.grad)}, not {shown(g)}"
    return "right", ""


def shown(x: Any) -> str:
    """A result in few characters."""
    parts = flat(x)
    kinds = [
        f"{getattr(p, 'dtype', type(p).__name__)}{list(getattr(p, 'shape', ()))}" for p in parts
    ]
    first = str(array(parts[0]).ravel()[:4].tolist()) if parts and parts[0] is not None else ""
    return " ".join(kinds[:3])[:60] + " " + first[:80]


def survey(only: str = "") -> tuple[list[dict], Counter, Counter]:
    """Every sample of every name: rows by operator, counts of verdicts on values and gradients."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    rows, values, slopes = [], Counter(), Counter()
    for op in op_db:
        function = our_name(op.name)
        if function is None or (only and only not in op.name):
            continue
        for kind in KINDS:
            dtype = getattr(torch, kind)
            if dtype not in op.dtypes:
                continue
            own, grads, notes = Counter(), Counter(), {}
            torch.manual_seed(0)
            wants = kind == "float32" and op.supports_autograd
            for sample in op.sample_inputs("cpu", dtype, requires_grad=wants):
                try:
                    value, slope, words = ask(op, function, sample, kind)
                except (RuntimeError, TypeError, NotImplementedError, IndexError) as theirs:
                    notes.setdefault(f"left out: {theirs}"[:120], 0)
                    continue
                own[value] += 1
                if slope:
                    grads[slope] += 1
                if words:
                    key = f"{value if not slope else 'gradient ' + slope}: {words}"
                    notes[key] = notes.get(key, 0) + 1
            values.update(own)
            slopes.update(grads)
            rows.append(
                {"name": op.name, "variant": op.variant_test_name, "dtype": kind,
                 "values": dict(own), "gradients": dict(grads), "notes": notes}
            )  # fmt: skip
    return rows, values, slopes


def main() -> None:
    """Ask everything, print a summary, keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.operator_samples", description=__doc__
    )
    parser.add_argument("--only", default="", help="operators whose name contains this; not kept")
    parser.add_argument("--all", action="store_true", help="print what is not right, every kind")
    given = parser.parse_args()
    import torch

    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows, values, slopes = survey(given.only)
    if given.only or given.all:
        for row in rows:
            for note, count in row["notes"].items():
                print(f"{row['name']} {row['variant']} {row['dtype']} x{count}: {note}")
    summary = {
        "torch": torch.__version__,
        "operators": len({row["name"] for row in rows}),
        "samples": sum(values.values()),
        "values": dict(values.most_common()),
        "values right": round(values["right"] / max(1, sum(values.values())), 4),
        "gradients": dict(slopes.most_common()),
        "gradients right": round(slopes["right"] / max(1, sum(slopes.values())), 4),
        "not asked": OTHER,
    }
    print(json.dumps(summary, indent=1), f"\n{time.perf_counter() - began:.0f} s")
    if not given.only:
        KEPT.write_text(json.dumps({"summary": summary, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
