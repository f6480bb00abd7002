"""Fetching files, from a server on this machine that can be told to misbehave."""

import fcntl
import hashlib
import http.server
import re
import threading

import pytest

from tinytorch.base.errors import DataError
from tinytorch.data.download import Remote, check_intact, download, is_intact

CONTENT = bytes(i * i % 251 for i in range(300_000))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /whole; the server's `behaviour` says what goes wrong."""

    def do_GET(self):
        self.server.ranges.append(self.headers["Range"])
        behaviour = self.server.behaviour
        if self.path != "/whole":
            self.send_error(404)
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
        server.behaviour, server.ranges = "well", []
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
    assert (tmp_path / "file.gz.part").stat().st_size == 0
    assert not (tmp_path / "file.gz").exists()
    server.behaviour = "well"
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_damaged_part_is_thrown_away(server, tmp_path):
    """Ground truth: the checksum of the whole: its first half is not the served one."""
    (tmp_path / "file.gz.part").write_bytes(bytes(1000))
    with pytest.raises(DataError, match="another checksum"):
        download(remote(server), tmp_path)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


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
    assert is_intact(path, remote(server)) and check_intact(path, remote(server)) == path
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(DataError, match=r"file\.gz is damaged"):
        check_intact(path, remote(server))
