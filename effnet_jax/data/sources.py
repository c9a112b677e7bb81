"""Where examples come from: random access to records, whatever the storage.

A record is `{'image': encoded bytes, or uint8 [h, w] or [h, w, c] RGB,
'label': int, 'name': str}`; the name is what an error message says: a file
path, or `split[i]`. A source is read by index, knows its length and class
names, and can be pickled, for it travels to worker processes. One whose labels
are probabilities, float32 [classes], says so: `soft_classes` is their number.
"""

import bisect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from effnet_jax.data import idx
from effnet_jax.data.folder_source import open_folder
from effnet_jax.data.splits import parse_split, resolve_split
from effnet_jax.errors import UserError, near_names

Record = dict[str, Any]

KINDS = ('tfds', 'folder', 'fashion_mnist', 'digits')

FASHION_MNIST_CLASSES = (
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
)


class Source(Protocol):
  """Random access to labelled images."""

  class_names: tuple[str, ...]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Record: ...


def open_source(
  kind: str, split: str, *, name: str = '', path: str = ''
) -> Source:
  """Opens one split of one data set.

  Args:
    kind: 'tfds' (prepared as ArrayRecord), 'folder' (path/SPLIT/CLASS/image,
      or path/CLASS/image), 'fashion_mnist' (the four IDX files) or 'digits'
      (inside scikit-learn).
    split: its name, with an optional slice: `train`, `test`, `train[:500]`,
      `train[25022:]`, `train[:10%]`; several one after another:
      `train+validation`.
    name: the TFDS name, e.g. `imagenet2012` or `oxford_iiit_pet:4.0.0`.
    path: the TFDS data directory, or where the files lie; empty stands for
      the usual place where there is one.

  Returns:
    The source. Two slices of a split that don't overlap share no example. The
    order of a folder is mixed once and for all, so that a slice is a sample.

  Raises:
    UserError: unknown kind or split, or data that is missing or corrupt.
  """
  if kind not in KINDS:
    raise UserError(f'no data source {kind!r}: {near_names(kind, KINDS)}')
  if '://' in path:
    # The installed ArrayRecord holds a reader of gs://, which without network
    # or credentials waits for minutes and says nothing.
    raise UserError(
      f'config.data.path={path}: data are read from a file system. Mount the '
      'bucket on every machine (gcsfuse, or its CSI driver on GKE) and give '
      'the directory; docs/pods.md shows how'
    )
  if '+' in split:
    parts = [
      open_source(kind, s, name=name, path=path) for s in split.split('+')
    ]
    return ConcatenatedSource(parts, split)
  parse_split(split)
  if kind == 'tfds':
    # Its own module, so that no other source waits for TFDS to be imported.
    from effnet_jax.data.tfds_source import open_tfds

    return open_tfds(name, split, path)
  if kind == 'folder':
    return open_folder(split, path)
  if kind == 'fashion_mnist':
    return _open_fashion_mnist(split, path)
  return _open_digits(split)


class ConcatenatedSource:
  """Several sources of the same classes, one after another."""

  def __init__(self, parts: Sequence[Source], title: str):
    self._parts, self._title = list(parts), title
    self._ends = np.cumsum([len(part) for part in parts]).tolist()
    self.class_names = parts[0].class_names

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, index: int) -> Record:
    number = bisect.bisect_right(self._ends, index)
    part = self._parts[number]
    return part[index - self._ends[number] + len(part)]

  def __repr__(self) -> str:
    return f'concatenated({self._title}, {len(self)} examples)'


class ArraySource:
  """Examples that are arrays in memory.

  Args:
    images: uint8 [n, h, w] or [n, h, w, 3] RGB.
    labels: whole numbers [n], indices into `class_names`.
    class_names: one a class.
    title: what `repr` shows.
    split: the split's name, for the names of the records.
    first: the index within the split of the first example.
  """

  def __init__(
    self,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = 'arrays',
    split: str = 'data',
    first: int = 0,
  ):
    if len(images) != len(labels):
      raise ValueError(f'{len(images)} images but {len(labels)} labels')
    self._images, self._labels = images, labels
    self._title, self._split, self._first = title, split, first
    self.class_names = tuple(class_names)

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, index: int) -> Record:
    return {
      'image': self._images[index],
      'label': int(self._labels[index]),
      'name': f'{self._split}[{self._first + index}]',
    }

  def __repr__(self) -> str:
    return f'{self._title}({self._split}, {len(self)} examples)'


def _open_fashion_mnist(split: str, path: str) -> ArraySource:
  name, kept = resolve_split(split, {'train': 60_000, 'test': 10_000})
  images, labels = idx.read_fashion_mnist(name, path, count=kept.stop)
  if labels.max() >= len(FASHION_MNIST_CLASSES):
    raise UserError(
      f'the labels of Fashion-MNIST {name} go to {labels.max()}: the file is '
      'corrupt; fetch it again'
    )
  return ArraySource(
    images[kept.start :],
    labels[kept.start :],
    FASHION_MNIST_CLASSES,
    title='fashion_mnist',
    split=name,
    first=kept.start,
  )


def _open_digits(split: str) -> ArraySource:
  try:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
  except ImportError:
    raise UserError(
      'the digits come with scikit-learn, which is not installed: '
      'pip install scikit-learn'
    ) from None
  images, labels = load_digits(return_X_y=True)  # [1797, 64], 0..16
  images = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
  train, test = train_test_split(
    np.arange(len(images)), test_size=300, random_state=0, stratify=labels
  )
  parts = {'train': train, 'test': test}
  name, kept = resolve_split(split, {k: len(v) for k, v in parts.items()})
  chosen = parts[name][kept.start : kept.stop]
  return ArraySource(
    images[chosen],
    labels[chosen],
    [str(digit) for digit in range(10)],
    title='digits',
    split=name,
    first=kept.start,
  )
