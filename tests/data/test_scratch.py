"""Memory that comes again, and never while somebody looks at it."""

import gc

import jax
import numpy as np

from effnet_jax.data.scratch import Recycler


def _address(array):
  return array.__array_interface__['data'][0]


def test_memory_comes_again_once_it_is_given_up():
  allocate = Recycler()
  first = allocate((4, 5), np.uint8)
  second = allocate((4, 5), np.uint8)
  assert first.shape == (4, 5) and first.dtype == np.uint8
  assert first.flags.writeable and not np.shares_memory(first, second)
  address = _address(first)
  del first
  gc.collect()
  assert _address(allocate((5, 4), np.uint8)) == address
  assert _address(second) != address


def test_a_view_keeps_it():
  allocate = Recycler()
  whole = allocate((6, 8), np.float32)
  whole[:] = 1
  views = [whole[2:4], whole.reshape(2, 3, 8)[1].T, memoryview(whole)]
  del whole
  for view in views:
    view = np.asarray(view)
    allocate((6, 8), np.float32)[:] = 2
    assert (view == 1).all()


def test_an_array_of_jax_keeps_it():
  allocate = Recycler()  # on CPU JAX takes the memory as it is, where it can
  held = []
  for number in range(8):
    array = allocate((64, 64, 3), np.uint8)
    array[:] = number
    held.append(jax.device_put(array))
    del array
  assert [int(array[5, 5, 0]) for array in held] == list(range(8))
