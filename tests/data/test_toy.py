"""The toy videos: paired classes show the same frames, before and after every step of the way."""

import csv
import filecmp
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vidrec.cli import main
from vidrec.data import toy
from vidrec.data.records import open_records
from vidrec.data.toy import LEVELS, make_toy, toy_pairs
from vidrec.data.toy_draw import FAMILIES, FRAMES, PLAIN, Scene, draw
from vidrec.data.video import read_video
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import mirror_pairs


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "annotations.csv", newline="") as file:
        return list(csv.DictReader(file))


def frames_of(path: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_video(path)]


def evaluation_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """The two videos of each evaluation clip."""
    pairs = []
    for first, second in toy_pairs("benchmark"):
        one, other = (folder / "test" / name.replace(" ", "_") for name in (first, second))
        assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()} != set()
        pairs += [(path, other / path.name) for path in one.iterdir()]
    return pairs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scene", [PLAIN, Scene(clutter=2, distractors=2, shake=0.05)])
def test_both_orders_show_the_same_frames(family: str, scene: Scene):
    rng = np.random.default_rng(5)
    pixels = draw(FAMILIES[family], 20, 16, rng, scene)
    assert pixels.shape == (20, FRAMES, 16, 16, 3)
    assert pixels.dtype == np.uint8
    orders = FAMILIES[family].orders(20, rng)
    assert orders.shape == (20, 2, FRAMES)
    np.testing.assert_array_equal(np.sort(orders, -1), np.broadcast_to(np.arange(FRAMES), orders.shape))
    assert not (orders[:, 0] == orders[:, 1]).all(-1).any()
    for clip in pixels:
        assert len({frame.tobytes() for frame in clip}) == FRAMES


def changing(scene: Scene) -> float:
    """The share of pixels that change, from one frame to the next, by more than noise, while a ring stands still."""
    ring = draw(FAMILIES["order"], 40, 64, np.random.default_rng(3), scene)[:, :4].astype(float)
    return (np.abs(np.diff(ring, axis=1)) > 60).any(-1).mean()


def test_what_moves_beside_the_action():
    jitter = changing(PLAIN)
    assert changing(Scene(clutter=4)) < 1.2 * jitter
    assert changing(Scene(distractors=1)) > 1.5 * jitter
    assert changing(Scene(shake=0.05)) > 1.5 * jitter


def centre(clip: np.ndarray) -> np.ndarray:
    """Centre of brightness `[t, (x, y)]` of what is brighter than the background."""
    bright = np.clip(clip.max(-1).astype(float) - 135, 0, None)
    y, x = np.mgrid[: clip.shape[1], : clip.shape[2]]
    return np.stack([(bright * x).sum((1, 2)), (bright * y).sum((1, 2))], -1) / bright.sum((1, 2))[:, None]


def area(clip: np.ndarray) -> np.ndarray:
    return (clip.max(-1) > 135).sum((1, 2)).astype(float)


def test_names_say_what_is_seen():
    def first_class(family: str) -> np.ndarray:
        rng = np.random.default_rng(11)
        pixels = draw(FAMILIES[family], 10, 64, rng)
        orders = FAMILIES[family].orders(10, rng)[:, 0]
        return np.take_along_axis(pixels, orders[..., None, None, None], 1)

    for clip in first_class("horiz"):  # move right
        assert (np.diff(centre(clip)[:, 0]) > 0).all()
    for clip in first_class("vert"):  # move down: y grows downwards
        assert (np.diff(centre(clip)[:, 1]) > 0).all()
    for clip in first_class("scale"):  # approach
        assert area(clip)[-1] > 4 * area(clip)[0]
    for clip in first_class("rot"):  # turn clockwise about a fixed end
        around = centre(clip) - centre(clip).mean(0)
        turned = np.cross(np.c_[around[:-1], np.zeros(7)], np.c_[around[1:], np.zeros(7)])[:, 2]
        assert (turned > 0).mean() > 0.7
    for clip in first_class("tempo"):  # one swing there and back in eight frames, from anywhere
        along = centre(clip)[:, np.ptp(centre(clip), 0).argmax()]
        assert (np.diff(np.sign(np.diff(np.r_[along, along[:2]]))) != 0).sum() == 2


def test_fast_waves_turn_twice_as_often():
    orders = FAMILIES["tempo"].orders(50, np.random.default_rng(0))
    steps = np.sign(np.diff(np.concatenate([orders, orders[..., :2]], -1)))
    turns = (np.diff(steps) != 0).sum(-1)
    assert set(turns[:, 0]) == {2}
    assert set(turns[:, 1]) == {4}
    assert len({tuple(order) for order in orders[:, 0]}) > 4  # the start is drawn


def test_list_names_every_video_once(toy_folder: Path):
    listed = rows(toy_folder)
    files = {path.relative_to(toy_folder).as_posix() for path in toy_folder.rglob("*.mp4")}
    assert {row["path"] for row in listed} == files
    assert len(listed) == len(files) == 7 * (4 + 2 * 2)
    counts = Counter((row["split"], row["label"]) for row in listed)
    assert set(counts.values()) == {2}
    assert len(counts) == 2 * 14
    assert all(row["path"].split("/")[:2] == [row["split"], row["label"].replace(" ", "_")] for row in listed)


def test_toy_json_says_how_it_was_made(toy_folder: Path):
    said = json.loads((toy_folder / "toy.json").read_text())
    assert (said["level"], said["seed"], said["size"], said["frames"]) == ("benchmark", 3, 32, 16)
    assert [tuple(pair) for pair in said["families"].values()] == toy_pairs("benchmark")


