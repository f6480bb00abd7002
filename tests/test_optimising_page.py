"""docs/optimising.md: its programs run, in order, in one namespace."""

import re

import tinytorch as tt
from tests.floors import ROOT
from tinytorch import capstone, compression, models

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
TEXT = (ROOT / "docs" / "optimising.md").read_text()


def test_the_programs_of_the_page_run(capsys):
    """Ground truth: the challenge that the page makes: SwiftCNN is what its pruning leaves."""
    space = {}
    for block in BLOCK.findall(TEXT):
        exec(block, space)
    assert "convolution" in capsys.readouterr().out
    swift = space["swift"]
    assert isinstance(swift, capstone.Challenge) and swift.steps == tuple(capstone.STEPS)
    net = swift.network().eval()
    picture = tt.zeros(1, 3, 32, 32)
    small = compression.prune_channels(net, picture, swift.ratio)
    inner = [small.get_submodule(f"layer{stage}.0.conv1").weight.shape[0] for stage in (1, 2, 3)]
    assert inner == [8, 16, 20] and isinstance(net, models.CifarResNet)


def test_every_step_and_every_call_is_there():
    """Ground truth: the steps of the capstone, and functions of compression named on the page."""
    assert all(step in TEXT.lower() for step in capstone.STEPS)
    called = set(re.findall(r"`compression\.(\w+)", TEXT))
    assert called and all(hasattr(compression, name) for name in called)
