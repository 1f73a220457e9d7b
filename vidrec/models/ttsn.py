"""TTSN: temporal transformer networks with self-supervision (Zhang et al., arXiv 2112.07338).

Behind the last stage of a backbone, ETT attends among the frames of a clip, each one token (section III-B). In training
a second head sees the same features, at random in order or reversed, and says which: TSS (section III-C). That branch
has a loss of its own (`vidrec.losses.order.reversal_loss`) and is not computed otherwise.
"""

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from vidrec.errors import UsageError, VidrecError
from vidrec.models.fields import check_at_least, check_choice, check_has_effect
from vidrec.models.layers import TORCH_DEFAULT, Layers, conv
from vidrec.models.resnet import Bottleneck, Features, ResNet
from vidrec.models.tdn import TDN
from vidrec.models.tsm import TSM
from vidrec.types import ModelOutput

EMBEDS = ("shared", "separate")
HEADS = ("frame", "clip")
# (rho, eta) of Table I: rho=1 takes all channels instead of a random one, eta=1 all videos instead of random ones.
ALGORITHMS = {"rr": (0, 0), "ra": (1, 0), "ar": (0, 1), "aa": (1, 1)}


def embedded_channels(channels: int, ratio: int) -> int:
    """Channels of ETT's embedding: C / ratio ("down"), or C * -ratio for a negative ratio ("up")."""
    return channels // ratio if ratio > 0 else channels * -ratio


class ETT(nn.Module):
    """Efficient temporal transformer, Eq. 1-4: frames as tokens of length l = C' H W, one head, no MLP, no norm.

    t_j = h(x) + PE_j for the three roles j, Z = lambda t_0 t_1^T, S = softmax(Z) over the keys, A* = h^-1(S t_2).
    Takes `[B, N, H, W, C]`; returns A* of the same shape and S `[B, N, N]` (float32). "A convolution and a linear
    projection" of the text is a 1x1 convolution and the flattening, channel by channel as in torch: no other reading
    fits the reported size. PE is for one N and one size of maps; another is a VidrecError.

    Attributes:
      ratio: C' is C / ratio, or C * -ratio where it is negative.
      embed: one h for the three roles (shared: the equations) or three (separate: the reported cost).
      pe_std: deviation of the initial PE. With 1 and l in the thousands softmax would start saturated.
      inverse_std: deviation of h^-1's initial kernel; with 0 the network starts as the one without ETT.
      dtype: type of the computation, softmax apart.
    """

    ratio: int = 8
    embed: str = "shared"
    pe_std: float = 0.02
    inverse_std: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> tuple[Features, Float[Array, "b n n"]]:
        n, height, width, channels = x.shape[1:]
        small = embedded_channels(channels, self.ratio)
        embeddings = [
            conv(small, use_bias=True, kernel_init=TORCH_DEFAULT, dtype=self.dtype, name=f"h_{role}")(x)
            for role in range(3 if self.embed == "separate" else 1)
        ]
        positions = self.positions(n, small, height, width).astype(self.dtype)
        query, key, value = ((embeddings * 3)[role] + positions[role] for role in range(3))
        scale = self.param("lam", nn.initializers.constant(0.01), (), jnp.float32)
        z = scale * jnp.einsum("bnhwc,bmhwc->bnm", query, key, preferred_element_type=jnp.float32)
        s = jax.nn.softmax(z)
        attended = jnp.einsum("bnm,bmhwc->bnhwc", s.astype(value.dtype), value)
        restore = nn.initializers.normal(self.inverse_std)
        restored = conv(channels, use_bias=True, kernel_init=restore, dtype=self.dtype, name="hinv")(attended)
        return restored, s

    def positions(self, n: int, channels: int, height: int, width: int) -> Float[Array, "3 n h w c"]:
        """The learned position codes, stored `[3, N, l]` in torch's order of (channel, row, column)."""
        shape = (3, n, channels * height * width)
        stored = self.get_variable("params", "pe", None)
        if stored is not None and stored.shape != shape:
            raise VidrecError(
                f"ETT's position codes are for {stored.shape[1]} frames and {stored.shape[2]} values each, but these "
                f"maps are {n} of {height}x{width}x{channels}: use the image_size and num_frames of the weights"
            )
        pe = self.param("pe", nn.initializers.normal(self.pe_std), shape, jnp.float32)
        return jnp.moveaxis(pe.reshape(3, n, channels, height, width), 2, -1)

    def multiply_adds(self, output: tuple[Any, Any], x: Any) -> int:
        """The two products of attention: 2 N^2 l per clip."""
        b, n, height, width, channels = x.shape
        return 2 * b * n * n * height * width * embedded_channels(channels, self.ratio)


