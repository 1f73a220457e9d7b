"""Order and tempo on toy videos: `vidrec eval --order` and `--tempo` of networks trained in a few minutes.

    python -m experiments.order_tempo [--out runs/order_tempo] [--seed 0] [--json]

Order (DirecFormer, Table 2): videos of four motions that run one way only, so that a frame's place in time can be seen.
DirecFormer is trained with its guided loss on the shuffled clip of each pair, on both as the paper has it, and with the
loss of orders alone; the order of shuffled frames is read off its attention by four rules. In clips that are not
shuffled, a frame's place in the clip tells its order as well as what it shows does, which teaches nothing about what it
shows. The loss of orders has a small weight: in so few steps it does not fall.

Tempo (TCM-Net, Figure 4): TSM and TCM-Net, trained on 4 frames at stride 4 of the demo's videos, are tested at strides
1 to 8.
"""

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.training import train_small
from vidrec.data import toy_draw
from vidrec.data.convert import convert
from vidrec.data.toy import FPS, HOLD
from vidrec.data.video import write_mp4
from vidrec.demo import get_config, make_records
from vidrec.files import atomic_write, write_json
from vidrec.inspect.order_results import order_run
from vidrec.inspect.tempo_results import tempo_run
from vidrec.progress import Progress

FORWARD = ("horiz", "vert", "scale", "open")  # families of which one way is shown
SPLITS = {"train": 512, "test": 64}  # videos of each
SIZE = 64
# DirecFormer's trainings: weights of its losses, and what they are of.
ORDERS: dict[str, dict[str, Any]] = {
    "guided": {"guided_weight": 5.0, "diagonal": 0, "guided_clips": "shuffled"},
    "guided, both clips": {"guided_weight": 5.0, "diagonal": 0},
    "orders alone": {"guided_weight": 0.0},
}
STRIDE, FRAMES = 4, 4  # as Figure 4's networks were trained
STEPS, TEMPO_STEPS = 300, 80


def draw(folder: Path, seed: int) -> Path:
    """Writes the videos that run one way, with their list; returns it. What is there already is left."""
    annotations = folder / "annotations.csv"
    if annotations.exists():
        return annotations
    rows, videos = [], len(FORWARD) * sum(SPLITS.values())
    with Progress("drawing videos", videos) as progress:
        for number, name in enumerate(FORWARD):
            family = toy_draw.FAMILIES[name]
            for split, count in SPLITS.items():
                rng = np.random.default_rng([seed, number, list(SPLITS).index(split)])
                clips = toy_draw.draw(family, count, SIZE, rng)
                for clip, order in zip(clips, family.orders(count, rng)[:, 0], strict=True):
                    path = folder / split / name / f"{len(rows):04d}.mp4"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_mp4(path, clip[order].repeat(HOLD, 0), FPS)
                    rows.append((path.relative_to(folder), family.classes[0], split))
                    progress.update(len(rows))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label", "split"), *rows])
    with atomic_write(annotations) as file:
        file.write(text.getvalue().encode())
    return annotations


def order(out: Path, seed: int) -> dict[str, Any]:
    """OrderAcc by each of `ORDERS`."""
    annotations = draw(out / "forward", seed)
    records = out / "forward-records"
    convert("list", annotations.parent, annotations, records, name="forward", short_side=0)
    results = {}
    for kind, losses in ORDERS.items():
        config = get_config("direcformer")
        config.model.num_orders, config.optim.lr = 1000, 0.004
        config.task.update(order_weight=0.1, **losses)
        run = train_small(config, out / kind.replace(", ", "-").replace(" ", "_"), records, seed=seed, steps=STEPS)
        results[kind], text = order_run(run)
        print(f"\nDirecFormer, {kind}\n{text}", file=sys.stderr, flush=True)
    return results


def tempo(out: Path, seed: int) -> dict[str, Any]:
    """Accuracy of TSM and TCM-Net against stride."""
    records, _ = make_records(out / "both", seed, SPLITS["train"], SPLITS["test"])
    runs = []
    for name in ("tsm", "tcm"):
        config = get_config(name)
        config.model.num_frames = FRAMES
        config.data.update(sampling="strided", stride=STRIDE)
        runs.append(train_small(config, out / name, records, seed=seed, steps=TEMPO_STEPS))
    result, text = tempo_run(runs, tuple(range(1, 9)), out=str(out))
    print(f"\n{text}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Runs both and writes seed-SEED/order_tempo.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/order_tempo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the results as one JSON document")
    args = parser.parse_args()
    out = args.out / f"seed-{args.seed}"
    result = {"order": order(out, args.seed), "tempo": tempo(out, args.seed)}
    write_json(out / "order_tempo.json", result)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
