# %% [markdown]
# # Order correction
#
# DirecFormer's attention in time tells by its sign whether a frame comes before another. From these signs the order of
# shuffled frames can be read: as the best path through all frames.

# %%
import jax
import jax.numpy as jnp
import numpy as np

import vidrec
import vidrec.inspect
from vidrec.eval.order import RULES, chance, order_accuracy, recover_order
from vidrec.losses.order import order_signs
from vidrec.models.registry import init_options

T = 8
random = np.random.default_rng(0)
orders = np.stack([random.permutation(T) for _ in range(50)])

# %% [markdown]
# ## The ideal map
#
# It holds +1 where the row's frame comes before the column's, and -1 where it comes after. Each rule recovers all
# orders.

# %%
ideal = np.asarray(order_signs(jnp.asarray(orders), diagonal=0))
recovered = {rule: float(order_accuracy(recover_order(ideal, rule), orders).mean()) for rule in RULES}
recovered, chance(T)

# %% [markdown]
# ## A map that grows with distance
#
# Trained maps look rather like this: the farther apart two frames, the larger the value. Then every path between the
# same ends has the same raw sum, and the paper's rule, the path of the largest sum, finds little. Signs keep the order.

# %%
distance = (orders[:, None, :] - orders[:, :, None]) / T + 0.02 * random.standard_normal(ideal.shape)
by_distance = {rule: float(order_accuracy(recover_order(distance, rule), orders).mean()) for rule in RULES}
by_distance

# %% [markdown]
# ## In a network
#
# With drawn weights it does not know any order: its OrderAcc is about chance.
# `python -m experiments.direcformer.run --study order` trains some that do.

# %%
model = vidrec.create_model(
    "direcformer_base", num_classes=2, num_frames=T, image_size=32, patch_size=8, dim=32, depth=2, heads=2, num_orders=0
)
frames = random.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8).repeat(T, 0)
for t, frame in enumerate(frames):
    frame[12:20, 3 * t : 3 * t + 8] = 255
clips = jnp.asarray(frames, jnp.float32)[None] / 255
draw = jax.jit(lambda key: dict(model.init(key, clips, train=False)), compiler_options=init_options())
variables = draw(jax.random.key(0))
maps = vidrec.inspect.order(model, variables, clips)
{rule: maps[f"{rule}/accuracy"].values.tolist() for rule in RULES}

# %% [markdown]
# As the network saw the frames, as they were put in order, and the map.

# %%
picture = maps.draw(frames)
picture
