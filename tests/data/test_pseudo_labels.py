"""Pseudo-labels: which are chosen, how they are stored, what a reader gives."""

import itertools
import json
import pickle

import cv2
import numpy as np
import pytest

from effnet_jax.data import paired, pipeline, pseudo_labels, unlabelled
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.sources import open_source
from effnet_jax.errors import UserError

TOP = np.array([0, 1, 0, 0, 1, 2, 0, 2])
CONFIDENCE = np.array([0.9, 0.4, 0.5, 0.95, 0.31, 0.2, 0.3, -1.0])
PREPROCESS = Preprocess(
  size=8, resampling='pillow', crop_area=None, flip=False, crop_padding=0
)
DIGITS = tuple('0123456789')


# What is chosen.


@pytest.mark.parametrize(
  ('least', 'per_class', 'expected'),
  [
    # Class 0 has 0, 2, 3 and 6 of .3 or more; class 1 has 1 and 4; 2 has none.
    (0.3, 4, [0, 1, 1, 2, 3, 4, 4, 6]),
    (0.3, None, [0, 1, 1, 2, 3, 4, 4, 6]),  # the largest has four
    (0.3, 2, [0, 1, 3, 4]),  # the most confident
    (0.3, 5, [0, 1, 1, 1, 2, 3, 3, 4, 4, 6]),  # first the most confident again
    (0.31, None, [0, 1, 1, 2, 3, 4]),
    (0.4, None, [0, 1, 1, 1, 2, 3]),
    (0.0, 1, [1, 3, 5]),  # an unreadable image is never taken
    (0.99, None, []),
  ],
)
def test_choosing_by_hand(least, per_class, expected):
  chosen = pseudo_labels.choose(TOP, CONFIDENCE, 3, least, per_class)
  assert chosen.tolist() == expected
  assert chosen.dtype == np.int64


def test_every_class_that_has_images_gets_as_many():
  rng = np.random.default_rng(0)
  top, confidence = rng.integers(0, 7, 500), rng.uniform(size=500)
  chosen = pseudo_labels.choose(top, confidence, 8, 0.5, 40)
  assert np.bincount(top[chosen], minlength=8).tolist() == [40] * 7 + [0]
  for one in range(7):
    images, copies = np.unique(chosen[top[chosen] == one], return_counts=True)
    assert np.ptp(copies) <= 1
    left_out = (top == one) & (confidence >= 0.5)
    left_out[images] = False
    if left_out.any():
      assert confidence[images].min() >= confidence[left_out].max()
      assert copies.max() == 1


def test_of_equals_the_first_are_taken():
  same = np.full(6, 0.5, np.float32)
  chosen = pseudo_labels.choose(np.zeros(6, int), same, 1, 0.3, 4)
  assert chosen.tolist() == [0, 1, 2, 3]


def test_temperature_by_hand():
  rows = pseudo_labels.rows(np.array([[0.1, 0.6, 0.3]]), 0.5)
  # Squares: .01, .36, .09, which sum to .46.
  np.testing.assert_allclose(
    rows['label'][0], np.array([1, 36, 9]) / 46, rtol=1e-3
  )
  assert rows['confidence'][0] == np.float32(0.6)  # at temperature 1
  assert rows['top'][0] == 1
  # A temperature whose powers would all be 0 in float64.
  cold = pseudo_labels.rows(np.array([[0.1, 0.6, 0.3]]), 1e-4)
  assert cold['label'][0].tolist() == [0, 1, 0]


# What is written and read.


def _write(folder, hard=False, finished=True, examples=(0, 2, 2, 5, 11)):
  """Writes labels of twelve digits in shards of five; returns them."""
  probabilities = np.random.default_rng(1).dirichlet(np.ones(10), 12)
  source, origin = unlabelled.open_unlabelled('digits:train[:12]')
  assert len(source) == 12
  manifest = {
    'version': 1,
    'finished': finished,
    'origin': origin,
    'num_classes': 10,
    'class_names': list(DIGITS),
    'hard': hard,
    'shard_size': 5,
    'examples': len(examples),
  }
  for number, start in enumerate((0, 5, 10)):
    part = pseudo_labels.rows(probabilities[start:][:5])
    pseudo_labels.write_array(pseudo_labels.shard_path(folder, number), part)
  pseudo_labels.write_examples(folder, np.array(examples, np.int64))
  pseudo_labels.write_manifest(folder, manifest)
  return probabilities


