"""The set of permutations that DirecFormer's order head tells apart: far from each other, chosen greedily.

The jigsaw-puzzle recipe (Noroozi and Favaro, ECCV 2016): start anywhere, then always take the permutation that is
farthest from those taken, by the number of positions in which two differ. numpy only.
"""

import functools
import itertools
import math

import numpy as np
from jaxtyping import Int8

from vidrec.errors import UsageError, did_you_mean

Permutations = Int8[np.ndarray, "p t"]

RULES = ("max_randtie", "max", "min", "random")
POOL = 40320  # 8!: where there are more permutations, as many are drawn to choose from


@functools.cache
def permutation_set(num_frames: int, count: int, *, rule: str = "max_randtie", seed: int = 0) -> Permutations:
    """Returns `count` different permutations of `num_frames` positions, int8 `[count, T]`, read only.

    Row p puts frame `p[i]` at position i; the unshuffled order is not among them. Up to 8 frames all permutations are
    candidates, beyond that 40,320 drawn at random. The same arguments give the same set everywhere.

    Args:
      rule: each step takes the candidate with the largest summed Hamming distance to those taken, of several a random
        one (max_randtie: what the authors' published set is) or the lexicographically first (max); min takes the
        smallest, as the paper's text has it, which leaves one frame in its place throughout; random takes any.
      seed: of the first permutation, of ties and of candidates.

    Raises:
      UsageError: there are not so many permutations, or the rule is not known.
    """
    if rule not in RULES:
        raise UsageError(f"rule={rule!r} does not choose permutations{did_you_mean(rule, RULES)}")
    available = POOL if num_frames > 8 else math.factorial(max(num_frames, 1)) - 1
    if not 1 <= count <= available:
        raise UsageError(
            f"{count} orders of {num_frames} frames cannot be chosen: there are {available} candidates beside the "
            "unshuffled one; change num_orders or num_frames"
        )
    random = np.random.RandomState(seed)
    pool = candidates(num_frames, random)
    taken = random.permutation(len(pool))[:count] if rule == "random" else greedy(pool, count, rule, random)
    chosen = pool[taken]
    chosen.setflags(write=False)
    return chosen


def candidates(num_frames: int, random: np.random.RandomState) -> Permutations:
    """All permutations but the identity, in lexicographic order; of more than 8 frames, `POOL` random ones."""
    if num_frames <= 8:
        return np.array(list(itertools.permutations(range(num_frames)))[1:], np.int8).reshape(-1, num_frames)
    pool: dict[tuple[int, ...], None] = {}
    while len(pool) < POOL:
        drawn = tuple(random.permutation(num_frames).tolist())
        if drawn != tuple(range(num_frames)):
            pool[drawn] = None
    return np.array(list(pool), np.int8)


def greedy(pool: Permutations, count: int, rule: str, random: np.random.RandomState) -> list[int]:
    """Rows of the pool, in the order in which the rule takes them."""
    columns = np.ascontiguousarray(pool.T)  # one position at a time is several times faster
    sign = -1 if rule == "min" else 1
    distance = np.zeros(len(pool), np.int64)  # to all taken so far; of those themselves, beyond any other
    taken = [int(random.randint(len(pool)))]
    while len(taken) < count:
        newest = columns[:, taken[-1]]
        for column, frame in zip(columns, newest, strict=True):
            distance += sign * (column != frame)
        distance[taken[-1]] = np.iinfo(np.int64).min // 2
        best = distance.max()
        if rule == "max_randtie":
            taken.append(int(random.choice(np.flatnonzero(distance == best))))
        else:
            taken.append(int(distance.argmax()))
    return taken
