"""The videos of the input benchmark, twice: as records, and as the pictures that it compares with."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vidrec.data import images
from vidrec.data.convert import convert
from vidrec.data.images import Frame
from vidrec.data.records import TFRecordSource

VIDEOS, LENGTH, HEIGHT, WIDTH = 256, 16, 256, 340  # of the made data set


def make_records(work: Path) -> str:
    """Draws videos, one folder of pictures each, and converts them; returns the record folder."""
    rows = []
    for number in range(VIDEOS):
        folder = work / "videos" / f"{number:03d}"
        folder.mkdir(parents=True)
        for place, frame in enumerate(draw(np.random.default_rng(number))):
            (folder / f"{place + 1:05d}.jpg").write_bytes(images.encode_jpeg(frame, 100))
        rows.append(f"{folder.name},{'even' if number % 2 == 0 else 'odd'},train\n")
    (work / "list.csv").write_text("".join(rows))
    convert("list", work / "videos", work / "list.csv", work / "records", name="bench", videos_per_shard=16)
    return str(work / "records")


def draw(rng: np.random.Generator, length: int = LENGTH) -> Iterator[Frame]:
    """A camera that glides over a textured plane, with noise: as JPEG of quality 95 about 40 KB a frame, as films."""
    plane = np.zeros((2 * HEIGHT, 2 * WIDTH, 3))
    for octave in range(2, 8):
        cells = rng.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8)
        plane += images.resize(cells, 2 * HEIGHT, 2 * WIDTH) / octave
    plane, noise = plane * (220 / plane.max()), rng.normal(scale=4, size=(2 * HEIGHT, 2 * WIDTH, 1))
    for place in range(length):
        y, x = round(1.3 * place), round(2.1 * place)
        i, j = rng.integers(HEIGHT), rng.integers(WIDTH)
        noisy = plane[y : y + HEIGHT, x : x + WIDTH] + noise[i : i + HEIGHT, j : j + WIDTH]
        yield noisy.clip(0, 255).astype(np.uint8)


def unpack(source: TFRecordSource, out: Path) -> list[tuple[str, int]]:
    """Writes the frames of the videos as JPEG files; returns folder and number of frames of each."""
    folders = []
    for record in range(len(source)):
        folder, length = out / f"{record:06d}", int(source.num_frames[record])
        folder.mkdir(parents=True)
        for number, frame in enumerate(source.decode_frames(record, range(length))):
            (folder / f"{number + 1:05d}.jpg").write_bytes(images.encode_jpeg(frame, 95))
        folders.append((str(folder), length))
    return folders
