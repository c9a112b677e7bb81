"""Corruptions as a transform: any size, the same however images are read."""

import pickle

import numpy as np
import pytest

from effnet_jax.data.corruptions.corruption import (
  KINDS,
  SEVERITIES,
  Corruption,
  corrupt,
)
from effnet_jax.data.pipeline import eval_batches
from effnet_jax.data.preprocess import Preprocess, eval_image
from effnet_jax.data.sources import ArraySource
from effnet_jax.errors import UserError

# All that is drawn of these is nothing.
FIXED = {
  *('defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate'),
  'jpeg_compression',
}


def _noise(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(1, 1), (3, 2), (28, 28), (65, 130)])
def test_any_size(kind, shape):
  image = _noise((*shape, 3))
  before = image.copy()
  for severity in SEVERITIES:
    for scaled in (False, True):
      found = Corruption(kind, severity, scaled=scaled)(0, image)
      assert found.shape == image.shape and found.dtype == np.uint8
  assert np.array_equal(image, before)


@pytest.mark.parametrize('kind', KINDS)
def test_what_a_draw_depends_on(kind):
  image = _noise((32, 32, 3)) // 2
  make = lambda severity=3, seed=0, index=5: Corruption(kind, severity, seed)(
    index, image
  )
  assert np.array_equal(make(), make())
  assert not np.array_equal(make(), make(severity=1))
  for other in (make(seed=1), make(index=6)):
    assert np.array_equal(make(), other) == (kind in FIXED)


def test_kinds_and_severities_draw_apart():
  # Both hit by the same first numbers would hit the same places.
  image = np.full((40, 40, 3), 100, np.uint8)
  a, b = (Corruption('impulse_noise', s)(0, image) != 100 for s in (4, 5))
  # Independent: .17 * .27; else the smaller of the two, .17.
  assert (a & b).mean() == pytest.approx(0.17 * 0.27, abs=0.02)
  signs = [
    Corruption(kind, 1)(0, image).astype(int) > 100
    for kind in ('gaussian_noise', 'shot_noise')
  ]
  assert (signs[0] == signs[1]).mean() == pytest.approx(0.5, abs=0.05)


def test_scaled_lengths():
  point = np.zeros((112, 112, 3), np.uint8)
  point[54:59, 54:59] = 255
  spread = lambda scaled: np.ptp(
    np.nonzero(Corruption('defocus_blur', 5, scaled=scaled)(0, point))[0]
  )
  # A radius of 10 pixels at 224 is 5 at 112, on either side of 5 pixels.
  assert 22 <= spread(False) <= 28 and 12 <= spread(True) <= 18
  large = _noise((224, 224, 3))
  for kind in KINDS:
    same = [Corruption(kind, 2, scaled=s)(1, large) for s in (False, True)]
    assert np.array_equal(*same), kind


def _batches(workers, batch_size, transform):
  images = [_noise((24, 20, 3), seed=i) for i in range(10)]
  source = ArraySource(np.stack(images), np.arange(10), list('abcdefghij'))
  batches = eval_batches(
    source, Preprocess(16), batch_size=batch_size, workers=workers
  )
  found = list(batches.transformed(transform))
  plain = list(batches)
  assert len(found) == len(plain) == len(batches)
  mask = np.concatenate([b['mask'] for b in found]) == 1
  join = lambda part: np.concatenate([b['image'] for b in part])[mask]
  return images, join(found), join(plain)


@pytest.mark.parametrize(('workers', 'batch'), [(0, 10), (0, 3), (1, 4)])
def test_neither_batches_nor_workers_change_an_image(workers, batch):
  transform = Corruption('snow', 3, seed=7)
  images, found, plain = _batches(workers, batch, transform)
  for index, image in enumerate(images):
    image = eval_image(image, Preprocess(16))
    assert np.array_equal(plain[index], image)
    assert np.array_equal(found[index], transform(index, image))


def test_it_travels_and_refuses_what_is_not():
  one = Corruption('glass_blur', 2, seed=3, scaled=True)
  assert pickle.loads(pickle.dumps(one)) == one
  with pytest.raises(UserError, match='did you mean frost'):
    Corruption('forst', 1)
  with pytest.raises(UserError, match='severity 0'):
    Corruption('frost', 0)
  rng = np.random.Generator(np.random.Philox(counter=[0, 0, 0, 9], key=[3, 22]))
  image = _noise((30, 30, 3))
  expected = corrupt(rng, image, 'glass_blur', 2, scale=30 / 224)
  assert np.array_equal(one(9, image), expected)
