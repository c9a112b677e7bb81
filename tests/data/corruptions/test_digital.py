"""Digital corruptions against scipy, another JPEG library and by hand."""

import cv2
import numpy as np
import pytest
import scipy.ndimage

from effnet_jax.data.corruptions import fields
from effnet_jax.data.corruptions.corruption import SEVERITIES, corrupt


def _rng(seed=0):
  return np.random.default_rng(seed)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_contrast_by_hand(photos, severity):
  share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
  found = corrupt(_rng(), photos[0], 'contrast', severity)
  for channel in range(3):
    values = photos[0][..., channel].astype(float)
    expected = values.mean() + share * (values - values.mean())
    assert np.abs(found[..., channel] - expected).max() < 1.01


def test_elastic_transforms_parts_are_scipys(piece):
  drawn = _rng().uniform(-1, 1, (37, 53))
  for sigma in (2.44, 19.5, 170.8):  # the last reaches far past the borders
    expected = scipy.ndimage.gaussian_filter(
      drawn, sigma, mode='reflect', truncate=3
    )
    found = fields.gaussian(drawn, sigma, 3, cv2.BORDER_REFLECT)
    np.testing.assert_allclose(found, expected, atol=1e-9)
  y, x = np.mgrid[:37, :53] + _rng().uniform(-90, 90, (2, 37, 53))
  found = fields.sampled(piece.astype(np.float32), y, x)
  for channel in range(3):
    expected = scipy.ndimage.map_coordinates(
      piece[..., channel].astype(float), (y, x), order=1, mode='reflect'
    )
    np.testing.assert_allclose(found[..., channel], expected, atol=1e-3)


def test_elastic_transform_whole(photos):
  # As published, with what is drawn in the same order.
  rng, image = _rng(2), photos[1].astype(np.float32) / 255
  triangle = np.float32([(186, 186), (186, 38), (38, 38)])
  moved = triangle + rng.uniform(-4.88, 4.88, (3, 2))
  affine = cv2.getAffineTransform(triangle, moved.astype(np.float32))
  image = cv2.warpAffine(image, affine, (224, 224), borderMode=4)
  move_x, move_y = (
    29.28
    * scipy.ndimage.gaussian_filter(
      rng.uniform(-1, 1, (224, 224)), 2.44, mode='reflect', truncate=3
    )
    for _ in range(2)
  )
  y, x = np.mgrid[:224, :224]
  expected = [
    scipy.ndimage.map_coordinates(
      image[..., i], (y + move_y, x + move_x), order=1, mode='reflect'
    )
    for i in range(3)
  ]
  found = corrupt(_rng(2), photos[1], 'elastic_transform', 5)
  assert np.abs(found - 255 * np.stack(expected, -1)).max() < 1.01


def test_pixelate_by_hand(photos):
  # A quarter of 224: blocks of 4 x 4 take their mean.
  blocks = photos[0].reshape(56, 4, 56, 4, 3).mean((1, 3))
  expected = blocks.repeat(4, 0).repeat(4, 1)
  found = corrupt(_rng(), photos[0], 'pixelate', 5)
  assert np.abs(found - expected).max() <= 1  # Pillow rounds each axis
  for severity, share in enumerate((0.6, 0.5, 0.4, 0.3), 1):
    found = corrupt(_rng(), photos[0], 'pixelate', severity)
    rows = (np.abs(np.diff(found.astype(int), axis=0)).sum((1, 2)) > 0).sum()
    assert rows <= 2 * int(224 * share)
    assert len(np.unique(found[:, :, 0], axis=0)) <= 2 * int(224 * share)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_jpeg_of_the_published_quality(photos, severity):
  quality = (25, 18, 15, 10, 7)[severity - 1]
  errors = {}
  for q in range(5, 31):  # another library's
    coded = cv2.imencode('.jpg', photos[0][..., ::-1], [1, q])[1]
    found = corrupt(_rng(), photos[0], 'jpeg_compression', severity)
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    errors[q] = np.abs(decoded.astype(float) - found).mean()
  assert min(errors, key=errors.get) == quality
  assert errors[quality] < 1.5
