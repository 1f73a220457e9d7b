"""Weights of one network made into those of another: what a paper takes from ImageNet, beyond equal names.

An adapter is a function of the network, its picture size and the weights by name; it returns them with entries
added, split or resized, in torch's axes. `ADAPTERS` names it by the class of the network.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vidrec.errors import VidrecError
from vidrec.models.vit import resize_places, resize_times


class Weight(NamedTuple):
    """One array of a file, under torch's name and axes.

    Attributes:
      key: the file's key; for an array that an adapter made, the new name and the keys it was made of.
      array: the values.
      adapted: whether an adapter made it.
    """

    key: str
    array: np.ndarray
    adapted: bool = False


Weights = dict[str, Weight]
Adapter = Callable[[Any, Weights, int | tuple[int, int]], Weights]


def adapt(model: Any, weights: Mapping[str, Weight], image_size: int | tuple[int, int]) -> Weights:
    """Returns the weights after the adapters of the network's class and its ancestors."""
    adapted = dict(weights)
    for cls in type(model).__mro__:
        if adapter := ADAPTERS.get(cls.__name__):
            adapted = adapter(model, adapted, image_size)
    return adapted


def made(name: str, source: Weight, array: np.ndarray) -> Weight:
    """The entry of an array that was made out of another one."""
    return Weight(f"{name} <- {source.key}", np.asarray(array), True)


def enhance(model: Any, weights: Weights, image_size: int | tuple[int, int]) -> Weights:
    """TEFE, Eq. 11: a 2D network's conv2 becomes the middle frame of FE's conv1, and FE's conv2 is 1 everywhere.

    The network is then the 2D one, whatever its `fe_init`. Blocks that have weights of FE keep them. Raises VidrecError
    when the file's TE is for another number of frames.
    """
    adapted = dict(weights)
    for stage, blocks in enumerate(model.stage_sizes, start=2):
        for block, kind in ((f"layer{stage - 1}.{index}", model.kind(stage, index)) for index in range(blocks)):
            te, conv2 = weights.get(f"{block}.tam.G.0.weight"), weights.get(f"{block}.conv2.weight")
            if te and kind == "te" and te.array.ndim == 2 and te.array.shape[1] != model.num_frames:
                raise VidrecError(
                    f"{te.key} of the weights is for clips of {te.array.shape[1]} frames, but the network was made "
                    f"with num_frames={model.num_frames}: change num_frames, or take other weights"
                )
            if kind == "fe" and conv2 and conv2.array.ndim == 4 and f"{block}.fe.conv1.weight" not in weights:
                del adapted[f"{block}.conv2.weight"]
                for name, array in identity_product(conv2.array).items():
                    adapted[f"{block}.fe.{name}"] = made(f"{block}.fe.{name}", conv2, array)
    return adapted


def identity_product(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of FE that make it the 2D convolution with this kernel `[out, in, 3, 3]`."""
    zero = np.zeros_like(kernel)
    return {
        "conv1.weight": np.stack([zero, kernel, zero], axis=2),
        "conv2.weight": np.stack([zero, zero, zero], axis=2),
        "conv2.bias": np.ones(len(kernel), kernel.dtype),
    }


def difference(model: Any, weights: Weights, image_size: int | tuple[int, int]) -> Weights:
    """TDN: a 2D network's weights fill the main path; its stem and first stage the short-term branch as well.

    The branch's first kernel is the stem's, averaged over the colours and repeated for the 12 differences. TDN's own
    files come through without their unused second stem (`conv1_temp`).
    """
    if any(name.startswith("layer1_bak.") for name in weights):
        return {name: weight for name, weight in weights.items() if not name.startswith("conv1_temp.")}
    adapted: Weights = {}
    for name, weight in weights.items():
        main = re.sub(r"^(layer\d+)\.", r"\1_bak.", name)
        adapted[main] = weight
        if name.startswith("layer1."):
            copy = name.replace("layer1.", "resnext_layer1.", 1)
            adapted[copy] = made(copy, weight, weight.array)
    if (stem := weights.get("conv1.weight")) and stem.array.ndim == 4:
        mean = stem.array.mean(1, keepdims=True)
        adapted["conv1_5.0.weight"] = made("conv1_5.0.weight", stem, mean.repeat(12, 1))
    return adapted


def related_attention(model: Any, weights: Weights, image_size: int | tuple[int, int]) -> Weights:
    """TTSN: the attention of the same group's later code starts an ETT with three embeddings.

    That one attends among all places of all frames and scales what comes out (gamma); ETT scales the products instead.
    """
    place = next((name.removesuffix("pos_embedQ") for name in weights if name.endswith(".pos_embedQ")), None)
    if place is None:
        return weights
    adapted = {name: weight for name, weight in weights.items() if not name.startswith(place)}
    own = {name.removeprefix(place): weight for name, weight in weights.items() if name.startswith(place)}
    codes = [own.pop(f"pos_embed{role}") for role in "QKV"]
    gamma = own.pop("gamma")
    parts = {"pe": (codes[0], np.concatenate([code.array for code in codes])), "lam": (gamma, np.ones(()))}
    for name, weight in own.items():
        layer, _, leaf = name.partition(".")
        if layer == "value_conv":
            parts[f"hinv.{leaf}"] = (weight, weight.array * gamma.array.reshape(()))
        else:
            parts[f"h.{int(layer.removeprefix('conv')) - 1}.{leaf}"] = (weight, weight.array)
    return adapted | {f"ett.{name}": made(f"ett.{name}", *part) for name, part in parts.items()}


def attend_in_time(model: Any, weights: Weights, image_size: int | tuple[int, int]) -> Weights:
    """DirecFormer, TimeSformer: a transformer for pictures (ViT) gets attention in time, which at first adds nothing.

    Each block's `attn` and `norm1` become its `temporal_attn` and `temporal_norm1` too; `temporal_fc` and `time_embed`
    are 0, so that the network starts as the ViT on every frame. Embeddings of another grid or number of frames, in
    files of all kinds, are resized by nearest neighbour.
    """
    adapted = dict(weights)
    if (places := weights.get("pos_embed")) and places.array.ndim == 3:
        side = model.image_size // model.patch_size
        if round((places.array.shape[1] - 1) ** 0.5) ** 2 + 1 == places.array.shape[1] != side * side + 1:
            adapted["pos_embed"] = made("pos_embed", places, resize_places(places.array, (side, side)))
    if (times := weights.get("time_embed")) and times.array.ndim == 3 and times.array.shape[1] != model.num_frames:
        adapted["time_embed"] = made("time_embed", times, resize_times(times.array, model.num_frames))
    if any(".temporal_attn." in name for name in weights):
        return adapted
    for name, weight in weights.items():
        if found := re.fullmatch(r"(blocks\.\d+\.)((?:attn|norm1)\..+)", name):
            copy = f"{found[1]}temporal_{found[2]}"
            adapted[copy] = made(copy, weight, weight.array)
            if found[2] == "attn.proj.weight":
                for kind, array in (("weight", weight.array), ("bias", weight.array[0])):
                    zero = f"{found[1]}temporal_fc.{kind}"
                    adapted[zero] = made(zero, weight, np.zeros_like(array))
    if places and places.array.ndim == 3:
        zeros = np.zeros((1, model.num_frames, places.array.shape[-1]), np.float32)
        adapted["time_embed"] = made("time_embed", places, zeros)
    return adapted


ADAPTERS: dict[str, Adapter] = {
    "TEFE": enhance,
    "TDN": difference,
    "DirecFormer": attend_in_time,
    "TTSN": related_attention,
}
