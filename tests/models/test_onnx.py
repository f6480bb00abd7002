"""models/onnx.py: models of ONNX files, ours and others', and files that are none."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import tinytorch as tt
from tests.export.test_onnx import NETS, eager, net_of
from tinytorch import export, models, nn
from tinytorch.base.errors import DTypeError, FileFormatError, ShapeError
from tinytorch.data import load_mnist

value = helper.make_tensor_value_info


def saved(path, nodes, weights, inputs=(("x", 1, ["N", 4]),), outputs=("y",), opset=17):
    """A file of these nodes."""
    graph = helper.make_graph(
        nodes, "net", [value(*x) for x in inputs], [value(y, 1, None) for y in outputs],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("name", NETS)
def test_what_left_comes_back(name, tmp_path):
    """Ground truth: the model that was written, line by line, and its state. Sums of attention and
    of GELU are other rows here, so the last places may differ: 1e-6 of the largest number."""
    net, inputs, _ = net_of(name)
    export.onnx(net, tmp_path / "net.onnx", inputs(2), batch="N")
    back = models.load(tmp_path / "net.onnx")
    state = {k: v for k, v in net.state_dict().items() if "num_batches" not in k}
    assert set(back.state_dict()) == set(state)
    assert {n for n, _ in back.named_parameters()} == {n for n, _ in net.named_parameters()}
    if name != "int4":  # whose numbers are a byte each there
        assert all((back.state_dict()[k].numpy() == v.numpy()).all() for k, v in state.items())
    x = inputs(3)
    wanted = eager(net, x)
    assert np.abs(eager(back, x) - wanted).max() <= 1e-6 * np.abs(wanted).max()


def test_it_is_compiled_trained_and_written_again(tmp_path):
    """Ground truth: the model it was, after the same step of training."""
    net, inputs, _ = net_of("lenet")
    export.onnx(net, tmp_path / "net.onnx", inputs(2), batch="N")
    back, x = models.load(tmp_path / "net.onnx").train(), tt.Tensor(inputs(4))
    losses = []
    for model in (net, back):
        optimizer = tt.optim.SGD(model.parameters(), lr=0.1)

        @tt.compile
        def step(x, labels, model=model, optimizer=optimizer):
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        losses.append([step(x, tt.tensor([1, 2, 3, 4])).item() for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[0][2] < losses[0][0]
    export.onnx(back.eval(), tmp_path / "again.onnx", x, batch="N")
    again = models.load(tmp_path / "again.onnx")
    np.testing.assert_array_equal(eager(again, x.numpy()), eager(back, x.numpy()))
    assert str(again).startswith("ONNXModel(") and "13 nodes, opset 21" in str(again)
    assert eager(copy.deepcopy(again).to(tt.float64), np.float64(x.numpy())).dtype == np.float64


def test_it_is_of_another_number_type(tmp_path):
    """Ground truth: the model in float64; in bfloat16 as near as some roundings of 2^-9 of numbers
    of size 1 allow. Constants of the file follow the weights."""
    net, inputs, _ = net_of("llama")
    export.onnx(net, tmp_path / "net.onnx", inputs(2), batch="N")
    wanted = eager(net.to(tt.float64), inputs(3))
    wide, narrow = (models.load(tmp_path / "net.onnx", d) for d in ("float64", "bfloat16"))
    assert np.abs(eager(wide, inputs(3)) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    with tt.no_grad():
        found = narrow(tt.Tensor(inputs(3)))
    assert found.dtype is tt.bfloat16
    off = np.abs(found.astype(tt.float64).numpy() - wanted).max()
    assert off <= 8 * 2.0**-9 * np.abs(wanted).max()


@pytest.mark.data
def test_the_shared_mnist_model():
    """Ground truth: 98.91 % of MNIST's 10,000 test pictures, which its makers give, from bytes; the
    file says one picture at a time, we give a thousand."""
    from os import environ
    from pathlib import Path

    place = Path(environ["TINYTORCH_DATA"]) / "onnx" / "opt-mnist.onnx"
    model = models.load(place)
    images, labels = load_mnist("test").take(range(10000))
    run = tt.compile(model, freeze=True)
    right = 0
    for i in range(0, 10000, 1000):
        pixels = np.rint(np.asarray(images[i : i + 1000]) * 255).astype(np.float32)
        right += int((run(tt.Tensor(pixels)).numpy().argmax(1) == labels[i : i + 1000]).sum())
    assert right == 9891


class Mixed(torch.nn.Module):
    """What small networks of PyTorch are made of."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.group = torch.nn.GroupNorm(2, 4)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.attention = torch.nn.TransformerEncoderLayer(
            8, 2, 16, dropout=0.0, batch_first=True, activation="gelu"
        )
        self.head = torch.nn.Linear(32, 3)

    def forward(self, x):
        f = torch.nn.functional
        x = f.leaky_relu(self.norm(self.conv(x)))
        x = f.avg_pool2d(f.hardswish(self.group(self.up(x))), 3, 2, 1)  # (N, 4, 4, 4)
        x = f.pad(x, (1, 0, 0, 1), "reflect")[:, :, ::2, 1:]
        x = torch.cat([x.mean(-1), x.amax(-1), x.std(-1)], 1).transpose(1, 2)
        x = torch.cat([x, x[..., :4].clamp(min=-0.5)], 2).reshape(len(x), -1, 8)
        x = self.attention(x).flatten(1)
        x = torch.cat([x, torch.where(x > 0, x, x * 2)], 1)[:, :32]
        return f.log_softmax(self.head(x), 1)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_a_network_that_pytorch_wrote(tmp_path):
    """Ground truth: PyTorch; a dozen layers, sums of up to 72 numbers."""
    torch.manual_seed(0)
    net = Mixed().eval()
    place = tmp_path / "torch.onnx"
    x = torch.randn(3, 2, 8, 8)
    torch.onnx.export(net, (x,), str(place), dynamo=False, opset_version=17, input_names=["x"])
    with torch.no_grad():
        wanted = net(x).numpy()
    np.testing.assert_allclose(eager(models.load(place), x.numpy()), wanted, atol=1e-5)


