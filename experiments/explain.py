"""Do the maps show what moves? Small networks on toy videos whose motion is known, and how often their maps hit it.

    python -m experiments.explain [--out runs/explain] [--json]

In each video a striped square crosses the picture in one of four directions while a square like it stands still. TSN,
which averages frames, cannot tell a direction from its opposite; the other networks can. Each map is asked where its
highest value of each frame lies: on the square that moves, or on the one that stands? TCM's displacements are asked
where they point. DirecFormer sees two directions only, since frames in no order do not tell a move from the opposite
one, and is asked for their order, too. Written are a picture for each kind of map, and explain.json.
"""

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from experiments.training import train_small
from vidrec.data.convert import convert
from vidrec.data.video import write_mp4
from vidrec.demo import get_config
from vidrec.eval.order import chance
from vidrec.eval.predict import Recognizer, load
from vidrec.files import write_json
from vidrec.inspect.looking import inspect_video, maps_of
from vidrec.inspect.maps import Maps

FRAMES, SIZE, SQUARE, SPEED = 8, 32, 8, 2  # pixels; SPEED in pixels a frame
DIRECTIONS = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}  # (rows, columns) a frame
FORWARD = ("right", "down")
CHANGES: dict[str, dict[str, Any]] = {  # of the demo's networks: a cell of stage 2 is as large as a step
    "tcm": {"tcm_stages": (2,), "tcm_patch": 5, "tempos": ("fast",)}, "direcformer": {"num_orders": 1000}
}  # fmt: skip
# What teaches DirecFormer the order in so few steps; experiments.direcformer compares it with others.
TASKS: dict[str, dict[str, Any]] = {"direcformer": {"guided_weight": 5.0, "diagonal": 0, "guided_clips": "shuffled"}}
OPTIM = {"direcformer": {"lr": 0.004}}
STEPS = {"direcformer": 300}
NETWORKS = ("tsn", "stm", "tcm", "tefe", "ttsn", "direcformer")
# network -> the maps that are asked, by look and name
ASKED: dict[str, tuple[tuple[str, str], ...]] = {
    "tsn": (("cam", "cam"), ("features", "stage5")),
    "stm": (("cam", "cam"), ("features", "stage5"), ("motion", "layer1_0/difference")),
    "tcm": (("cam", "cam"), ("features", "stage5"), ("motion", "tcm2/fast/displacement")),
    "tefe": (("cam", "cam"), ("features", "stage5")),
    "ttsn": (("cam", "cam"), ("features", "stage5"), ("attention", "attended")),
    "direcformer": (("cam", "cam"), ("features", "blocks_1"), ("attention", "rollout")),
}
GALLERY = {
    "attention": ("ttsn", "direcformer"), "cam": NETWORKS[:-1], "motion": ("stm", "tcm"), "order": ("direcformer",),
    "features": ("tefe", "tcm"),
}  # fmt: skip
_RESULT = "explain.json"  # written first of all, too: a folder that has it may be made anew


class Clips(NamedTuple):
    """Drawn clips and what is true of them.

    Attributes:
      pixels: uint8 `[N, T, S, S, 3]`.
      label: index of the direction, `[N]`.
      moving: upper left corner (row, column) of the square that moves, in pixels, `[N, T, 2]`.
      still: of the square that stands, `[N, 2]`.
    """

    pixels: UInt8[np.ndarray, "n t s s 3"]
    label: Int[np.ndarray, " n"]
    moving: Int[np.ndarray, "n t 2"]
    still: Int[np.ndarray, "n 2"]


def draw(count: int, directions: Iterable[str], rng: np.random.Generator) -> Clips:
    """Draws clips, the directions in turn."""
    steps = [DIRECTIONS[name] for name in directions]
    clips = [_draw_clip(np.array(steps[number % len(steps)]), rng) for number in range(count)]
    pixels, moving, still = (np.stack(part) for part in zip(*clips, strict=True))
    return Clips(pixels, np.arange(count) % len(steps), moving, still)


