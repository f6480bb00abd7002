"""Official files: where they lie, and how they are fetched."""

import fcntl
import hashlib
import http.server
import os
import re
import threading
from pathlib import Path

import pytest

from tinytorch.base.errors import DataError, StorageError, TinyTorchError
from tinytorch.data import load_tiny_shakespeare, official
from tinytorch.data.official import Remote, download, read_intact


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


# --- Fetching files, from a server on this machine that can be told to misbehave ---

CONTENT = bytes(i * i % 251 for i in range(300_000))


def answer(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler, *headers):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
            handler.server.sent += 1 << 16
    except OSError:  # nobody listens any more
        pass


# What a server may do; each is done at "/whole", while "/good" behaves.
HOSTILE = {
    "endless": endless,
    "a length that is no number": lambda h: answer(h, body=CONTENT, Content_Length="abc"),
    "a negative length": lambda h: answer(h, body=CONTENT, Content_Length="-5"),
    "a length of a thousand digits": lambda h: answer(h, body=CONTENT, Content_Length="9" * 1000),
    "a length that is too large": lambda h: answer(h, body=CONTENT, Content_Length="900000000000"),
    "a range that was not asked for": lambda h: answer(
        h, 206, CONTENT, Content_Range="bytes 7-299999/300000", Content_Length="299993"
    ),
    "a range that is none": lambda h: answer(h, 206, CONTENT, Content_Range="\x1b[2J"),
    "nothing": lambda h: answer(h, 204),
    "an empty file": lambda h: answer(h, Content_Length="0"),
    "a chunk that is none": lambda h: answer(h, body=b"xyz\r\n", Transfer_Encoding="chunked"),
    "too much in chunks": lambda h: answer(
        h, body=b"f0000\r\n" + bytes(0xF0000) + b"\r\n0\r\n\r\n", Transfer_Encoding="chunked"
    ),
    "no HTTP at all": lambda h: h.wfile.write(b"220 ftp\x1b[2J ready\r\n"),
    "an error with a terminal's escape": lambda h: (
        h.send_response(500, "no\x1b[2J") or h.end_headers()
    ),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /whole; the server's `behaviour` says what goes wrong."""

    def do_GET(self):
        self.server.ranges.append(self.headers["Range"])
        behaviour = self.server.behaviour
        if self.path not in ("/whole", "/good"):
            self.send_error(404)
            return
        if behaviour in HOSTILE and self.path == "/whole":
            HOSTILE[behaviour](self)
            return
        content = bytes(len(CONTENT)) if behaviour == "other content" else CONTENT
        start = int(re.match(r"bytes=(\d+)-", self.headers["Range"] or "bytes=0-")[1])
        if start >= len(content):
            self.send_error(416)
            return
        if behaviour == "no ranges":
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + 100_000 if behaviour == "breaks" else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.behaviour, server.ranges, server.sent = "well", [], 0
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(server, *paths, algorithm="md5"):
    base = f"http://127.0.0.1:{server.server_port}"
    digest = hashlib.new(algorithm, CONTENT).hexdigest()
    return Remote("file.gz", digest, tuple(base + p for p in paths or ("/whole",)), algorithm)


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_arrives_whole(server, tmp_path, algorithm):
    """Ground truth: the served bytes; progress ends at their number; no other file is left."""
    seen = []
    folder = tmp_path / "new" / "folder"
    path = download(remote(server, algorithm=algorithm), folder, lambda *p: seen.append(p))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("file.gz", len(CONTENT), len(CONTENT))
    assert [p.name for p in folder.iterdir()] == ["file.gz"]


def test_a_broken_download_is_continued(server, tmp_path):
    """Ground truth: the ranges asked for; 100,000 bytes an attempt, none fetched twice."""
    server.behaviour = "breaks"
    for _ in range(2):
        with pytest.raises(DataError, match=r"file\.gz could not be fetched"):
            download(remote(server), tmp_path)
    server.behaviour = "well"
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_the_next_address_goes_on_where_the_last_broke(server, tmp_path):
    """Ground truth: the range asked of the second address."""
    server.behaviour = "breaks"
    path = download(remote(server, "/gone", "/whole", "/whole", "/whole"), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None, "bytes=100000-", "bytes=200000-"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    """Ground truth: the served bytes, once."""
    (tmp_path / "file.gz.part").write_bytes(CONTENT[:1000])
    server.behaviour = "no ranges"
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_recognised(server, tmp_path):
    """Ground truth: HTTP 416 means that nothing is missing; the checksum agrees."""
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_wrong_content_is_never_kept(server, tmp_path):
    """Ground truth: the checksum; the next run begins from nothing and gets the right file."""
    server.behaviour = "other content"
    with pytest.raises(DataError, match="another checksum"):
        download(remote(server), tmp_path)
    assert not list(tmp_path.iterdir())
    server.behaviour = "well"
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_damaged_part_is_thrown_away(server, tmp_path):
    """Ground truth: the checksum of the whole: its first half is not the served one; the same
    address is asked once more, from nothing."""
    (tmp_path / "file.gz.part").write_bytes(bytes(1000))
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_nobody_answers(tmp_path):
    """Ground truth: the four parts: file, addresses and reasons, checksum, place."""
    nobody = Remote("file.gz", "00", ("http://127.0.0.1:9/file.gz",))
    with pytest.raises(DataError) as raised:
        download(nobody, tmp_path)
    assert "refused" in raised.value.got
    assert str(tmp_path / "file.gz") in raised.value.fix


def test_two_processes_do_not_write_one_file(server, tmp_path):
    """Ground truth: a lock held through another open file description."""
    with (tmp_path / "file.gz.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            download(remote(server), tmp_path)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_damage_is_seen(server, tmp_path):
    """Ground truth: one flipped bit changes the checksum."""
    path = tmp_path / "file.gz"
    path.write_bytes(CONTENT)
    assert read_intact(path, remote(server)) == CONTENT
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(DataError, match=r"file\.gz is damaged"):
        read_intact(path, remote(server))


# --- servers and folders of somebody else ---


def sized(server, *paths):
    return Remote("file.gz", hashlib.md5(CONTENT).hexdigest(), remote(server, *paths).addresses,
                  size=len(CONTENT))  # fmt: skip


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_a_server_that_lies_costs_one_address(server, tmp_path, behaviour):
    """Ground truth: the file, from the next address; alone, four parts and nothing left behind."""
    server.behaviour = behaviour
    with pytest.raises(DataError, match="could not be fetched") as told:
        download(sized(server), tmp_path)
    assert str(told.value).replace("\n", "").isprintable() and len(str(told.value)) < 2000
    assert not list(tmp_path.iterdir())
    assert download(sized(server, "/whole", "/good"), tmp_path).read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["file.gz"]


def test_an_endless_file_of_unknown_size(server, tmp_path, monkeypatch):
    """Ground truth: no more bytes than the limit, and what is on its way, were taken."""
    monkeypatch.setattr("tinytorch.data.official.LARGEST", 1 << 20)
    server.behaviour = "endless"
    with pytest.raises(DataError, match="could not be fetched"):
        download(remote(server), tmp_path)
    assert server.sent < 32 << 20 and not list(tmp_path.iterdir())


def test_a_known_size_is_not_asked_for_again(server, tmp_path):
    """Ground truth: the ranges asked for: a whole part needs no server, a longer one goes."""
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    assert download(sized(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == []
    (tmp_path / "file.gz").unlink()
    (tmp_path / "file.gz.part").write_bytes(CONTENT + b"more")
    assert download(sized(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("name", ["file.gz.part", "file.gz"])
@pytest.mark.parametrize("how", ["link", "hard link", "pipe", "folder"])
def test_what_lies_where_a_download_goes_is_never_written(server, tmp_path, name, how):
    """Ground truth: the user's file. A link was followed, and its target emptied."""
    mine, folder = tmp_path / "thesis", tmp_path / "data"
    mine.write_bytes(b"years of work")
    folder.mkdir()
    place = folder / name
    if how == "link":
        place.symlink_to(mine)
    elif how == "hard link":
        os.link(mine, place)
    else:
        os.mkfifo(place) if how == "pipe" else place.mkdir()
    if (name, how) == ("file.gz", "hard link"):
        download(sized(server), folder)  # the name becomes the file's; the other keeps its bytes
    else:
        with pytest.raises(StorageError) as told:
            download(sized(server), folder)
        assert told.value.got and told.value.fix
        assert [p.name for p in folder.iterdir()] == [name] and server.ranges == []
    assert mine.read_bytes() == b"years of work" and mine.stat().st_nlink <= 2


def test_a_folder_that_is_a_link_is_followed_only_where_the_user_named_it(server, tmp_path):
    """Ground truth: the names in the folder it points to."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mnist").symlink_to("mine")
    with pytest.raises(TinyTorchError):
        download(sized(server), tmp_path / "mnist", links=False)
    assert not list((tmp_path / "mine").iterdir())
    download(sized(server), tmp_path / "mnist")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["file.gz"]


def test_a_part_that_another_process_finished_meanwhile(server, tmp_path, monkeypatch):
    """Ground truth: the race, made certain: the part gets its name after it was opened here. What
    is written then must not go into the finished file."""
    part = tmp_path / "file.gz.part"
    part.write_bytes(CONTENT)
    real, done = fcntl.flock, []

    def finishing(file, how):
        if not done:
            done.append(part.rename(tmp_path / "file.gz"))
        return real(file, how)

    monkeypatch.setattr(fcntl, "flock", finishing)
    server.behaviour = "other content"
    with pytest.raises(DataError, match="another checksum"):
        download(remote(server), tmp_path)
    assert done and (tmp_path / "file.gz").read_bytes() == CONTENT


def test_nothing_but_the_file_itself_is_read(server, tmp_path):
    """Ground truth: a longer file is not read to its end; a pipe is not waited for."""
    with (tmp_path / "file.gz").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(DataError, match="damaged") as told:
        read_intact(tmp_path / "file.gz", sized(server))
    assert told.value.fix.startswith(f"rm {tmp_path}")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TinyTorchError, match="not a regular file"):
        read_intact(tmp_path / "pipe", sized(server))
    (tmp_path / "real").write_bytes(CONTENT)
    (tmp_path / "link").symlink_to("real")  # data sets are shared so
    assert read_intact(tmp_path / "link", sized(server)) == CONTENT


@pytest.mark.data
def test_sizes_are_those_of_the_official_files(official_data):
    """Ground truth: the files. (A size that is too small or too large would end every download.)"""
    from tinytorch.data import cifar10, mnist

    known = [*(f for split in mnist.FILES.values() for f in split), official.TINY_SHAKESPEARE]
    known += cifar10.FILES[cifar10.BINARY][False]
    for file in known:
        (path,) = official_data.rglob(file.name)
        assert path.stat().st_size == file.size


def test_a_damaged_text_is_refused(tmp_path):
    """Ground truth: the published sha256."""
    (tmp_path / "tinyshakespeare.txt").write_text("To be")
    with pytest.raises(DataError, match=r"tinyshakespeare\.txt is damaged"):
        load_tiny_shakespeare(tmp_path)


@pytest.mark.data
def test_shakespeare(official_data):
    """Ground truth: 1,115,394 characters, 65 different ones (counted with wc and sort)."""
    text = load_tiny_shakespeare(official_data)
    assert (len(text), len(set(text))) == (1115394, 65)
