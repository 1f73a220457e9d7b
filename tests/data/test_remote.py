"""Records at remote addresses: in fsspec's memory, and on a web server here that knows byte ranges and can fail."""

import builtins
import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vidrec.data import remote
from vidrec.data.clips import ClipSpec, TrainReader
from vidrec.data.index import index_path
from vidrec.data.openfiles import Unreadable
from vidrec.data.records import open_records
from vidrec.data.remote import RemotePath, place
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import VidrecError


class Server(ThreadingHTTPServer):
    """Serves a folder; `fail` requests get `status` first, or half an answer ("cut"), or none before `end` ("stall").

    `ranges` is False for a server that sends whole files only.
    """

    fail: int = 0
    status: int | str = 503
    ranges = True
    absent = 404

    def __init__(self, folder: Path):
        self.asked: list[tuple[str, int]] = []  # name of the file and bytes sent
        self.end = threading.Event()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        failing = self.server.fail > 0
        self.server.fail -= failing
        if failing and isinstance(self.server.status, int):
            self.send_error(self.server.status)
            return
        if failing and self.server.status == "stall":
            self.server.end.wait()
            self.close_connection = True
            return
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(self.server.absent)
            return
        data, status = file.read_bytes(), 200
        if self.server.ranges and (asked := self.headers["Range"]):
            first, last = asked.removeprefix("bytes=").split("-")
            if int(first) >= len(data):
                self.send_error(416)
                return
            data, status = data[int(first) : int(last or len(data)) + 1], 206
        self.server.asked.append((file.name, len(data)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if failing else data)
        self.close_connection |= failing

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tiny_copy: Path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "PAUSES", (0, 0))
    with Server(tiny_copy) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.end.set()
        serving.shutdown()
        thread.join()


