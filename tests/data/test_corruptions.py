"""ImageNet-C's corruptions against scipy, scikit-image, loops and by hand."""

import math

import cv2
import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.data

from effnet_jax.data.corruptions import blur, digital, fields, noise, weather
from effnet_jax.data.corruptions.corruption import KINDS, SEVERITIES, corrupt
from effnet_jax.data.preprocess import Preprocess, eval_image
from effnet_jax.errors import UserError


def _rng(seed=0):
  return np.random.default_rng(seed)


def _flat(level, side=200):
  return np.full((side, side, 3), level, np.uint8)


@pytest.fixture(scope='module')
def photos():
  names = ('chelsea', 'coffee')
  crop = Preprocess(224)
  return [eval_image(getattr(skimage.data, n)(), crop) for n in names]


@pytest.fixture(scope='module')
def piece(photos):
  return np.ascontiguousarray(photos[0][60:97, 40:93])  # 37 x 53


@pytest.mark.parametrize('severity', SEVERITIES)
def test_gaussian_noise_has_the_published_deviation(severity):
  sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
  values = corrupt(_rng(), _flat(128), 'gaussian_noise', severity) / 255
  # Black is the normal's tail below 1, which is truncated to 0.
  black = 0.5 * math.erfc((128 - 1) / 255 / sigma / math.sqrt(2))
  assert np.mean(values == 0) == pytest.approx(black, abs=3e-3)
  inside = np.abs(values - 0.5) < sigma  # a share that clipping leaves alone
  assert inside.mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.015)
  if severity == 1:
    assert values.std() == pytest.approx(sigma, rel=0.01)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_shot_noise_is_poisson(severity):
  photons = (60, 25, 12, 5, 3)[severity - 1]
  values = corrupt(_rng(), _flat(51), 'shot_noise', severity) / 255
  # Of a fifth of white: mean and variance of the count are photons / 5.
  expected = np.exp(-photons / 5)
  assert np.mean(values == 0) == pytest.approx(expected, abs=5e-3)
  if photons >= 12:  # clipping is rare
    assert values.var() == pytest.approx(0.2 / photons, rel=0.03)
  assert set(np.unique(values * 255)) <= {
    float(int(min(k / photons, 1) * 255)) for k in range(photons + 1)
  }
  assert not corrupt(_rng(), _flat(0), 'shot_noise', severity).any()


@pytest.mark.parametrize('severity', SEVERITIES)
def test_impulse_noise_hits_the_published_share(severity):
  share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
  values = corrupt(_rng(), _flat(77), 'impulse_noise', severity)
  assert set(np.unique(values)) == {0, 77, 255}
  assert np.mean(values == 0) == pytest.approx(share / 2, abs=2e-3)
  assert np.mean(values == 255) == pytest.approx(share / 2, abs=2e-3)
  # Channel by channel: all three are hit in share cubed of the pixels.
  together = np.mean((values != 77).all(-1))
  assert together == pytest.approx(share**3, abs=2e-3)


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
