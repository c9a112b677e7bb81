"""Memory that is used again and again.

What malloc gives back to the system between two images comes back as fresh
pages, a hundred an image: to fill those takes longer than to read them.
"""

import collections
import math
import threading
import weakref

import numpy as np

_kept = threading.local()
# What is larger is not kept: an image in a thousand, in every thread.
_MOST_BYTES = 2**25


def array(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
  """Returns an array of any content.

  The next call with the same name, in the same thread, gives the same memory:
  none of it may be handed on.
  """
  count = math.prod(shape)
  memory = getattr(_kept, name, None)
  if memory is None or memory.size < count or memory.dtype != dtype:
    memory = np.empty(count, dtype)
    if memory.nbytes <= _MOST_BYTES:
      setattr(_kept, name, memory)
  return memory[:count].reshape(shape)


class Recycler:
  """Arrays whose memory comes again once nothing refers to it any more."""

  def __init__(self):
    self._free: dict[int, list[memoryview]] = collections.defaultdict(list)

  def __call__(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Returns an array of any content."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    free = self._free[size]
    memory = free.pop() if free else memoryview(np.empty(size, np.uint8))
    # Every view refers to this array, for its own base is none.
    array = np.frombuffer(memory, dtype)
    weakref.finalize(array, free.append, memory).atexit = False
    return array.reshape(shape)
