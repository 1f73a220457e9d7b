"""Operations counted in what is traced, against hand counts and the summary's multiply-adds."""

import jax
import jax.numpy as jnp
import pytest

from vidrec.inspect.flops import OTHER, matrix_flops, stage
from vidrec.inspect.summary import summarize
from vidrec.models.registry import create_model


def count(f, *shapes) -> int:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return sum(matrix_flops(jax.jit(f).trace(*arguments).jaxpr).values())


def test_products_loops_branches_and_gradients():
    assert count(jnp.matmul, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
    assert count(lambda a, b: jnp.einsum("nij,njk->nik", a, b), (2, 3, 4), (2, 4, 5)) == 2 * 2 * 3 * 4 * 5
    assert count(lambda a: jax.lax.scan(lambda c, _: (c @ c, None), a, None, length=7)[0], (3, 3)) == 7 * 2 * 27
    assert count(lambda a: jax.lax.cond(a.sum() > 0, lambda: a @ a @ a, lambda: a @ a), (3, 3)) == 2 * 2 * 27
    grad = jax.grad(lambda a, b: (a @ b).sum(), argnums=(0, 1))
    assert count(grad, (3, 4), (4, 5)) == 3 * 2 * 3 * 4 * 5


def test_what_remat_does_again_counts():
    def f(a):
        return (jnp.sin(a @ a) @ a).sum()

    assert count(jax.grad(jax.checkpoint(f)), (3, 3)) == count(jax.grad(f), (3, 3)) + 2 * 27


def test_a_strided_convolution_s_gradient_is_as_much_work_as_itself():
    """Its input's gradient is computed with zeros between the values, which are no work."""

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), [(0, 0), (0, 0)], dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    shapes = (1, 8, 8, 4), (2, 2, 2, 6)
    once = 2 * (4 * 4 * 6) * (2 * 2 * 2)
    assert count(conv, *shapes) == once
    assert count(jax.grad(lambda x, k: conv(x, k).sum()), *shapes) == 2 * once
    assert count(jax.grad(lambda x, k: conv(x, k).sum(), argnums=1), *shapes) == 2 * once


@pytest.mark.parametrize("name", ["tsm_resnet18", "stm_resnet50"])
def test_a_network_s_operations_are_twice_its_multiply_adds(name):
    model = create_model(
        name, num_classes=4, num_frames=4, stage_sizes=(1, 1, 1, 1), widths=(8, 16, 16, 16), stem_width=8
    )
    clips = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda c: model.init(jax.random.key(0), c, train=False), clips)
    counted = matrix_flops(jax.jit(lambda v, c: model.apply(v, c, train=False)).trace(variables, clips).jaxpr)
    summary = summarize(model, image_size=64)
    assert set(counted) == {"stem", "stage2", "stage3", "stage4", "stage5", "head"}
    by_hand = {row.name: 2 * row.macs for row in summary.stages}
    temporal = {} if name.startswith("tsm") else {stage for stage in counted if stage.startswith("stage")}
    for part, flops in counted.items():  # STM's sums over frames are elementwise here, multiply-adds in the summary
        assert flops == by_hand[part] if part not in temporal else 0.9 * by_hand[part] < flops < by_hand[part]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("/jvp(TSM)/TSM.stage_features/layer1_0/conv1", "stage2"),
        ("/transpose(jvp(TSM))/TSM.stem_features/conv1", "stem"),
        ("/jvp(TCM)/TCM.after_stage/tcm3/mtdm/reduce", "tcm3"),
        ("/transpose(jvp(DirecFormer))/rematted_computation/blocks_9/attn/qkv", "blocks_9"),
        ("/jvp(TSM)/TSM.head/fc", "head"),
        ("/", OTHER),
    ],
)
def test_stages_of_names(place, name):
    assert stage(place) == name
