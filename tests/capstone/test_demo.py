"""What the demonstration refuses; what it shows is in test_run.py, beside the run it shows."""

import json

import pytest

from tinytorch.base.errors import SettingError
from tinytorch.capstone import demo


def test_a_challenge_of_ones_own_must_be_given(tmp_path):
    """Ground truth: the message."""
    (tmp_path / "settings.json").write_text(json.dumps({"name": "mine", "seed": 0}))
    with pytest.raises(SettingError, match="needs the challenge itself"):
        demo.show(tmp_path)


def test_the_command_line(tmp_path, capsys):
    """Ground truth: the exit code; a sentence, no traceback."""
    assert demo.main([]) == 2 and "FOLDER" in capsys.readouterr().err
    assert demo.main([str(tmp_path)]) == 2
    assert "error: this is not the folder of a capstone" in capsys.readouterr().err
