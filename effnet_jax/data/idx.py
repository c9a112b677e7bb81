"""The IDX files of Fashion-MNIST (and MNIST), packed or not.

A file is: two zero bytes, the type (8 = uint8), the number of dimensions, each
dimension as a big-endian uint32, then the values, last dimension fastest.
"""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

from effnet_jax.errors import UserError

# Where Debian's package dataset-fashion-mnist puts them.
SYSTEM_FOLDER = '/usr/share/datasets/fashion-mnist'

_AGAIN = 'the file is corrupt, fetch it again'
_PREFIX = {'train': 'train', 'test': 't10k'}
_HOW_TO_GET = (
  'get them by `apt-get install dataset-fashion-mnist`, or without root by '
  '`apt-get download dataset-fashion-mnist && dpkg-deb -x '
  'dataset-fashion-mnist_*.deb DIR` and '
  '--config.data.path=DIR/usr/share/datasets/fashion-mnist'
)


def read_fashion_mnist(
  split: str, path: str = '', *, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Reads the images and labels of one split.

  Args:
    split: 'train' or 'test'.
    path: the folder of the four files; empty stands for Debian's.
    count: how many examples to return, from the first.

  Returns:
    uint8 [count, 28, 28] and uint8 [count].

  Raises:
    UserError: a file is missing, truncated or not what its name says.
  """
  folder = os.path.expanduser(path) or SYSTEM_FOLDER
  total = {'train': 60_000, 'test': 10_000}[split]
  images = read_idx(_find(folder, f'{_PREFIX[split]}-images-idx3-ubyte'))
  labels = read_idx(_find(folder, f'{_PREFIX[split]}-labels-idx1-ubyte'))
  if images.shape != (total, 28, 28) or labels.shape != (total,):
    raise UserError(
      f'{folder}: the {split} files hold images {list(images.shape)} and '
      f'labels {list(labels.shape)}, not [{total}, 28, 28] and [{total}]: '
      f'not Fashion-MNIST; {_HOW_TO_GET}'
    )
  return images[:count], labels[:count]


def read_idx(path: Path) -> np.ndarray:
  """Reads one IDX file of uint8, .gz or plain.

  Raises:
    UserError: the file is unreadable, of another format, or cut short.
  """
  try:
    data = path.read_bytes()
    if path.suffix == '.gz':
      data = gzip.decompress(data)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f'{path} cannot be read ({error}): {_AGAIN}') from None
  if len(data) < 4 or data[:3] != b'\x00\x00\x08' or not 1 <= data[3] <= 3:
    raise UserError(f'{path} is no IDX file of uint8: {_AGAIN}')
  start = 4 + 4 * data[3]
  if len(data) < start:
    raise UserError(f'{path} is cut short in its header: {_AGAIN}')
  shape = np.frombuffer(data, '>u4', count=data[3], offset=4).tolist()
  expected = start + int(np.prod(shape, dtype=object))
  if len(data) != expected:
    raise UserError(
      f'{path} holds {len(data)} bytes, its header {shape} asks for '
      f'{expected}: {_AGAIN}'
    )
  return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _find(folder: str, name: str) -> Path:
  for candidate in (Path(folder, f'{name}.gz'), Path(folder, name)):
    if candidate.is_file():
      return candidate
  raise UserError(f'no {name}[.gz] in {folder}; {_HOW_TO_GET}')
