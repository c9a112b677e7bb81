"""TFDS sources: a data set prepared here, and errors that stay offline."""

import io
import pickle
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from effnet_jax.data.preprocess import decode
from effnet_jax.data.sources import open_source
from effnet_jax.errors import UserError


def _png(level):
  stream = io.BytesIO()
  Image.new('RGB', (6, 4), (level, 0, 255 - level)).save(stream, 'PNG')
  stream.seek(0)
  return stream


class TinyColors(tfds.core.GeneratorBasedBuilder):
  """Twelve 4x6 images; the level tells which one it is."""

  VERSION = tfds.core.Version('1.0.0')
  LABEL = 'label'

  def _info(self):
    features = {
      'image': tfds.features.Image(shape=(None, None, 3)),
      self.LABEL: tfds.features.ClassLabel(names=['red', 'blue']),
    }
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {'train': self._examples(0, 9), 'test': self._examples(9, 12)}

  def _examples(self, start, stop):
    for i in range(start, stop):
      yield i, {'image': _png(20 * i), self.LABEL: i % 2}

  _generate_examples = None


class TinyShades(TinyColors):
  LABEL = 'shade'


@pytest.fixture
def offline(monkeypatch):
  """Fails the test that opens a connection."""

  def connect(*args):
    raise AssertionError(f'network touched: {args[1:]}')

  monkeypatch.setattr(socket.socket, 'connect', connect)
  monkeypatch.setattr(socket, 'getaddrinfo', connect)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  for builder_cls in (TinyColors, TinyShades):
    builder = builder_cls(data_dir=str(folder), file_format='array_record')
    builder.download_and_prepare()
  return str(folder)


def test_reads_back_what_was_prepared(prepared, offline):
  train = open_source('tfds', 'train', name='tiny_colors', path=prepared)
  test = open_source('tfds', 'test', name='tiny_colors:1.0.0', path=prepared)
  assert (len(train), len(test)) == (9, 3)
  assert train.class_names == ('red', 'blue')
  levels = {}
  for source in (train, test):
    for i in range(len(source)):
      record = source[i]
      assert isinstance(record['image'], bytes)
      pixels = decode(record['image'])
      assert pixels.shape == (4, 6, 3)
      assert (pixels == pixels[0, 0]).all()
      level = int(pixels[0, 0, 0])
      assert int(pixels[0, 0, 2]) == 255 - level
      levels[level] = record['label']
  assert levels == {20 * i: i % 2 for i in range(12)}
  assert repr(test) == 'tfds(tiny_colors, test, 3 examples)'
  assert test[1]['name'] == 'tiny_colors test[1]'


def test_slices_and_pickles(prepared):
  args = {'name': 'tiny_colors', 'path': prepared}
  whole = open_source('tfds', 'train', **args)
  tail = open_source('tfds', 'train[6:]', **args)
  copy = pickle.loads(pickle.dumps(tail))
  assert [copy[i] for i in range(3)] == [whole[i] for i in range(6, 9)]
  with pytest.raises(UserError, match='did you mean train'):
    open_source('tfds', 'tran', **args)


def test_other_features_are_named(prepared):
  with pytest.raises(UserError, match='features image, shade;'):
    open_source('tfds', 'train', name='tiny_shades', path=prepared)


@pytest.mark.parametrize(
  'name', ['imagenet2012', 'mnist', 'oxford_iiit_pet:4.0.0', 'no_such_set']
)
def test_not_prepared_is_said_at_once(name, tmp_path, offline):
  # A retried download would fail at the first connection (`offline`).
  with pytest.raises(UserError) as info:
    open_source('tfds', 'train', name=name, path=str(tmp_path))
  message = str(info.value)
  assert '\n' not in message
  assert f'{name} is not prepared in {tmp_path}' in message
  assert "file_format='array_record').download_and_prepare()" in message
  manual = 'ILSVRC2012_img_train.tar' in message
  assert manual == (name == 'imagenet2012')


def test_tfrecord_alone_is_its_own_line(prepared, tmp_path, offline):
  # Only the format's name in dataset_info.json decides: no record is read.
  import shutil

  shutil.copytree(f'{prepared}/tiny_colors', tmp_path / 'tiny_colors')
  info = tmp_path / 'tiny_colors' / '1.0.0' / 'dataset_info.json'
  text = info.read_text()
  assert 'array_record' in text
  info.write_text(text.replace('array_record', 'tfrecord'))
  with pytest.raises(UserError, match='prepared as tfrecord') as error:
    open_source('tfds', 'train', name='tiny_colors', path=str(tmp_path))
  assert 'array_record' in str(error.value)


def test_name_is_needed():
  with pytest.raises(UserError, match='config.data.name'):
    open_source('tfds', 'train')


def test_pixels_survive_exactly(prepared):
  source = open_source('tfds', 'test', name='tiny_colors', path=prepared)
  for i in range(3):
    with Image.open(io.BytesIO(source[i]['image'])) as image:
      assert np.array_equal(np.asarray(image), decode(source[i]['image']))
