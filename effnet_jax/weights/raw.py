"""The bytes of a foreign file as arrays: mapped, never past their end."""

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effnet_jax.errors import UserError

AGAIN = 'the file is damaged or cut short; fetch it again'
_MAX_RANK = 32


def damaged(what: str) -> UserError:
  """Returns the error of a file that contradicts itself."""
  return UserError(f'{what}: {AGAIN}')


def quoted(text: Any, length: int = 80) -> str:
  """Returns text from a foreign file as an error may show it: short, safe."""
  text = str(text)
  return repr(text if len(text) <= length else f'{text[:length]}...')


def shown(text: str) -> str:
  """Returns a name from a foreign file as it is, if that is safe."""
  return text if text.isprintable() and len(text) <= 160 else quoted(text)


def one_line(error: BaseException) -> str:
  """Returns the message of a library's error, fit for one line."""
  text = ' '.join(str(error).split())[:200]
  return f'{type(error).__name__}: {text}' if text else type(error).__name__


def map_file(path: Path) -> np.ndarray:
  """Maps a file: uint8 [size], read-only; pages are read when looked at."""
  with path.open('rb') as file:
    if not os.fstat(file.fileno()).st_size:  # which mmap refuses
      return np.frombuffer(b'', np.uint8)
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  return np.frombuffer(mapping, np.uint8)


def cut(data: np.ndarray, start: int, size: int, what: str) -> np.ndarray:
  """Returns uint8 [size] from `start` on.

  Raises:
    UserError: it is not all within `data`; `what` names it.
  """
  if not 0 <= start <= start + size <= len(data):
    raise damaged(
      f'{what} is said to be bytes {start} to {start + size} of {len(data)}'
    )
  return data[start : start + size]


def byte_size(shape: Sequence[int], dtype: np.dtype, what: str) -> int:
  """Returns how many bytes an array has.

  Raises:
    UserError: no array has that shape; `what` names the array.
  """
  if len(shape) > _MAX_RANK or not all(
    type(length) is int and length >= 0 for length in shape
  ):
    raise damaged(f'{what} has no shape')
  return math.prod(shape) * dtype.itemsize


def as_array(
  data: np.ndarray, dtype: np.dtype, shape: Sequence[int], what: str
) -> np.ndarray:
  """Returns uint8 [n] seen as a read-only array, a copy if it lies unaligned.

  Raises:
    UserError: the shape needs more or fewer bytes; `what` names the array.
  """
  if byte_size(shape, dtype, what) != len(data):
    raise damaged(f'{what} has shape {list(shape)} but {len(data)} bytes')
  array = np.require(data.view(dtype).reshape(shape), requirements='A')
  array.flags.writeable = False
  return array
