"""Order correction as a look: what is shuffled, attended to and recovered belongs together."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vidrec.inspect
from tests.inspect.objects import RESNET, TRANSFORMER, make
from vidrec.errors import UsageError
from vidrec.eval.order import RULES, hamiltonian_path
from vidrec.types import ModelOutput

CLIPS = jax.random.normal(jax.random.key(1), (2, 3, 16, 24, 3))
ORDERS = np.array([[2, 0, 1], [1, 0, 2]])


@pytest.fixture(scope="module")
def direcformer():
    return make("direcformer_base", 16, 24, **{**TRANSFORMER, "time_cls_key": True})


def test_attention_and_order_are_of_the_shuffled_clip(direcformer):
    maps = vidrec.inspect.order(*direcformer, CLIPS, orders=ORDERS)
    shuffled = jnp.stack([clip[order] for clip, order in zip(CLIPS, ORDERS, strict=True)])
    time = vidrec.inspect.attention(*direcformer, shuffled)["blocks_1/time"]
    expected = time.mean("row", "column", "head")
    assert maps["attention"].axes == expected.axes == ("clip", "query", "key")
    np.testing.assert_allclose(maps["attention"].values, expected.values, atol=1e-5)
    assert maps["shown"].values.tolist() == ORDERS.tolist()
    for clip, order in enumerate(ORDERS):
        path = hamiltonian_path(np.sign(expected.values[clip]))
        recovered = maps["sign/recovered"].take(clip=clip).values
        assert recovered.tolist() == order[path].tolist()
        rising = {(0, 1, 2): 3, (2, 1, 0): 1}.get(tuple(recovered), 2)  # longest rising part
        assert maps["sign/accuracy"].values[clip] == pytest.approx(100 * rising / 3)


def test_drawn_orders_are_permutations_and_come_again(direcformer):
    one, same, other = (vidrec.inspect.order(*direcformer, CLIPS, seed=seed) for seed in (0, 0, 4))
    assert np.sort(one["shown"].values).tolist() == [[0, 1, 2]] * 2
    assert one["shown"].values.tolist() == same["shown"].values.tolist() != other["shown"].values.tolist()
    assert {f"{rule}/recovered" for rule in RULES} < one.maps.keys()


class Brighter(nn.Module):
    """A frame attends to another by how much brighter it is."""

    num_frames: int = 21

    @nn.compact
    def __call__(self, clips: Any, *, train: bool) -> ModelOutput:
        brightness = clips.mean((2, 3, 4))
        self.sow("intermediates", "time_attention", brightness[:, :, None] - brightness[:, None, :])
        return ModelOutput(brightness)


def test_more_frames_than_an_exact_path_goes_through():
    """As in `vidrec eval --order`: by row sums alone."""
    maps = vidrec.inspect.order(Brighter(), {}, jax.random.normal(jax.random.key(1), (1, 21, 2, 2, 3)))
    assert maps.drawn == ("shown", "borda/recovered", "attention")
    assert maps.maps.keys() == {"shown", "attention", "borda/recovered", "borda/accuracy"}
    off_diagonal = maps["attention"].values[0] * (1 - np.eye(21))
    expected = maps["shown"].values[0][np.argsort(-off_diagonal.sum(1), kind="stable")]
    assert maps["borda/recovered"].values[0].tolist() == expected.tolist()


def test_orders_that_are_none(direcformer):
    with pytest.raises(UsageError, match=r"a permutation of 0\.\.2 for each of the 2 clips"):
        vidrec.inspect.order(*direcformer, CLIPS, orders=np.array([[0, 0, 1], [1, 0, 2]]))


@pytest.mark.slow
def test_segments_move_as_a_whole():
    """TTSN on TDN: five frames to a segment, which is what the attention compares and what is shuffled."""
    fields = {**RESNET, "num_frames": 3, "backbone": "tdn", "tss": "none", "ett_pe_std": 1.0, "ett_ratio": 4}
    model, variables = make("ttsn_resnet50", 16, 16, **fields)
    clips = jax.random.normal(jax.random.key(1), (2, 15, 16, 16, 3))
    maps = vidrec.inspect.order(model, variables, clips, orders=ORDERS)
    blocks = [np.concatenate([np.arange(5) + 5 * place for place in order]) for order in ORDERS]
    shuffled = jnp.stack([clip[block] for clip, block in zip(clips, blocks, strict=True)])
    expected = vidrec.inspect.attention(model, variables, shuffled)["attention"].values
    np.testing.assert_allclose(maps["attention"].values, expected, atol=1e-5)
