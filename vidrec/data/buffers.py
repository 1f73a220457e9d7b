"""Memory for clips that is used again as soon as nothing refers to it any more.

A batch of video is megabytes that live for one step. Asking the system for them each time costs more processor time
than filling them: every fresh page is a fault, and is cleared first.
"""

import math
import mmap
import weakref
from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import UInt8


class Buffers:
    """Hands out arrays. An array's memory comes back when it and all views of it are gone, in whatever thread.

    It begins at a page, so that JAX takes it over on a CPU without copying it. Pickling leaves the memory behind.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    def empty(self, shape: Sequence[int]) -> UInt8[np.ndarray, "*shape"]:
        """An array whose content is whatever it was before."""
        size = math.prod(shape)
        if not size:
            return np.empty(shape, np.uint8)
        free = self._free.setdefault(size, [])
        try:
            memory = free.pop()
        except IndexError:
            memory = mmap.mmap(-1, size)
        whole = np.frombuffer(memory, np.uint8)  # numpy bases views of this array, and their views, on it
        weakref.finalize(whole, free.append, memory).atexit = False
        return whole.reshape(shape)
