"""Order correction (DirecFormer section 4): the order of shuffled frames, read off the attention in time."""

import functools
import re
import zlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Int

from vidrec.errors import UsageError, VidrecError, did_you_mean
from vidrec.losses.permutations import candidates
from vidrec.train.state import Network
from vidrec.types import ModelOutput

RULES = ("raw", "sign", "antisym", "borda")
LONGEST = 20  # frames; time and memory of the exact path double with each
AT_ONCE = 2**22  # states of the search held at a time

MAPS = ("time_attention", "ett_attention")  # what a network records under these names is attention in time


def time_attention(
    model: Network, variables: dict[str, Any], clips: Float[Array, "b t h w 3"]
) -> Float[Array, "b t2 t2"]:
    """The last block's attention in time, averaged over patches and heads; rows are queries, a cls key is left out.

    Args:
      clips: normalised.

    Raises:
      UsageError: the network has none.
    """
    _, attention = run_with_attention(model, variables, clips)
    if attention is None:
        raise UsageError(no_attention(model))
    return attention


def run_with_attention(
    model: Network, variables: dict[str, Any], clips: Float[Array, "b t h w 3"]
) -> tuple[ModelOutput, Float[Array, "b t2 t2"] | None]:
    """The network's output in evaluation, and its `time_attention`, or None where it has none.

    Networks record it by `sow` as "time_attention" `[B, ..., T, T or 1 + T]`, a cls key first.
    """
    output, state = model.apply(variables, clips, train=False, mutable=["intermediates"])
    recorded: dict[Any, Any] = flatten_dict(state.get("intermediates", {}))
    blocks = [path for path in recorded if path[-1] in MAPS]
    if not blocks:
        return output, None
    last = max(blocks, key=lambda path: [int(number) for number in re.findall(r"\d+", "/".join(path))])
    weights = recorded[last][-1]
    frames = weights.shape[-2]
    weights = weights[..., -frames:].reshape(len(clips), -1, frames, frames)
    return output, weights.mean(1, dtype=jnp.float32)


def no_attention(model: Network) -> str:
    """Why no order can be read off a network, in a sentence."""
    return (
        f"this network ({type(model).__name__}) has no attention in time that an order could be read off: DirecFormer "
        "and TimeSformer have, and TTSN with its ETT"
    )


def video_order(video_id: str, num_frames: int) -> Int[np.ndarray, " t"]:
    """How a video's frames are shuffled, for every network alike: the original index of the frame at each position."""
    return np.random.RandomState(zlib.crc32(video_id.encode())).permutation(num_frames)


def rules_for(num_frames: int) -> tuple[str, ...]:
    """The rules of `recover_order` that there are for so many frames: beyond `LONGEST`, "borda" alone."""
    return RULES if num_frames <= LONGEST else ("borda",)


def recover_order(attention: Float[np.ndarray, "*b t t"], rule: str = "sign") -> Int[np.ndarray, "*b t"]:
    """Returns the positions of each shuffled clip, first frame first, as its attention has them.

    Args:
      attention: of each clip `[..., T, T]`, averaged over patches and heads: high at row t, column u where the frame at
        position t comes before that at u (the last block's, in the paper).
      rule: raw: the Hamiltonian path of largest summed attention (the paper's). sign: that on the signs of the
        attention; antisym: on the signs of A - A^T. borda: by falling row sums, without a path. Magnitudes grow with
        the distance of two frames, which makes raw sums of different paths nearly equal.

    Raises:
      VidrecError: unknown rule, more frames than an exact path can be found for, or attention that is not finite.
    """
    attention = np.asarray(attention, np.float64)
    if rule == "borda":
        off_diagonal = attention * ~np.eye(attention.shape[-1], dtype=bool)
        return np.argsort(-off_diagonal.sum(-1), axis=-1, kind="stable")
    if rule not in RULES:
        raise VidrecError(f"rule={rule!r} does not recover an order{did_you_mean(rule, RULES)}")
    if rule == "antisym":
        attention = attention - np.swapaxes(attention, -1, -2)
    return hamiltonian_path(attention if rule == "raw" else np.sign(attention))


