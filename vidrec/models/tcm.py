"""TCM-Net: slow and fast visual tempo from correlations of frames (Liu et al., 2022; TIP, arXiv 2202.12116).

Behind a stage of a temporal network, MTDM matches every frame with the one before it (fast) and with the first one
(slow): where did each position move, and how sure is that (Eq. 1 to 5). TAM turns the six numbers into features and
weighs them over time (Eq. 6 to 11); the result is added to the stage's features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vidrec.errors import UsageError, VidrecError
from vidrec.models import resnext3d
from vidrec.models.fields import check_at_least, check_choice, check_has_effect, check_positive
from vidrec.models.layers import KAIMING, TORCH_DEFAULT, DepthwiseConv, Layers
from vidrec.models.resnet import Block, Features
from vidrec.models.resnext3d import ResNeXt3DBlock
from vidrec.models.tea import TEABlock, part_width
from vidrec.models.tsm import TSM
from vidrec.ops.correlation import GAUSSIANS, match

TEMPOS = ("fast", "slow")
PARTS = ("both", "mtdm", "tam", "none")
PATCHES = {2: 15, 3: 15, 4: 7, 5: 3}  # side of the window behind each stage, as the authors' code has it
HOSTS = ("tsm", "tea", "resnext3d")
HOST_BLOCKS: dict[str, type[Block]] = {"tea": TEABlock, "resnext3d": ResNeXt3DBlock}


class MTDM(nn.Module):
    """Multi-scale temporal dynamics module (section III-A): features to displacements and confidences.

    `[B, T, H, W, C]` to `[B, T, H, W, 3 * tempos]`, channels (x, y, confidence) of each tempo. Frame t is about the
    step from t to t+1 (fast) or from the first frame to t+1 (slow); the last frame repeats the one before. Computed in
    float32. Intermediates: "fast_displacement", "slow_displacement" `[B, T, H, W, 2]` as (x, y), 1 being the reach of
    the window, and "fast_confidence", "slow_confidence" `[B, T, H, W]`.

    Attributes:
      reduction: channels that are compared.
      patch: side of the window that is searched.
      tempos: fast, slow or both.
      sigma, tau, gaussian: see `vidrec.ops.correlation.match`.
    """

    layers: Layers
    reduction: int
    patch: int
    tempos: Sequence[str] = TEMPOS
    sigma: float = 5.0
    tau: float = 0.01
    gaussian: str = "code"

    @nn.compact
    def __call__(self, x: Features) -> Features:
        r = nn.relu(self.layers.norm(name="reduce_bn")(self.layers.conv(self.reduction, name="reduce")(x)))
        after = r[:, 1:]
        before = {"fast": r[:, :-1], "slow": jnp.broadcast_to(r[:, :1], after.shape)}
        sources = jnp.stack([before[tempo] for tempo in self.tempos], 1)  # [B, S, T-1, H, W, C]
        targets = jnp.broadcast_to(after[:, None], sources.shape)
        maps = (-1, *r.shape[2:])
        displacement, confidence = match(
            sources.reshape(maps),
            targets.reshape(maps),
            patch=self.patch,
            sigma=self.sigma,
            tau=self.tau,
            gaussian=self.gaussian,
            # Weights are drawn with one clip, which would not split over devices as a kernel's pairs must.
            implementation="dense" if self.is_initializing() else None,
        )
        found = jnp.concatenate([displacement, confidence[..., None]], -1).reshape(*sources.shape[:-1], 3)
        found = jnp.concatenate([found, found[:, :, -1:]], 2)  # [B, S, T, H, W, 3]
        for i, tempo in enumerate(self.tempos):
            self.sow("intermediates", f"{tempo}_displacement", found[:, i, ..., :2])
            self.sow("intermediates", f"{tempo}_confidence", found[:, i, ..., 2])
        return jnp.concatenate([found[:, i] for i in range(len(self.tempos))], -1).astype(x.dtype)

    def multiply_adds(self, output: Features, x: Features) -> int:
        """Of the correlation: every position with its whole window."""
        batch, frames, height, width = x.shape[:4]
        pairs = batch * (frames - 1) * len(self.tempos)
        return pairs * height * width * self.patch**2 * self.reduction


def eta_size(frames: int) -> int:
    """ETA's kernel in the authors' code: log2 of the frames, rounded down, then up to an odd number (4: 3, 16: 5)."""
    return (frames.bit_length() - 1) // 2 * 2 + 1


class ETA(nn.Module):
    """Efficient temporal attention, Eq. 6 to 11: frames of each channel weighed by their means over the picture.

    x * sigmoid(conv over time of the means), one kernel for all channels. `[B, T, H, W, C]` in and out.
    Intermediate: "weights" `[B, T, C]`, 0 to 1.

    Attributes:
      size: of the kernel, odd; 0: `eta_size` of the frames.
    """

    size: int = 0

    @nn.compact
    def __call__(self, x: Features) -> Features:
        frames = x.shape[1]
        size = self.size or eta_size(frames)
        kernel = self.param("kernel", TORCH_DEFAULT, (size, 1, 1), jnp.float32)
        means = jnp.pad(x.astype(jnp.float32).mean((2, 3)), ((0, 0), (size // 2, size // 2), (0, 0)))
        weights = nn.sigmoid(sum((kernel[i] * means[:, i : i + frames] for i in range(size)), jnp.zeros(())))
        self.sow("intermediates", "weights", weights)
        return x * weights[:, :, None, None].astype(x.dtype)

    def multiply_adds(self, output: Features, x: Features) -> int:
        """Of the convolution: the kernel's size per frame and channel."""
        return x.shape[0] * x.shape[1] * x.shape[-1] * (self.size or eta_size(x.shape[1]))


