"""Files that are there whole or not at all."""

import os

import pytest

from tinytorch.storage import replacing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    """Ground truth: the old bytes, and a folder with one name in it."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(path) as file:
        file.write(b"half of the new")
        raise RuntimeError("in the middle")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


def test_a_reader_keeps_the_file_it_opened(tmp_path):
    """Ground truth: POSIX rename: an open file is not changed by the name pointing elsewhere."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with path.open("rb") as before:
        with replacing(path) as file:
            file.write(b"new")
        assert before.read() == b"old"
    assert path.read_bytes() == b"new"


def test_folders_are_made_and_permissions_kept(tmp_path):
    """Ground truth: the mode a plain open() gives, and the mode the old file had."""
    plain = tmp_path / "plain"
    plain.touch()
    path = tmp_path / "deep" / "er" / "file"
    with replacing(path) as file:
        file.write(b"1")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    with replacing(path) as file:
        file.write(b"2")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"2"
