"""Sources: what they hold, their slices, one clear line for each mistake."""

import gzip
import pickle
import sys

import cv2
import numpy as np
import pytest

from effnet_jax.data import idx
from effnet_jax.data.preprocess import DecodeError
from effnet_jax.data.sources import (
  FASHION_MNIST_CLASSES,
  ArraySource,
  open_source,
)
from effnet_jax.errors import UserError


def _message(*args, **kwargs):
  with pytest.raises(UserError) as info:
    open_source(*args, **kwargs)
  assert '\n' not in str(info.value)
  return str(info.value)


def test_unknown_kind_and_split_name_the_way_out():
  assert 'did you mean folder' in _message('folders', 'train')
  assert 'train[:500]' in _message('digits', 'train[:')
  assert 'did you mean train?' in _message('digits', 'trian')


# Digits.


def test_digits_are_the_published_set_in_a_fixed_split():
  from sklearn.datasets import load_digits

  train, test = open_source('digits', 'train'), open_source('digits', 'test')
  assert (len(train), len(test)) == (1497, 300)
  assert train.class_names == tuple('0123456789')
  # As a multiset the two parts are scikit-learn's 1,797 images, scaled.
  images, labels = load_digits(return_X_y=True)
  expected = sorted(
    (int(label), np.floor(image * 255 / 16 + 0.5).astype(np.uint8).tobytes())
    for image, label in zip(images, labels, strict=True)
  )
  records = [s[i] for s in (train, test) for i in range(len(s))]
  assert expected == sorted((r['label'], r['image'].tobytes()) for r in records)
  assert records[0]['image'].shape == (8, 8)
  # Stratified: each digit is a tenth of the test part, give or take one.
  counts = np.bincount([test[i]['label'] for i in range(300)])
  assert (np.abs(counts - np.bincount(labels) * 300 / 1797) < 1).all()


def test_digits_slices_are_disjoint_and_named():
  whole = open_source('digits', 'train')
  head = open_source('digits', 'train[:100]')
  tail = open_source('digits', 'train[100:]')
  assert len(head) + len(tail) == len(whole)
  assert tail[3]['name'] == whole[103]['name'] == 'train[103]'
  assert (tail[3]['image'] == whole[103]['image']).all()
  assert repr(head) == 'digits(train, 100 examples)'


def test_splits_follow_each_other():
  both = open_source('digits', 'test[:30]+train[5:]')
  test, train = open_source('digits', 'test'), open_source('digits', 'train')
  assert len(both) == 30 + 1492
  assert both[29]['name'] == 'test[29]' and both[30]['name'] == 'train[5]'
  assert both[1521]['name'] == 'train[1496]'
  assert (both[30]['image'] == train[5]['image']).all()
  assert (both[0]['image'] == test[0]['image']).all()
  assert both.class_names == train.class_names
  with pytest.raises(IndexError):
    both[1522]
  assert 'did you mean test' in _message('digits', 'train+tset')


