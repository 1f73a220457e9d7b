# %% [markdown]
# # Attention maps
#
# What a video transformer attends to: which frame looks at which, with its sign, and where the cls token looks. A small
# DirecFormer is trained here on toy videos, for a few steps only, so that this runs in seconds: 160 make it good.

# %%
import tempfile
from pathlib import Path

import jax.numpy as jnp

import vidrec
from experiments.training import train_small
from vidrec.data.convert import convert
from vidrec.data.feed import normalize
from vidrec.data.toy import make_toy
from vidrec.demo import get_config

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Videos, records, a trained network

# %%
toy = make_toy(folder / "videos", size=32, train_per_family=16, eval_per_family=2, workers=1)
convert("list", folder / "videos", toy["annotations"], folder / "records", short_side=0, workers=1)
config = get_config("direcformer")
config.data.workers = 0
network = vidrec.load(train_small(config, folder / "run", folder / "records", steps=4))
network

# %% [markdown]
# ## One call looks
#
# Maps are arrays whose axes have names. Notebooks show them with treescope, where it is switched on
# (`treescope.basic_interactive_setup()`).

# %%
frames = network.clip(folder / "videos/test/move_right/0000.mp4")  # uint8 [T, S, S, 3]
clips = normalize(jnp.asarray(frames)[None], config.data.mean, config.data.std)
maps = vidrec.inspect.attention(network.model, network.variables, clips)
maps.axes

# %% [markdown]
# Of the last block, for each patch and head: frame `query` attends to frame `key`. A positive cosine says that the
# query comes before the key.

# %%
time = maps["blocks_1/time"].take(clip=0)
signs = (time.values > 0).mean((0, 1, 2))  # share of patches and heads that call the pair (query, key) "before"
signs.round(2)

# %% [markdown]
# ## One call draws
#
# The rollout lies over the frames: how much each patch reaches the cls token through all blocks. Below it is the time
# attention, averaged over patches and heads, and of each head alone: with its sign, red is "before".

# %%
picture = maps.draw(frames)
picture

# %% [markdown]
# One patch, which is marked on the frames, and one head:

# %%
single = maps.draw(frames, patch=(1, 2), head=0)
single

# %% [markdown]
# ## Grad-CAM of the same network, at any stage

# %%
cam = vidrec.inspect.cam(network.model, network.variables, clips, stage="blocks_0")
cam.draw(frames)
