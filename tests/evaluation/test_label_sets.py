"""Label sets: which images, which right answers, which choices."""

import pickle
import socket

import numpy as np
import pytest
from PIL import Image

from effnet_jax.data import class_names, pipeline
from effnet_jax.data.preprocess import Preprocess, decode
from effnet_jax.errors import UserError
from effnet_jax.evaluation import label_sets, subsets
from effnet_jax.evaluation.label_sets import BENCHMARKS, open_label_set

LABELS = (281, 6, 11, 988, 13, 281)
REAL_LABELS = ((281, 282), (), (11,), (988, 0, 999), (), (281,))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  def connect(*args):
    raise AssertionError(f'network touched: {args[1:]}')

  monkeypatch.setattr(socket.socket, 'connect', connect)
  monkeypatch.setattr(socket, 'getaddrinfo', connect)


def _number(record):
  return int(decode(record['image'])[0, 0, 0]) // 20


def _by_number(label_set):
  """{which example: its label}, in whatever order TFDS has mixed them."""
  source = label_set.source
  records = [source[i] for i in range(len(source))]
  return {_number(record): record['label'] for record in records}


@pytest.mark.parametrize('data', ['imagenet', 'imagenet_v2', 'imagenet_a'])
@pytest.mark.parametrize('outputs', [1000, 1001])
def test_labels_are_outputs_of_the_network(tfds_dir, data, outputs):
  label_set = open_label_set(data, outputs, data_dir=tfds_dir)
  background = outputs - 1000
  assert _by_number(label_set) == {
    number: label + background for number, label in enumerate(LABELS)
  }
  assert label_set.complete is None
  assert label_set.benchmark == data
  chosen = np.flatnonzero(label_set.ranked) - background
  expected = subsets.IMAGENET_A if data == 'imagenet_a' else range(1000)
  assert chosen.tolist() == list(expected)
  assert label_set.ranked.shape == (outputs,)


@pytest.mark.parametrize('outputs', [1000, 1001])
@pytest.mark.parametrize('workers', [0, 1])
def test_real_has_several_right_answers_or_none(tfds_dir, outputs, workers):
  label_set = open_label_set('imagenet_real', outputs, data_dir=tfds_dir)
  assert len(label_set.source) == 6
  batches = pipeline.eval_batches(
    label_set.source,
    Preprocess(4, crop_padding=None),
    batch_size=4,
    workers=workers,
  )
  seen = {}
  for batch in map(label_set.complete, batches):
    assert batch['label'].shape == (4, outputs)
    for row in range(4):
      if batch['mask'][row]:
        right = np.flatnonzero(batch['label'][row]) - (outputs - 1000)
        seen[round(batch['image'][row, 0, 0, 0] / 20)] = set(right.tolist())
      else:
        assert not batch['label'][row].any()
  assert seen == {i: set(r) for i, r in enumerate(REAL_LABELS) if r}


def test_slices_and_limits(tfds_dir):
  whole = open_label_set('imagenet', 1000, data_dir=tfds_dir)
  order = list(_by_number(whole))
  part = lambda **kwargs: list(
    _by_number(open_label_set('imagenet', 1000, data_dir=tfds_dir, **kwargs))
  )
  assert part(split='validation[2:]') == order[2:]
  assert part(limit=3) == order[::2]
  assert part(limit=4) == [order[i] for i in (0, 1, 3, 4)]
  assert part(limit=6) == part(limit=100) == order
  real = open_label_set(
    'imagenet_real', 1000, data_dir=tfds_dir, split='validation[3:]', limit=2
  )
  # Numbers of examples in the whole split, for `complete`.
  assert [real.source[i]['label'] for i in range(2)] == [3, 4]
  assert pickle.loads(pickle.dumps(real.source))[1]['label'] == 4


def test_splits_that_do_not_fit(tfds_dir):
  arguments = {'num_outputs': 1000, 'data_dir': tfds_dir}
  label_set = open_label_set('imagenet', split='unlabelled', **arguments)
  with pytest.raises(UserError, match='without labels'):
    label_set.source[0]
  with pytest.raises(UserError, match='known: validation, unlabelled'):
    open_label_set('imagenet', split='val', **arguments)


def test_what_is_not_prepared_says_how(tmp_path):
  for data, benchmark in BENCHMARKS.items():
    with pytest.raises(UserError) as info:
      open_label_set(data, 1000, data_dir=str(tmp_path))
    message = str(info.value)
    assert f'{benchmark.name} is not prepared in {tmp_path}' in message
    assert f"tfds.builder('{benchmark.name}', data_dir=" in message
    manual = data in ('imagenet', 'imagenet_real')
    assert ('ILSVRC2012_img_val.tar' in message) == manual


def test_names_and_networks_that_do_not_fit(tfds_dir, tmp_path):
  with pytest.raises(UserError, match='did you mean imagenet_v2'):
    open_label_set('imagenetv2', 1000)
  with pytest.raises(UserError, match='network 10 others'):
    open_label_set('imagenet', 10, data_dir=tfds_dir)
  other = tuple(map(str, range(1000)))
  with pytest.raises(UserError, match='network 1000 others'):
    open_label_set('imagenet', 1000, other, data_dir=tfds_dir)


