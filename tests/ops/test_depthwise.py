import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.ops.depthwise import depthwise_conv


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3, 5, 7, 4), "float32"), ((1, 1, 1), "float32"), ((2, 6, 6, 3), "bfloat16")]
)
def test_equals_a_grouped_convolution_with_its_gradients(shape, dtype):
    x = jax.random.normal(jax.random.key(0), shape).astype(dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, shape[-1]))

    def grouped(x, kernel):
        y = jax.lax.conv_general_dilated(
            x.reshape(-1, *shape[-3:]).astype(jnp.float32),
            kernel[:, :, None],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=shape[-1],
        )
        return y.reshape(shape).astype(x.dtype)

    def run(function):
        values, pullback = jax.vjp(function, x, kernel)
        return values, *pullback(jnp.cos(values))

    for value, expected in zip(jit(lambda: run(depthwise_conv))(), jit(lambda: run(grouped))(), strict=True):
        assert value.dtype == expected.dtype
        tolerance = 1e-5 if dtype == "float32" else 3e-2
        value, expected = (np.asarray(a, np.float32) for a in (value, expected))
        np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-6))
