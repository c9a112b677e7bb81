"""One piece of a batch from its number: what threads and workers do.

A batch may be gigabytes, and every worker has several of what it makes under
way: so they make pieces of a bounded size, which pipeline.py puts together. A
reader is a pure function of the piece's number n, and small: it travels to
the workers by pickling. With each piece come the names of the examples that
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
Transform = Callable[[int, np.ndarray], np.ndarray]
Allocate = Callable[[tuple[int, ...], type], np.ndarray]


# Of one piece, or one image if that is larger. Each costs about a millisecond
# on its way between processes, so they are as large as memory allows.
PIECE_BYTES = 8 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
  """Makes this process's share of the global batches; travels to the workers.

  Batch n is made of the pieces n * pieces ... (n + 1) * pieces - 1.
  """

  source: Source
  preprocess: Preprocess
  batch_size: int
  process_index: int
  process_count: int
  start: int = 0

  @property
  def global_batch(self) -> int:
    return self.batch_size * self.process_count

  @property
  def pieces(self) -> int:
    """How many pieces, of equal size but for rounding, make a batch."""
    images = max(PIECE_BYTES // (3 * self.preprocess.size**2), 1)
    return -(-self.batch_size // images)

  def rows(self, n: int) -> range:
    """The rows of its batch that piece n fills."""
    part = n % self.pieces
    first = part * self.batch_size // self.pieces
    return range(first, (part + 1) * self.batch_size // self.pieces)

  def positions(self, n: int) -> range:
    """The positions in the stream of piece n's examples."""
    first = self.start + n // self.pieces * self.global_batch
    first += self.process_index * self.batch_size
    rows = self.rows(n)
    return range(first + rows.start, first + rows.stop)

  def empty(self, count: int, allocate: Allocate = np.empty) -> Batch:
    """Arrays of any content for `count` examples."""
    size = self.preprocess.size
    soft = getattr(self.source, 'soft_classes', 0)
    return {
      'image': allocate((count, size, size, 3), np.uint8),
      'label': (
        np.empty((count, soft), np.float32)
        if soft
        else np.empty(count, np.int32)
      ),
    }

  def __call__(self, n: int) -> tuple[Batch, BadList]:
    """Returns piece n in arrays of its own."""
    piece = self.empty(len(self.rows(n)))
    return piece, self.fill(n, piece)

  def fill(self, n: int, piece: Batch) -> BadList:
    """Writes piece n over all that the arrays hold."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainReader(Reader):
  """Training batches: shuffled, cropped at random, bad examples replaced."""

  seed: int
  order: grain.MapDataset  # index of the example at each position
  augment: Augment | None = None

  def fill(self, n: int, piece: Batch) -> BadList:
    bad: BadList = []
    bits = np.random.Philox(key=self.seed)
    rng, state = np.random.Generator(bits), bits.state

    def drawing_for(position):
      # As Philox(counter=[0, 0, 0, position]), at a tenth of its cost.
      state['state']['counter'][3] = position
      bits.state = state
      return rng

    for row, position in enumerate(self.positions(n)):
      record, image = self.read_good(position, drawing_for, bad)
      piece['image'][row] = image
      piece['label'][row] = record['label']
    return bad

  def read_good(
    self,
    position: int,
    drawing_for: Callable[[int], np.random.Generator],
    bad: BadList,
  ) -> tuple[Record, np.ndarray]:
    """Reads the example, or the next in the source that can be read."""
    index, size = self.order[position], len(self.source)
    for step in range(size):
      try:
        record = self.source[(index + step) % size]
        # Anew for each: one that fails may have drawn its crop before.
        return record, self.shown(drawing_for(position), record)
      except DecodeError as error:
        bad.append((error.name, error.reason))
    raise UserError(f'no example of {self.source!r} decodes, e.g. {bad[0][0]}')

  def shown(self, rng: np.random.Generator, record: Record) -> np.ndarray:
    image = train_image(
      rng, record['image'], self.preprocess, name=record['name']
    )
    return image if self.augment is None else self.augment(rng, image)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalReader(Reader):
  """Evaluation batches: in order, centre crops, padded, with a mask."""

  transform: Transform | None = None

  def empty(self, count: int, allocate: Allocate = np.empty) -> Batch:
    batch = super().empty(count, allocate)
    return {**batch, 'mask': np.empty(count, np.float32)}

  def fill(self, n: int, piece: Batch) -> BadList:
    bad: BadList = []
    for array in piece.values():
      array[:] = 0
    for row, position in enumerate(self.positions(n)):
      if position >= len(self.source):
        break
      try:
        record, image = self.read(position)
      except DecodeError as error:
        bad.append((error.name, error.reason))
        continue
      image = eval_image(image, self.preprocess)
      if self.transform is not None:
        image = self.transform(position, image)
      piece['image'][row] = image
      piece['label'][row] = record['label']
      piece['mask'][row] = 1
    return bad

  def read(self, index: int) -> tuple[Record, np.ndarray]:
    record = self.source[index]
    image = decode(
      record['image'],
      exif_orientation=self.preprocess.exif_orientation,
      name=record['name'],
    )
    return record, image
