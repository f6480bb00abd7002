"""The models of the cases: both sides compute the same, and the work that is counted is right."""

from mmap import mmap
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from benchmarks import training_step
from benchmarks.cases import Side, cnn, convolution, gpt, lstm, memory, numbers, resnet, vit

PICTURES, SEQUENCES = (2, 3, 32, 32), (2, 5, lstm.WIDTH)
MODELS = {
    "cnn": (lambda: cnn.define(tt.nn), lambda nn: cnn.define(nn), PICTURES),
    "resnet20": (lambda: resnet.our_model("resnet20"), lambda _: resnet.their_model("resnet20"),
                 PICTURES),
    "resnet18": (lambda: resnet.our_model("resnet18"), lambda _: resnet.their_model("resnet18"),
                 PICTURES),
    "vit": (vit.our_model, lambda _: vit.their_model(), PICTURES),
    "lstm": (lambda: lstm.define(tt.nn), lstm.define, SEQUENCES),
    "gpt": (gpt.our_model, lambda _: gpt.their_model(), None),
}  # fmt: skip


@pytest.mark.peer
@pytest.mark.parametrize("name", MODELS)
def test_the_peer_has_our_weights_and_gives_our_numbers(name):
    """Ground truth: PyTorch, given the weights of our model under their own names. Some 20 layers
    of sums of up to 4,608 numbers: 1e-4 of the largest."""
    torch = pytest.importorskip("torch")
    make, make_peer, shape = MODELS[name]
    tt.manual_seed(1)
    model = make()
    tokens = np.random.default_rng(0).integers(0, gpt.VOCABULARY, (2, gpt.LENGTH))
    x = tokens if shape is None else numbers(shape, 3)
    peer = make_peer(torch.nn)
    training_step.load(peer, training_step.with_weights(model, {}))
    ours = model.eval()(tt.Tensor(x)).numpy()
    theirs = peer.eval()(torch.from_numpy(x)).detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.peer
@pytest.mark.parametrize("ours, theirs", [(True, False), (False, True)])
def test_a_peer_with_other_weights_is_refused(ours, theirs):
    """Ground truth: a bias on one side only; a silent difference would be timed as equal."""
    torch = pytest.importorskip("torch")
    weights = training_step.with_weights(tt.nn.Linear(3, 4, bias=ours), {})
    training_step.load(torch.nn.Linear(3, 4, bias=ours), weights)
    with pytest.raises(RuntimeError, match="the models differ"):
        training_step.load(torch.nn.Linear(3, 4, bias=theirs), weights)


@pytest.mark.parametrize("name", resnet.SIZES)
def test_the_convolutions_that_are_counted_are_those_of_the_model(name):
    """Ground truth: the weights of the model's own convolutions, one after the other."""
    model = resnet.our_model(name)
    expected = sorted(p.shape for p in model.parameters() if len(p.shape) == 4)
    counted = [(b, a, k, k) for a, b, k, _, _ in resnet.layers(name)[0]]
    assert sorted(counted) == expected


@pytest.mark.parametrize(
    "name, operations", [("resnet20", 82e6), ("resnet18", 3.6e9 * (64 / 224) ** 2)]
)
def test_residual_networks_take_the_operations_of_their_paper(name, operations):
    """Ground truth: He et al. 2016, 41 million multiplications for ResNet-20 and 1.8 billion for
    ResNet-18 with pictures of 224 x 224, of which ours have a part."""
    convolutions, features = resnet.layers(name)
    forward = sum(2 * k * k * a * b * side**2 for a, b, k, _, side in convolutions)
    assert forward + 2 * features * resnet.CLASSES == pytest.approx(operations, rel=0.02)


def test_every_convolution_of_both_networks_is_measured_in_its_directions():
    """Ground truth: the CNN has 4, ResNet-20 6 that differ; pictures need no gradient."""
    names = [s["name"] for s in convolution.settings()]
    assert len(names) == len(set(names)) == 2 * (3 * 10 - 2)


def test_a_peer_may_do_in_float32_what_we_do_in_bfloat16():
    """Ground truth: the rule that bfloat16 is compared with the faster of both."""
    assert training_step.variants("float32") == ["eager", "compile"]
    assert training_step.variants("bf16", ["eager"]) == ["eager", "eager in float32"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the mark is Linux's")
def test_the_most_memory_is_that_of_the_run_and_not_of_before():
    """Ground truth: 200 MB before the start and 100 MB after it, both given back: 100 MB, and what
    Python itself takes meanwhile; the kernel counts pages in batches, some hundred KB. Pages of the
    system's own: what an allocator has once had it may give again."""

    def touched(megabytes: int) -> np.ndarray:
        with mmap(-1, megabytes * memory.MEGABYTE) as pages:
            numbers = np.frombuffer(pages, np.uint8)
            numbers[:] = 1
            total = numbers.sum(keepdims=True)
            del numbers
        return total

    touched(200)
    before = memory._start()

    def show() -> dict[str, np.ndarray]:
        return {"sum": touched(100)}

    shown = memory._counting(before, Side(lambda: None, show)).show()
    assert shown["sum"][0] == 100 * memory.MEGABYTE
    assert 95 <= shown["megabytes"] < 130
