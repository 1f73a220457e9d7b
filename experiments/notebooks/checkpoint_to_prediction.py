# %% [markdown]
# # From checkpoint to prediction
#
# A network is trained for a few steps, loaded again, and asked what it sees in a video, and where.

# %%
import tempfile
from pathlib import Path

from ml_collections import FrozenConfigDict

import vidrec
from vidrec.data.convert import convert
from vidrec.data.toy import make_toy
from vidrec.demo import get_config
from vidrec.eval.evaluate import make_evaluator
from vidrec.inspect import overlay_of
from vidrec.inspect.looking import maps_of
from vidrec.train.loop import train

STEPS = 4  # 160 make it good
folder = Path(tempfile.mkdtemp())
toy = make_toy(folder / "videos", size=32, train_per_family=16, eval_per_family=2, workers=1)
convert("list", folder / "videos", toy["annotations"], folder / "records", short_side=0, workers=1)
config = get_config("tsm")
config.data.update(records=str(folder / "records"), workers=0)
config.train.update(steps=STEPS, eval_every=STEPS, checkpoint_every=STEPS)
config.optim.warmup_steps = 2
train(FrozenConfigDict(config), folder / "run", make_evaluator)

# %% [markdown]
# ## Three lines from checkpoint to labels

# %%
video = folder / "videos/test/approach/0000.mp4"
network = vidrec.load(folder / "run")
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
