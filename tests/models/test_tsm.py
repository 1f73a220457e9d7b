import jax
import jax.numpy as jnp
import pytest

from tests.quick import jit
from vidrec.errors import UsageError
from vidrec.models.registry import create_model


def shifted_blocks(model) -> int:
    """Number of blocks whose residual branch is shifted."""
    return sum(
        "shift" in model.block_fields(stage, index, model.layers(False))
        for stage, blocks in enumerate(model.stage_sizes, start=2)
        for index in range(blocks)
    )


@pytest.mark.parametrize(("name", "blocks"), [("tsm_resnet18", 8), ("tsm_resnet50", 16), ("tsm_resnet101", 33)])
def test_every_block_is_shifted(name, blocks):
    assert shifted_blocks(create_model(name, num_classes=2)) == blocks


def test_every_second_block_as_in_the_first_release_of_resnet101():
    assert shifted_blocks(create_model("tsm_resnet101", num_classes=2, shift_every=2)) == 18


def test_frames_further_than_the_number_of_blocks_do_not_meet():
    tiny = {"stem_width": 8, "widths": (8,), "stage_sizes": (1,), "strides": (1,), "stem": "small", "num_frames": 5}
    model = create_model("tsm_resnet18", num_classes=2, **tiny)
    clips = jax.random.normal(jax.random.key(0), (1, 5, 8, 8, 3))
    variables = jit(lambda: model.init(jax.random.key(1), clips, train=False))()

    def last_frame(clips):
        _, state = model.apply(variables, clips, train=False, mutable=["intermediates"])
        return jnp.sum(state["intermediates"]["stage2"][0][:, 2] ** 2)

    reach = jnp.abs(jit(jax.grad(last_frame))(clips)).max((0, 2, 3, 4)) > 0
    assert reach.tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("fields", [{"shift_div": 1}, {"shift_every": 0}, {"shift_div": 1000}])
def test_wrong_fields(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        create_model("tsm_resnet50", num_classes=2, **fields)
