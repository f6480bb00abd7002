"""Wrong arguments to every public name: an error in four parts or an answer, nothing raw.

Ground truth: the error's class. Functions, constructors and methods of Tensors are called with
wrong values in every place; Python's, NumPy's and LLVM's own errors are the failure.
"""

import inspect
import itertools
import signal
import traceback

import numpy as np
import pytest

import tinytorch as tt
import tinytorch.array_api as xp
from tests.test_every_layer import LAYERS
from tinytorch import data, models, nn, optim, storage, text, training
from tinytorch.base.arguments import explained
from tinytorch.base.errors import (
    ArgumentError,
    ArgumentTypeError,
    IndexRangeError,
    MissingKeyError,
    TinyTorchError,
)
from tinytorch.training.history import Silent

PLACES = {
    "tt": tt, "xp": xp, "nn": nn, "F": nn.functional, "init": nn.init, "boxes": nn.boxes,
    "optim": optim, "data": data, "training": training, "text": text, "storage": storage,
    "models": models,
}  # fmt: skip
WRONG = {
    "None": lambda: None, "text": lambda: "text", "bytes": lambda: b"ab", "object": object,
    "-1": lambda: -1, "-7": lambda: -7, "0": lambda: 0, "2.5": lambda: 2.5, "True": lambda: True,
    "nan": lambda: float("nan"), "2**70": lambda: 2**70, "[]": list, "{}": dict,
    "[None]": lambda: [None], "ragged": lambda: [[1.0], [1.0, 2.0]], "(1, 2)": lambda: (1, 2),
    "strings": lambda: np.array(["a"]), "objects": lambda: np.array([None]),
    "complex": lambda: np.array([1j]), "dtype": lambda: tt.float64, "function": lambda: len,
    "number": lambda: tt.tensor(1.0), "empty": lambda: tt.zeros(0), "vector": lambda: tt.ones(3),
    "matrix": lambda: tt.ones(2, 3), "images": lambda: tt.ones(2, 3, 4, 5),
    "whole": lambda: tt.tensor([1, 2]), "mask": lambda: tt.tensor([True, False]),
    "layer": lambda: nn.Linear(2, 2),
}  # fmt: skip
# Not called: what changes the process, and a class that is there to be derived from.
LEFT_OUT = {"tt.set_num_threads", "tt.manual_seed", "optim.Optimizer"}
LARGE = "2**70"


def public():
    """(name, what to call) of everything that can be called."""
    for place, module in PLACES.items():
        for name in sorted(module.__all__):
            x = getattr(module, name)
            if callable(x) and not inspect.ismodule(x) and f"{place}.{name}" not in LEFT_OUT:
                if not (isinstance(x, type) and issubclass(x, BaseException)):
                    yield f"{place}.{name}", x
    for name in sorted(dir(tt.Tensor)):
        if not name.startswith("_") and callable(getattr(tt.Tensor, name, None)):
            yield f"x.{name}", getattr(tt.Tensor, name)


PUBLIC = dict(public())


