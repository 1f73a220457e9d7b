# %% [markdown]
# # From checkpoint to prediction
#
# A network is trained for a few steps, loaded again, and asked what it sees in a video, and where.

# %%
import tempfile
from pathlib import Path

import vidrec
from experiments.training import train_small
from vidrec.data.convert import convert
from vidrec.data.toy import make_toy
from vidrec.demo import get_config
from vidrec.inspect import overlay_of
from vidrec.inspect.looking import maps_of

folder = Path(tempfile.mkdtemp())
toy = make_toy(folder / "videos", size=32, train_per_family=16, eval_per_family=2, workers=1)
convert("list", folder / "videos", toy["annotations"], folder / "records", short_side=0, workers=1)
config = get_config("tsm")
config.data.workers = 0
run = train_small(config, folder / "run", folder / "records", steps=4)  # 160 make it good

# %% [markdown]
# ## Three lines from checkpoint to labels

# %%
video = folder / "videos/test/approach/0000.mp4"
network = vidrec.load(run)
prediction = network.predict(video)
prediction.top(3)

# %% [markdown]
# Frames in memory do as well: uint8 `[frames, height, width, 3]`, of any size.

# %%
frames = network.clip(video)
again = network.predict(frames)
again.top(1)

# %% [markdown]
# ## Where it looks

# %%
maps = maps_of(network, frames[None], "cam")
maps.draw(frames)

# %% [markdown]
# The same as frames, to be shown or written as a film (`vidrec.data.video.write_mp4`).

# %%
overlay = overlay_of(network, video)
overlay.shape
