"""The stream of batches: order, chance, shares, state, and what goes wrong."""

import json
import multiprocessing
import threading
import time

import numpy as np
import pytest

from effnet_jax.data import pipeline
from effnet_jax.data.pipeline import eval_batches, train_batches
from effnet_jax.data.preprocess import Preprocess
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


def _take(iterator, count):
  batches = [next(iterator) for _ in range(count)]
  iterator.close()
  return {k: np.stack([b[k] for b in batches]) for k in batches[0]}


def _labels(source, count, **kwargs):
  kwargs = {'batch_size': 5, 'seed': 0, **kwargs}
  return _take(train_batches(source, PLAIN, **kwargs), count)['label'].ravel()


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


def test_a_batch_is_images_with_their_labels():
  iterator = train_batches(_levels(20), PLAIN, batch_size=6, seed=0)
  batch = next(iterator)
  iterator.close()
  assert batch['image'].shape == (6, 4, 4, 3)
  assert batch['image'].dtype == np.uint8
  assert batch['label'].shape == (6,) and batch['label'].dtype == np.int32
  expected = np.broadcast_to(
    2 * batch['label'][:, None, None, None], (6, 4, 4, 3)
  )
  assert np.array_equal(batch['image'], expected)


def test_every_epoch_holds_every_example_once_in_another_order():
  # 17 examples in batches of 5: the batches cross the borders of the epochs.
  labels = _labels(_levels(17), 17).reshape(5, 17)
  for epoch in labels:
    assert sorted(epoch) == list(range(17))
  assert len({epoch.tobytes() for epoch in labels}) == 5
  assert (labels != np.arange(17)).any(1).all()


def test_order_and_augmentation_follow_the_seed():
  take = lambda seed: _take(
    train_batches(_noise(), CROPPED, batch_size=25, seed=seed), 4
  )
  first = take(3)
  _same(first, take(3))
  other = take(4)
  assert (first['label'] != other['label']).any()
  # Neighbouring seeds aren't one another's later epochs, in any order.
  epochs = lambda batches: {
    e.tobytes() for e in batches['label'].reshape(2, 50)
  }
  assert not epochs(first) & epochs(other)


def test_the_order_of_old_checkpoints_stays():
  # No value by hand: it pins what grain gives, for a resumed run goes on in
  # the order of the run before. A change means a new _STATE_VERSION.
  assert _labels(_levels(6), 2, batch_size=6).tolist() == [
    *(1, 2, 4, 5, 3, 0),
    *(5, 3, 1, 4, 2, 0),
  ]


def test_an_example_is_cropped_anew_every_epoch():
  images = np.random.default_rng(0).integers(0, 256, (1, 12, 12), np.uint8)
  source = ArraySource(images, np.zeros(1, int), ['only'])
  batches = _take(train_batches(source, CROPPED, batch_size=10, seed=0), 2)
  crops = {image.tobytes() for image in batches['image'].reshape(20, -1)}
  assert len(crops) > 15


def test_processes_share_the_global_batch_in_order():
  alone = _take(train_batches(_noise(), CROPPED, batch_size=12, seed=0), 6)
  for count in (2, 3):
    shares = [
      _take(
        train_batches(
          _noise(),
          CROPPED,
          batch_size=12 // count,
          seed=0,
          process_index=index,
          process_count=count,
        ),
        6,
      )
      for index in range(count)
    ]
    _same(
      alone,
      {k: np.concatenate([s[k] for s in shares], axis=1) for k in alone},
    )


def test_worker_processes_change_no_bit():
  take = lambda workers: _take(
    train_batches(_noise(), CROPPED, batch_size=9, seed=1, workers=workers), 7
  )
  alone = take(0)
  for workers in (1, 2):
    _same(alone, take(workers))
  assert not multiprocessing.active_children()


def test_state_goes_on_where_it_was_taken():
  make = lambda **kwargs: train_batches(
    _noise(), CROPPED, **{'batch_size': 8, 'seed': 5, **kwargs}
  )
  whole = _take(make(), 20)  # 160 examples: beyond the third epoch
  iterator = make()
  for _ in range(13):
    next(iterator)
  state = json.loads(json.dumps(iterator.get_state()))
  assert state['examples'] == 13 * 8  # and not those that were prefetched
  rest = {k: v[13:] for k, v in whole.items()}
  iterator.close()
  _same(rest, _take(make(start=state), 7))
  used = make()
  next(used)
  used.set_state(state)
  _same(rest, _take(used, 7))
  # Another number of workers, processes and examples a batch.
  _same(rest, _take(make(start=state, workers=2), 7))
  half = _take(
    make(start=state, batch_size=4, process_index=1, process_count=2), 7
  )
  _same({k: v[:, 4:] for k, v in rest.items()}, half)
  flat = lambda b: {k: v.reshape(-1, *v.shape[2:]) for k, v in b.items()}
  _same(flat(rest), flat(_take(make(start=state, batch_size=28), 2)))


