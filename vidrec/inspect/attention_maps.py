"""Maps of attention: ETT's among frames, and the divided attention in time and space of the video transformers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from vidrec.inspect.maps import Map, Maps
from vidrec.inspect.probe import recorded_for

Values = np.ndarray


def attention(model: Any, variables: Mapping[str, Any], clips: Float[Array, "b t h w 3"]) -> Maps:
    """Which frame attends to which, and where a network looks.

    Of TTSN (Fig. 7): "attended" (clip, frame, row, column): A* averaged over channels; "attention" (clip, query, key):
    S, how much each frame takes from each other one.

    Of DirecFormer and TimeSformer, for each block: "blocks_0/time" (clip, row, column, head, query, key): of a patch,
    the frame `query` to the frame `key`, signed cosines where the attention is directed (positive: the query comes
    before the key); "blocks_0/time_cls" (without key), where the cls token is a key, too; "blocks_0/space" (clip,
    frame, head, query, key) among the tokens of a frame, the cls token first; "blocks_0/cls" (clip, frame, head, row,
    column): the part of it from the cls token to the patches. And over all blocks "rollout" (clip, frame, row, column):
    see `rollout`.

    Args:
      clips: normalised.

    Raises:
      UsageError: the network has no attention; the sentence says what it has.
    """
    found = recorded_for("attention", model, variables, clips)
    sown = {name: np.asarray(value) for name, value in found.items()}
    if "ett_map" in sown:
        attended = Map(sown["ett_map"].mean(-1), ("clip", "frame", "row", "column"), "A*, mean over channels")
        weights = Map(sown["ett_attention"], ("clip", "query", "key"), "ETT: frame (row) attends to frame (column)")
        return Maps("attention", {"attended": attended, "attention": weights}, ("attended", "attention"))
    rows, columns = (side // model.patch_size for side in clips.shape[2:4])
    blocks = [f"blocks_{i}" for i in range(model.depth)]
    maps: dict[str, Map] = {}
    for block in blocks:
        maps |= block_maps(block, sown[f"{block}/time_attention"], sown[f"{block}/space_attention"], rows, columns)
    walked = rollout(
        [sown[f"{block}/time_attention"].mean(2) for block in blocks],
        [sown[f"{block}/space_attention"].mean(2) for block in blocks],
    )
    walked = on_grid(walked, rows, columns)
    maps["rollout"] = Map(walked, ("clip", "frame", "row", "column"), "rollout from the cls token; sums to at most 1")
    return Maps("attention", maps, ("rollout", f"{blocks[-1]}/time"))


def block_maps(block: str, time: Values, space: Values, rows: int, columns: int) -> dict[str, Map]:
    """The maps of one block, from "time_attention" `[B, N, heads, T, K]` and "space_attention"."""
    frames = time.shape[3]
    grid = time.reshape(len(time), rows, columns, *time.shape[2:])
    axes = ("clip", "row", "column", "head", "query", "key")
    found = {f"{block}/time": Map(grid[..., -frames:], axes, f"{block}: frame (row) attends to frame (column)")}
    if time.shape[-1] > frames:
        found[f"{block}/time_cls"] = Map(grid[..., 0], axes[:-1], f"{block}: frame attends to the cls token")
    cls = space[:, :, :, 0, 1:].reshape(*space.shape[:3], rows, columns)
    found[f"{block}/space"] = Map(space, ("clip", "frame", "head", "query", "key"), f"{block}: tokens of a frame")
    found[f"{block}/cls"] = Map(cls, ("clip", "frame", "head", "row", "column"), f"{block}: cls token to patches")
    return found


def on_grid(patches: Float[np.ndarray, "b n t"], rows: int, columns: int) -> Float[np.ndarray, "b t h w"]:
    """Values of patches, which go row by row, at their frame, row and column."""
    return np.moveaxis(patches.reshape(len(patches), rows, columns, -1), -1, 1)


def rollout(
    time: list[Float[np.ndarray, "b n t k"]], space: list[Float[np.ndarray, "b t s s"]]
) -> Float[np.ndarray, "b n t"]:
    """Attention rollout (Abnar and Zuidema, ACL 2020) for attention divided into time and space.

    How much each patch reaches the cls token behind the last block, when every attention is taken as half of what it
    says and half of the shortcut past it. The cls token takes no part in the attention in time, and in space its copies
    in the frames are averaged. Signed (cosine) maps count by their magnitude; all rows are made to sum to 1.

    Args:
      time: maps of every block, averaged over heads; K is T, or 1 + T with the cls token as first key.
      space: maps of every block, averaged over heads; S is 1 + N, the cls token first.

    Returns:
      shares `[B, N, T]`; with that of the cls token itself, which is left out, they sum to 1.
    """
    batch, patches, frames, _ = time[0].shape
    cls, share = np.ones(batch), np.zeros((batch, patches, frames))
    for a_time, a_space in zip(map(shares, reversed(time)), map(shares, reversed(space)), strict=True):
        from_cls = cls[:, None, None] * a_space[:, :, 0] / frames  # [B, T, 1 + N]
        from_patches = np.einsum("bnt,btns->bts", share, a_space[:, :, 1:])
        reached = from_cls + from_patches
        cls = (cls + reached[:, :, 0].sum(1)) / 2
        share = (share + reached[:, :, 1:].swapaxes(1, 2)) / 2
        reached = np.einsum("bnt,bntk->bnk", share, a_time)
        if reached.shape[-1] > frames:
            cls = cls + reached[:, :, 0].sum(1) / 2
        share = (share + reached[:, :, -frames:]) / 2
    return share


def shares(weights: Float[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b k"]:
    """Magnitudes that sum to 1 over the keys."""
    size = np.abs(weights, dtype=np.float64)
    return size / np.maximum(size.sum(-1, keepdims=True), 1e-12)
