"""`tito export`: which models leave, as what, and what is said of it."""

import json
import platform
import shutil
import subprocess

import numpy as np
import onnxruntime
import pytest

import tinytorch as tt
from tests.test_cli import tito
from tinytorch import export, models
from tinytorch.cli.recipes import DATA_SETS, build
from tinytorch.cli.runs import save_model
from tinytorch.models import GPT, GPTConfig
from tinytorch.text import CharacterTokenizer

LETTERS = "\n abcdefgh"


@pytest.fixture
def pictures(tmp_path):
    """A file as `tito train digits` writes it, and its network."""
    network = build("lenet", DATA_SETS["digits"].shape).eval()
    save_model(network, "digits", "lenet", tmp_path / "model.safetensors", {})
    return network, tmp_path / "model.safetensors"


@pytest.fixture
def speaker(tmp_path):
    """A language model in a folder, with its tokenizer."""
    tt.manual_seed(1)
    model = GPT(GPTConfig(len(LETTERS), 1, 2, 32, 24)).eval()
    models.save_folder(model, tmp_path / "small")
    CharacterTokenizer(LETTERS).save(tmp_path / "small" / "tokenizer.json")
    return model, tmp_path / "small"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
def test_a_network_of_pictures_leaves_and_the_line_shown_runs_it(pictures, tmp_path, capsys):
    """Ground truth: the network, line by line, on the sample that lies beside the program."""
    network, file = pictures
    code, out, err = tito(capsys, "export", file, "--folder", tmp_path / "out", "--name", "digits")
    assert code == 0, err
    assert "input float32[1, 1, 8, 8]" in out and "ms, one thread" in out
    shown = out.splitlines()[-1].removeprefix("run it").strip()
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    x = np.fromfile(tmp_path / "out" / "sample_input.bin", np.float32).reshape(1, 1, 8, 8)
    with tt.no_grad():
        wanted = network(tt.Tensor(x)).numpy()[0]
    got = np.array(done.stdout.split(), np.float32)
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.peer
def test_a_model_leaves_as_onnx(pictures, speaker, tmp_path, capsys):
    """Ground truth: onnxruntime beside the models: all logits, of three samples at once; int8 is
    close to them."""
    images = np.sin(np.arange(192.0)).astype(np.float32).reshape(3, 1, 8, 8)
    tokens = np.arange(72).reshape(3, 24) % len(LETTERS)
    for (model, place), x in ((pictures, images), (speaker, tokens)):
        with tt.no_grad():
            wanted = model(tt.Tensor(x)).numpy()
        for kind, near in (((), 1e-5), (("--quantize", "int8"), 0.1)):
            to = tmp_path / f"{place.stem}{len(kind)}"
            code, out, err = tito(capsys, "export", place, "--to", "onnx", "--folder", to, *kind)
            assert code == 0, err
            assert "any number of N" in out
            session = onnxruntime.InferenceSession(str(to / "model.onnx"))
            got = session.run(None, {"input": x})[0]
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() <= near * np.abs(wanted).max()


def test_a_language_model_says_what_comes_next(speaker, tmp_path, capsys):
    """Ground truth: the model's own logits behind the last token; int8 is close to them."""
    model, folder = speaker
    for kind, near in (((), 1e-4), (("--quantize", "int8"), 0.1)):
        place = tmp_path / f"out{len(kind)}"
        words = ("export", folder, "--folder", place, "--length", 8, "--json", *kind)
        code, out, err = tito(capsys, *words)
        assert code == 0, err
        assert json.loads(out.splitlines()[0])["inputs"] == ["input int64[1, 8]"]
        tokens = tt.tensor([[1, 3, 5, 7, 2, 4, 6, 8]])
        with tt.no_grad():
            wanted = model(tokens).numpy()[:, -1]
        got = export.load_package(place)(tokens).numpy()
        assert np.abs(got - wanted).max() <= near * np.abs(wanted).max()


def test_another_processor_is_written_for_and_not_run(pictures, tmp_path, capsys):
    """Ground truth: this test runs on one architecture."""
    other = "aarch64" if platform.machine() in ("x86_64", "AMD64") else "x86-64"
    words = ("export", pictures[1], "--folder", tmp_path / "out", "--target", other)
    code, out, err = tito(capsys, *words)
    assert code == 0, err
    assert "one run" not in out


def test_what_cannot_be_asked_for(pictures, speaker, capsys, tmp_path):
    """Ground truth: the exit code, and the parts of the message."""
    model = pictures[1]
    for words, said in (
        ((model, "--to", "nativ"), "--to native"),
        ((model, "--target", "avx"), "--target avx"),
        ((model, "--length", 3), "pictures have no length"),
        ((speaker[1], "--length", 25), "1 to 24"),
        ((model, "--quantize", "int2"), "int8"),
        ((model, "--name", "9"), "a letter first"),
        ((tmp_path / "nothing.safetensors",), "no such model file"),
    ):
        code, _, err = tito(capsys, "export", *words, "--folder", tmp_path / "never")
        assert code == 2 and said in err, err
    assert not (tmp_path / "never").exists()