class Shaped(torch.nn.Module):
    """Sizes that are read from shapes and computed with."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = torch.nn.Conv1d(2, 4, 3, padding=1), torch.nn.Linear(20, 3)
        self.table = torch.nn.Embedding(7, 3)

    def forward(self, x):
        x = torch.nn.functional.max_pool1d(torch.relu(self.conv(x)), 2)
        x = self.head(x.view(x.size(0), -1))
        places = torch.arange(x.shape[1]).unsqueeze(0).expand(x.shape[0], 3)
        return (x + self.table(places).sum(-1)).softmax(-1), x.split(1, 1)[0]


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_sizes_that_follow_from_shapes_are_known_when_it_is_compiled(tmp_path):
    """Ground truth: PyTorch, for another number of samples than was written."""
    torch.manual_seed(0)
    net, x = Shaped().eval(), torch.randn(5, 2, 10)
    place = tmp_path / "torch.onnx"
    axes = {"x": {0: "N"}}
    torch.onnx.export(net, (x[:2],), str(place), dynamo=False, opset_version=13,
                      input_names=["x"], dynamic_axes=axes)  # fmt: skip
    with torch.no_grad():
        wanted = net(x)
    for got, want in zip(tt.compile(models.load(place))(tt.Tensor(x.numpy())), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-5)


def test_a_file_for_one_sample_takes_more(tmp_path):
    """Ground truth: the file's own number of samples, one by one. What is reshaped may be a weight
    that has as many rows as there are samples by chance."""
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = [
        helper.make_node("Reshape", ["w", "flat"], ["row"]),
        helper.make_node("Reshape", ["x", "rows"], ["a"]),
        helper.make_node("Gemm", ["a", "row"], ["y"], transB=1),
    ]
    weights = {"w": w, "flat": np.array([1, 12]), "rows": np.array([1, 12])}
    saved(tmp_path / "a.onnx", nodes, weights, inputs=(("x", 1, [1, 3, 4]),))
    model = models.load(tmp_path / "a.onnx")
    x = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    each = np.concatenate([eager(model, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(eager(model, x), each, rtol=1e-6)


def test_names_that_are_no_attributes(tmp_path):
    """Ground truth: weights called as methods and as parts of each other are; all are there."""
    names = ["forward", "_hooks", "a", "a.b", "a..c", "eval.x", "onnx::MatMul_1"]
    nodes = [helper.make_node("Sum", names, ["s"]), helper.make_node("Add", ["x", "s"], ["y"])]
    weights = {n: np.full(4, 2.0**i, np.float32) for i, n in enumerate(names)}
    model = models.load(saved(tmp_path / "a.onnx", nodes, weights))
    assert eager(model, np.zeros((1, 4), np.float32)).tolist() == [[127.0] * 4]
    assert len(list(model.parameters())) == 7 and "onnx::MatMul_1" in model.state_dict()
    model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})
    assert eager(model, np.zeros((1, 4), np.float32)).tolist() == [[254.0] * 4]


W = {"w": np.ones((4, 4), np.float32)}
NODE = helper.make_node("MatMul", ["x", "w"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "given", "phrases"),
    [
        ([helper.make_node("Loop", ["x"], ["y"], name="n7")], {}, ("'n7'", "Loop", "operator")),
        ([helper.make_node("Relu", ["x"], ["y"], domain="com.us")], {}, ("'com.us'.'Relu'",)),
        ([NODE], {"opset": 6}, ("opset [6]", "7 to 28")),
        ([NODE], {"opset": 99}, ("opset [99]",)),
        ([helper.make_node("MatMul", ["x", "v"], ["y"])], {}, ("not there", "'v'")),
        ([helper.make_node("Relu", ["y"], ["y"])], {}, ("not there",)),
        ([NODE, NODE], {}, ("name of its own",)),
        ([helper.make_node("Relu", ["x"], ["z"])], {}, ("an output is not made", "'y'")),
        ([helper.make_node("MatMul", ["x"], ["y"])], {}, ("number of operands",)),
        ([helper.make_node("Constant", [], ["y"], sparse=1)], {}, ("constant is not read",)),
        ([NODE], {"outputs": ()}, ("no output",)),
    ],
)
def test_files_that_are_refused(nodes, given, phrases, tmp_path):
    """Ground truth: the rule that each breaks; the message names the node and its operator."""
    place = saved(tmp_path / "a.onnx", nodes, W, **given)
    with pytest.raises(FileFormatError) as caught:
        models.load(place)
    assert all(phrase in str(caught.value) for phrase in phrases), caught.value


@pytest.mark.parametrize(
    ("node", "phrase"),
    [
        (helper.make_node("Reshape", ["x", "x"], ["y"]), "size is computed from the data"),
        (helper.make_node("Cast", ["x"], ["y"], to=99), "number type is none of ours"),
        (helper.make_node("Cast", ["x"], ["y"]), "an attribute is missing"),
        (helper.make_node("Softmax", ["x"], ["y"], axis="a"), "attribute is of another kind"),
        (helper.make_node("Dropout", ["x"], ["z", "y"]), "more of its outputs"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2]), "window is not done"),
    ],
)
def test_nodes_that_cannot_be_carried_out(node, phrase, tmp_path):
    """Ground truth: the rule that each breaks; the node is named."""
    model = models.load(saved(tmp_path / "a.onnx", [node], {}))
    with pytest.raises(FileFormatError, match=phrase) as caught:
        model(tt.ones(2, 4))
    assert node.op_type in caught.value.what


def test_inputs_that_do_not_fit(tmp_path):
    """Ground truth: what the file says of its input."""
    model = models.load(saved(tmp_path / "a.onnx", [NODE], W))
    with pytest.raises(ShapeError, match="another number of inputs"):
        model()
    with pytest.raises(ShapeError, match="another shape"):
        model(tt.ones(2, 5))
    with pytest.raises(ShapeError, match="another shape"):
        model(tt.ones(4))
    with pytest.raises(DTypeError, match="another number type"):
        model(tt.ones(2, 4).astype(tt.int64))


def test_weights_beside_the_file(tmp_path):
    """Ground truth: onnx's own writer of external data; a file moved elsewhere does not find it."""
    place = saved(tmp_path / "a.onnx", [NODE], W)
    onnx.save_model(
        onnx.load(place), str(tmp_path / "b.onnx"), save_as_external_data=True,
        location="b.bin", size_threshold=0,
    )  # fmt: skip
    x = np.ones((2, 4), np.float32)
    assert eager(models.load(tmp_path / "b.onnx"), x).tolist() == [[4.0] * 4] * 2
    assert TensorProto.EXTERNAL == 1
    content = (tmp_path / "b.onnx").read_bytes()
    (tmp_path / "c.onnx").write_bytes(content.replace(b"b.bin", b"../ab"))
    with pytest.raises(FileFormatError, match="outside the model's folder"):
        models.load(tmp_path / "c.onnx")


def test_damaged_files(tmp_path):
    """Ground truth: our own errors alone, whatever is cut off or changed."""
    net, inputs, _ = net_of("mlp")
    export.onnx(net, tmp_path / "net.onnx", inputs(2), batch="N")
    content = (tmp_path / "net.onnx").read_bytes()
    head = next(i for i in range(len(content)) if content[i : i + 8] == b"0.weight")
    for i in [*range(0, head, 7), len(content) - 1, len(content) - 60]:
        (tmp_path / "cut.onnx").write_bytes(content[:i])
        with pytest.raises(FileFormatError):
            models.load(tmp_path / "cut.onnx")
        bad = bytearray(content)
        bad[i] ^= 0x55
        (tmp_path / "bad.onnx").write_bytes(bad)
        try:
            models.load(tmp_path / "bad.onnx")
        except FileFormatError as error:
            assert error.fix
