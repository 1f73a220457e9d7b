"""Order correction as a look: what is shuffled, attended to and recovered belongs together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vidrec.inspect
from tests.inspect.objects import TRANSFORMER, make
from vidrec.errors import UsageError
from vidrec.eval.order import RULES, hamiltonian_path

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


def test_orders_that_are_none(direcformer):
    with pytest.raises(UsageError, match=r"a permutation of 0\.\.2 for each of the 2 clips"):
        vidrec.inspect.order(*direcformer, CLIPS, orders=np.array([[0, 0, 1], [1, 0, 2]]))
