"""One batch from its number: what runs in threads and worker processes.

A reader is a pure function of the batch's number n, and small: it travels to
the workers by pickling. With each batch come the names of the examples that
could not be decoded, for the process that trains to count and judge.
"""

import dataclasses
from collections.abc import Callable

import grain
import numpy as np

from effnet_jax.data.preprocess import (
  DecodeError,
  Preprocess,
  decode,
  eval_image,
  train_image,
)
from effnet_jax.data.sources import Record, Source
from effnet_jax.errors import UserError

Batch = dict[str, np.ndarray]
BadList = list[tuple[str, str]]  # (name, reason)
Augment = Callable[[np.random.Generator, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
  """Makes this process's share of global batch n; travels to the workers."""

  source: Source
  preprocess: Preprocess
  batch_size: int
  process_index: int
  process_count: int
  start: int = 0

  @property
  def global_batch(self) -> int:
    return self.batch_size * self.process_count

  def positions(self, n: int) -> range:
    first = self.start + n * self.global_batch
    first += self.process_index * self.batch_size
    return range(first, first + self.batch_size)

  def blank(self) -> Batch:
    size = self.preprocess.size
    return {
      'image': np.zeros((self.batch_size, size, size, 3), np.uint8),
      'label': np.zeros(self.batch_size, np.int32),
    }

  def read(self, index: int) -> tuple[Record, np.ndarray]:
    record = self.source[index]
    image = decode(
      record['image'],
      exif_orientation=self.preprocess.exif_orientation,
      name=record['name'],
    )
    return record, image


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainReader(Reader):
  """Training batches: shuffled, cropped at random, bad examples replaced."""

  seed: int
  order: grain.MapDataset  # index of the example at each position
  augment: Augment | None = None

  def __call__(self, n: int) -> tuple[Batch, BadList]:
    batch, bad = self.blank(), []
    bits = np.random.Philox(key=self.seed)
    rng, state = np.random.Generator(bits), bits.state
    for row, position in enumerate(self.positions(n)):
      record, image = self.read_good(self.order[position], bad)
      # As Philox(counter=[0, 0, 0, position]), at a tenth of its cost.
      state['state']['counter'][3] = position
      bits.state = state
      image = train_image(rng, image, self.preprocess)
      if self.augment is not None:
        image = self.augment(rng, image)
      batch['image'][row] = image
      batch['label'][row] = record['label']
    return batch, bad

  def read_good(self, index: int, bad: BadList) -> tuple[Record, np.ndarray]:
    """Reads the example, or the next in the source that can be read."""
    size = len(self.source)
    for step in range(size):
      try:
        return self.read((index + step) % size)
      except DecodeError as error:
        bad.append((error.name, error.reason))
    raise UserError(f'no example of {self.source!r} decodes, e.g. {bad[0][0]}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalReader(Reader):
  """Evaluation batches: in order, centre crops, padded, with a mask."""

  def __call__(self, n: int) -> tuple[Batch, BadList]:
    batch, bad = self.blank(), []
    batch['mask'] = np.zeros(self.batch_size, np.float32)
    for row, position in enumerate(self.positions(n)):
      if position >= len(self.source):
        break
      try:
        record, image = self.read(position)
      except DecodeError as error:
        bad.append((error.name, error.reason))
        continue
      batch['image'][row] = eval_image(image, self.preprocess)
      batch['label'][row] = record['label']
      batch['mask'][row] = 1
    return batch, bad