class TripleConv(nn.Module):
    """A 3x3 convolution in three groups of neighbouring channels, stride 1, no bias, on `[B, T, H, W, C]`.

    Kernel `[3, 3, C / 3, C]`. Computed as an ordinary convolution with a kernel that is zero between the groups: for so
    few channels that costs nothing, where grouped convolutions are ten times slower on a CPU.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Features:
        channels = x.shape[-1]
        size = channels // 3
        kernel = self.param("kernel", KAIMING, (3, 3, size, channels), jnp.float32)
        group = jnp.arange(channels) // size
        whole = jnp.tile(kernel, (1, 1, 3, 1)) * (group[:, None] == group)
        frames = x.reshape(-1, *x.shape[2:]).astype(self.dtype)
        axes = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(frames, whole.astype(self.dtype), (1, 1), "SAME", dimension_numbers=axes)
        return y.reshape(x.shape)


class TAM(nn.Module):
    """Temporal attention module (section III-B): displacements and confidences to features, weighed over time.

    `[B, T, H, W, 3 * tempos]` to `[B, T, H, W, channels]`. Convolutions of single frames, each with its norm and ReLU:
    three 3x3 in three groups, 1x1 to 16, then three times a depthwise 3x3 and a 1x1, to 32, 64 and `channels`; then
    ETA. Their names are the positions in the authors' code.

    Attributes:
      channels: of the result.
      eta_kernel: see `ETA`.
      attention: whether there is ETA.
    """

    layers: Layers
    channels: int
    eta_kernel: int = 0
    attention: bool = True

    @nn.compact
    def __call__(self, y: Features) -> Features:
        conv, norm = self.layers
        for i in (0, 3, 6):
            y = TripleConv(y.dtype, name=f"conv1_{i}")(y)
            y = nn.relu(norm(name=f"conv1_{i + 1}_bn")(y))
        y = nn.relu(norm(name="conv1_10_bn")(conv(16, name="conv1_9")(y)))
        for i, channels in ((2, 32), (3, 64), (4, self.channels)):
            y = DepthwiseConv(KAIMING, y.dtype, name=f"conv{i}_0")(y)
            y = conv(channels, name=f"conv{i}_3")(nn.relu(norm(name=f"conv{i}_1_bn")(y)))
            y = nn.relu(norm(name=f"conv{i}_4_bn")(y))
        return ETA(self.eta_kernel, name="eta")(y) if self.attention else y


class TCMLayer(nn.Module):
    """x + TAM(MTDM(x)), or a part of it: x + TAM(MTDM(x)) without ETA (mtdm), x + ETA(x) (tam).

    `[B, T, H, W, C]` in and out, T at least 2. Intermediate: "out", what is returned. Attributes as in `TCM`.
    """

    layers: Layers
    reduction: int = 64
    patch: int = 15
    tempos: Sequence[str] = TEMPOS
    sigma: float = 5.0
    tau: float = 0.01
    gaussian: str = "code"
    eta_kernel: int = 0
    parts: str = "both"

    @nn.compact
    def __call__(self, x: Features) -> Features:
        if self.parts == "tam":
            x = x + ETA(self.eta_kernel, name="eta")(x)
        else:
            mtdm = MTDM(
                self.layers, self.reduction, self.patch, self.tempos, self.sigma, self.tau, self.gaussian, name="mtdm"
            )
            tam = TAM(self.layers, x.shape[-1], self.eta_kernel, self.parts == "both", name="tam")
            x = x + tam(mtdm(x))
        self.sow("intermediates", "out", x)
        return x


class TCM(TSM):
    """A temporal network with the TCM module behind some of its stages. Beside TSM's fields:

    Intermediates, beside ResNet's, of the module behind stage 3 (its name is "tcm3"): "tcm3/mtdm/fast_displacement",
    "tcm3/mtdm/fast_confidence", the same with "slow", "tcm3/tam/eta/weights" (without MTDM "tcm3/eta/weights") and
    "tcm3/out"; see MTDM, ETA, TCMLayer.

    Attributes:
      tcm_stages: the stages (2..5) that a module follows.
      tcm_reduction: channels in which frames are compared; 0: the width of stage 2 (64 in the full networks).
      tcm_patch: side of the window that is searched, odd; 0 or None: 15 behind stages 2 and 3, then 7 and 3.
      tempos: fast (each frame and the one before), slow (each frame and the first), or both.
      parts: both, mtdm (no attention), tam (attention of the stage's own features alone) or none (the host itself).
      sigma: width of the Gaussian around the best match, in pixels of the stage's maps.
      tau: temperature of the softmax over matches.
      gaussian: code or paper; see `vidrec.ops.correlation.match`.
      eta_kernel: size of the attention's kernel, odd; 0: from the number of frames, see `eta_size`.
      tcm_host: the network that has the module: tsm, tea (Res2Net-50 with TEA blocks) or resnext3d (3D ResNeXt-101).
    """

    tcm_stages: Sequence[int] = (3,)
    tcm_reduction: int = 0
    tcm_patch: int | None = 0
    tempos: Sequence[str] = TEMPOS
    parts: str = "both"
    sigma: float = 5.0
    tau: float = 0.01
    gaussian: str = "code"
    eta_kernel: int = 0
    tcm_host: str = "tsm"
    classifier_init: str = "xavier"  # as in the authors' code, where the classifier is a 1x1 convolution

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("parts", self.parts, PARTS)
        check_choice("gaussian", self.gaussian, GAUSSIANS)
        check_choice("tcm_host", self.tcm_host, HOSTS)
        self.check_host()
        self.check_values()
        self.check_effects()

    @property
    def has_mtdm(self) -> bool:
        """Whether frames are matched."""
        return self.parts in ("both", "mtdm")

    def check_host(self) -> None:
        """Refuses a host that cannot be made of these blocks and widths, and fields that only other hosts have."""
        host = f"tcm_host={self.tcm_host!r}"
        if self.tcm_host != "tsm":
            if not self.bottleneck:
                raise UsageError(f"{host} has bottleneck blocks: take tcm_resnet50 or tcm_resnet101, or tcm_host='tsm'")
            check_has_effect("shift_div", self.shift_div == 8, f"{host} has no shift")
            check_has_effect("shift_every", self.shift_every == 1, f"{host} has no shift")
        if self.tcm_host == "resnext3d":
            check_has_effect("stem", self.stem == "imagenet", f"{host} has a stem of its own")
        if self.tcm_host == "tea" and not all(map(part_width, self.widths)):
            raise UsageError(f"widths={tuple(self.widths)}: {host} cuts blocks into four parts, which needs 3 or more")

    def check_values(self) -> None:
        """Refuses values that cannot be."""
        stages = range(2, 2 + len(self.stage_sizes))
        known = sorted(set(self.tcm_stages) & set(stages)) == list(self.tcm_stages)
        if self.parts != "none" and not (self.tcm_stages and known):
            raise UsageError(f"tcm_stages={self.tcm_stages!r}: name stages of {list(stages)}, each once and in order")
        if not self.tempos or [tempo for tempo in TEMPOS if tempo in self.tempos] != list(self.tempos):
            raise UsageError(f"tempos={self.tempos!r}: name fast, slow or both, in this order")
        for field, value in (("tcm_patch", self.tcm_patch or 0), ("eta_kernel", self.eta_kernel)):
            if value < 0 or (value and value % 2 == 0):
                raise UsageError(f"{field}={value} must be odd and positive (or 0, which chooses)")
        check_at_least(0, tcm_reduction=self.tcm_reduction)
        check_positive(sigma=self.sigma, tau=self.tau)
        if self.has_mtdm and min(map(self.frames_behind, self.tcm_stages)) < 2:
            raise UsageError(
                f"num_frames={self.num_frames} leaves one frame behind a stage of tcm_stages={tuple(self.tcm_stages)}, "
                "and one cannot be matched: take more frames or earlier stages"
            )

    def check_effects(self) -> None:
        """Refuses fields that change nothing in the chosen variant."""
        here = f"parts={self.parts!r}"
        check_has_effect("tcm_stages", tuple(self.tcm_stages) == (3,) or self.parts != "none", here)
        check_has_effect("eta_kernel", not self.eta_kernel or self.parts in ("both", "tam"), here)
        defaults = {"tempos": TEMPOS, "sigma": 5.0, "tau": 0.01, "gaussian": "code"}
        for field, default in defaults.items():
            value = getattr(self, field)
            same = tuple(value) == default if field == "tempos" else value == default
            check_has_effect(field, self.has_mtdm or same, here)
        check_has_effect("tcm_reduction", self.has_mtdm or not self.tcm_reduction, here)
        check_has_effect("tcm_patch", self.has_mtdm or not self.tcm_patch, here)

    def frames_behind(self, stage: int) -> int:
        """Frames on the time axis behind a stage."""
        if self.tcm_host != "resnext3d":
            return self.num_frames
        return resnext3d.frames_at(stage, self.num_frames, tuple(self.strides))

    def stem_features(self, clips: Float[Array, "b t h w _c"], layers: Layers) -> Features:
        """The host's stem."""
        if self.tcm_host != "resnext3d":
            return super().stem_features(clips, layers)
        x = resnext3d.stem(clips, self.stem_width, layers)
        self.sow("intermediates", "stem", x)
        return x

    def block_class(self) -> type[Block]:
        """The host's block."""
        block = HOST_BLOCKS.get(self.tcm_host)
        if block is None:
            return super().block_class()
        return nn.remat(block) if self.remat == "block" else block

    def block_fields(self, stage: int, index: int, layers: Layers) -> Mapping[str, Any]:
        """The host's own fields of a block."""
        if self.tcm_host == "tsm":
            return super().block_fields(stage, index, layers)
        return {"first": index == 0} if self.tcm_host == "tea" else {}

    def after_stage(self, stage: int, x: Features, layers: Layers) -> Features:
        """The module, behind the chosen stages; raises VidrecError where `tcm_patch` is too large for the maps."""
        if self.parts == "none" or stage not in self.tcm_stages:
            return x
        height, width = x.shape[2:4]
        whole = 2 * max(height, width) - 1
        if self.tcm_patch and self.tcm_patch > whole:
            raise VidrecError(
                f"tcm_patch={self.tcm_patch} reaches over the whole of maps of {height}x{width} from every position: "
                f"take {whole} or less, larger pictures or earlier tcm_stages"
            )
        return TCMLayer(
            layers,
            self.tcm_reduction or self.widths[0],
            self.tcm_patch or PATCHES[stage],
            tuple(self.tempos),
            self.sigma,
            self.tau,
            self.gaussian,
            self.eta_kernel,
            self.parts,
            name=f"tcm{stage}",
        )(x)
