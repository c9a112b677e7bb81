"""Memory that a thread uses again and again.

What malloc gives back to the system between two images comes back as fresh
pages, a hundred an image: to fill those takes longer than to read them.
"""

import math
import threading

import numpy as np

_kept = threading.local()


def array(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
  """Returns an array of any content.

  The next call with the same name, in the same thread, gives the same memory:
  none of it may be handed on.
  """
  count = math.prod(shape)
  memory = getattr(_kept, name, None)
  if memory is None or memory.size < count or memory.dtype != dtype:
    memory = np.empty(count, dtype)
    setattr(_kept, name, memory)
  return memory[:count].reshape(shape)
