# %% [markdown]
# # A tour of the data pipeline
#
# Videos become records, records clips, clips batches, batches normalised arrays on the device. Every stop is shown.

# %%
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from PIL import Image

from vidrec.data.clips import ClipSpec, TrainReader
from vidrec.data.convert import convert
from vidrec.data.feed import normalize
from vidrec.data.records import open_records
from vidrec.data.sampling import segment_indices
from vidrec.data.toy import make_toy
from vidrec.data.verify import verify
from vidrec.data.video import read_video
from vidrec.demo import get_config

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Videos

# %%
toy = make_toy(folder / "videos", size=64, train_per_family=4, eval_per_family=1, workers=1)
video = read_video(folder / "videos/test/move_right/0000.mp4")
pixels = video.array()
pixels.shape, video.fps

# %%
Image.fromarray(np.concatenate(pixels[::2], 1))

# %% [markdown]
# ## Records
#
# Sharded TFRecords of JPEG frames, with an index and a manifest. `verify` says whether they are whole.

# %%
convert("list", folder / "videos", toy["annotations"], folder / "records", short_side=0, workers=1)
checked = verify(folder / "records", deep=True)
source = open_records(folder / "records", "train")
checked.ok, len(source), source.classes

# %% [markdown]
# ## Clips
#
# Which frames: one of each of T segments, in training at random, in evaluation the middle one.

# %%
sampled = segment_indices(16, 8, mode="test")
sampled

# %% [markdown]
# A reader makes a training clip of a record: it draws frames, cuts and resizes. All it draws comes from the generator,
# so that a clip can be made again.

# %%
config = get_config("tsm")
config.data.records = str(folder / "records")
spec = ClipSpec.from_config(config, 8, 8)
batch = TrainReader(source, spec)(0, np.random.default_rng(0))
batch.clips.shape, source.classes[int(batch.label)]

# %%
Image.fromarray(np.concatenate(list(np.asarray(batch.clips).reshape(-1, *batch.clips.shape[-3:])), 1))

# %% [markdown]
# ## On the device
#
# Clips travel as uint8 and become normalised floats inside the jitted step.

# %%
normalised = normalize(jnp.asarray(batch.clips).reshape(1, 8, 32, 32, 3), config.data.mean, config.data.std)
normalised.dtype, float(normalised.mean()), float(normalised.std())