def test_a_seek_costs_nothing():
  far = {
    'version': 1,
    'examples': 10**12,
    'source_size': 50,
    'seed': 0,
    'bad': [],
  }
  # Reading what lies between would take days.
  iterator = train_batches(_noise(), CROPPED, batch_size=8, seed=0, start=far)
  assert next(iterator)['image'].shape == (8, 8, 8, 3)
  assert iterator.get_state() == {**far, 'examples': 10**12 + 8}
  iterator.close()


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({'seed': 1}, 'written with seed 1, this run has 0: set config.seed'),
    ({'source_size': 49}, 'written with source_size 49, this run has 50'),
    ({'version': 9}, 'has version 9'),
  ],
)
def test_a_state_of_another_run_is_refused(change, text):
  iterator = train_batches(_noise(), CROPPED, batch_size=8, seed=0)
  with pytest.raises(UserError, match=text):
    iterator.set_state({**iterator.get_state(), **change})


def test_closing_ends_the_threads():
  before = set(threading.enumerate())
  iterator = train_batches(_noise(), CROPPED, batch_size=8, seed=0)
  next(iterator)
  assert set(threading.enumerate()) - before
  iterator.close()
  iterator.close()
  _wait_for_end_of_threads_since(before)


def _invert(rng, image):
  return image ^ np.uint8(255 if rng.random() < 2 else 0)


def test_augmentation_comes_last():
  kwargs = {'batch_size': 8, 'seed': 0}
  plain = _take(train_batches(_noise(), CROPPED, **kwargs), 2)
  augmented = _take(
    train_batches(_noise(), CROPPED, augment=_invert, **kwargs), 2
  )
  assert np.array_equal(augmented['image'], 255 - plain['image'])


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({'batch_size': 0}, 'batch size 0'),
    ({'process_index': 2, 'process_count': 2}, 'process 2 of 2'),
    ({'workers': -1}, 'config.data.workers is -1'),
    ({'seed': -1}, 'seed -1'),
    ({'seed': 2**32}, 'seed 4294967296'),
  ],
)
def test_sizes_that_make_no_sense_are_refused(change, text):
  with pytest.raises(UserError, match=text):
    train_batches(_noise(), CROPPED, **{'batch_size': 8, 'seed': 0, **change})


def test_an_empty_source_is_refused():
  empty = ArraySource(np.zeros((0, 4, 4), np.uint8), np.zeros(0, int), ['a'])
  with pytest.raises(UserError, match='has no examples'):
    eval_batches(empty, PLAIN, batch_size=4)


def test_the_data_room_loads_no_model():
  import subprocess
  import sys

  code = (
    'import sys, effnet_jax.data.pipeline as p; '
    'print([m for m in sys.modules if m.startswith("effnet_jax.") '
    'and not m.startswith(("effnet_jax.data", "effnet_jax.errors", '
    '"effnet_jax.environment"))], '
    '[m for m in ("tensorflow", "tensorflow_datasets", "torch", "sklearn") '
    'if m in sys.modules])'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == '[] []'
  assert pipeline.__doc__


class _Interrupted(ArraySource):
  """Fails once, as a notebook's Ctrl-C or a passing error of a disk does."""

  def __getitem__(self, index):
    if index == 7 and not self.failed:
      self.failed = True
      raise OSError('once')
    return super().__getitem__(index)


def test_after_an_error_the_same_batch_comes():
  source = _levels(20)
  expected = _labels(source, 8)
  broken = _levels(20)
  broken.__class__, broken.failed = _Interrupted, False
  iterator = train_batches(broken, PLAIN, batch_size=5, seed=0)
  found, errors = [], 0
  while len(found) < 8:
    try:
      found.append(next(iterator)['label'])
    except OSError:
      errors += 1
  iterator.close()
  assert errors == 1
  assert np.array_equal(np.concatenate(found), expected)
