"""Memory that is used again: only when nothing refers to it."""

import pickle
import threading

import numpy as np
import pytest

from vidrec.data.buffers import Buffers


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_last_view_is_gone():
    buffers = Buffers()
    clip = buffers.empty((4, 6, 6, 3))
    where, part = address(clip), clip[2, ::2].transpose(1, 0, 2)[1:]
    part[:] = 7
    del clip
    other = buffers.empty((4, 6, 6, 3))
    other[:] = 9
    assert address(other) != where
    assert (part == 7).all()
    del part
    assert address(buffers.empty((12, 6, 6, 1))) == where  # as many bytes, whatever the shape


def test_two_arrays_that_live_share_nothing():
    buffers = Buffers()
    arrays = [buffers.empty((64, 64)) for _ in range(5)]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [set(array.ravel().tolist()) for array in arrays] == [{n} for n in range(5)]
    assert {array.flags.c_contiguous and address(array) % 64 for array in arrays} == {0}


def test_threads_take_and_return_memory_at_once():
    buffers, wrong = Buffers(), []

    def use(number: int) -> None:
        for _ in range(300):
            array = buffers.empty((32, 32))
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_nothing_needs_no_memory(shape: tuple[int, ...]):
    assert Buffers().empty(shape).shape == shape


def test_pickling_leaves_the_memory_behind():
    buffers = Buffers()
    buffers.empty((1 << 20,))
    stored = pickle.dumps(buffers)
    assert len(stored) < 200
    assert pickle.loads(stored).empty((2, 2)).shape == (2, 2)
