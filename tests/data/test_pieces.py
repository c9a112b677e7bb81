"""Batches in pieces: the same bits, and a bound on what is read ahead."""

import dataclasses
import os
import time

import numpy as np
import pytest

from effnet_jax.data import running
from effnet_jax.data.pipeline import eval_batches, train_batches
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.readers import EvalReader, TrainReader
from effnet_jax.data.sources import ArraySource

# 3 MB an image, so two of them are a piece.
LARGE = Preprocess(1000, crop_area=(0.3, 1.0))
MIB = 2**20


def _noise(count=12, side=12):
  images = np.random.default_rng(0).integers(
    0, 256, (count, side, side), np.uint8
  )
  return ArraySource(images, np.arange(count) % 7, 'abcdefg')


def _reader(size, batch_size, process_index=0, process_count=1, start=0):
  return EvalReader(
    source=_noise(),
    preprocess=Preprocess(size),
    batch_size=batch_size,
    process_index=process_index,
    process_count=process_count,
    start=start,
  )


@pytest.mark.parametrize(
  ('size', 'batch_size', 'pieces'),
  # 8 MiB are 55 images of 224 pixels, 7 of 600 and less than one of 2000.
  [(224, 55, 1), (224, 56, 2), (600, 21, 3), (2000, 5, 5), (32, 2048, 1)],
)
def test_pieces_are_equal_parts_of_a_batch(size, batch_size, pieces):
  reader = _reader(size, batch_size, process_index=1, process_count=3, start=7)
  assert reader.pieces == pieces
  rows = [reader.rows(n) for n in range(pieces)]
  assert [i for r in rows for i in r] == list(range(batch_size))
  assert max(map(len, rows)) - min(map(len, rows)) <= 1
  assert len(rows[0]) * size**2 * 3 <= max(8 * MIB, size**2 * 3)
  for batch in (0, 4):
    positions = [
      i for n in range(pieces) for i in reader.positions(batch * pieces + n)
    ]
    first = 7 + (3 * batch + 1) * batch_size
    assert positions == list(range(first, first + batch_size))


def test_a_batch_of_pieces_is_the_batch_as_one_whole():
  iterator = train_batches(_noise(), LARGE, batch_size=5, seed=3)
  batches = [next(iterator) for _ in range(2)]
  reader = iterator._reader
  assert isinstance(reader, TrainReader) and reader.pieces == 3
  iterator.close()

  class Whole(TrainReader):
    pieces = 1

  fields = {f.name: getattr(reader, f.name) for f in dataclasses.fields(reader)}
  for n, batch in enumerate(batches):
    whole, bad = Whole(**fields)(n)
    assert not bad and batch.keys() == whole.keys()
    for key in whole:
      assert np.array_equal(batch[key], whole[key])
      assert batch[key].dtype == whole[key].dtype


@pytest.mark.parametrize('workers', [1, 2])
def test_processes_give_the_pieces_in_order(workers):
  source = _noise()
  take = lambda n: train_batches(source, LARGE, batch_size=5, seed=3, workers=n)
  ours, theirs = take(0), take(workers)
  for _ in range(3):
    a, b = next(ours), next(theirs)
    assert all(np.array_equal(a[key], b[key]) for key in a)
  state = theirs.get_state()
  assert state == ours.get_state() and state['examples'] == 15
  theirs.set_state({**state, 'examples': 5})
  ours.set_state({**state, 'examples': 5})
  assert np.array_equal(next(ours)['image'], next(theirs)['image'])
  ours.close()
  theirs.close()


def test_padding_and_masks_cross_pieces():
  masks = [
    batch['mask'].tolist()
    for batch in eval_batches(_noise(7), LARGE, batch_size=5)
  ]
  assert masks == [[1] * 5, [1, 1, 0, 0, 0]]


@pytest.mark.parametrize('workers', [1, 2, 16, 100])
@pytest.mark.parametrize('batch_size', [1, 64, 256, 4096])
@pytest.mark.parametrize('size', [32, 224, 600, 2000])
def test_the_bound_holds_whatever_the_sizes(size, batch_size, workers):
  reader = _reader(size, batch_size)
  piece = max(len(reader.rows(n)) for n in range(reader.pieces)) * size**2 * 3
  ahead = running.read_ahead(reader, workers)
  assert ahead >= 1
  # Waiting, and one in hand, on both sides of each worker's queue.
  held = 2 * (ahead + 1) * workers * piece
  assert held <= max(256 * MIB, 4 * workers * piece)
  assert piece <= max(8 * MIB, size**2 * 3)


class Counted:
  """A source that notes in a file, for all processes, what is read."""

  class_names = tuple('abcdefg')

  def __init__(self, path):
    self.path, self.source = path, _noise(30)

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    with open(self.path, 'ab') as file:
      file.write(b'.')
    return self.source[index]


@pytest.mark.parametrize('workers', [0, 2])
def test_no_more_is_read_ahead_than_the_bound_says(tmp_path, workers):
  path = tmp_path / 'read'
  huge = Preprocess(2000, 'tf_bilinear', crop_area=None)  # 12 MB an image
  iterator = train_batches(
    Counted(path), huge, batch_size=12, seed=0, workers=workers
  )
  next(iterator)
  size, deadline = -1, time.monotonic() + 30
  while size != os.path.getsize(path) and time.monotonic() < deadline:
    size = os.path.getsize(path)
    time.sleep(1)
  iterator.close()
  # 256 MiB are 22 images. They would be 24 and more by whole batches.
  threads = running._threads() + 1
  assert 12 < size <= 12 + (22 if workers else max(22, threads))
