"""What a training stream does with broken files and dead workers."""

import gc
import multiprocessing
import os
import signal
import weakref

import numpy as np
import pytest

from effnet_jax.data.pipeline import train_batches
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.sources import ArraySource, open_source
from effnet_jax.errors import UserError

# The whole image at its own size: the level of a pixel tells which example.
PLAIN = Preprocess(4, crop_area=None, flip=False, crop_padding=None)
CROPPED = Preprocess(8, crop_area=(0.3, 1.0))


def _noise(count=50, side=12):
  images = np.random.default_rng(0).integers(
    0, 256, (count, side, side), np.uint8
  )
  return ArraySource(images, np.arange(count) % 7, 'abcdefg')


def test_the_first_bad_example_stops_by_default(broken):
  iterator = train_batches(broken, PLAIN, batch_size=10, seed=0)
  with pytest.raises(UserError) as info:
    next(iterator)
  message = str(info.value)
  assert '3.png' in message or '7.png' in message
  assert 'config.data.max_bad_fraction' in message
  assert '\n' not in message
  iterator.close()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_example_is_replaced_by_the_next_that_decodes(
  broken, warned, workers
):
  iterator = train_batches(
    broken,
    PLAIN,
    batch_size=10,
    seed=0,
    workers=workers,
    max_bad_fraction=0.2,
  )
  names = [os.path.basename(broken[i]['name']) for i in range(10)]
  good = lambda i: names[i] not in ('3.png', '7.png')
  expected = []
  for i in range(10):
    while not good(i % 10):
      i += 1
    expected.append(20 * int(names[i % 10][0]))
  for _ in range(3):
    levels = next(iterator)['image'][:, 0, 0, 0].tolist()
    assert sorted(levels) == sorted(expected)
  bad = iterator.get_state()['bad']
  assert sorted(os.path.basename(name) for name in bad) == ['3.png', '7.png']
  assert len(warned) == 2  # once for each, not once an epoch
  assert all('cannot be decoded' in line for line in warned)
  # A resumed run knows them already.
  again = train_batches(
    broken,
    PLAIN,
    batch_size=10,
    seed=0,
    max_bad_fraction=0.2,
    start=iterator.get_state(),
  )
  next(again)
  assert len(warned) == 2
  iterator.close()
  again.close()


def test_one_bad_example_too_many_stops(broken):
  iterator = train_batches(
    broken, PLAIN, batch_size=10, seed=0, max_bad_fraction=0.1
  )
  with pytest.raises(UserError, match='2 bad of 10 examples'):
    next(iterator)
  iterator.close()


def test_nothing_that_decodes_ends_rather_than_turns_round(tmp_path):
  folder = tmp_path / 'train' / 'a'
  folder.mkdir(parents=True)
  for i in range(3):
    (folder / f'{i}.jpg').write_bytes(b'broken')
  source = open_source('folder', 'train', path=str(tmp_path))
  iterator = train_batches(
    source, PLAIN, batch_size=2, seed=0, max_bad_fraction=1.0
  )
  with pytest.raises(UserError, match='no example of folder.* decodes'):
    next(iterator)
  iterator.close()


def test_a_dead_worker_is_an_error_and_no_hang():
  iterator = train_batches(_noise(), CROPPED, batch_size=8, seed=0, workers=1)
  next(iterator)
  (worker,) = multiprocessing.active_children()
  os.kill(worker.pid, signal.SIGKILL)
  with pytest.raises(
    UserError, match='data worker process died: .*exit code -9'
  ):
    for _ in range(50):  # those that are ready may still come
      next(iterator)
  iterator.close()


def test_garbage_is_collected_before_workers_start():
  # A semaphore that multiprocessing frees while it starts a process fails.
  class Cycle:
    pass

  gc.disable()
  try:
    garbage = Cycle()
    garbage.itself, freed = garbage, weakref.ref(garbage)
    del garbage
    iterator = train_batches(_noise(), CROPPED, batch_size=8, seed=0, workers=1)
    next(iterator)
    iterator.close()
    assert freed() is None
  finally:
    gc.enable()