def draw(
    key: PRNGKeyArray, algorithm: str, videos: int, channels: int
) -> tuple[Int[Array, " b"], Int[Array, " b"] | None]:
    """TSS's draws, one per video of the whole batch: s (1: reversed, which is also the label) and the channel d.

    `rr` draws both, `ra` s alone (all channels: None), `ar` the channel alone (every video reversed), `aa` neither.
    """
    rho, eta = ALGORITHMS[algorithm]
    of_videos, of_channels = jax.random.split(key)
    drawn = jax.random.bernoulli(of_videos, shape=(videos,))
    selected = jnp.ones(videos, jnp.int32) if eta else drawn.astype(jnp.int32)
    return selected, None if rho else jax.random.randint(of_channels, (videos,), 0, channels)


def sequences(
    x: Float[Array, "b n *hw c"], selected: Int[Array, " b"], channel: Int[Array, " b"] | None = None
) -> Float[Array, "b n *hw c2"]:
    """TSS, Eq. 5: each video's channel d (or all), its N frames reversed where s is 1. `[B, N, ..., 1 or C]`."""
    ones = (1,) * (x.ndim - 2)
    if channel is not None:  # a product, not an index: the batch stays where it is when it is spread over devices
        picked = jax.nn.one_hot(channel, x.shape[-1], dtype=x.dtype)
        x = (x * picked.reshape(len(x), *ones, -1)).sum(-1, keepdims=True)
    return jnp.where(selected.reshape(-1, 1, *ones) == 1, x[:, ::-1], x)


class OrderHead(nn.Module):
    """Five linear layers (without activations between, as published) from pooled features to (in order, reversed).

    `[B, N, 1 or C]` to `[B, N, 2]`, frame by frame (kind "frame", as published). A frame scored on its own shows its
    order only as far as the backbone has mixed the frames; kind "clip" reads all N together, to `[B, 2]`.
    """

    hidden: int
    kind: str = "frame"

    @nn.compact
    def __call__(self, pooled: Float[Array, "b n c"]) -> Float[Array, "b *n 2"]:
        y = pooled.reshape(len(pooled), -1) if self.kind == "clip" else pooled
        for name in ("fc_in", "fc1", "fc2", "fc3"):
            y = nn.Dense(self.hidden, kernel_init=TORCH_DEFAULT, name=name)(y)
        return nn.Dense(2, kernel_init=TORCH_DEFAULT, name="fc_out")(y)


