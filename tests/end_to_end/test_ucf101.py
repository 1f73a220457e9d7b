"""The layout of UCF101, from .avi files to an evaluated network, by the command line."""

import json

import av
import numpy as np
import pytest

from vidrec.cli import main

CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "Typing")


def write_avi(path, seed):
    """20 frames of 60 x 80 pixels in MPEG-4, as the data set's."""
    frames = np.random.default_rng(seed).integers(0, 256, (20, 60, 80, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 60, 80, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def ucf101(tmp_path):
    """(folder of videos, folder of annotations): four training and two test videos of each class."""
    videos, lists = tmp_path / "UCF-101", tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    # The class list spells one class otherwise than its folder does.
    names = [name.replace("HandstandPushups", "HandStandPushups") for name in CLASSES]
    (lists / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    train, test = [], []
    for number, name in enumerate(CLASSES):
        for group in range(1, 7):
            path = f"{name}/v_{name}_g{group:02d}_c01.avi"
            write_avi(videos / path, 10 * number + group)
            (train if group > 2 else test).append(f"{path} {number + 1}" if group > 2 else path)
    for split in (1, 2, 3):
        (lists / f"trainlist0{split}.txt").write_text("\n".join(train) + "\n")
        (lists / f"testlist0{split}.txt").write_text("\n".join(test) + "\n")
    return videos, lists


def run(capsys, *arguments):
    status = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return json.loads(captured.out)


@pytest.mark.slow
def test_convert_verify_train_evaluate(ucf101, tmp_path, capsys):
    videos, lists = ucf101
    records, workdir = tmp_path / "records", tmp_path / "run"
    common = ("--dataset", "ucf101", "--root", videos, "--annotations", lists, "--out", records)
    report = run(capsys, "convert", *common, "--short-side", 32, "--workers", 1)
    assert report["videos"] == {"train": 12, "test": 6}
    assert report["skipped"] == []
    assert not run(capsys, "verify", records, "--deep")["problems"]
    outcome = run(
        capsys, "train", "--config", "configs/stm.py:ucf101,depth=18", "--workdir", workdir,
        f"--config.data.records={records}", "--config.model.num_classes=3", "--config.model.widths=(8,8,16,16)",
        "--config.model.stage_sizes=(1,1,1,1)", "--config.model.stem_width=8", "--config.model.reduction=4",
        "--config.model.dtype=float32", "--config.data.image_size=32", "--config.data.resize=(32,)",
        "--config.data.workers=0", "--config.model.bn=group:4", "--config.train.batch_size=4",
        "--config.train.steps=2", "--config.eval.batch_size=4",
    )  # fmt: skip
    assert (outcome["step"], outcome["finished"]) == (2, True)
    result = run(capsys, "eval", "--workdir", workdir)
    assert result["videos"] == 6
    assert 0 <= result["top1"] <= 1
