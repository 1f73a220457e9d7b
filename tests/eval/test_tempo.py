"""Accuracy against stride: which frames are seen at each, and what is told."""

import json

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vidrec.config import base
from vidrec.data.records import open_records
from vidrec.data.sampling import strided_indices
from vidrec.errors import UsageError
from vidrec.eval.tempo import evaluate_tempo, parse_strides
from vidrec.inspect.tempo_results import tempo_svg, tempo_text
from vidrec.train.sharding import make_mesh
from vidrec.types import ModelOutput


class Pixels(nn.Module):
    """Says which frames it sees: its scores are the colours of two pixels of the first and the last one."""

    num_frames: int = 4
    clip_length: int = 4

    def __call__(self, clips, *, train):
        return ModelOutput(jnp.stack([clips[:, 0, 8, 8, 0], clips[:, -1, 8, 8, 0]], 1))


def test_each_stride_is_seen_in_the_middle_of_the_video(tiny_config):
    config = tiny_config(data__resize=())
    source = open_records(config.data.records, "test")
    found = evaluate_tempo(Pixels(), {}, source, config, make_mesh(base().mesh), (1, 3, 5))
    for stride, evaluation in found.items():
        frames = strided_indices(12, 4, stride)
        ends = [min(11, (12 - min(12, 4 * stride)) // 2 + stride * i) for i in (0, 3)]  # too short: the last frame
        assert [frames[0], frames[-1]] == ends
        for record in range(len(source)):
            stored = source.decode(record, source.read_frames(record, ends))
            seen = [frame[4 + 8, 8 + 8, 0] / 255 for frame in stored]  # the centre of 24 x 32 pixels
            expected = (np.array(seen) - config.data.mean[0]) / config.data.std[0]
            np.testing.assert_allclose(evaluation.logits[record, 0], expected, atol=1e-5)


@pytest.mark.parametrize(("text", "strides"), [("1..8", tuple(range(1, 9))), ("4", (4,)), ("8,2,4", (2, 4, 8))])
def test_strides(text, strides):
    assert parse_strides(text) == strides


@pytest.mark.parametrize("text", ["", "0..3", "8..1", "1,1", "a", "1,,2", "1..", "-1", "2,0"])
def test_what_is_no_stride(text):
    with pytest.raises(UsageError, match=r"such as 1\.\.8 or 1,2,4"):
        parse_strides(text)


def test_several_runs_in_one_figure():
    runs = {
        "tsm": {"trained": "stride 4", "top1": [0.25, 1.0]},
        "tcm": {"trained": "stride 4", "top1": [0.5, 0.75]},
    }
    result = {"strides": [1, 4], "chance": 0.125, "runs": runs}
    json.dumps(result)
    picture = tempo_svg(result)
    assert picture.count("trained at stride 4") == 4  # a legend and a title for each line
    assert ">chance<" in picture
    lines = tempo_text(result).splitlines()
    assert lines[0].split()[-2:] == ["1", "4"]
    assert lines[2].split() == ["tcm,", "trained", "at", "stride", "4", "0.500", "0.750"]
