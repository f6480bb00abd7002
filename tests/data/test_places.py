"""Where data files are looked for."""

from pathlib import Path

from tinytorch.data import places


def test_downloads_lie_in_the_users_cache(monkeypatch):
    """Ground truth: the variable that names the cache folder (base/settings.py)."""
    monkeypatch.setenv("TINYTORCH_CACHE", "/somewhere")
    assert places.user_cache() == Path("/somewhere/data")


def test_order_of_places(monkeypatch):
    """Ground truth: asked for, else the variable's folder and then the cache."""
    monkeypatch.setenv("TINYTORCH_DATA", "/named")
    assert places.folders("/asked") == [Path("/asked")]
    assert places.folders() == [Path("/named"), places.user_cache()]
    monkeypatch.delenv("TINYTORCH_DATA")
    assert places.folders() == [places.user_cache()]


def test_the_subfolder_comes_first(tmp_path):
    """Ground truth: two files of one name; a folder of many data sets keeps its parts apart."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "x").touch()
    (tmp_path / "x").touch()
    assert places.find("x", "mnist", [tmp_path]) == tmp_path / "mnist" / "x"
    assert places.find("x", "text", [tmp_path]) == tmp_path / "x"
    assert places.find("y", "text", [tmp_path]) is None
