"""Where data files are looked for."""

from pathlib import Path

from tinytorch.data import official


def test_downloads_lie_in_the_users_cache(monkeypatch):
    """Ground truth: the variable that names the cache folder (base/settings.py)."""
    monkeypatch.setenv("TINYTORCH_CACHE", "/somewhere")
    assert official.user_cache() == Path("/somewhere/data")


def test_order_of_places(monkeypatch):
    """Ground truth: asked for, else the variable's folder and then the cache."""
    monkeypatch.setenv("TINYTORCH_DATA", "/named")
    assert official.folders("/asked") == [Path("/asked")]
    assert official.folders() == [Path("/named"), official.user_cache()]
    monkeypatch.delenv("TINYTORCH_DATA")
    assert official.folders() == [official.user_cache()]


def test_the_subfolder_comes_first(tmp_path):
    """Ground truth: two files of one name; a folder of many data sets keeps its parts apart."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "x").touch()
    (tmp_path / "x").touch()
    assert official.find("x", "mnist", [tmp_path]) == tmp_path / "mnist" / "x"
    assert official.find("x", "text", [tmp_path]) == tmp_path / "x"
    assert official.find("y", "text", [tmp_path]) is None
