"""The manifest: written, read, and its digests. Damaged ones are in test_records."""

import json
from pathlib import Path

from vidrec.data import manifest


def test_a_manifest_reads_back(tiny_folder: Path, tmp_path: Path):
    read = manifest.load(tiny_folder)
    read.save(tmp_path)
    assert manifest.load(tmp_path) == read
    assert (tmp_path / "manifest.json").read_bytes() == (tiny_folder / "manifest.json").read_bytes()


def test_it_is_json_for_people(tiny_folder: Path):
    content = json.loads((tiny_folder / "manifest.json").read_text())
    assert content["classes"] == ["move left", "move right", "stay"]
    assert content["splits"]["train"]["shards"][1]["file"] == "tiny-train.tfrecord-00001-of-00003"
    assert content["splits"]["test"] | {"shards": [], "digest": ""} == {
        "shards": [],
        "videos": 4,
        "frames": 3 + 4 + 5 + 6,
        "labels": {"move left": 2, "move right": 1, "stay": 1},
        "digest": "",
    }


def test_the_digest_is_that_of_classes_and_splits(tiny_folder: Path):
    read = manifest.load(tiny_folder)
    before = read.digest
    read.settings, read.skipped = {"seed": 9}, [{"path": "x", "why": "y", "shard": "z"}]
    assert read.digest == before
    read.splits = {"train": read.splits["train"]}
    assert read.digest != before