@pytest.mark.parametrize('again', [lambda x: x, lambda x: _pickled(x)])
def test_records_have_the_labels_of_their_images(tmp_path, again):
  probabilities = _write(tmp_path)
  source = again(pseudo_labels.open_pseudo_labelled(str(tmp_path), DIGITS))
  plain = open_source('digits', 'train[:12]')
  assert len(source) == 5
  for row, image in enumerate((0, 2, 2, 5, 11)):
    record = source[row]
    np.testing.assert_array_equal(record['image'], plain[image]['image'])
    assert record['name'] == f'train[{image}]'
    assert record['label'].dtype == np.float32
    np.testing.assert_allclose(
      record['label'], probabilities[image], atol=5e-4, rtol=1e-3
    )
    np.testing.assert_allclose(record['label'].sum(), 1, rtol=1e-6)


def _pickled(source):
  data = pickle.dumps(source)
  assert b'memmap' not in data
  return pickle.loads(data)


def _batch(source, **arguments):
  batches = pipeline.train_batches(
    source, PREPROCESS, batch_size=5, seed=3, **arguments
  )
  try:
    return next(batches)
  finally:
    batches.close()


@pytest.mark.parametrize('workers', [0, 1])
def test_batches_of_soft_labels(tmp_path, workers):
  probabilities = _write(tmp_path)
  source = pseudo_labels.open_pseudo_labelled(str(tmp_path), DIGITS)
  batch = _batch(source, workers=workers)
  assert batch['label'].dtype == np.float32
  assert batch['label'].shape == (5, 10)
  expected = probabilities[[0, 2, 2, 5, 11]]
  by_first = lambda rows: rows[np.argsort(rows[:, 0])]
  np.testing.assert_allclose(
    by_first(batch['label']), by_first(expected), atol=5e-4, rtol=1e-3
  )


def test_hard_labels_are_classes(tmp_path):
  probabilities = _write(tmp_path, hard=True)
  source = pseudo_labels.open_pseudo_labelled(str(tmp_path), DIGITS)
  batch = _batch(source)
  assert batch['label'].dtype == np.int32
  expected = probabilities.argmax(1)[[0, 2, 2, 5, 11]]
  assert sorted(batch['label']) == sorted(expected)


def _refused(folder, text, class_names=DIGITS):
  with pytest.raises(UserError, match=text) as error:
    pseudo_labels.open_pseudo_labelled(str(folder), class_names)
  assert '\n' not in str(error.value)


def test_what_is_not_whole_is_refused(tmp_path):
  _refused(tmp_path, 'no pseudo-labels in .*: write some with')
  _write(tmp_path, finished=False)
  _refused(tmp_path, 'are not finished')
  _write(tmp_path)
  _refused(tmp_path, "class 0 '0', config.data calls it 'zero'", ('zero',) * 10)
  _refused(tmp_path, 'labels of 10 classes, config.data has 3', DIGITS[:3])
  shard = tmp_path / 'shard-00001.npy'
  whole = shard.read_bytes()
  shard.write_bytes(whole[:200])
  _refused(tmp_path, r'shard-00001.npy is damaged')
  np.save(shard, pseudo_labels.rows(np.full((4, 10), 0.1)))
  _refused(tmp_path, r'shard-00001.npy is not what its manifest says')
  shard.unlink()
  _refused(tmp_path, r'shard-00001.npy is missing')
  shard.write_bytes(whole)
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  for field, value, text in (
    ('version', 2, 'has version 2, this code reads 1'),
    ('origin', {**manifest['origin'], 'images': 13}, 'has others now'),
  ):
    pseudo_labels.write_manifest(tmp_path, {**manifest, field: value})
    _refused(tmp_path, text)
  (tmp_path / 'manifest.json').write_text('{')
  _refused(tmp_path, 'manifest.json cannot be read')


# What may be labelled.


@pytest.fixture
def tree(tmp_path):
  for number, name in enumerate(('b/x/2.png', 'a.png', 'b/1.PNG')):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((4, 4, 3), number, np.uint8)
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
  return tmp_path


def test_a_folder_of_any_depth(tree):
  source, origin = unlabelled.open_unlabelled(str(tree))
  names = [source[i]['name'] for i in range(len(source))]
  assert names == [str(tree / n) for n in ('a.png', 'b/1.PNG', 'b/x/2.png')]
  assert {source[i]['label'] for i in range(3)} == {-1}
  again = unlabelled.reopen(origin, 'manifest.json')
  assert [again[i]['name'] for i in range(3)] == names
  (tree / 'a.png').rename(tree / 'c.png')
  with pytest.raises(UserError, match='3 images, .* has others now'):
    unlabelled.reopen(origin, 'manifest.json')
  with pytest.raises(UserError, match='are gone: no folder .*`path`'):
    gone = {**origin, 'path': str(tree / 'none')}
    unlabelled.reopen(gone, 'manifest.json')


