"""export.onnx: files that onnx's checker takes and onnxruntime computes as we do.

Ground truth: onnx.checker with shape inference, and onnxruntime.
"""

import numpy as np
import onnx
import onnxruntime
import pytest

import tinytorch as tt
from tinytorch import compression, export, models, nn
from tinytorch.base.errors import CompileError, SettingError

# Asked for. Sums of up to 3,136 float32 products, in layers up to 20 deep: each rounds by 2^-24 of
# its partial sums, errors add like random steps, 2^-24 * sqrt(3136) * sqrt(20) = 1.5e-5 of them at
# most; where a norm follows, of numbers of size 1.
TOLERANCE = 1e-5


def pictures(*shape):
    return lambda n: np.random.default_rng(n).normal(size=(n, *shape)).astype(np.float32)


def tokens(n):
    return np.random.default_rng(n).integers(0, 65, (n, 8))


def gpt(**settings):
    return models.GPT(models.GPTConfig(65, 1, 4, 64, 8, **settings))


LLAMA = {"kv_heads": 2, "positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}
# model, inputs, operators that must be there
NETS = {
    "mlp": (lambda: models.MLP((20, 16, 10)), pictures(20), {"Gemm": 2, "Relu": 1}),
    "cnn": (lambda: models.CNN(8), pictures(1, 8, 8), {"Conv": 4, "MaxPool": 2, "Gemm": 1}),
    "lenet": (models.LeNet, pictures(1, 28, 28), {"Conv": 2, "MaxPool": 2, "Gemm": 3, "Add": 0}),
    "resnet": (lambda: models.CifarResNet(1), pictures(3, 8, 8), {"Conv": 7, "Relu": 7, "Pad": 2}),
    "vit": (lambda: models.VisionTransformer(16, 8, 16, depth=1, heads=2), pictures(3, 16, 16),
            {"MatMul": 7, "Softmax": 1, "Gelu": 1, "Gemm": 2}),
    "gpt": (gpt, tokens, {"Gather": 1, "MatMul": 7}),
    "llama": (lambda: gpt(**LLAMA), tokens, {"Gather": 1}),
    "bert": (lambda: models.BERTClassifier(models.BERTConfig(65, 1, 2, 16, 8), 3), tokens,
             {"Softmax": 1}),
    "int8": (lambda: compression.quantize(models.CNN(8), "int8"), pictures(1, 8, 8),
             {"MatMulInteger": 1, "Conv": 4}),
    "int4": (lambda: compression.quantize(gpt(), "int4"), tokens, {"DequantizeLinear": 5}),
}  # fmt: skip


def net_of(name):
    make, inputs, operators = NETS[name]
    tt.manual_seed(0)
    return make().eval(), inputs, operators


def run(path, *arrays):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def eager(model, *arrays):
    with tt.no_grad():
        return model(*map(tt.Tensor, arrays)).numpy()


def near(got, wanted):
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    assert np.abs(got - wanted).max() <= TOLERANCE * np.abs(wanted).max()


@pytest.mark.peer
@pytest.mark.parametrize("name", NETS)
def test_each_model_for_any_number_of_samples(name, tmp_path):
    """Ground truth: the checker, and onnxruntime beside the model line by line."""
    net, inputs, operators = net_of(name)
    place = str(tmp_path / "net.onnx")
    export.onnx(net, place, inputs(1), batch="N")
    written = onnx.load(place)
    onnx.checker.check_model(written, full_check=True)
    counts = [node.op_type for node in written.graph.node]
    assert {op: counts.count(op) for op in operators} == operators
    for n in (1, 4):
        near(run(place, inputs(n))[0], eager(net, inputs(n)))
    names = {i.name for i in written.graph.initializer}
    assert names == {k for k in net.state_dict() if "num_batches" not in k}
    assert written.producer_name == "tinytorch" and written.opset_import[0].version == 21


@pytest.mark.peer
@pytest.mark.parametrize("opset", [18, 23])
def test_the_first_and_the_last_version_of_the_operators(opset, tmp_path):
    """Ground truth: onnxruntime; GELU is an operator from version 20 on."""
    net, inputs, _ = net_of("vit")
    place = str(tmp_path / "net.onnx")
    export.onnx(net, place, inputs(2), opset=opset)
    written = onnx.load(place)
    onnx.checker.check_model(written, full_check=True)
    assert written.opset_import[0].version == opset
    assert ("Gelu" in {node.op_type for node in written.graph.node}) == (opset >= 20)
    near(run(place, inputs(2))[0], eager(net, inputs(2)))


@pytest.mark.peer
def test_several_inputs_and_outputs_and_weights_of_a_function(tmp_path):
    """Ground truth: onnxruntime; what tt.compile made is the same function."""
    w = nn.Parameter(np.eye(3, dtype=np.float32) * 2)
    place = str(tmp_path / "f.onnx")
    x, y = pictures(3)(2), pictures(3)(5)[:2]
    function = tt.compile(lambda x, y: {"sum": x @ w + y, "rows": (x * y).reshape(-1)})
    export.onnx(function, place, x, y, batch="N")
    written = onnx.load(place)
    assert [i.name for i in written.graph.input] == ["input0", "input1"]
    assert [i.name for i in written.graph.initializer] == ["weight0"]
    assert written.graph.output[1].type.tensor_type.shape.dim[0].dim_param == "3*N"
    sums, rows = run(place, x[:1], y[:1])
    near(sums, x[:1] * 2 + y[:1])
    near(rows, (x * y)[0])


class Doubled(nn.Module):
    def forward(self, x):
        return x.sort(-1)[0]


class Shared(nn.Module):
    def forward(self, x):
        return x * (1 / len(x))


@pytest.mark.parametrize(
    ("model", "given", "error", "phrases"),
    [
        (Doubled(), {}, CompileError, ("no operator for this", "sort at test_onnx.py:")),
        (Shared(), {"batch": "N"}, CompileError, ("does not follow the batch", "full at")),
        (nn.Dropout(0.5), {}, CompileError, ("changes something", "model.eval()")),
        (nn.Linear(4, 2), {"opset": 17}, SettingError, ("opset=17", "18 to 23")),
        (nn.Linear(4, 2), {"batch": "2 N"}, SettingError, ("an axis for the batch",)),
        (nn.Linear(4, 2), {"batch": 3}, SettingError, ("an axis for the batch",)),
    ],
)
def test_what_cannot_leave(model, given, error, phrases, tmp_path):
    """Ground truth: the rule that each breaks; nothing is written."""
    with pytest.raises(error) as caught:
        export.onnx(model, tmp_path / "net.onnx", tt.ones(2, 4), **given)
    assert all(phrase in str(caught.value) for phrase in phrases), caught.value
    assert not list(tmp_path.iterdir())


def test_an_example_is_needed(tmp_path):
    """Ground truth: the signature's words."""
    with pytest.raises(SettingError, match="needs an example"):
        export.onnx(nn.Linear(4, 2), tmp_path / "net.onnx")
