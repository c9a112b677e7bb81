"""Corruptions by name: what holds of all of them."""

import numpy as np
import pytest

from effnet_jax.data.corruptions import blur, digital, noise, weather
from effnet_jax.data.corruptions.corruption import KINDS, SEVERITIES, corrupt
from effnet_jax.errors import UserError


def _rng(seed=0):
  return np.random.default_rng(seed)


def _flat(level, side=200):
  return np.full((side, side, 3), level, np.uint8)


# As published, glass blur, snow, frost, fog and elastic transform do not fall
# from every severity to the next, for they trade one number for another.
def test_images_are_worse_at_higher_severities(photos):
  def psnr(kind, severity):
    errors = [
      np.square(
        corrupt(_rng(i), image, kind, severity) / 255 - image / 255
      ).mean()
      for i, image in enumerate(photos)
    ]
    return -10 * np.log10(np.mean(errors))

  uneven = ('glass_blur', 'snow', 'frost', 'fog', 'elastic_transform')
  for kind in KINDS:
    found = [psnr(kind, severity) for severity in SEVERITIES]
    assert max(found) < 35, kind  # none of them leaves the image alone
    if kind not in uneven:
      assert found == sorted(found, reverse=True), kind
    elif kind not in ('frost', 'elastic_transform'):
      assert found[-1] < found[0], kind


def test_tables_have_five_rows():
  tables = (
    *(noise.GAUSSIAN, noise.SHOT, noise.IMPULSE, blur.DEFOCUS, blur.GLASS),
    *(blur.MOTION, blur.ZOOM, weather.SNOW, weather.FROST, weather.FOG),
    *(weather.BRIGHTNESS, digital.CONTRAST, digital.ELASTIC),
    *(digital.PIXELATE, digital.JPEG),
  )
  assert len(tables) == len(KINDS) == 15
  assert {len(table) for table in tables} == {5}


def test_unknown_ones_are_named():
  with pytest.raises(UserError, match='fogg.*did you mean fog'):
    corrupt(_rng(), _flat(0, 4), 'fogg', 1)
  with pytest.raises(UserError, match='severity 6 of fog: it must be 1 to 5'):
    corrupt(_rng(), _flat(0, 4), 'fog', 6)
