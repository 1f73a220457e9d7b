"""DirecFormer: directed attention in a transformer (CVPR 2022), and TimeSformer, of which it is a change (ICML 2021).

A block attends in time (each patch over the frames), then in space (each frame over its patches and the cls token),
then mixes channels. Softmax weighs keys by positive shares; the directed attention weighs them by cosines, whose sign
can tell whether a frame comes before or after another: a second head names the order in which shuffled frames are, and
a loss on the maps themselves (`vidrec.losses.order.guided_loss`) teaches the sign.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vidrec.errors import UsageError
from vidrec.models.fields import (
    check_at_least,
    check_choice,
    check_clips,
    check_computation,
    check_has_effect,
    check_positive,
    check_share,
    check_types,
)
from vidrec.models.layout import put_together
from vidrec.models.vit import MLP, STD, Dense, Embedding, Tokens, dense, drop_path, layer_norm
from vidrec.ops.attention import Map, cosine_attention, softmax_attention
from vidrec.types import ModelOutput

ATTENTIONS = ("softmax", "cosine")
COS_SCALES = ("1", "1/keys")


class Attention(nn.Module):
    """Multi-head self-attention on `[..., S, D]`; returns the result and the map `[..., heads, S, K]`.

    Attributes:
      kind: softmax, or cosine (see `vidrec.ops.attention`).
      cos_scale: what multiplies the cosines: "1", or "1/keys", which keeps sums over many keys small.
    """

    heads: int
    kind: str = "softmax"
    cos_scale: str | float = "1"
    dense: Dense = dense

    @nn.compact
    def __call__(
        self, x: Float[Array, "*b s d"], first: Float[Array, "*b1 1 d"] | None = None
    ) -> tuple[Float[Array, "*b s d"], Map]:
        """`first`, a token of size 1 where `x` has several, is one more key and value before those of `x`."""
        dim = x.shape[-1]
        project = self.dense(3 * dim, name="qkv")
        query, key, value = self.split(project(x))
        if first is not None:
            shape = (*key.shape[:-3], 1, *key.shape[-2:])
            _, *more = self.split(project(first))
            key, value = (
                jnp.concatenate([jnp.broadcast_to(one, shape), all_], axis=-3)
                for one, all_ in zip(more, (key, value), strict=True)
            )
        if self.kind == "softmax":
            y, weights = softmax_attention(query, key, value)
        else:
            scale = 1 / key.shape[-3] if self.cos_scale == "1/keys" else 1.0
            y, weights = cosine_attention(query, key, value, scale=scale)
        return self.dense(dim, name="proj")(y.reshape(x.shape)), weights

    def split(self, qkv: Float[Array, "*b s d3"]) -> tuple[Float[Array, "*b s h d"], ...]:
        """Query, key and value of every head; channels are ordered by them, then head."""
        return tuple(part.reshape(*qkv.shape[:-1], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))

    def multiply_adds(self, output: tuple[Array, Map], *inputs: Array) -> int:
        """Those of the two products of attention, for `vidrec.inspect.summary`."""
        result, weights = output
        return 2 * weights.size * (result.shape[-1] // self.heads)


class Block(nn.Module):
    """Attention in time, in space, and an MLP, each added to what came in.

    Tokens `[B, 1 + N*T, D]` in and out; also returns the time map averaged over heads, `[B, N, T, T]`. Intermediates:
    "time_attention" `[B, N, heads, T, K]`, "space_attention" `[B, T, heads, 1+N, 1+N]`, rows = queries, cls first,
    K = T or 1+T; "tokens" `[B, 1 + N*T, D]`.

    Attributes:
      time: constructor of the attention over the frames of a patch.
      space: constructor of the attention within a frame.
      time_cls_key: the cls token is one more key in time (Eq. 6-7).
      rate: probability that a sequence skips a branch in training.
    """

    num_frames: int
    mlp_hidden: int
    time: Callable[..., Attention]
    space: Callable[..., Attention]
    time_cls_key: bool = False
    rate: float = 0.0
    train: bool = False
    dense: Dense = dense
    norm: Callable[..., nn.LayerNorm] = layer_norm

    @nn.compact
    def __call__(self, x: Tokens) -> tuple[Tokens, Float[Array, "b n t t"]]:
        batch, _, dim = x.shape
        drop = partial(drop_path, rate=self.rate, train=self.train)
        cls, patches = x[:, :1], x[:, 1:].reshape(batch, -1, self.num_frames, dim)

        temporal_norm1 = self.norm(name="temporal_norm1")
        first = temporal_norm1(cls)[:, None] if self.time_cls_key else None
        y, time_map = self.time(name="temporal_attn")(temporal_norm1(patches), first)
        patches = patches + self.dense(dim, name="temporal_fc", std=0)(drop(y))

        copies = jnp.broadcast_to(cls[:, None], (batch, self.num_frames, 1, dim))
        frames = jnp.concatenate([copies, jnp.swapaxes(patches, 1, 2)], axis=2)
        y, space_map = self.space(name="attn")(self.norm(name="norm1")(frames))
        y = drop(y)
        cls = cls + y[:, :, 0].mean(1, keepdims=True, dtype=jnp.float32).astype(y.dtype)
        patches = patches + jnp.swapaxes(y[:, :, 1:], 1, 2)

        x = jnp.concatenate([cls, patches.reshape(batch, -1, dim)], axis=1)
        x = x + drop(MLP(self.mlp_hidden, self.dense, name="mlp")(self.norm(name="norm2")(x)))
        for name, value in {"time_attention": time_map, "space_attention": space_map, "tokens": x}.items():
            self.sow("intermediates", name, value)
        return x, time_map[..., -self.num_frames :].mean(2)


class DirecFormer(nn.Module):
    """The network on normalised clips `[B, T, H, W, 3]`; returns ModelOutput.

    `logits` are `[B, num_classes]`; `order_logits` `[B, num_orders + 1]` (0 = frames in order, j = permutation j-1), or
    None; in training `aux["time_attention"]` `[depth, B, N, T, T]`, the time maps averaged over heads, rows = queries,
    without a cls key. Training needs the random stream "dropout". Intermediates: "tokens_embed" and, below "blocks_0",
    ..., those of `Block`; frame t of patch n is token 1 + n*T + t, patches go row by row.

    Attributes:
      num_classes: size of the classifier.
      num_frames: T, frames of a clip.
      image_size: side of the pictures that position embeddings are for; others get the nearest ones.
      patch_size: side of a patch.
      dim: width of a token.
      depth: blocks.
      heads: attention heads.
      mlp_ratio: width of the MLP, in dim.
      time_attn: attention over frames: softmax or cosine.
      space_attn: attention within a frame: softmax or cosine.
      num_orders: permutations that the order head tells apart; 0 = no order head.
      time_cls_key: the cls token is one more key of the attention in time (Eq. 6-7; the authors' code leaves it out).
      separate_norms: the order head has a LayerNorm of its own (Eq. 12; the authors' code shares the classifier's).
      cos_scale: factor of the cosines: "1", or "1/keys" (sums of cosines grow with the number of keys).
      dropout: probability, before the heads.
      drop_path: probability that a branch is skipped, in the last block; rising linearly from 0 in the first.
      init_std: standard deviation that linear layers start from; narrow networks from scratch want about 1 / sqrt(dim).
      time_embed_std: that of the time embeddings; short runs from scratch want about 1.
      dtype: type of the computation; parameters, softmax, cosines, norms and heads are float32.
      remat: "block" recomputes every block in the backward pass instead of keeping its activations; "none" keeps them.
    """

    num_classes: int
    num_frames: int = 8
    image_size: int = 224
    patch_size: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    time_attn: str = "cosine"
    space_attn: str = "softmax"
    num_orders: int = 1000
    time_cls_key: bool = False
    separate_norms: bool = False
    cos_scale: str | float = "1"
    dropout: float = 0.0
    drop_path: float = 0.1
    init_std: float = STD
    time_embed_std: float = 0.0
    dtype: DTypeLike = "float32"
    remat: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_types(self)
        check_choice("time_attn", self.time_attn, ATTENTIONS)
        check_choice("space_attn", self.space_attn, ATTENTIONS)
        cos_scale = "1" if self.cos_scale == 1 else self.cos_scale
        check_choice("cos_scale", cos_scale, COS_SCALES)
        check_computation(self.dtype, self.remat)
        self.check_sizes()
        softmax_only = self.time_attn == self.space_attn == "softmax"
        check_has_effect("cos_scale", cos_scale == "1" or not softmax_only, "both attentions are softmax")
        check_has_effect("separate_norms", not self.separate_norms or self.num_orders > 0, "num_orders=0")

    def check_sizes(self) -> None:
        """Raises UsageError where a size or probability is impossible or two sizes do not divide."""
        for field in ("num_classes", "num_frames", "image_size", "patch_size", "dim", "depth", "heads"):
            check_at_least(1, **{field: getattr(self, field)})
        check_at_least(0, num_orders=self.num_orders, time_embed_std=self.time_embed_std)
        check_share(dropout=self.dropout, drop_path=self.drop_path)
        check_positive(mlp_ratio=self.mlp_ratio, init_std=self.init_std)
        for whole, part in (("dim", "heads"), ("image_size", "patch_size")):
            if getattr(self, whole) % getattr(self, part):
                raise UsageError(f"{whole}={getattr(self, whole)} must be a multiple of {part}={getattr(self, part)}")

    @property
    def clip_length(self) -> int:
        """Frames on the T axis of the input."""
        return self.num_frames

    @nn.compact
    def __call__(self, clips: Float[Array, "b t h w _c"], *, train: bool = False) -> ModelOutput:
        check_clips(clips.shape, self.num_frames, self.clip_length)
        dtype = jnp.dtype(self.dtype)
        x = Embedding(
            self.dim, self.num_frames, self.image_size, self.patch_size, self.time_embed_std, dtype, name="patch_embed"
        )(clips)
        self.sow("intermediates", "tokens_embed", x)
        maps = []
        for index, block in enumerate(self.blocks(train, dtype)):
            x, time_map = block(name=f"blocks_{index}")(x)
            maps.append(time_map)
        logits, order_logits = self.classify(x[:, 0], train)
        return ModelOutput(logits, order_logits, {"time_attention": jnp.stack(maps)} if train else {})

    def blocks(self, train: bool, dtype: DTypeLike) -> list[Callable[..., Block]]:
        """Constructors of the blocks."""
        linear = partial(dense, dtype=dtype, std=self.init_std)
        attention = partial(Attention, self.heads, cos_scale=self.cos_scale, dense=linear)
        block = partial(
            self.one_block(dtype),
            self.num_frames,
            int(self.dim * self.mlp_ratio),
            partial(attention, self.time_attn),
            partial(attention, self.space_attn),
            self.time_cls_key,
            train=train,
            dense=linear,
            norm=partial(layer_norm, dtype=dtype),
        )
        return [partial(block, rate=float(rate)) for rate in np.linspace(0, self.drop_path, self.depth)]

    def one_block(self, dtype: DTypeLike) -> Callable[..., Block]:
        """A block; if `remat` says so, it is computed again in the backward pass, its weights put together again."""
        lies = partial(put_together, dtype=dtype)
        block = Block if self.is_initializing() else nn.map_variables(Block, "params", lies)
        return nn.remat(block) if self.remat == "block" else block

    def classify(self, cls: Float[Array, "b d"], train: bool) -> tuple[Float[Array, "b k"], Float[Array, "b p"] | None]:
        """Scores of the classes and, with an order head, of the orders, in float32 (Eq. 12)."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = drop(layer_norm(name="norm")(cls))
        logits = dense(self.num_classes, name="head", std=self.init_std)(y)
        if not self.num_orders:
            return logits, None
        if self.separate_norms:
            y = drop(layer_norm(name="order_norm")(cls))
        return logits, dense(self.num_orders + 1, name="order", std=self.init_std)(y)