def test_decoded_videos_of_a_pair_have_the_same_frames(toy_folder: Path):
    pairs = evaluation_pairs(toy_folder)
    assert len(pairs) == 7 * 2
    for one, other in pairs:
        first, second = frames_of(one), frames_of(other)
        assert Counter(first) == Counter(second)
        assert set(Counter(first).values()) == {toy.HOLD}
        assert first != second


def test_converted_records_of_a_pair_have_the_same_frames(toy_records: Path):
    source = open_records(toy_records, "test")
    stored = {source.video_id(i): source.read_frames(i, range(16)) for i in range(len(source))}
    for first, second in toy_pairs("benchmark"):
        for number in range(2):
            one, other = (stored[f"test/{name.replace(' ', '_')}/{number:04d}"] for name in (first, second))
            assert Counter(one) == Counter(other)
            assert one != other
            assert len(set(one)) == FRAMES


def test_training_videos_share_no_frame(toy_folder: Path):
    frames = [frame for path in toy_folder.glob("train/*/*.mp4") for frame in set(frames_of(path))]
    assert len(frames) == len(set(frames)) == 7 * 4 * FRAMES


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_files(toy_folder: Path, tmp_path: Path, workers: int):
    settings = {"level": "benchmark", "seed": 3, "train_per_family": 4, "eval_per_family": 2, "size": 32}
    make_toy(tmp_path / "again", **settings, workers=workers)
    names = [path.relative_to(toy_folder) for path in toy_folder.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    assert filecmp.cmpfiles(toy_folder, tmp_path / "again", names, shallow=False)[1:] == ([], [])


def small(out: Path, **options):
    return make_toy(out, **({"train_per_family": 2, "eval_per_family": 1, "size": 16, "workers": 1} | options))


def test_another_seed_gives_other_videos(tmp_path: Path):
    small(tmp_path / "a", seed=0)
    small(tmp_path / "b", seed=1)
    name = Path("train/approach/0000.mp4")
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes()


def test_progress_counts_videos(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    made = small(tmp_path / "a", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 16) for done in range(17)]
    assert made == {
        "videos": 16,
        "classes": 8,
        "annotations": str(tmp_path / "a" / "annotations.csv"),
        "made": True,
    }


def test_interrupted_and_gone_on_with(tmp_path: Path):
    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    small(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "a", progress=interrupt)
    assert not (tmp_path / "a" / "annotations.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*.mp4")}
    assert len(kept) == 7
    small(tmp_path / "a")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    comparison = filecmp.dircmp(tmp_path / "whole", tmp_path / "a")
    assert comparison.left_only == comparison.right_only == comparison.diff_files == []
    assert (tmp_path / "a" / "toy.json").read_bytes() == (tmp_path / "whole" / "toy.json").read_bytes()


def test_a_finished_folder_is_left_alone(tmp_path: Path):
    small(tmp_path / "a")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert small(tmp_path / "a")["made"] is False
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before


def test_folders_with_another_set_are_refused(tmp_path: Path):
    small(tmp_path / "a", seed=4)
    with pytest.raises(VidrecError, match=r"holds another toy set \(seed 4\); choose another folder"):
        small(tmp_path / "a")
    (tmp_path / "b").touch()
    with pytest.raises(VidrecError, match="cannot write"):
        small(tmp_path / "b" / "c")


def test_levels():
    assert toy_pairs() == [
        ("move right", "move left"),
        ("approach", "recede"),
        ("ring then triangle", "triangle then ring"),
        ("wave slow", "wave fast"),
    ]
    assert set(toy_pairs("demo")) < set(toy_pairs("benchmark"))
    assert LEVELS["benchmark"] == tuple(FAMILIES)
    with pytest.raises(UsageError, match=r"no level 'dem' \(did you mean 'demo'\?\)"):
        toy_pairs("dem")


@pytest.mark.parametrize("wrong", [{"size": 33}, {"size": 8}, {"train_per_family": 1}, {"eval_per_family": 0}])
def test_impossible_sizes(tmp_path: Path, wrong: dict):
    with pytest.raises(UsageError, match="needs an even size"):
        small(tmp_path / "a", **wrong)


def test_the_command_draws_as_many_as_it_is_told(tmp_path: Path, capsys):
    out = tmp_path / "a"
    assert main(["toy", "--out", str(out), "--size", "16", "--train-per-family", "2", "--eval-per-family", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"16 videos of 8 classes in {out}")
    assert len(list(out.glob("train/*/*.mp4"))) == len(list(out.glob("test/*/*.mp4"))) == 8


def test_a_negative_seed_is_one_sentence(tmp_path: Path, capsys):
    assert main(["toy", "--out", str(tmp_path / "a"), "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "vidrec: --seed -1: should be 0 or more\n"
    assert not (tmp_path / "a").exists()


def test_a_remote_address_is_one_sentence(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["toy", "--out", "gs://bucket/x"]) == 2
    assert "--out gs://bucket/x: toy writes to local folders" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_mirrored_classes_are_known_by_name():
    names = [name for pair in toy_pairs("benchmark") for name in pair]
    pairs = {names[one]: names[other] for one, other in mirror_pairs(names).items()}
    assert pairs == {
        "move right": "move left",
        "move left": "move right",
        "turn clockwise": "turn counterclockwise",
        "turn counterclockwise": "turn clockwise",
    }
