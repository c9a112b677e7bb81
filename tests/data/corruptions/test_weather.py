"""Weather against loops, scikit-image and by hand."""

import numpy as np
import pytest
import skimage.color

from effnet_jax.data.corruptions import fields, weather
from effnet_jax.data.corruptions.corruption import SEVERITIES, corrupt


def _rng(seed=0):
  return np.random.default_rng(seed)


def _flat(level, side=200):
  return np.full((side, side, 3), level, np.uint8)


def test_plasma_as_loops():
  side, decay = 16, 1.7
  rng, field = _rng(3), np.zeros((side, side))
  step, amplitude = side, 1.0
  while step > 1:
    half = step // 2
    at = lambda y, x: field[y % side, x % side]
    for dy, dx, ways in (
      (half, half, [(-1, -1), (-1, 1), (1, -1), (1, 1)]),
      (0, half, [(0, -1), (0, 1), (-1, 0), (1, 0)]),
      (half, 0, [(0, -1), (0, 1), (-1, 0), (1, 0)]),
    ):
      count = side // step
      drawn = rng.uniform(-1, 1, (count, count)) * amplitude
      for i in range(count):
        for j in range(count):
          y, x = dy + i * step, dx + j * step
          mean = sum(at(y + half * a, x + half * b) for a, b in ways) / 4
          field[y, x] = mean + drawn[i, j]
    step, amplitude = half, amplitude / decay**2
  field = (field - field.min()) / (field.max() - field.min())
  np.testing.assert_allclose(fields.plasma(_rng(3), side, decay), field)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_fog_by_hand(severity):
  thickness = (1.5, 2, 2.5, 2.5, 3)[severity - 1]
  # The whole fractal, from 0 to 1, on white and on three quarters of it.
  for level in (255, 192):
    found = corrupt(_rng(), _flat(level, 256), 'fog', severity)
    share = level / 255
    lowest = share * share / (share + thickness)
    assert found.min() == int(255 * lowest)
    assert found.max() in (level - 1, level) or found.max() == int(
      255 * min(1, (share + thickness) * share / (share + thickness))
    )
  assert not corrupt(_rng(), _flat(0, 64), 'fog', severity).any()


@pytest.mark.parametrize('severity', SEVERITIES)
def test_snow_by_hand(severity):
  kept = (0.8, 0.7, 0.7, 0.65, 0.55)[severity - 1]
  black = corrupt(_rng(), _flat(0, 224), 'snow', severity)
  assert (black[..., 0] == black[..., 1]).all()
  # Where no flake falls, black is whitened by half of what is not kept.
  base = int(255 * 0.5 * (1 - kept) + 1e-9)
  assert base <= black.min() <= base + (80 if severity > 2 else 1)
  assert black.max() > base + 60
  # Two layers, one the other turned by half a circle.
  assert (black == black[::-1, ::-1]).all()
  assert (corrupt(_rng(), _flat(255, 64), 'snow', severity) == 255).all()


@pytest.mark.parametrize('severity', SEVERITIES)
def test_frost_weighs_a_picture_as_published(severity):
  kept, weight = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[
    severity - 1
  ]
  black = corrupt(_rng(), _flat(0), 'frost', severity).astype(float)
  grey = corrupt(_rng(), _flat(60), 'frost', severity).astype(float)
  assert np.abs(grey - black - 60 * kept).max() <= 1
  assert black.max() <= 255 * weight
  pictures = [weather._frost_picture(i, 512) for i in range(5)]
  for picture in pictures:
    assert picture.std() > 30 and 60 < picture.mean() < 190
  assert len({picture.tobytes() for picture in pictures}) == 5


@pytest.mark.parametrize('severity', SEVERITIES)
def test_brightness_is_added_in_hsv(photos, severity):
  image = photos[1].copy()
  image[:3] = 0
  hsv = skimage.color.rgb2hsv(image / 255)
  hsv[..., 2] = np.clip(hsv[..., 2] + severity / 10, 0, 1)
  expected = skimage.color.hsv2rgb(hsv) * 255
  found = corrupt(_rng(), image, 'brightness', severity)
  assert np.abs(found - expected).max() < 1.01
  assert (found[0] == int(25.5 * severity)).all()