@pytest.fixture
def memory(tiny_folder: Path) -> Iterator[str]:
    """Address of the tiny set in fsspec's memory."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(str(tiny_folder), "/records", recursive=True)
    yield "memory://records"
    system.rm("/records", recursive=True)


def all_frames(source) -> list[list[bytes]]:
    return [source.read_frames(i, range(source.num_frames[i])) for i in range(len(source))]


def test_records_in_memory_are_the_local_ones(memory: str, tiny_folder: Path):
    here, there = open_records(tiny_folder, "train"), open_records(memory + "/", "train")
    assert repr(there) == repr(here)
    assert all_frames(there) == all_frames(here)
    assert there.describe(7) == here.describe(7)
    both = open_records([tiny_folder, memory], "test")
    assert both.member.tolist() == [0] * 4 + [1] * 4
    assert all_frames(both) == all_frames(open_records(tiny_folder, "test")) * 2


def test_records_on_a_web_server_are_the_local_ones(server: Server, tiny_folder: Path, tmp_path: Path):
    here, there = open_records(tiny_folder, "train"), open_records(server.url, "train")
    assert there.digest == here.digest
    assert all_frames(there) == all_frames(here)
    spec = ClipSpec(num_frames=2, image_size=4, resize=())
    ours, theirs = (TrainReader(source, spec)(7, np.random.default_rng(0)) for source in (here, there))
    np.testing.assert_array_equal(ours.clips, theirs.clips)
    # A worker process gets the source by pickle, asks for nothing to begin with, and connects for itself.
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(there))
    server.asked.clear()
    code = (
        "import pickle, sys\n"
        "source = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "sys.stdout.buffer.write(source.read_frames(13, [2])[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "source.pickle")]
    out = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[2]).stdout
    assert out == here.read_frames(13, [2])[0]
    assert server.asked == [("tiny-train.tfrecord-00002-of-00003", len(out))]


def test_only_the_bytes_of_the_frames_are_read(server: Server):
    source = open_records(server.url, "train")
    # Of each shard at the start: its index, and length and CRC of its first and last record.
    assert sum(size for name, size in server.asked if not name.endswith((".json", ".index"))) == 3 * 2 * (8 + 4)
    server.asked.clear()
    frames = source.read_frames(4, [5, 0, 5, 2])
    assert sorted(server.asked) == [("tiny-train.tfrecord-00000-of-00003", len(frames[0]))] * 3


def test_what_passes_is_tried_again(server: Server, tiny_folder: Path, caplog):
    server.fail = 2
    source = open_records(server.url, "train")
    assert "status 503; trying again" in caplog.text
    frames = open_records(tiny_folder, "train").read_frames(4, range(7))
    for server.status in (429, 500, "cut"):
        server.fail = 2
        assert source.read_frames(4, range(7)) == frames


def test_a_server_that_falls_silent_is_asked_again(server: Server, tiny_folder: Path, monkeypatch, caplog):
    monkeypatch.setattr(remote, "STALLED", 0.3)
    server.fail, server.status = 1, "stall"
    assert open_records(server.url, "test").digest == open_records(tiny_folder, "test").digest
    assert "trying again" in caplog.text


def test_what_does_not_pass_ends_with_one_sentence(server: Server):
    source = open_records(server.url, "train")
    server.fail = 1000
    sentence = rf"^{server.url}/tiny-train\S+ cannot be read \(status 503\); asked 3 times; check"
    for _ in range(2):
        with pytest.raises(Unreadable, match=sentence) as error:
            source.read_frames(4, [1])
    assert "\n" not in str(error.value)
    assert server.fail == 1000 - 2 * 3
    server.status = 403
    with pytest.raises(Unreadable, match=r"cannot be read \(status 403\); check"):
        source.read_frames(4, [1])
    assert server.fail == 1000 - 2 * 3 - 1  # asking again would not help


def test_a_server_that_refuses_what_is_not_there(server: Server, tiny_copy: Path, caplog):
    server.absent = 403
    assert len(open_records(server.url, "train")) == 14
    assert "set_aside.json cannot be read (status 403)" in caplog.text
    assert "taken for absent" in caplog.text
    index_path(tiny_copy / "tiny-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(Unreadable, match=r"00001-of-00003\.index cannot be read \(status 403\)"):
        open_records(server.url, "train")


def test_a_server_that_is_gone(tiny_copy: Path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0,))
    with Server(tiny_copy) as never_serving:
        url = never_serving.url
    with pytest.raises(Unreadable, match=rf"^{url}/manifest.json cannot be read \(.*; asked 2 times"):
        open_records(url, "train")


def test_a_server_that_ignores_ranges(server: Server):
    server.ranges = False
    with pytest.raises(Unreadable, match="the server ignores byte ranges"):
        open_records(server.url, "train")


def test_damage_is_a_bad_record(server: Server, tiny_copy: Path):
    source = open_records(server.url, "train")
    shard = tiny_copy / "tiny-train.tfrecord-00001-of-00003"
    content = bytearray(shard.read_bytes())
    content[content.find(source.read_frames(7, [3])[0]) + 50] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadRecord, match=r"record 2 of .*'train/vidéo 007'\): frame 3 is damaged"):
        source.read_frames(7, [0, 3])
    os.truncate(shard, 100)
    with pytest.raises(BadRecord, match="cut off while in use"):
        source.read_frames(9, [0])
    shard.unlink()
    with pytest.raises(Unreadable, match=r"00001-of-00003 cannot be read \(No such file"):
        source.read_frames(9, [0])


def test_what_is_not_there(server: Server, tiny_copy: Path):
    with pytest.raises(VidrecError, match=rf"{server.url}/nowhere has no manifest\.json"):
        open_records(f"{server.url}/nowhere", "train")
    file = index_path(tiny_copy / "tiny-train.tfrecord-00001-of-00003")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(VidrecError, match=r"00001-of-00003\.index: it has \d+ bytes .*--repair.*copy"):
        open_records(server.url, "train")
    file.unlink()
    with pytest.raises(VidrecError, match=r"00001-of-00003\.index is missing; copy"):
        open_records(server.url, "train")
    file.write_bytes(content)
    os.truncate(tiny_copy / "tiny-train.tfrecord-00001-of-00003", 100)
    with pytest.raises(VidrecError, match=r"its record 4 is not the one in the shard"):
        open_records(server.url, "train")


def test_addresses_and_paths():
    assert place("records/ucf101") == Path("records/ucf101")
    assert place("C:/records") == Path("C:/records")
    assert place("file:///records/a b") == place(Path("file:///records/a b")) == Path("/records/a b")
    assert place("gs://bucket/records/") == place(Path("gs://bucket/records")) == RemotePath("gs://bucket/records")
    assert str(place("https://host/a b") / "x.index") == "https://host/a b/x.index"
    assert RemotePath("gs://b/r/x").with_name("y") == RemotePath("gs://b/r/y")
    assert RemotePath("gs://b/r/x").name == "x"
    with pytest.raises(
        VidrecError, match=r"dropbox://x/manifest\.json cannot be read: dropbox:// needs another package \("
    ):
        open_records("dropbox://x", "train")
    with pytest.raises(VidrecError, match=r"nonsense://x/manifest\.json cannot be read: .*nonsense"):
        open_records("nonsense://x", "train")


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [("gs://b", "gcsfs", "gcs"), ("http://x", "aiohttp", "remote"), ("memory://x", "fsspec", "remote")],
)
def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch, address: str, package: str, extra: str):
    real = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(f"no {package}")
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith(("fsspec.implementations.http", "gcsfs"))]:
        monkeypatch.delitem(sys.modules, name)
    if package == "aiohttp":
        monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "http", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(VidrecError, match=rf"{address}/manifest\.json cannot be read.*pip install 'vidrec\[{extra}\]'"):
        open_records(address, "train")
