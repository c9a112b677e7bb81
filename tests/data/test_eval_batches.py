"""Evaluation: every example once, padding, masks, and an end to threads."""

import os
import threading
import time

import numpy as np
import pytest

from effnet_jax.data.pipeline import eval_batches
from effnet_jax.data.preprocess import Preprocess, eval_image
from effnet_jax.data.sources import ArraySource
from effnet_jax.errors import UserError

# The whole image at its own size: the level of a pixel tells which example.
PLAIN = Preprocess(4, crop_area=None, flip=False, crop_padding=None)
CROPPED = Preprocess(8, crop_area=(0.3, 1.0))


def _levels(count):
  """`count` flat images of 4x4; label i, level 2 * i."""
  images = np.arange(count, dtype=np.uint8)[:, None, None] * 2
  images = np.broadcast_to(images, (count, 4, 4)).copy()
  return ArraySource(images, np.arange(count), [str(i) for i in range(count)])


def _noise(count=50, side=12):
  images = np.random.default_rng(0).integers(
    0, 256, (count, side, side), np.uint8
  )
  return ArraySource(images, np.arange(count) % 7, 'abcdefg')


def _same(a, b):
  assert a.keys() == b.keys()
  for key in a:
    assert type(a[key]) is type(b[key]) is np.ndarray
    assert a[key].dtype == b[key].dtype
    assert np.array_equal(a[key], b[key]), key


def _wait_for_end_of_threads_since(before):
  deadline = time.monotonic() + 10
  while set(threading.enumerate()) - before:
    assert time.monotonic() < deadline, 'threads left'
    time.sleep(0.01)


@pytest.mark.parametrize(
  ('size', 'batch_size', 'processes', 'batches'),
  [(17, 5, 1, 4), (20, 5, 1, 4), (17, 4, 2, 3), (3, 2, 4, 1), (1, 5, 1, 1)],
)
def test_evaluation_sees_every_example_once(
  size, batch_size, processes, batches
):
  source, seen = _levels(size), []
  for index in range(processes):
    share = eval_batches(
      source,
      PLAIN,
      batch_size=batch_size,
      process_index=index,
      process_count=processes,
    )
    assert len(share) == batches
    rows = list(share)
    assert len(rows) == batches  # in every process, padding or not
    for batch in rows:
      assert batch['image'].shape == (batch_size, 4, 4, 3)
      assert batch['mask'].dtype == np.float32
      assert batch['label'].dtype == np.int32
      kept = batch['mask'] == 1
      assert set(batch['mask']) <= {0.0, 1.0}
      assert (batch['image'][kept, 0, 0, 0] == 2 * batch['label'][kept]).all()
      assert (batch['image'][~kept] == 0).all()
      seen += batch['label'][kept].tolist()
  assert sorted(seen) == list(range(size))


def test_evaluation_repeats_and_uses_the_centre_crop():
  source = _noise(5)
  p = Preprocess(8)
  batches = eval_batches(source, p, batch_size=5)
  (first,), (second,) = list(batches), list(batches)
  _same(first, second)
  for i in range(5):
    image = source[i]['image'][..., None].repeat(3, -1)
    assert np.array_equal(first['image'][i], eval_image(image, p))
  (worker,) = list(eval_batches(source, p, batch_size=5, workers=1))
  _same(first, worker)


def test_evaluation_masks_what_it_cannot_decode(broken, warned):
  batches = eval_batches(broken, PLAIN, batch_size=4, max_bad_fraction=0.2)
  for _ in range(2):
    masks = np.concatenate([batch['mask'] for batch in batches])
    bad = [
      i
      for i in range(10)
      if os.path.basename(broken[i]['name']) in ('3.png', '7.png')
    ]
    expected = [float(i < 10 and i not in bad) for i in range(12)]
    assert masks.tolist() == expected
  assert len(warned) == 2
  with pytest.raises(UserError, match='config.data.max_bad_fraction'):
    list(eval_batches(broken, PLAIN, batch_size=4))


def test_leaving_an_evaluation_early_ends_its_threads():
  before = set(threading.enumerate())
  rows = iter(eval_batches(_noise(), CROPPED, batch_size=4))
  next(rows)
  rows.close()
  _wait_for_end_of_threads_since(before)