def hamiltonian_path(weights: Float[np.ndarray, "*b t t"]) -> Int[np.ndarray, "*b t"]:
    """Returns the open path through all T nodes with the largest sum of `weights[p[k], p[k + 1]]`, exactly.

    `weights` is `[T, T]`, or several of them `[..., T, T]`; diagonals are not used. Dynamic programming over subsets:
    T^2 2^T steps (T = 8: microseconds each in a batch, T = 16: a fraction of a second).
    Raises VidrecError for more than 20 nodes or weights that are not finite.
    """
    weights = np.asarray(weights, np.float64)
    nodes = weights.shape[-1]
    if nodes > LONGEST:
        raise VidrecError(f"the best path through {nodes} frames would take too long; {LONGEST} are the most")
    if not np.isfinite(weights).all():
        raise VidrecError("weights of a path must be finite numbers")
    flat = weights.reshape(-1, nodes, nodes)
    size = max(1, AT_ONCE // (nodes << nodes))
    paths = [best_paths(flat[start : start + size]) for start in range(0, len(flat), size)]
    return np.concatenate(paths).reshape(weights.shape[:-1]) if paths else np.zeros(weights.shape[:-1], np.int64)


def best_paths(weights: Float[np.ndarray, "b t t"]) -> Int[np.ndarray, "b t"]:
    """The paths of a few graphs at once: best[S, v] is the heaviest path through the nodes S that ends in v."""
    count, nodes, _ = weights.shape
    sets = np.arange(1 << nodes)
    sizes = np.bitwise_count(sets)
    best = np.full((len(sets), nodes, count), -np.inf)
    before = np.zeros((len(sets), nodes, count), np.int8)  # the node before v on that path
    best[1 << np.arange(nodes), np.arange(nodes)] = 0
    for size in range(1, nodes):
        for end in range(nodes):
            without = sets[(sizes == size) & (sets >> end & 1 == 0)]
            sums = best[without] + weights[:, :, end].T
            before[without | 1 << end, end] = sums.argmax(1)
            best[without | 1 << end, end] = sums.max(1)
    path = np.zeros((count, nodes), np.int64)
    rows, visited = np.arange(count), np.full(count, len(sets) - 1)
    path[:, -1] = best[-1].argmax(0)
    for step in range(nodes - 1, 0, -1):
        node = path[:, step]
        path[:, step - 1] = before[visited, node, rows]
        visited &= ~(1 << node)
    return path


def order_accuracy(path: Int[np.ndarray, "*b t"], order: Int[np.ndarray, "*b t"]) -> Float[np.ndarray, "*b"]:
    """OrderAcc of each clip in percent, Eq. 15: 100 / T * LCS(recovered frames, 0..T-1).

    Args:
      path: positions, first frame first, as from `recover_order`.
      order: original index of the frame at each position, as the clip was shuffled.

    The recovered frames are `order[path]`. Without knowledge of the order the mean is `chance(T)`.
    """
    path, order = np.asarray(path), np.asarray(order)
    recovered = np.take_along_axis(order, path, axis=-1)
    return 100 * common_length(recovered) / path.shape[-1]


def common_length(sequence: Int[np.ndarray, "*b t"]) -> Int[np.ndarray, "*b"]:
    """Length of the longest common subsequence of each permutation and 0..T-1: its longest increasing subsequence."""
    sequence = np.asarray(sequence)
    longest = np.ones_like(sequence)  # ending at each position
    for end in range(1, sequence.shape[-1]):
        smaller = sequence[..., :end] < sequence[..., end : end + 1]
        longest[..., end] = 1 + np.where(smaller, longest[..., :end], 0).max(-1)
    return longest.max(-1)


@functools.cache
def chance(num_frames: int) -> float:
    """Mean OrderAcc, in percent, of a random order: 47.1 for 8 frames, 36.2 for 16 (there over 40,320 drawn ones)."""
    orders = candidates(num_frames, np.random.RandomState(0))
    if num_frames <= 8:
        orders = np.concatenate([np.arange(num_frames)[None], orders])
    return float(100 * common_length(orders).mean() / num_frames)
