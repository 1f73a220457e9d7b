"""What vidrec is measured against: TSN, TSM and STM on ResNet-50 or 101 in plain PyTorch, an SGD step or a prediction.

This file is also a script, so that another interpreter, one with PyTorch, can run it; therefore it imports nothing of
vidrec and is written for older Pythons, too. It reads one JSON object on standard input (`run`) and writes one. It
takes a GPU where PyTorch finds one, with channels last and mixed precision, as such networks are trained there.
"""

import json
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def shift(x, frames, div=8):
    """TSM's shift of `[B T, C, H, W]`: an eighth of the channels from the next frame, an eighth from the one before."""
    clips = x.view(-1, frames, *x.shape[1:])
    fold = x.shape[1] // div
    moved = torch.zeros_like(clips)
    moved[:, :-1, :fold] = clips[:, 1:, :fold]
    moved[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
    moved[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
    return moved.view_as(x)


class CSTM(nn.Module):
    """STM's channel-wise convolution over three frames."""

    def __init__(self, channels, frames):
        super().__init__()
        self.frames = frames
        self.taps = nn.Parameter(torch.zeros(3, channels))
        nn.init.normal_(self.taps, std=0.1)

    def forward(self, x):
        """`[B T, C, H, W]` in and out."""
        clips = nn.functional.pad(x.view(-1, self.frames, *x.shape[1:]), (0, 0, 0, 0, 0, 0, 1, 1))
        before, now, after = self.taps.to(x.dtype).view(3, 1, 1, -1, 1, 1)  # a grouped convolution is far slower
        return (before * clips[:, :-2] + now * clips[:, 1:-1] + after * clips[:, 2:]).view_as(x)


class CMM(nn.Module):
    """STM's motion module: differences of neighbouring frames on a sixteenth of the channels."""

    def __init__(self, channels, frames):
        super().__init__()
        self.frames, reduced = frames, channels // 16
        self.reduce = nn.Conv2d(channels, reduced, 1, bias=False)
        self.reduce_bn = nn.BatchNorm2d(reduced)
        self.motion = nn.Conv2d(reduced, reduced, 3, padding=1, groups=reduced, bias=False)
        self.restore = nn.Conv2d(reduced, channels, 1, bias=False)

    def forward(self, x):
        """`[B T, C, H, W]` in and out."""
        f = self.reduce_bn(self.reduce(x))
        moved = self.motion(f)
        f, moved = (y.view(-1, self.frames, *y.shape[1:]) for y in (f, moved))
        h = nn.functional.pad(moved[:, 1:] - f[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1))
        return self.restore(h.flatten(0, 1))


class Bottleneck(nn.Module):
    """A residual block of three convolutions, with what TSM or STM adds to it."""

    def __init__(self, family, inputs, width, stride, frames):
        super().__init__()
        self.family, self.frames, self.stride = family, frames, stride
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )
        if family == "stm":
            self.cstm, self.cmm = CSTM(width, frames), CMM(width, frames)

    def forward(self, x):
        """`[B T, C, H, W]` in and out."""
        y = shift(x, self.frames) if self.family == "tsm" else x
        y = torch.relu(self.bn1(self.conv1(y)))
        z = torch.relu(self.bn2(self.conv2(self.cstm(y) if self.family == "stm" else y)))
        if self.family == "stm":
            motion = self.cmm(y)
            z = z + (nn.functional.max_pool2d(motion, self.stride, self.stride) if self.stride > 1 else motion)
        z = self.bn3(self.conv3(z))
        return torch.relu(z + (x if self.downsample is None else self.downsample(x)))


class Network(nn.Module):
    """A ResNet on every frame, its scores averaged over the frames of a clip."""

    def __init__(self, family, depth, classes, frames, dropout):
        super().__init__()
        self.frames = frames
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for stage, count in enumerate(BLOCKS[depth]):
            width = WIDTHS[stage]
            for index in range(count):
                stride = 2 if stage and not index else 1
                blocks.append(Bottleneck(family, inputs, width, stride, frames))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(inputs, classes)

    def forward(self, clips):
        """`[B, T, 3, H, W]` -> `[B, classes]`."""
        x = self.pool(torch.relu(self.bn1(self.conv1(clips.flatten(0, 1)))))
        x = self.blocks(x).mean((2, 3))
        return self.fc(self.dropout(x)).view(-1, self.frames, self.fc.out_features).mean(1)


def run(task):
    """Times training steps, or predictions, on one batch of random pixels.

    Args:
      task: `network` (such as stm_resnet50), `classes`, `frames`, `size` (height, width), `batch_size`, `dropout`,
        `dtype`, `warmup` and `steps`; for training steps `training` with `lr`, `momentum`, `weight_decay` and
        `clip_norm` (0: none), without it predictions.

    Returns:
      `seconds` of each step, `parameters`, `memory_bytes` (at most, on a GPU; else None), `device` and `torch`.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    family, depth = task["network"].split("_")
    network = Network(family, depth, task["classes"], task["frames"], task["dropout"]).to(device)
    network = network.to(memory_format=torch.channels_last)
    shape = (task["batch_size"], task["frames"], 3, *task["size"])
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    mean, std = (torch.tensor(values, device=device).view(1, 1, 3, 1, 1) for values in (MEAN, STD))

    def scores():
        """The network's scores of the clips."""
        with torch.autocast(device.type, torch.bfloat16, enabled=task["dtype"] == "bfloat16"):
            return network((clips.float() / 255 - mean) / std).float()

    step = training(network, scores, task) if "training" in task else predicting(network, scores)
    for _ in range(task["warmup"]):
        step()
    seconds = [timed(step) for _ in range(task["steps"])]
    on_gpu = device.type == "cuda"
    return {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in network.parameters()),
        "memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
    }


def training(network, scores, task):
    """A function that takes one SGD step."""
    given = task["training"]
    network.train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=given["lr"], momentum=given["momentum"], weight_decay=given["weight_decay"]
    )
    device = next(network.parameters()).device
    labels = torch.randint(0, task["classes"], (task["batch_size"],), device=device)

    def step():
        """One step of training."""
        loss = nn.functional.cross_entropy(scores(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if given["clip_norm"]:
            nn.utils.clip_grad_norm_(network.parameters(), given["clip_norm"])
        optimizer.step()
        return loss.item()  # waits for the device

    return step


def predicting(network, scores):
    """A function that predicts once."""
    network.eval()

    def step():
        """One prediction."""
        with torch.no_grad():
            return scores().softmax(-1).cpu()  # waits for the device

    return step


def timed(step):
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