def test_splits_of_data_sets(tree):
  source, origin = unlabelled.open_unlabelled('digits:train[2:-1490]')
  assert [source[i]['name'] for i in range(5)] == [
    f'train[{i}]' for i in range(2, 7)
  ]
  assert len(unlabelled.reopen(origin, '')) == 5
  (tree / 'train').mkdir()
  (tree / 'b').rename(tree / 'train' / 'b')
  source, origin = unlabelled.open_unlabelled(f'folder:{tree}:train[:1]')
  assert (len(source), origin['path']) == (1, str(tree))


@pytest.mark.parametrize(
  ('data', 'text'),
  [
    ('nowhere/at/all', 'no folder nowhere/at/all: give a folder, fashion'),
    ('digit:train', "no data source 'digit': did you mean digits"),
    ('digits:train[', r"cannot read 'digits:train\['"),
    ('digits:x:train', "cannot read 'digits:x:train': give a folder"),
    ('digits:tain', "no split 'tain': did you mean train"),
    ('tfds:train', "cannot read 'tfds:train': .* tfds:NAME:SPLIT or"),
    ('folder:train', "cannot read 'folder:train'"),
  ],
)
def test_what_cannot_be_labelled(data, text):
  with pytest.raises(UserError, match=text):
    unlabelled.open_unlabelled(data)


# Two streams in step.


def _paired(tmp_path, start=None, ratio=2, **arguments):
  if not (tmp_path / 'manifest.json').exists():
    _write(tmp_path)
  return paired.train_batches(
    open_source('digits', 'train[:7]'),
    pseudo_labels.open_pseudo_labelled(str(tmp_path), DIGITS),
    PREPROCESS,
    ratio=ratio,
    batch_size=4 // arguments.get('process_count', 1),
    seed=5,
    start=start,
    **arguments,
  )


def _take(batches, count):
  taken = list(itertools.islice(batches, count))
  state = batches.get_state()
  batches.close()
  return taken, state


def _assert_equal(left, right):
  assert left.keys() == right.keys()
  for key, array in left.items():
    np.testing.assert_array_equal(array, right[key])


def test_both_streams_resume_bit_for_bit(tmp_path):
  straight, _ = _take(_paired(tmp_path), 5)
  assert {k: v.shape for k, v in straight[0].items()} == {
    'image': (4, 8, 8, 3),
    'label': (4,),
    'unlabelled_image': (8, 8, 8, 3),
    'unlabelled_label': (8, 10),
  }
  first, state = _take(_paired(tmp_path), 2)
  state = json.loads(json.dumps(state))
  rest, _ = _take(_paired(tmp_path, start=state), 3)
  for left, right in zip(straight, first + rest, strict=True):
    _assert_equal(left, right)
  # Of 40 positions in five examples, each comes eight times.
  seen = np.concatenate([b['unlabelled_label'] for b in straight])
  assert set(np.unique(seen, axis=0, return_counts=True)[1]) == {8, 16}


def test_processes_share_both(tmp_path):
  (whole,), _ = _take(_paired(tmp_path), 1)
  parts = [
    _take(_paired(tmp_path, process_index=i, process_count=2), 1)[0][0]
    for i in range(2)
  ]
  joined = {k: np.concatenate([part[k] for part in parts]) for k in whole}
  _assert_equal(whole, joined)


def test_a_failure_of_one_stream_moves_neither(tmp_path, monkeypatch):
  batches = _paired(tmp_path)
  before = batches.get_state()
  with monkeypatch.context() as patch:
    patch.setattr(
      pseudo_labels.PseudoLabelled,
      '__getitem__',
      lambda self, index: (_ for _ in ()).throw(UserError('gone')),
    )
    with pytest.raises(UserError, match='gone'):
      next(batches)
  assert batches.get_state() == before
  _assert_equal(next(batches), _take(_paired(tmp_path), 1)[0][0])
  batches.close()


def test_the_streams_draw_apart():
  assert paired.unlabelled_seed(5) != 5
  seeds = {paired.unlabelled_seed(seed) for seed in range(100)}
  assert len(seeds) == 100
  assert all(0 <= seed < 2**32 for seed in seeds)