class TTSN(ResNet):
    """ETT and TSS on a ResNet. `ttsn` makes this class, or the one that has another backbone's features below.

    In training, with TSS, the output has order_logits (`[B, N, 2]`, `[B, 2]` with tss_head="clip") and
    aux["order_label"] (int32 `[B]`, 1: reversed), and the random stream "tss" is needed beside "dropout"; in evaluation
    order_logits is None. Intermediates beside the backbone's: "ett_attention" S `[B, N, N]` and "ett_map" A*
    `[B, N, H, W, C]`.

    Attributes:
      backbone: tdn (the paper's), tsm, or tsn.
      ett: whether ETT stands behind the backbone.
      ett_ratio: u of the paper: ETT works on C/8 channels for 8; negative numbers go up, -2 is 2 C.
      ett_embed: one embedding for query, key and value (shared), or three (separate).
      ett_stage: ETT stands behind this stage (2..5); 0: the last one.
      ett_pe_std: deviation of ETT's initial position codes.
      ett_inverse_std: deviation of the initial kernel that leads out of ETT; 0: it adds nothing at the start.
      tss: which sequences the order head sees, two letters for (video, channel), a: all, r: random; or none.
      tss_head: order scores for each frame on its own (frame, as published) or for all together (clip).
    """

    backbone: str = "tsn"
    ett: bool = True
    ett_ratio: int = 8
    ett_embed: str = "shared"
    ett_stage: int = 0
    ett_pe_std: float = 0.02
    ett_inverse_std: float = 0.0
    tss: str = "rr"
    tss_head: str = "frame"

    sized: ClassVar[tuple[str, ...]] = ("ett/pe",)  # parameters whose shape follows from the size of the pictures

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("backbone", self.backbone, BACKBONES)
        if type(self) is not BACKBONES[self.backbone]:
            raise UsageError(f"backbone={self.backbone!r} is another class: make it with vidrec.models.ttsn.ttsn")
        check_choice("ett_embed", self.ett_embed, EMBEDS)
        check_choice("tss", self.tss, (*ALGORITHMS, "none"))
        check_choice("tss_head", self.tss_head, HEADS)
        if self.ett_stage not in (0, *range(2, self.last_stage + 1)):
            raise UsageError(f"ett_stage={self.ett_stage} is no stage: choose 2..{self.last_stage}, or 0: the last")
        check_at_least(0, ett_pe_std=self.ett_pe_std, ett_inverse_std=self.ett_inverse_std)
        self.check_ratio()
        self.check_effects()

    def check_ratio(self) -> None:
        """Raises UsageError unless `ett_ratio` divides the channels that ETT gets."""
        width = self.widths[self.position - 2]
        channels = width * Bottleneck.expansion if self.bottleneck else width
        if self.ett and (not self.ett_ratio or channels % max(self.ett_ratio, 1)):
            raise UsageError(f"ett_ratio={self.ett_ratio} must divide {channels} channels; negative: a multiple")

    def check_effects(self) -> None:
        """Refuses fields of modules that the variant does not have."""
        for field in ("ett_ratio", "ett_embed", "ett_stage", "ett_pe_std", "ett_inverse_std"):
            default = type(self).__dataclass_fields__[field].default
            check_has_effect(field, self.ett or getattr(self, field) == default, "ett=False")
        check_has_effect("tss_head", self.tss_head == "frame" or self.tss != "none", "tss='none'")

    @property
    def last_stage(self) -> int:
        """Number of the last stage (5 in the usual networks)."""
        return 1 + len(self.stage_sizes)

    @property
    def position(self) -> int:
        """The stage behind which ETT stands."""
        return self.ett_stage or self.last_stage

    def after_stage(self, stage: int, x: Features, layers: Layers) -> Features:
        """What TDN does there, and ETT behind its stage, unless that is the last: `head` has it then."""
        x = super().after_stage(stage, x, layers)
        return self.attend(x) if self.ett and stage == self.position < self.last_stage else x

    def head(self, x: Features, train: bool) -> ModelOutput:
        """TSS on the last stage's features, ETT where it stands behind them, and the classes."""
        order_logits, aux = self.order(x, train)
        if self.ett and self.position == self.last_stage:
            x = self.attend(x)
        return super().head(x, train)._replace(order_logits=order_logits, aux=aux)

    def attend(self, x: Features) -> Features:
        """ETT with its shortcut: A* + X, which the classifier sees (Eq. 6)."""
        dtype = jnp.dtype(self.dtype)
        ett = ETT(self.ett_ratio, self.ett_embed, self.ett_pe_std, self.ett_inverse_std, dtype, name="ett")
        attended, weights = ett(x)
        self.sow("intermediates", "ett_attention", weights)
        self.sow("intermediates", "ett_map", attended)
        return x + attended

    def order(self, x: Features, train: bool) -> tuple[Float[Array, "b *n 2"] | None, dict[str, Any]]:
        """TSS on the last stage's features: order scores and {"order_label"}; nothing in evaluation."""
        if self.tss == "none" or not (train or self.is_initializing()):
            return None, {}
        if not (self.has_rng("tss") or self.is_initializing()):
            raise VidrecError(
                f"training with tss={self.tss!r} draws from the random stream 'tss', which is not there: apply the "
                "network with rngs={'dropout': key, 'tss': another key}"
            )
        pooled = x.astype(jnp.float32).mean((2, 3))  # the head's first layer; it commutes with what TSS does
        selected, channel = draw(self.make_rng("tss"), self.tss, *pooled.shape[::2])
        scores = OrderHead(x.shape[-1], self.tss_head, name="order")(sequences(pooled, selected, channel))
        return scores, {"order_label": selected}


class TTSNOnTSM(TTSN, TSM):
    """TTSN on TSM."""

    backbone: str = "tsm"


class TTSNOnTDN(TTSN, TDN):
    """TTSN on TDN, as published; clips are `[B, 5 * num_frames, H, W, 3]`."""

    backbone: str = "tdn"


BACKBONES: dict[str, type[TTSN]] = {"tdn": TTSNOnTDN, "tsm": TTSNOnTSM, "tsn": TTSN}


@functools.wraps(TTSN, assigned=(), updated=())  # the fields it takes are those of TTSN
def ttsn(*, backbone: str = "tdn", **fields: Any) -> TTSN:
    """A TTSN on the backbone of that name; raises UsageError for an unknown one, or wrong fields."""
    check_choice("backbone", backbone, BACKBONES)
    return BACKBONES[backbone](**fields)
