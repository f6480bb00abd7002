"""Packages: what a manifest says holds, and what was changed is found before it is run.

Ground truth: SHA-256 of the bytes; the model line by line.
"""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tests.export.networks import picture, pictures_network
from tests.export.test_native import TOLERANCE
from tinytorch import export, nn
from tinytorch.base.errors import (
    CompileError,
    DataError,
    FileFormatError,
    NotFoundError,
    SettingError,
)
from tinytorch.export.package import KIND
from tinytorch.storage import writing_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made") / "net"
    export.package_for_production(pictures_network(), place, picture(), version="2.1", name="net")
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "net"))


def test_a_package_gives_what_the_model_gives(place):
    """Ground truth: the model line by line, on another input than the sample."""
    package = export.load_package(place)
    assert package.version == "2.1" and package.facts["target"]
    with tt.no_grad():
        eager = pictures_network()(picture(5)).numpy()
    assert np.abs(package(picture(5)).numpy() - eager).max() <= TOLERANCE


def test_several_threads_call_at_once(place):
    """Ground truth: one thread's answers, to the last bit."""
    package = export.load_package(place)
    inputs = [picture(i) for i in range(4)]
    wanted = [package(x).numpy().tobytes() for x in inputs]
    wrong: list[int] = []

    def call(i):
        for _ in range(50):
            if package(inputs[i]).numpy().tobytes() != wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_changed_byte_is_found_in_every_file(place):
    """Ground truth: SHA-256; each file of the folder in turn, the manifest too."""
    for file in sorted(place.iterdir()):
        whole = file.read_bytes()
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(FileFormatError, match="was changed|not|damaged"):
            export.load_package(place)
        file.write_bytes(whole)
    export.load_package(place)


def test_a_missing_or_shorter_file_is_found(place):
    """Ground truth: the lengths in the manifest."""
    whole = (place / "net.o").read_bytes()
    (place / "net.o").write_bytes(whole[:-1])
    with pytest.raises(FileFormatError, match="another length"):
        export.load_package(place)
    (place / "net.o").unlink()
    with pytest.raises(FileFormatError, match="not whole"):
        export.load_package(place)
    with pytest.raises(NotFoundError, match="there is no"):
        export.load_package(place / "nowhere")


@pytest.mark.parametrize("target", ["avx512", "aarch64"])
def test_a_package_for_another_processor_is_refused(tmp_path, target):
    """Ground truth: what this processor has; it is written all the same."""
    net, x = nn.Linear(4, 2).eval(), tt.ones(1, 4)
    library = export.package_for_production(net, tmp_path / "net", x, target=target)
    try:
        library.program.target.runnable()
    except SettingError:
        with pytest.raises(SettingError, match="for another processor") as caught:
            export.load_package(tmp_path / "net")
        assert "missing here: a" in caught.value.got
    else:
        assert export.load_package(tmp_path / "net")(x).shape == (1, 2)


def changed(place, tmp_path, **about):
    """A package whose files and manifest fit each other, and that says something else."""
    held = json.loads((place / "manifest.json").read_text())["manifest"]
    with writing_folder(tmp_path / "other", KIND) as new:
        new.about.update({**held["about"], **about})
        for name in held["files"]:
            with new.file(name) as file:
                content = (place / name).read_bytes()
                file.write(bytes(len(content)) if name in about.get("zeros", ()) else content)
    return tmp_path / "other"


def test_a_sample_with_another_output_is_found(place, tmp_path):
    """Ground truth: probabilities are not all 0."""
    other = changed(place, tmp_path, zeros=["expected_output.bin"])
    with pytest.raises(CompileError, match="what is expected for the sample"):
        export.load_package(other)


@pytest.mark.parametrize(
    "about",
    [{"inputs": 3}, {"inputs": [{"name": "input", "dtype": "f99", "shape": [1]}]},
     {"tolerance": "much"}, {"outputs": [{"name": "output", "dtype": "float32", "shape": [9]}]}],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused(place, tmp_path, about):
    """Ground truth: the fields that package_for_production writes."""
    with pytest.raises(FileFormatError):
        export.load_package(changed(place, tmp_path, **about))


def test_settings_outside_their_range(tmp_path):
    """Ground truth: the ranges of the docstring."""
    net, x = nn.Linear(4, 2).eval(), tt.ones(1, 4)
    for wrong in ({"version": ""}, {"version": 3}, {"tolerance": 0}, {"tolerance": 2}):
        with pytest.raises(SettingError):
            export.package_for_production(net, tmp_path / "net", x, **wrong)
    with pytest.raises(DataError, match="NaN or an infinity"):
        export.package_for_production(net, tmp_path / "net", x * np.inf)
    assert not (tmp_path / "net").exists()