def _draw_clip(step: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    room = SIZE - SQUARE - SPEED * (FRAMES - 1) * np.abs(step)
    first = rng.integers(0, room + 1) + SPEED * (FRAMES - 1) * (step < 0)
    moving = first + SPEED * np.arange(FRAMES)[:, None] * step
    across = int(np.argmin(np.abs(step)))  # the axis along which the two squares stand apart
    still = rng.integers(0, SIZE - SQUARE + 1, 2)
    free = [place for place in range(SIZE - SQUARE + 1) if abs(place - first[across]) >= SQUARE]
    still[across] = rng.choice(free)
    picture = 0.4 * rng.random((4, 4, 3)).repeat(SIZE // 4, 0).repeat(SIZE // 4, 1)
    frames = np.stack([picture] * FRAMES) + 0.02 * rng.standard_normal((FRAMES, SIZE, SIZE, 3))
    one, other = _stripes(rng), _stripes(rng)
    for frame, (row, column) in zip(frames, moving, strict=True):
        frame[still[0] : still[0] + SQUARE, still[1] : still[1] + SQUARE] = other
        frame[row : row + SQUARE, column : column + SQUARE] = one
    return (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8), moving, still


def _stripes(rng: np.random.Generator) -> np.ndarray:
    colours, place = rng.uniform(0.5, 1, (2, 3)), np.add.outer(*[np.arange(SQUARE)] * 2) * rng.choice((-1, 1))
    width = rng.integers(2, 4)
    return colours[(place if rng.random() < 0.5 else np.arange(SQUARE) + 0 * place) // width % 2]


def make_records(folder: Path, directions: tuple[str, ...], train_clips: int, test_clips: int, seed: int) -> Path:
    """Writes clips as .mp4 files and converts them; returns the folder of records."""
    folder.mkdir(parents=True)
    rows = [("path", "label", "split")]
    for number, (split, count) in enumerate((("train", train_clips), ("test", test_clips))):
        clips = draw(count, directions, np.random.default_rng([seed, number]))
        for clip, (pixels, label) in enumerate(zip(clips.pixels, clips.label, strict=True)):
            rows.append((f"{split}{clip:04d}.mp4", directions[label], split))
            write_mp4(folder / rows[-1][0], pixels, fps=8, qp=10)
    with open(folder / "list.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    convert("list", folder, folder / "list.csv", folder / "records", short_side=0, workers=1)
    return folder / "records"


def train_network(name: str, records: Path, run: Path, seed: int, steps: int | None) -> Recognizer:
    """Trains one of the demo's networks; `steps` None takes its own number."""
    config = get_config(name)
    config.model.update(CHANGES.get(name, {}))
    config.task.update(TASKS.get(name, {}))
    config.optim.update(OPTIM.get(name, {}))
    return load(train_small(config, run, records, seed=seed, steps=steps or STEPS.get(name)))


def cells(corner: Int[np.ndarray, "*n 2"], height: int, width: int) -> Bool[np.ndarray, "*n {height} {width}"]:
    """The cells of a grid whose centre lies in the square with that upper left corner, or at its edge."""
    inside = []
    for axis, count in ((0, height), (1, width)):
        centres = (np.arange(count) + 0.5) * SIZE / count
        start = corner[..., axis, None]
        inside.append((centres >= start) & (centres <= start + SQUARE))
    return inside[0][..., :, None] & inside[1][..., None, :]


def hits(heat: Float[np.ndarray, "n t h w"], clips: Clips) -> dict[str, float]:
    """How often the highest cell of a frame lies on the square that moves ("hit") or on that which stands ("still").

    "chance" is the mean share of the cells that lie on the moving square. A frame whose map is the same everywhere hits
    nothing.
    """
    height, width = heat.shape[2:]
    moving = cells(clips.moving, height, width)
    still = np.broadcast_to(cells(clips.still[:, None], height, width), moving.shape)
    flat = heat.reshape(*heat.shape[:2], -1)
    says = flat.max(-1) > flat.min(-1)
    best = flat.argmax(-1)[..., None]

    def share(truth: np.ndarray) -> float:
        """How often the peaks lie within, of frames whose map is not the same everywhere."""
        return float((np.take_along_axis(truth.reshape(flat.shape), best, -1)[..., 0] & says).mean())

    return {"hit": share(moving), "still": share(still), "chance": float(moving.mean())}


def directions(maps: Maps, name: str, clips: Clips, steps: np.ndarray) -> dict[str, float]:
    """What the mean displacement on each of the two squares says.

    "right": how often that on the moving square points, within 45 degrees, where it goes; "chance" is 1/4;
    "median_error_cells": how far it is from the true one; "still_at_rest": how often that on the other square is
    shorter than half of a step. Elsewhere, where there is no texture, displacements mean nothing.
    """
    found = maps[name].values[:, :-1]  # the last frame repeats the one before
    height, width = found.shape[2:4]
    step = SPEED * width / SIZE
    true = step * steps[clips.label][:, None, ::-1]  # as (x, y)
    mean = mean_on(found, cells(clips.moving[:, :-1], height, width))
    rest = mean_on(found, cells(clips.still[:, None], height, width))
    along = (mean * true).sum(-1) / step
    right = along > np.linalg.norm(mean, axis=-1) * np.sqrt(0.5)
    return {
        "right": float(right.mean()),
        "chance": 0.25,
        "median_error_cells": float(np.median(np.linalg.norm(mean - true, axis=-1))),
        "still_at_rest": float((np.linalg.norm(rest, axis=-1) < step / 2).mean()),
    }


def mean_on(displacement: Float[np.ndarray, "n t h w 2"], on: Bool[np.ndarray, "n _t h w"]) -> np.ndarray:
    """The mean over the cells that are meant."""
    return (displacement * on[..., None]).sum((2, 3)) / on.sum((2, 3))[..., None]


def ask(name: str, recognizer: Recognizer, clips: Clips, steps: np.ndarray) -> dict[str, Any]:
    """Accuracy of a network on the clips, and what its maps hit."""
    scores = np.stack([one.scores for one in recognizer.predict_clips(clips.pixels)])
    labels = np.array([recognizer.classes.index(direction) for direction in _names(steps)])[clips.label]
    result: dict[str, Any] = {"accuracy": float((scores.argmax(-1) == labels).mean()), "maps": {}}
    for what, kind in ASKED[name]:
        maps = maps_of(recognizer, clips.pixels, what)
        if maps[kind].axes[-1] == "xy":
            result["direction"] = directions(maps, kind, clips, steps)
            continue
        part = slice(None, -1 if what == "motion" else None)  # no frame comes after the last
        result["maps"][f"{what} {kind}"] = hits(
            maps[kind].values[:, part], clips._replace(moving=clips.moving[:, part])
        )
    if name == "direcformer":
        maps = maps_of(recognizer, clips.pixels, "order")
        rules = [key.removesuffix("/accuracy") for key in maps.maps if key.endswith("/accuracy")]
        result["order_accuracy"] = {rule: float(maps[f"{rule}/accuracy"].values.mean()) for rule in rules}
        result["order_accuracy"]["chance"] = chance(FRAMES)
    return result


def _names(steps: np.ndarray) -> list[str]:
    return [next(name for name, step in DIRECTIONS.items() if step == tuple(one)) for one in steps.tolist()]


def explain(
    out: Path,
    *,
    seed: int = 0,
    networks: tuple[str, ...] = NETWORKS,
    steps: int | None = None,
    train_clips: int = 768,
    test_clips: int = 64,
) -> dict[str, Any]:
    """Runs everything below `out`, which must not be there yet or be empty.

    Args:
      steps: of each network's training; None takes its own.

    Returns:
      {"networks": {name: {"accuracy", "maps": {"look map": {"hit", "still", "chance"}}, ...}}, "pictures", "seconds"}.
    """
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / _RESULT, {})
    records: dict[tuple[str, ...], Path] = {}
    results = {}
    for name in networks:
        seen = FORWARD if name == "direcformer" else tuple(DIRECTIONS)
        if seen not in records:
            records[seen] = make_records(out / f"videos-{len(seen)}", seen, train_clips, test_clips, seed)
        recognizer = train_network(name, records[seen], out / name, seed, steps)
        clips = draw(test_clips, seen, np.random.default_rng([seed, 2]))
        results[name] = ask(name, recognizer, clips, np.array([DIRECTIONS[direction] for direction in seen]))
        write_json(out / _RESULT, {"networks": results})
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    result = {"networks": results, "pictures": draw_gallery(out, networks, seed)}
    result["seconds"] = round(time.monotonic() - started, 1)
    write_json(out / _RESULT, result)
    return result


def draw_gallery(out: Path, networks: tuple[str, ...], seed: int) -> dict[str, str]:
    """A picture for each kind of map of the trained networks, of one more clip; returns kind -> path."""
    video = out / "clip.mp4"
    write_mp4(video, draw(1, FORWARD, np.random.default_rng([seed, 3])).pixels[0], fps=8, qp=10)
    pictures = {}
    for what, chosen in GALLERY.items():
        if runs := [out / name for name in chosen if name in networks]:
            pictures[what] = inspect_video(runs, video, what, out / "gallery")[0]["pictures"][0]
    return pictures


def table(result: dict[str, Any]) -> str:
    """The result for people, TSN's map of the same kind beside each."""
    reference = result["networks"].get("tsn", {"maps": {}})["maps"]
    lines = [f"{'network':<12} {'accuracy':>8}  {'map':<32} {'hit':>6} {'still':>6} {'chance':>6} {'TSN':>6}"]
    for name, found in result["networks"].items():
        for kind, share in found["maps"].items():
            beside = reference.get(kind, reference.get("cam cam"))
            tsn = f"{beside['hit']:6.1%}" if beside else " " * 6
            shares = f"{share['hit']:6.1%} {share['still']:6.1%} {share['chance']:6.1%}"
            lines.append(f"{name:<12} {found['accuracy']:8.1%}  {kind:<32} {shares} {tsn}")
        for extra in ("direction", "order_accuracy"):
            if extra in found:
                told = ", ".join(f"{key} {value:.3g}" for key, value in found[extra].items())
                lines.append(f"{'':<23}{extra}: {told}")
    lines.append(f"pictures: {', '.join(result['pictures'].values())}; {result['seconds']} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs it and prints the result; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/explain"), help="folder to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of videos and training (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    if args.out.exists() and any(args.out.iterdir()) and not (args.out / _RESULT).exists():
        parser.error(f"{args.out} holds something else; choose another --out")
    shutil.rmtree(args.out, ignore_errors=True)
    result = explain(args.out, seed=args.seed)
    print(json.dumps(result) if args.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