def calls(name):
    """Names of arguments for some calls: each wrong value in each place, and everywhere."""
    try:
        parameters = list(inspect.signature(PUBLIC[name]).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = len([p for p in places if p.default is p.empty])
    most = len(places) + any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if name.startswith("x."):
        least, most = max(least - 1, 0), max(most - 1, 0)
    for n in range(least, min(most, least + 2) + 1):
        yield from (
            itertools.product([*WRONG], repeat=min(n, 1)) if n < 2 else ((k,) * n for k in WRONG)
        )
        if n > 1:
            for k, place in itertools.product(WRONG, range(n)):
                yield tuple(k if i == place else "matrix" for i in range(n))


def raw(name, given):
    """None, or the raw error of one call."""
    arguments = [WRONG[k]() for k in given]
    if name.startswith("x."):
        arguments.insert(0, tt.arange(6.0).reshape(2, 3))
    try:
        out = PUBLIC[name](*arguments)
        if inspect.isgenerator(out):
            next(out, None)
    except TinyTorchError as error:
        assert error.what and error.got and error.rule and error.fix
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{name}{given}: {type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    return None


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYTORCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", refused)


def refused(*_arguments, **_named):
    raise OSError("no network in this test")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [*PLACES, "x"])
def test_wrong_arguments_are_refused_in_four_parts(place):
    """Every public name of a place; abstract classes are refused by Python itself."""
    found = []
    for name in PUBLIC:
        if name.split(".")[0] != place or inspect.isabstract(PUBLIC[name]):
            continue
        if "load_" in name or "pretrained" in name or "map_" in name:
            continue  # these open files and connections: tests/base/test_files.py, tests/data
        for given in dict.fromkeys(calls(name)):
            if LARGE in given and place == "models":
                continue  # builds as many layers as it is told to
            problem = raw(name, given)
            if problem:
                found.append(problem)
    assert not found, "\n".join(found[:20])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_refuse_wrong_inputs_in_four_parts(name):
    """Every layer of tests/test_every_layer.py, each wrong value as its input."""
    layer, found = LAYERS[name].make(), []
    for k, value in WRONG.items():
        try:
            layer(*[value()] * len(LAYERS[name].inputs))
        except TinyTorchError:
            pass
        except Exception as error:
            found.append(f"{name}({k}): {type(error).__name__}: {error}")
    assert not found, "\n".join(found)


def net():
    return nn.Sequential(nn.Linear(2, 2))


def optimizer():
    return optim.SGD(net().parameters(), lr=0.1)


def rows():
    return data.ArrayDataset(np.ones((4, 2), np.float32), np.array([0, 1, 0, 1]))


def trainer(kind=training.Trainer):
    return kind(net(), optim.SGD(lr=0.1), compile=False, progress=Silent())


# What methods are called on: one object of each public class that has methods of its own.
OBJECTS = {
    "Module": net, "ModuleList": lambda: nn.ModuleList([nn.ReLU()]), "Sequential": net,
    "ModuleDict": lambda: nn.ModuleDict({"a": nn.ReLU()}),
    "KeyValueCache": lambda: nn.KeyValueCache(1, 2, 4, 2), "Embedding": lambda: nn.Embedding(3, 2),
    "ModelCache": lambda: nn.ModelCache([nn.KeyValueCache(1, 2, 4, 2)]),
    "SGD": optimizer, "Together": lambda: optim.Together(optimizer()),
    "Group": lambda: optimizer().groups[0], "LambdaLR": lambda: optim.LambdaLR(optimizer(), float),
    "StepLR": lambda: optim.StepLR(optimizer(), 2),
    "ReduceLROnPlateau": lambda: optim.ReduceLROnPlateau(optimizer()),
    "SequentialLR": lambda: optim.SequentialLR(o := optimizer(), [optim.StepLR(o, 2)], []),
    "DataLoader": lambda: data.DataLoader(rows(), batch_size=2), "ArrayDataset": rows,
    "Subset": lambda: data.Subset(rows(), [0]),
    "ConcatDataset": lambda: data.ConcatDataset([rows()]),
    "ImageDataset": lambda: data.ImageDataset(np.ones((4, 3, 8, 8), np.uint8), np.arange(4)),
    "RandomSampler": lambda: data.RandomSampler(rows()),
    "SequentialSampler": lambda: data.SequentialSampler(rows()),
    "SubsetSampler": lambda: data.SubsetSampler([0, 1]),
    "WeightedSampler": lambda: data.WeightedSampler([1.0, 2.0], 2),
    "BatchSampler": lambda: data.BatchSampler(data.SequentialSampler(rows()), 2),
    "Scenes": lambda: data.Scenes(data.load_digits("train"), 3, 32, 2, 8, 12),
    "MeanAveragePrecision": training.MeanAveragePrecision,
    "Stream": data.Stream, "TextWindows": lambda: data.TextWindows(np.arange(9), 3),
    "Normalize": data.Normalize, "RandomCrop": lambda: data.RandomCrop(2),
    "RandomFlip": data.RandomFlip, "ColorJitter": data.ColorJitter,
    "Mixup": lambda: data.Mixup(1.0, 2),
    "Cutout": lambda: data.Cutout(2), "Compose": lambda: data.Compose([data.RandomFlip()]),
    "Trainer": trainer, "EMA": lambda: training.EMA(net()), "History": training.History,
    "EarlyStopping": training.EarlyStopping, "LossScaler": training.LossScaler,
    "ConfusionMatrix": lambda: training.ConfusionMatrix(2), "Perplexity": training.Perplexity,
    "Checkpoints": lambda: training.Checkpoints("checkpoints"),
    "OptimizedTrainer": lambda: training.OptimizedTrainer(net(), training.TrainingConfig(epochs=1)),
    "CharacterTokenizer": lambda: text.CharacterTokenizer("abc"),
    "BytePairTokenizer": lambda: text.BytePairTokenizer.train("abcabc", 260)
    if hasattr(text.BytePairTokenizer, "train") else text.train_byte_pairs("abcabc", 260),
    "ByteTokenizer": text.ByteTokenizer,
    "SentencePieceTokenizer": lambda: text.SentencePieceTokenizer(
        text.Vocabulary([f"<0x{byte:02X}>" for byte in range(256)]), []
    ),
    "Vocabulary": lambda: text.Vocabulary(["a", "b"]),
    "Generator": lambda: tt.Generator(),
}  # fmt: skip


def methods():
    """(class, method) of the public classes; one inherited is called on the first that has it."""
    seen = set()
    for name, make in OBJECTS.items():
        kind = type(make())
        assert kind.__name__ == name or name in ("Module", "LambdaLR")
        for method in sorted(dir(kind)):
            x = inspect.getattr_static(kind, method)
            if method[0] != "_" and method != "forward" and id(x) not in seen:
                seen.add(id(x))
                if not isinstance(x, property) and callable(getattr(kind, method, None)):
                    yield name, method


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "method"), list(methods()))
def test_methods_refuse_wrong_arguments_in_four_parts(kind, method):
    """Every method of OBJECTS, each wrong value in each place, on an object made anew."""
    found = []
    parameters = inspect.signature(getattr(OBJECTS[kind](), method)).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = len([p for p in places if p.default is p.empty])
    most = len(places) + any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for n in range(max(least, 1), most + 1):
        for given in [(k,) * n for k in WRONG]:
            try:
                getattr(OBJECTS[kind](), method)(*[WRONG[k]() for k in given])
            except TinyTorchError as error:
                assert error.what and error.got and error.rule and error.fix
            except NotImplementedError:  # what a subclass is to define
                pass
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{last.filename}:{last.lineno}"
                found.append(f"{given}: {type(error).__name__}: {error} ({place})")
    assert not found, "\n".join(found[:20])


