"""StableHLO files: deserialised, they give what `model.apply` gives."""

import json

import jax
import numpy as np
import pytest
import scipy.special

from effnet_jax.errors import UserError
from effnet_jax.weights.export import export, stablehlo


@pytest.fixture(scope='module')
def path(sample, tmp_path_factory):
  path = str(tmp_path_factory.mktemp('stablehlo') / 'sample')
  export(
    *(sample.model, sample.variables, path, 'stablehlo'), class_names='abcde'
  )
  return path


def test_logits_of_any_batch(sample, path, difference):
  program = stablehlo.load(path)
  for count in (1, 3):
    images = sample.images(count, seed=count)
    assert difference(program(images), sample.logits(images)) <= 1e-5


def test_jax_alone_can_read_it(path):
  with open(path, 'rb') as file:
    program = jax.export.deserialize(bytearray(file.read()))
  assert {'cpu', 'cuda', 'tpu'} <= set(program.platforms)
  (images,), (logits,) = program.in_avals, program.out_avals
  assert not isinstance(images.shape[0], int)
  assert images.shape[1:] == (22, 22, 3) and logits.shape[1:] == (5,)


def test_metadata(path, sample):
  metadata = stablehlo.load(path).metadata
  with open(f'{path}.json') as file:
    assert metadata == json.load(file)
  assert metadata['class_names'] == list('abcde')
  assert metadata['std'] == list(sample.spec.std)
  assert metadata['crop_padding'] == 32 and metadata['preprocess'] is False


def test_probabilities_of_pixels(sample, difference, tmp_path):
  path = tmp_path / 'sample'
  export(sample.model, sample.variables, path, 'stablehlo', preprocess=True)
  program = stablehlo.load(path)
  wanted = scipy.special.softmax(sample.logits(sample.images(2)), axis=1)
  assert difference(program(sample.pixels(2)), wanted) <= 1e-5
  with pytest.raises(UserError, match='takes uint8 images'):
    program(sample.images(2))


def test_bfloat16(sample, difference, tmp_path):
  path = tmp_path / 'half'
  export(sample.model, sample.variables, path, 'stablehlo', dtype='bfloat16')
  images = sample.images(2)
  found = stablehlo.load(path)(images)
  assert found.dtype == np.float32
  assert 1e-4 < difference(found, sample.logits(images)) < 0.05


@pytest.mark.parametrize('shape', [(22, 22, 3), (1, 22, 23, 3)])
def test_other_images_are_refused(path, shape):
  with pytest.raises(UserError, match=r'float32 images \[n, 22, 22, 3\], not'):
    stablehlo.load(path)(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
  'damage',
  [
    lambda data: b'',
    lambda data: b'no program at all' * 100,
    lambda data: data[: len(data) // 2],
    lambda data: bytes(len(data)),
  ],
  ids=['empty', 'text', 'half', 'zeros'],
)
def test_damaged_files(path, damage, tmp_path):
  with open(path, 'rb') as file:
    (tmp_path / 'damaged').write_bytes(damage(file.read()))
  with pytest.raises(UserError, match='damaged is no StableHLO file') as error:
    stablehlo.load(tmp_path / 'damaged')
  assert '\n' not in str(error.value)


def test_one_wrong_byte_is_noticed(path, tmp_path):
  for suffix in ('', '.json'):
    with open(path + suffix, 'rb') as file:
      (tmp_path / f'copy{suffix}').write_bytes(file.read())
  data = bytearray((tmp_path / 'copy').read_bytes())
  data[len(data) // 2] ^= 1
  (tmp_path / 'copy').write_bytes(data)
  with pytest.raises(UserError, match='is damaged: its sha256'):
    stablehlo.load(tmp_path / 'copy')


def test_no_file(tmp_path):
  with pytest.raises(UserError, match='No such file'):
    stablehlo.load(tmp_path / 'nothing')
