"""What the input pipeline is measured against: clips cut by Pillow from a folder of pictures, as TSM's code does it.

Networks of that family were trained with such a pipeline: every frame of a clip is opened, converted, cropped, resized
and mirrored by itself, then the clip is made floating point and normalised; PyTorch's DataLoader gathers the batches.

This file is also a script, so that another interpreter, one with PyTorch, can run it; therefore it imports nothing of
vidrec and is written for older Pythons, too. It reads one JSON object on standard input (`run`) and writes one.
"""

import json
import os
import random
import sys
import time

import numpy as np
from PIL import Image

SCALES = (1.0, 0.875, 0.75, 0.66)
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def clip(folder, length, frames, size, draw):
    """A training clip: a random frame of each segment, one multi-scale corner crop, one flip, normalised.

    Args:
      folder: of pictures named 00001.jpg, 00002.jpg, ...
      length: how many there are.
      frames: T.
      size: side of the result in pixels.
      draw: a `random.Random`.

    Returns:
      float32 `[3 T, size, size]`, as PyTorch's networks of that family take it.
    """
    part = max(length // frames, 1)
    numbers = [min(i * part + draw.randrange(part), length - 1) for i in range(frames)]
    pictures = [Image.open(os.path.join(folder, f"{number + 1:05d}.jpg")).convert("RGB") for number in numbers]
    left, top, width, height = crop_box(*pictures[0].size, size, draw)
    box = (left, top, left + width, top + height)
    pictures = [picture.crop(box).resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
    if draw.random() < 0.5:
        pictures = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
    stacked = np.concatenate([np.asarray(picture) for picture in pictures], axis=2).transpose(2, 0, 1)
    scaled = np.ascontiguousarray(stacked).astype(np.float32) / 255
    for channel, plane in enumerate(scaled):
        plane -= MEAN[channel % 3]
        plane /= STD[channel % 3]
    return scaled


def crop_box(width, height, size, draw):
    """Left, top, width, height of a multi-scale crop at one of 13 fixed places."""
    sides = [int(min(width, height) * scale) for scale in SCALES]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    pairs = [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    w, h = draw.choice(pairs)
    x, y = (width - w) // 4, (height - h) // 4
    places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    i, j = draw.choice(places)
    return i * x, j * y, w, h


class Clips:
    """The folders as a data set of PyTorch, gone through `epochs` times."""

    def __init__(self, folders, frames, size, epochs):
        self.folders, self.frames, self.size, self.epochs = folders, frames, size, epochs

    def __len__(self):
        return len(self.folders) * self.epochs

    def __getitem__(self, i):
        folder, length = self.folders[i % len(self.folders)]
        return clip(folder, length, self.frames, self.size, random.Random(i))


def run(task):
    """Times PyTorch's DataLoader.

    Args:
      task: `folders` (pairs of path and number of pictures), `frames`, `size`, `batch_size`, `workers`, and `steps`,
        how many batches are timed after as many to warm up.

    Returns:
      `seconds` of the clock and `cpu_seconds` of all processes for each clip, and `torch`, the version.
    """
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    epochs = 2 * task["steps"] * task["batch_size"] // len(task["folders"]) + 2
    loader = torch.utils.data.DataLoader(
        Clips(task["folders"], task["frames"], task["size"], epochs),
        batch_size=task["batch_size"], shuffle=True, num_workers=task["workers"],
    )  # fmt: skip
    batches = iter(loader)
    seconds, cpu = timed(lambda: next(batches), task["steps"], task["batch_size"])
    return {"seconds": seconds, "cpu_seconds": cpu, "torch": torch.__version__}


def timed(batch, steps, batch_size):
    """Calls `batch` so many times, and then again to take the time.

    Returns:
      Seconds of the clock and of the processor (as `cpu_seconds`) for each clip.
    """
    for _ in range(steps):
        batch()
    wall, cpu = time.perf_counter(), cpu_seconds()
    for _ in range(steps):
        batch()
    clips = steps * batch_size
    return (time.perf_counter() - wall) / clips, (cpu_seconds() - cpu) / clips


def cpu_seconds():
    """Processor time of this process and the living ones that it started, where /proc tells it; else NaN."""
    if not os.path.isdir("/proc/self/task"):
        return float("nan")
    return time.process_time() + sum(seconds_of(process) for process in descendants(os.getpid()))


def descendants(process):
    """Numbers of the processes that one started, and of those that these did."""
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except FileNotFoundError:  # it has ended by now
        return []
    found = []
    for thread in threads:
        for child in map(int, words(f"/proc/{process}/task/{thread}/children")):
            found += [child, *descendants(child)]
    return found


def seconds_of(process):
    """Processor time of one process."""
    user, system = words(f"/proc/{process}/stat", behind=")")[11:13] or (0, 0)
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def words(path, behind=""):
    """The words of a file of /proc, those behind the last of a character; none where its thread has ended by now."""
    try:
        with open(path) as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return (text.rpartition(behind)[2] if behind else text).split()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