def wrong(x, kind="value"):
    """Raises as its second argument says."""
    if kind == "value":
        return int(x)
    if kind == "index":
        return [][x]
    if kind == "key":
        return {}[x]
    if kind == "type":
        return len(x)
    return x.shape


class OfTheUser:
    def __len__(self):
        raise ValueError("the user's own")


@pytest.mark.parametrize(
    ("kind", "x", "error"),
    [("value", "text", ArgumentError), ("index", 3, IndexRangeError), ("key", 3, MissingKeyError),
     ("type", None, ArgumentTypeError), ("attribute", 2, ArgumentTypeError)],
)  # fmt: skip
def test_raw_errors_keep_their_kind_and_their_cause(kind, x, error, monkeypatch):
    """Python's class of the cause; the call is shown with its arguments and its signature."""
    monkeypatch.setattr("tinytorch.base.arguments._HERE", __file__)
    monkeypatch.setattr("tinytorch.base.arguments._LIBRARIES", (__file__, __file__))
    with pytest.raises(error, match="wrong: an argument cannot be used") as caught:
        explained(wrong)(x, kind)
    if kind != "attribute":  # that a number has no shape is a matter of its type
        assert isinstance(caught.value, type(caught.value.__cause__))
    assert f"{x!r}, {kind!r}" in caught.value.got and "(x, kind='value')" in caught.value.rule


def test_errors_of_the_users_code_go_through():
    """Identity: what the user's own code raised is not touched, however deep it was called."""
    mine = ValueError("the user's own")

    def loss(*_):
        raise mine

    with pytest.raises(ValueError) as caught:
        tt.grad(loss)(tt.ones(2))
    assert caught.value is mine
    with pytest.raises(ValueError, match="the user's own") as caught:
        data.random_split(OfTheUser(), [1, 1])
    assert not isinstance(caught.value, TinyTorchError)


def test_wrong_signatures_show_the_right_one():
    """The function's signature."""
    with pytest.raises(TypeError, match="an argument cannot be used") as caught:
        nn.functional.dropout(tt.ones(2), probability=0.5)
    assert isinstance(caught.value, TinyTorchError) and "p" in caught.value.rule


def test_nothing_is_slower_than_a_second():
    """The alarm, of processor time: a wrong size is refused before work begins."""

    def ring(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, ring)
    try:
        for name in ("tt.zeros", "tt.eye", "tt.rand", "tt.linspace", "tt.randperm", "tt.one_hot"):
            signal.setitimer(signal.ITIMER_PROF, 10)
            assert raw(name, ("2**70",)) is None or name == "tt.linspace"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