def test_missing_sklearn_names_the_pip_line(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
  assert 'pip install scikit-learn' in _message('digits', 'test')


def test_array_source_checks_lengths():
  with pytest.raises(ValueError, match='3 images but 2 labels'):
    ArraySource(np.zeros((3, 8, 8), np.uint8), np.zeros(2, int), ['a'])


# Folder.


@pytest.fixture
def photos(tmp_path):
  """train: 3 cats, 2 dogs; test: 1 dog; every image of one grey level."""
  level = 0
  for split, class_name, names in (
    ('train', 'cat', ('b.png', 'a.JPG', 'c.jpeg', 'notes.txt', '.d.png')),
    ('train', 'dog', ('x.webp', 'y.bmp')),
    ('test', 'dog', ('z.png',)),
  ):
    folder = tmp_path / split / class_name
    folder.mkdir(parents=True)
    for name in names:
      level += 10
      if name.endswith('txt'):
        (folder / name).write_text('no image')
      else:
        image = np.full((4, 5, 3), level, np.uint8)
        suffix = '.' + name.rsplit('.')[-1].lower()
        (folder / name).write_bytes(cv2.imencode(suffix, image)[1].tobytes())
  return tmp_path


def test_folder_numbers_classes_by_the_train_split(photos):
  train = open_source('folder', 'train', path=str(photos))
  test = open_source('folder', 'test', path=str(photos))
  assert train.class_names == test.class_names == ('cat', 'dog')
  found = {}
  for i in range(len(train)):
    record = train[i]
    found[record['name'].removeprefix(f'{photos}/')] = record['label']
    assert isinstance(record['image'], bytes)
  assert found == {
    'train/cat/a.JPG': 0,
    'train/cat/b.png': 0,
    'train/cat/c.jpeg': 0,
    'train/dog/x.webp': 1,
    'train/dog/y.bmp': 1,
  }
  assert (len(test), test[0]['label']) == (1, 1)
  assert repr(test) == 'folder(test, 1 examples)'


def test_folder_slices_mix_the_classes(tmp_path):
  for class_name in 'abcd':
    folder = tmp_path / 'train' / class_name
    folder.mkdir(parents=True)
    for i in range(50):
      (folder / f'{i}.jpg').touch()
  head = open_source('folder', 'train[:40]', path=str(tmp_path))
  tail = open_source('folder', 'train[40:]', path=str(tmp_path))
  names = lambda s: {s[i]['name'] for i in range(len(s))}
  assert names(head).isdisjoint(names(tail))
  assert len(names(head) | names(tail)) == 200
  # Sorted by path, the first 40 would all be of class a.
  assert min(np.bincount([head[i]['label'] for i in range(40)])) >= 3


def test_folder_mistakes(photos, tmp_path_factory):
  empty = tmp_path_factory.mktemp('empty')
  layout = 'expected PATH/SPLIT/CLASS/IMAGE'
  assert layout in _message('folder', 'train')
  assert layout in _message('folder', 'train', path=str(empty / 'none'))
  assert "no split 'train'" in _message('folder', 'train', path=str(empty))
  assert "no split 'val'" in _message('folder', 'val', path=str(photos))
  assert 'past the end' in _message('folder', 'train[:6]', path=str(photos))
  (photos / 'test' / 'horse').mkdir()
  assert 'train lacks: horse' in _message('folder', 'test', path=str(photos))
  (photos / 'train' / 'horse').mkdir()
  message = _message('folder', 'train', path=str(photos))
  assert 'no image in' in message and 'train/horse' in message
  (empty / 'train').mkdir()
  assert 'no class folder' in _message('folder', 'train', path=str(empty))


def test_folder_file_that_vanished_is_a_bad_record(photos):
  test = open_source('folder', 'test', path=str(photos))
  (photos / 'test' / 'dog' / 'z.png').unlink()
  with pytest.raises(DecodeError, match='z.png: cannot be read'):
    test[0]


# Fashion-MNIST.


def _idx_bytes(array):
  header = bytes([0, 0, 8, array.ndim])
  dims = b''.join(int(n).to_bytes(4, 'big') for n in array.shape)
  return header + dims + array.tobytes()


@pytest.fixture
def fashion(tmp_path):
  """The four files with the real sizes, labels packed and images plain."""
  for prefix, count in (('train', 60_000), ('t10k', 10_000)):
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(count) % 251
    labels = (np.arange(count) % 10).astype(np.uint8)
    (tmp_path / f'{prefix}-images-idx3-ubyte').write_bytes(_idx_bytes(images))
    (tmp_path / f'{prefix}-labels-idx1-ubyte.gz').write_bytes(
      gzip.compress(_idx_bytes(labels), 1)
    )
  return tmp_path


def test_fashion_mnist_reads_both_splits(fashion):
  train = open_source('fashion_mnist', 'train[50000:]', path=str(fashion))
  test = open_source('fashion_mnist', 'test', path=str(fashion))
  assert (len(train), len(test)) == (10_000, 10_000)
  assert train[7]['image'].shape == (28, 28)
  assert train[7]['image'][0, 0] == 50_007 % 251
  assert train[7]['label'] == 7
  assert train[7]['name'] == 'train[50007]'
  assert test.class_names == FASHION_MNIST_CLASSES
  assert (test.class_names[0], test.class_names[9]) == (
    'T-shirt/top',
    'Ankle boot',
  )


def test_fashion_mnist_damage_names_the_file(fashion):
  args = ('fashion_mnist', 'test')
  images = fashion / 't10k-images-idx3-ubyte'
  labels = fashion / 't10k-labels-idx1-ubyte.gz'
  whole, packed = images.read_bytes(), labels.read_bytes()
  for data, text in (
    (whole[:-1], '7840015 bytes'),
    (whole[:9], 'cut short in its header'),
    (b'\x00\x00\x0d' + whole[3:], 'no IDX file of uint8'),
    (b'', 'no IDX file of uint8'),
    (_idx_bytes(np.zeros((9, 28, 28), np.uint8)), 'not Fashion-MNIST'),
  ):
    images.write_bytes(data)
    message = _message(*args, path=str(fashion))
    assert text in message
    assert 't10k-images' in message or 'test files' in message
  images.write_bytes(whole)
  for data in (packed[:50], packed[:-9] + b'123456789', b'no gzip'):
    labels.write_bytes(data)
    assert f'{labels.name} cannot be read' in _message(*args, path=str(fashion))
  labels.write_bytes(gzip.compress(_idx_bytes(np.full(10_000, 10, np.uint8))))
  assert 'corrupt' in _message(*args, path=str(fashion))


def test_fashion_mnist_missing_says_where_and_how(tmp_path, monkeypatch):
  message = _message('fashion_mnist', 'train', path=str(tmp_path))
  assert f'no train-images-idx3-ubyte[.gz] in {tmp_path}' in message
  assert 'apt-get install dataset-fashion-mnist' in message
  monkeypatch.setattr(idx, 'SYSTEM_FOLDER', str(tmp_path / 'system'))
  assert str(tmp_path / 'system') in _message('fashion_mnist', 'train')


def test_sources_survive_pickling(photos):
  for source in (
    open_source('digits', 'test'),
    open_source('folder', 'train', path=str(photos)),
  ):
    copy = pickle.loads(pickle.dumps(source))
    assert (len(copy), repr(copy)) == (len(source), repr(source))
    assert copy.class_names == source.class_names
    assert copy[1]['name'] == source[1]['name']
    assert np.array_equal(copy[1]['image'], source[1]['image'])


@pytest.mark.parametrize('kind', ['tfds', 'folder'])
def test_data_on_a_bucket_are_to_be_mounted(kind):
  with pytest.raises(UserError, match='config.data.path=gs://b/x.*gcsfuse'):
    open_source(kind, 'train', name='imagenet2012', path='gs://b/x')