def test_the_subsets_are_those_of_the_papers():
  for subset in (subsets.IMAGENET_A, subsets.IMAGENET_R):
    assert len(set(subset)) == 200 and list(subset) == sorted(subset)
    assert subset[0] >= 0 and subset[-1] < 1000
  # A list of numbers shifted by one would still have 200.
  names = class_names.imagenet_names()
  of = lambda subset: {names[index] for index in subset}
  a, r = of(subsets.IMAGENET_A), of(subsets.IMAGENET_R)
  assert {'stingray', 'goldfinch', 'junco', 'robin', 'jay'} <= a
  assert {'goldfish', 'great white shark', 'hammerhead', 'hen'} <= r
  assert not {'goldfish', 'tench', 'great white shark'} & a
  assert not {'tench', 'robin', 'jay'} & r


# Folders.


def _tree(root, *classes, image='1.png'):
  for name in classes:
    (root / name).mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (6, 4)).save(root / name / image)
  return str(root)


def _labels(label_set):
  """{folder: label}."""
  source = label_set.source
  records = [source[i] for i in range(len(source))]
  return {r['name'].split('/')[-2]: r['label'] for r in records}


@pytest.mark.parametrize('outputs', [1000, 1001])
def test_folders_of_imagenet(tmp_path, outputs):
  background = outputs - 1000
  for index, names in enumerate(
    (
      # Their order as text is not that of the classes.
      {'n02123045': 281, 'n01440764': 0, 'n15075141': 999},
      {'9': 9, '10': 10, '0281': 281},
      {'Egyptian_cat': 285, 'espresso': 967, 'Crane Bird': 134},
    )
  ):
    path = _tree(tmp_path / str(index), *names)
    label_set = open_label_set(path, outputs)
    assert _labels(label_set) == {k: v + background for k, v in names.items()}
    everything = np.arange(outputs) >= background
    assert np.array_equal(label_set.ranked, everything)
    some = open_label_set(path, outputs, restrict=True)
    chosen = np.flatnonzero(some.ranked) - background
    assert chosen.tolist() == sorted(names.values())


def test_folders_by_the_names_of_the_weights(tmp_path):
  path = _tree(tmp_path, 'dog', '3')
  label_set = open_label_set(path, 4, ('cat', '3', 'bird', 'dog'))
  assert _labels(label_set) == {'dog': 3, '3': 1}
  assert label_set.ranked.all()
  own = class_names.imagenet_wnids()
  path = _tree(tmp_path / 'wnids', 'n01440764', 'n01443537')
  assert _labels(open_label_set(path, 1000, own)) == {
    'n01440764': 0,
    'n01443537': 1,
  }


def test_folders_in_sorted_order_where_nothing_has_a_name(tmp_path):
  # As training numbers them: as text.
  path = _tree(tmp_path, 'b', '10', '9')
  (tmp_path / 'a').mkdir()  # a class without an image here
  assert _labels(open_label_set(path, 4)) == {'10': 0, '9': 1, 'b': 3}


def test_images_at_any_depth_and_splits(tmp_path):
  _tree(tmp_path / 'val' / 'a', 'images')
  _tree(tmp_path / 'val', 'b', image='2.JPEG')
  (tmp_path / 'val' / 'b' / 'notes.txt').touch()
  label_set = open_label_set(str(tmp_path), 2, split='val')
  assert _labels(label_set) == {'images': 0, 'b': 1}
  assert label_set.title == str(tmp_path / 'val')
  for kwargs, message in (
    ({}, 'holds splits: name one of them, --split val'),
    ({'split': 'test'}, f'no folder {tmp_path}/test'),
    ({'split': 'val[:1]'}, '--limit'),
  ):
    with pytest.raises(UserError, match=message.replace('[', r'\[')):
      open_label_set(str(tmp_path), 2, **kwargs)


def test_folders_that_do_not_fit(tmp_path):
  imagenet = _tree(tmp_path / 'a', 'n01440764', 'n01443538')
  for path, outputs, own, message in (
    (imagenet, 1000, None, "'n01443538' is none of them: did you mean"),
    (imagenet, 10, None, '2 class folders, but 10 classes, which the weights'),
    (imagenet, 3, ('cat', 'dog', 'cow'), 'they are called cat, dog, cow'),
    (str(tmp_path / 'a' / 'n01440764'), 10, None, 'expected PATH/CLASS/IMAGE'),
  ):  # fmt: skip
    with pytest.raises(UserError) as info:
      open_label_set(path, outputs, own)
    assert message in str(info.value) and '\n' not in str(info.value)


def test_a_folder_of_the_validation_images_is_known(tmp_path, monkeypatch):
  for wnid in class_names.imagenet_wnids():
    (tmp_path / wnid).mkdir()
    (tmp_path / wnid / '1.JPEG').touch()
  opened = lambda *args: open_label_set(str(tmp_path), *args).benchmark
  assert opened(1000) == ''
  monkeypatch.setattr(label_sets, '_VALIDATION_IMAGES', 1000)
  assert opened(1000) == opened(1001) == 'imagenet'
  assert opened(1000, tuple(map(str, range(1000)))) == ''
