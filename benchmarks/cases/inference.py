"""What trained networks answer: one picture and 64 at a time, against onnxruntime and PyTorch."""

from __future__ import annotations

import io
import os

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, cnn, numbers, resnet, vit

TITLE = "inference of CNN, ResNet-20 and ViT, float32"
MODELS = ("cnn", "resnet20", "vit")
BATCHES = (1, 64)
ONNX = "onnxruntime"
WITHOUT_MKL = (ONNX,)


def settings() -> list[dict]:
    """Each network with both batches."""
    return [
        {"name": f"inference {m}, batch {b}", "model": m, "batch": b}
        for m in MODELS
        for b in BATCHES
    ]


def _our_model(name: str):
    import tinytorch as tt

    made = {"cnn": lambda: cnn.define(tt.nn), "vit": vit.our_model}
    return made.get(name, lambda: resnet.our_model(name))()


def _their_model(name: str):
    from torch import nn

    made = {"cnn": lambda: cnn.define(nn), "vit": vit.their_model}
    return made.get(name, lambda: resnet.their_model(name))()


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights and random pictures; the statistics of batch norms are those of a trained network in
    that they are neither 0 nor 1."""
    import tinytorch as tt

    tt.manual_seed(0)
    arrays = training_step.with_weights(_our_model(setting["model"]), {})
    for seed, (name, x) in enumerate(arrays.items()):
        if name.endswith("running_mean"):
            arrays[name] = numbers(x.shape, seed, 0.1)
        elif name.endswith("running_var"):
            arrays[name] = 1 + np.abs(numbers(x.shape, seed))
    return arrays | {"x": numbers((setting["batch"], 3, 32, 32), 1)}


def ours(setting: dict, arrays: dict) -> Side:
    """The model in evaluation mode, compiled, its weights frozen as the peers' are."""
    import tinytorch as tt

    model = _our_model(setting["model"])
    weights = training_step.weights_of(arrays)
    model.load_state_dict({n: tt.Tensor(x) for n, x in weights.items()})
    model.eval()
    x = tt.Tensor(arrays["x"])

    def evaluated(x):
        with tt.no_grad():
            return model(x)

    answer = tt.compile(evaluated, freeze=True)
    return Side(lambda: answer(x), lambda: {"logits": answer(x).numpy()})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """onnxruntime on the exported network; or PyTorch, its weights frozen where that is asked."""
    import torch

    model = _their_model(setting["model"])
    training_step.load(model, arrays)
    model.eval().requires_grad_(False)
    x = torch.from_numpy(arrays["x"])
    if variant == ONNX:
        return _onnx(model, x)
    if "frozen" in variant:  # batch norms folded, weights packed once, layouts chosen
        import torch._inductor.config

        torch._inductor.config.freezing = True
    answer = torch.compile(model) if "compile" in variant else model

    def run():
        with torch.inference_mode(False), torch.no_grad():  # freezing refuses inference mode
            return answer(x)

    return Side(run, lambda: {"logits": run().numpy()})


def _onnx(model, x) -> Side:
    import onnxruntime
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(model, (x,), buffer, input_names=["x"], output_names=["logits"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session = onnxruntime.InferenceSession(
        buffer.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    given = {"x": x.numpy()}
    run = lambda: session.run(None, given)  # noqa: E731
    return Side(run, lambda: {"logits": run()[0]})


def variants(setting: dict) -> list[str]:
    """onnxruntime; PyTorch eager, compiled, and compiled with its weights taken as constants."""
    return [ONNX, "eager", "compile", "compile frozen"]


def tolerance(setting: dict) -> float:
    """Each layer adds some sqrt(1000) x 6e-8; folding a batch norm rounds the weights once more."""
    return 1e-4


def work(setting: dict) -> tuple[int, int]:
    """Not compared with a limit: at batch 1 the weights' way through the caches counts as well."""
    return 0, 0
