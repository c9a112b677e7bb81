"""Blurs against scipy, loops and by hand."""

import math

import numpy as np
import pytest
import scipy.ndimage

from effnet_jax.data.corruptions import blur, fields
from effnet_jax.data.corruptions.corruption import SEVERITIES, corrupt


def _rng(seed=0):
  return np.random.default_rng(seed)


def _flat(level, side=200):
  return np.full((side, side, 3), level, np.uint8)


@pytest.mark.parametrize(
  ('radius', 'sigma'), [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)]
)
def test_defocus_kernels_are_disks(radius, sigma):
  kernel = blur.disk(radius, sigma)
  reach = len(kernel) // 2
  assert len(kernel) == 2 * max(8, radius) + 1
  # A disk that touches the edge of its array is softened past it.
  assert kernel.sum() == pytest.approx(1, abs=1e-6 if radius < 8 else 0.015)
  y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
  distance = np.hypot(y, x)
  assert not kernel[distance > radius + 1 + math.sqrt(2) * 2].any()
  inner = kernel[distance < radius - 3]
  points = sum(
    a * a + b * b <= radius**2
    for a in range(-radius, radius + 1)
    for b in range(-radius, radius + 1)
  )
  np.testing.assert_allclose(inner, 1 / points, rtol=1e-5)
  assert len(blur.disk(radius, sigma, 3.0)) == 2 * max(8, 3 * radius) + 1


def test_defocus_blur_is_a_convolution(piece):
  kernel = blur.disk(6, 0.5)
  expected = [
    scipy.ndimage.convolve(piece[..., i] / 255, kernel, mode='mirror')
    for i in range(3)
  ]
  found = corrupt(_rng(), piece, 'defocus_blur', 3)
  assert np.abs(found - 255 * np.stack(expected, -1)).max() < 1.01


@pytest.mark.parametrize('severity', SEVERITIES)
def test_glass_blur_as_loops(piece, severity):
  sigma, farthest, rounds = blur.GLASS[severity - 1]
  soft = lambda x: (
    255
    * np.clip(
      scipy.ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode='nearest'),
      0,
      1,
    )
  )
  rng, expected = _rng(5), fields.to_bytes(soft(piece) / 255)
  height, width = piece.shape[:2]
  for _ in range(rounds):
    shape = (height - 2 * farthest, width - 2 * farthest)
    down = rng.integers(-farthest, farthest, shape)
    right = rng.integers(-farthest, farthest, shape)
    for y in range(height - farthest, farthest, -1):
      for x in range(width - farthest, farthest, -1):
        at = (y - farthest - 1, x - farthest - 1)
        expected[y, x] = expected[y + down[at], x + right[at]]
  found = corrupt(_rng(5), piece, 'glass_blur', severity)
  assert np.abs(found - soft(expected)).max() < 1.01


def test_motion_blur_by_hand():
  image = np.zeros((41, 41))
  image[20, 20] = 1
  weights = np.exp(-(np.arange(21.0) ** 2) / 18)
  weights /= weights.sum()
  # Each pixel gathers what lies ahead, so that a point trails behind.
  for angle, (down, right) in {0: (0, 1), 90: (1, 0), -90: (-1, 0)}.items():
    blurred = fields.motion_blur(image, 10, 3, angle)
    trail = [blurred[20 - i * down, 20 - i * right] for i in range(21)]
    np.testing.assert_allclose(trail, weights, atol=1e-6)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
  diagonal = fields.motion_blur(image, 10, 3, 45)
  # sqrt(1/2) i rounds to 0, 1, 1, 2, 3, 4, 4: two weights meet at 1 and 4.
  expected = [weights[0], weights[1] + weights[2], weights[3], weights[4]]
  trail = [diagonal[20 - i, 20 - i] for i in range(4)]
  np.testing.assert_allclose(trail, expected, atol=1e-6)


def test_motion_blur_repeats_borders_and_keeps_flat_images():
  assert (corrupt(_rng(), _flat(93, 30), 'motion_blur', 5) == 93).all()
  image = np.zeros((1, 30))
  image[0, -1] = 1
  weights = np.exp(-(np.arange(7.0) ** 2) / 8)
  blurred = fields.motion_blur(image, 3, 2, 0)
  for i in range(7):
    expected = weights[i:].sum() / weights.sum()
    assert blurred[0, -1 - i] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('factor', [1.0, 1.01, 1.16, 2.0, 4.5])
def test_zoomed_is_scipys(piece, factor):
  square = piece[:37, :37] / 255
  kept = math.ceil(37 / factor)
  first = (37 - kept) // 2
  middle = square[first : first + kept, first : first + kept]
  large = scipy.ndimage.zoom(middle, (factor, factor, 1), order=1)
  trim = (len(large) - 37) // 2
  expected = large[trim : trim + 37, trim : trim + 37]
  np.testing.assert_allclose(fields.zoomed(square, factor), expected, atol=1e-9)


def test_zoom_blur_weighs_the_image_twice(piece):
  factors = [1 + 0.03 * i for i in range(11)]  # up to 1.30
  pixels = piece / 255
  total = pixels + sum(fields.zoomed(pixels, factor) for factor in factors)
  found = corrupt(_rng(), piece, 'zoom_blur', 5)
  assert np.abs(found - 255 * total / 12).max() < 1.01
