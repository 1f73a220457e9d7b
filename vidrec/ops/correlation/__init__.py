"""Local correlation of two feature maps, and the displacement and confidence read off it (TCM-Net, section III-A).

For maps f1, f2 `[N, H, W, C]` and a window of side P = 2R + 1, `local_correlation` gives the scores

    S[n, y, x, i, j] = <f1[n, y, x], f2[n, y + i - R, x + j - R]>        zero outside the map

and `match` what TCM-Net reads off them at every position, with p running over the window and p* its best place. Unless
told otherwise, it takes features of unit length and no score below zero, as the authors' code does:

    g(p)         = exp(-|p - p*|^2 / (2 sigma^2))                        no gradient through p*
    w            = softmax(g S / tau)
    displacement = sum_p w(p) (p - center) / R                           (x, y), each in -1..1
    confidence   = S(p*)

The scores are P^2 numbers for each position, hundreds of times what `match` returns, and differentiating them the usual
way keeps several copies. So they are never in memory: a tile of queries is multiplied with the few rows of keys that
their windows touch, reduced to the sums above, and the backward pass multiplies again.

    keys of one tile, rows of f2            their scores
    +-----------------------------+         +--------------------------------+
    |  .  .  .  .  .  .  .  .  .  |  R      |  one column for every query,   |
    |  .  .  .  .  .  .  .  .  .  |         |  one row for every key;        |
    |  q  q  q  q  q  q  q  q  q  |  the    |  masked to |dx|, |dy| <= R;    |
    |  q  q  q  q  q  q  q  q  q  |  tile's |  the maximum first, then sums  |
    |  .  .  .  .  .  .  .  .  .  |         |  of w, w dx and w dy, key row  |
    |  .  .  .  .  .  .  .  .  .  |  R      |  by key row                    |
    +-----------------------------+         +--------------------------------+

Positions outside the map score zero; how many a window has, and the sum of their offsets, follow from its place
(`geometry`). One module per way to compute this, each with the functions `correlate` and `match`:

    reference    slices and sums: the definition, which the others are tested against
    gather       all pairs of positions, of which a constant index picks; what others are compared with
    dense        matrix products and masks in plain XLA operations, row block by row block (module `xla`): any device
    pallas_tpu   kernels for TPU v4, v5e, v5p, v6e and 7x (module `tpu`)
    pallas_gpu   kernels for Hopper GPUs (module `gpu`)

Features that are not numbers (NaN) make the results that depend on them NaN in the first three; a kernel's maximum may
lose them, so look for them in the displacement and not in the confidence alone.

`select` says which runs where; `implementation=` names one, and one that cannot run is refused. Under a mesh each
device computes its own pairs, split over the axes "data" and "fsdp" or, of an explicit mesh, as the features are. The
mesh is that of `jax.set_mesh` or of the features; `in_shardings` of jax.jit alone do not tell it while tracing, so call
such a function in `jax.set_mesh`.

The folder needs jax and numpy alone. In another network, such as one for optical flow or tracking:

    import jax.numpy as jnp
    from vidrec.ops.correlation import local_correlation, match

    cost = local_correlation(f1, f2, patch=9) / jnp.sqrt(f1.shape[-1])   # [N, H, W, 9, 9], differentiable
    moved, confidence = match(f1, f2, patch=9, sigma=2.0, tau=0.1)       # fused: no volume in memory
    flow = moved * (9 // 2)                                              # in pixels of the map, (x, y)
"""

from vidrec.ops.correlation.api import GAUSSIANS, IMPLEMENTATIONS, local_correlation, match

__all__ = ["GAUSSIANS", "IMPLEMENTATIONS", "local_correlation", "match"]
