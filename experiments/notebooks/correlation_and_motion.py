# %% [markdown]
# # Correlation and motion
#
# How TCM-Net finds where things went: every position of a frame is compared with a window of the next one, and the best
# match gives a displacement and a confidence. First by the operator alone, then inside a network.

# %%
import jax
import jax.numpy as jnp
import numpy as np

import vidrec
import vidrec.inspect
from vidrec.models.registry import init_options
from vidrec.ops.correlation import local_correlation, match

# %% [markdown]
# ## A texture that moves two pixels to the right

# %%
random = np.random.default_rng(0)
texture = random.standard_normal((1, 16, 16, 8)).astype(np.float32)
moved = np.roll(texture, 2, axis=2)
scores = local_correlation(jnp.asarray(texture), jnp.asarray(moved), patch=7)  # [N, H, W, 7, 7]: rows, then columns
row, column = np.unravel_index(np.asarray(scores)[0, 8, 8].argmax(), (7, 7))
best = (int(column) - 3, int(row) - 3)  # (x, y)
best

# %% [markdown]
# `match` makes the best match smooth. Its displacements are in units of the window's reach, 7 // 2 pixels.

# %%
displacement, confidence = match(jnp.asarray(texture), jnp.asarray(moved), patch=7)
found = np.asarray(displacement)[0, 8, 8] * 3
found, float(confidence[0, 8, 8])

# %% [markdown]
# ## Inside a network
#
# A striped square moves by two pixels a frame, which is one cell of the maps behind stage 3. The weights are drawn:
# matching needs no training to see motion.

# %%
frames = np.full((4, 32, 32, 3), 20, np.uint8)
square = random.integers(60, 255, (12, 12, 3), dtype=np.uint8)
for t, frame in enumerate(frames):
    frame[10:22, 6 + 2 * t : 18 + 2 * t] = square
sizes = {"stage_sizes": (1, 1), "strides": (1, 2), "stem": "small", "stem_width": 16, "widths": (16, 16)}
clips = jnp.asarray(frames, jnp.float32)[None] / 255 - 0.45


def network(name, **fields):
    """A small network with drawn weights."""
    model = vidrec.create_model(name, num_classes=4, num_frames=4, **sizes, **fields)
    draw = jax.jit(lambda key: dict(model.init(key, clips, train=False)), compiler_options=init_options())
    return model, draw(jax.random.key(0))


maps = vidrec.inspect.motion(*network("tcm_resnet18", tcm_patch=7, tcm_reduction=32), clips)
maps.axes

# %%
on_square = maps["tcm3/fast/displacement"].values[0, 1, 7:9, 6:8].mean((0, 1))  # (x, y) in cells
on_square.round(1)

# %% [markdown]
# Arrows on the frames and the colour wheel; what is not sure is pale.

# %%
picture = maps.draw(frames)
picture

# %% [markdown]
# ## STM sees change
#
# CMM takes the difference of neighbouring frames' features.

# %%
change = vidrec.inspect.motion(*network("stm_resnet18", reduction=4, degenerate=True), clips)
change.draw(frames)
