"""Each operation against Pillow, plain numpy or values by hand.

benchmarks/tf_augment.py compares all with TensorFlow's.
"""

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageEnhance, ImageOps

from effnet_jax.data.augment import compiled, ops, table

FACTORS = (0.1, 0.46, 1.0, 1.72, 1.9, 5.14)  # 5.14: level 28


@pytest.fixture(scope='module', params=['chelsea', 'coffee'])
def photo(request):
  whole = getattr(skimage.data, request.param)()
  return np.ascontiguousarray(whole[40:137, 60:191])  # 97 x 131


def _pillow(function, image, *arguments):
  return np.asarray(function(Image.fromarray(image), *arguments))


def test_inversion_is_pillows(photo):
  assert np.array_equal(ops.invert(photo), _pillow(ImageOps.invert, photo))


@pytest.mark.parametrize('bits', range(1, 9))
def test_posterizing_is_pillows(photo, bits):
  expected = _pillow(ImageOps.posterize, photo, bits)
  assert np.array_equal(ops.posterize(photo, bits), expected)


def test_a_posterizing_shift_out_of_range_leaves_the_top_bit():
  values = np.array([0, 1, 127, 128, 200, 255], np.uint8)
  image = np.stack([values] * 3, -1)[None]
  for bits in (0, -1, 9, 11):  # level 2 is 0 bits, level 28 is 11
    found = ops.posterize(image, bits)[0, :, 0]
    assert found.tolist() == [0, 0, 0, 128, 128, 128]


@pytest.mark.parametrize('threshold', [0, 25, 128, 255])
def test_solarizing_is_pillows(photo, threshold):
  expected = _pillow(ImageOps.solarize, photo, threshold)
  assert np.array_equal(ops.solarize(photo, threshold), expected)


def test_a_threshold_beyond_255_starts_anew():
  image = np.array([[[0, 178, 179], [203, 204, 255]]], np.uint8)
  inverted = [[[255, 77, 76], [52, 51, 0]]]
  assert ops.solarize(image, 256).tolist() == inverted  # level 10: 0
  # Level 17 is 435, which is 179; level 28 is 716, 204.
  assert ops.solarize(image, 435).tolist() == [[[0, 178, 76], [52, 51, 0]]]
  assert ops.solarize(image, 716).tolist() == [[[0, 178, 179], [203, 51, 0]]]


def test_adding_by_hand():
  image = np.array([[[0, 127, 128], [20, 100, 255]]], np.uint8)
  expected = [[[99, 226, 128], [119, 199, 255]]]
  assert ops.solarize_add(image, 99).tolist() == expected
  assert ops.solarize_add(image, 308)[0, 0].tolist() == [255, 255, 128]


def test_equalizing_is_pillows_but_for_its_lowest_entry(photo):
  found = ops.equalize(photo)
  expected = _pillow(ImageOps.equalize, photo)
  darkest = photo == 0  # Pillow's table begins at half a step, ours at 0
  assert np.array_equal(found[~darkest], expected[~darkest])
  assert not found[darkest].any()


def test_stretching_is_pillows_to_rounding(photo):
  grey = (photo // 2 + 40).astype(np.uint8)
  found = ops.autocontrast(grey).astype(int)
  assert np.abs(found - _pillow(ImageOps.autocontrast, grey)).max() <= 1
  assert (found.min((0, 1)) == 0).all()
  assert (found.max((0, 1)) >= 254).all()  # truncated


def test_flat_channels_stay():
  image = np.full((5, 7, 3), (0, 90, 255), np.uint8)
  assert np.array_equal(ops.autocontrast(image), image)
  assert np.array_equal(ops.equalize(image), image)


@pytest.mark.parametrize('factor', FACTORS)
@pytest.mark.parametrize(
  ('operation', 'enhancer'),
  [
    (ops.brightness, ImageEnhance.Brightness),
    (ops.contrast_of_mean, ImageEnhance.Contrast),
    (ops.color, ImageEnhance.Color),
  ],
)
def test_enhancing_is_pillows_to_rounding(photo, operation, enhancer, factor):
  expected = _pillow(lambda image: enhancer(image).enhance(factor), photo)
  # The grey levels may be one apart, and are blended with this weight.
  allowed = 1 + abs(1 - factor)
  apart = np.abs(operation(photo, factor).astype(int) - expected)
  assert apart.max() <= allowed


def test_contrast_blends_with_a_number_of_pixels():
  image = np.full((16, 48, 3), 100, np.uint8)  # 768 pixels: 3
  assert (ops.contrast(image, 0.5) == 51).all()  # 3 + .5 * 97 = 51.5
  large = np.full((256, 300, 3), 100, np.uint8)  # 300, at most 255
  assert (ops.contrast(large, 0.5) == 177).all()  # 255 - 77.5 = 177.5


def test_grey_of_many_colors():
  # Every 7th red and blue: 37 * 256 * 37 colours, a few of which another order
  # of the sum moves. benchmarks/tf_augment.py has all.
  steps = np.arange(0, 256, 7), np.arange(256), np.arange(0, 256, 7)
  colors = np.stack(np.meshgrid(*steps, indexing='ij'), -1).astype(np.uint8)
  red, green, blue = (
    colors[..., c].astype(np.float32) * np.float32(1 / 255) * np.float32(w)
    for c, w in enumerate((0.2989, 0.587, 0.114))
  )
  expected = (red + green + blue) * np.float32(255.5)
  found = compiled.grey(colors.reshape(1, -1, 3))
  assert np.array_equal(found.ravel(), expected.astype(np.uint8).ravel())


def test_smoothing_in_float32_row_by_row(photo):
  height, width = photo.shape[:2]
  total = np.zeros((height - 2, width - 2, 3), np.float32)
  for dy, dx in np.ndindex(3, 3):
    weight = np.float32(5 if dy == dx == 1 else 1) / np.float32(13)
    total += photo[dy : height - 2 + dy, dx : width - 2 + dx] * weight
  expected = photo.copy()
  expected[1:-1, 1:-1] = total.astype(np.uint8)
  assert np.array_equal(compiled.smooth(photo), expected)
  # The exact sum in whole numbers is up to one more, and never less.
  whole = sum(
    (5 if dy == dx == 1 else 1)
    * photo[dy : height - 2 + dy, dx : width - 2 + dx].astype(int)
    for dy, dx in np.ndindex(3, 3)
  )
  missed = whole // 13 - expected[1:-1, 1:-1]
  assert set(np.unique(missed)) == {0, 1}
  assert not (whole % 13)[missed == 1].any()


def test_sharpness_blends_with_the_smoothed(photo):
  smooth = compiled.smooth(photo).astype(float)
  expected = np.clip(smooth + 1.72 * (photo - smooth), 0, 255)
  apart = np.abs(ops.sharpness(photo, 1.72) - expected)
  assert apart.max() < 1  # truncated
  border = ops.sharpness(photo, 0.1)
  assert np.array_equal(border[0], photo[0])
  assert np.array_equal(border[:, -1], photo[:, -1])


def _moved(image, matrix):
  """The definition, a pixel at a time, in exact arithmetic."""
  height, width = image.shape[:2]
  result = np.full_like(image, 128)
  for y in range(height):
    for x in range(width):
      at = [
        sum(k * v for k, v in zip(matrix[i : i + 3], (x, y, 1), strict=True))
        for i in (0, 3)
      ]
      # C's round: halves away from zero.
      u, v = (int(np.sign(p) * np.floor(abs(p) + 0.5)) for p in at)
      if 0 <= u < width and 0 <= v < height:
        result[y, x] = image[v, u]
  return result


def test_halves_are_rounded_away_from_zero():
  below = np.nextafter(np.float32(0.5), np.float32(0))
  for value, expected in (
    (below, 0), (0.5, 1), (1.5, 2), (2.5, 3), (2.4, 2), (6e6, 6_000_000),
  ):  # fmt: skip
    assert compiled.nearest(np.float32(value)) == expected
    assert compiled.nearest(np.float32(-value)) == -expected


@pytest.mark.parametrize('sign', [-1, 1])
@pytest.mark.parametrize(
  ('name', 'amount', 'matrix'),
  [
    ('shear_x', 0.25, (1, 0.25, 0, 0, 1, 0)),
    ('shear_y', 0.25, (1, 0, 0, 0.25, 1, 0)),
    ('translate_x', 10.5, (1, 0, 10.5, 0, 1, 0)),
    ('translate_y', 10.5, (1, 0, 0, 0, 1, 10.5)),
  ],
)
def test_geometry_by_the_definition(photo, name, amount, matrix, sign):
  image = photo[:30, :41]
  signed = [
    m if i in (0, 4) else sign * m  # all but the identity's ones
    for i, m in enumerate(matrix)
  ]
  found = getattr(ops, name)(image, sign * amount)
  assert np.array_equal(found, _moved(image, signed))


def test_quarter_turns_are_exact(photo):
  square = np.ascontiguousarray(photo[:97, :97])
  assert np.array_equal(ops.rotate(square, 90), np.rot90(square, 1))
  assert np.array_equal(ops.rotate(square, -90), np.rot90(square, -1))
  assert np.array_equal(ops.rotate(photo, 180), photo[::-1, ::-1])


def test_a_small_turn_is_opencvs_nearly_everywhere(photo):
  height, width = photo.shape[:2]
  matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 21, 1)
  expected = cv2.warpAffine(
    photo,
    matrix,
    (width, height),
    flags=cv2.INTER_NEAREST,
    borderValue=(128, 128, 128),
  )
  same = (ops.rotate(photo, 21) == expected).all(-1)
  assert same.mean() > 0.97  # OpenCV rounds positions to 1/1024 first


def test_cutout_is_clipped_at_the_border():
  image = np.zeros((10, 12, 3), np.uint8)
  found = ops.cutout(image, 3, (1, 10))
  expected = np.zeros((10, 12), bool)
  expected[0:4, 7:12] = True
  assert np.array_equal((found == 128).all(-1), expected)
  assert not image.any()


# level -> argument, by hand from the published table.
ARGUMENTS = [
  ('Posterize', 6, {}, ('posterize', (2,))),
  ('Posterize', 28, {}, ('posterize', (11,))),
  ('Posterize', 6, {'increasing': True}, ('posterize', (2,))),
  ('Posterize', 9, {'increasing': True}, ('posterize', (1,))),
  ('Solarize', 9, {}, ('solarize', (230,))),
  ('Solarize', 10, {}, ('solarize', (0,))),
  ('Solarize', 28, {}, ('solarize', (204,))),
  ('Solarize', 9, {'increasing': True}, ('solarize', (26,))),
  ('Solarize', 28, {'increasing': True}, ('solarize', (0,))),
  ('SolarizeAdd', 7, {}, ('solarize_add', (77,))),
  ('Color', 9, {}, ('color', (1.72,))),
  ('Contrast', 0, {}, ('contrast', (0.1,))),
  ('Brightness', 28, {}, ('brightness', (5.14,))),
  ('Sharpness', 5, {}, ('sharpness', (1.0,))),
  ('Rotate', 8, {}, ('rotate', (24.0,))),
  ('ShearX', 9, {}, ('shear_x', (0.27,))),
  ('ShearY', 4, {}, ('shear_y', (0.12,))),
  ('TranslateX', 9, {}, ('translate_x', (90.0,))),
  ('TranslateY', 2, {'translate': 250}, ('translate_y', (50.0,))),
]


@pytest.mark.parametrize(('name', 'level', 'scale', 'expected'), ARGUMENTS)
def test_levels_by_hand(photo, name, level, scale, expected):
  operation, arguments = expected
  scale = table.Scale(**scale)
  allowed = [getattr(ops, operation)(photo, *arguments)]
  if name in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'):
    allowed.append(getattr(ops, operation)(photo, -arguments[0]))
  seen = set()
  for seed in range(8):
    rng = np.random.default_rng(seed)
    found = table.apply(name, rng, photo, level, scale)
    (index,) = [i for i, a in enumerate(allowed) if np.array_equal(a, found)]
    seen.add(index)
  assert seen == set(range(len(allowed)))


def test_increasing_levels_leave_the_image_at_0():
  image = skimage.data.coffee()[:40, :40]
  rng = np.random.default_rng(0)
  for name in (*('Posterize', 'Solarize', 'Color', 'Contrast', 'Brightness'),
               *('Sharpness', 'Rotate', 'ShearX', 'TranslateY')):  # fmt: skip
    scale = table.Scale(increasing=True)
    found = table.apply(name, rng, image, 0, scale)
    if name == 'Posterize':
      assert np.array_equal(found, image & 0b11110000)  # 4 bits, as timm's
    else:
      assert np.array_equal(found, image), name


@pytest.mark.parametrize('name', table.OPERATIONS)
@pytest.mark.parametrize('shape', [(1, 1), (2, 5), (7, 3)])
def test_any_size(name, shape):
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  before = image.copy()
  for level in (0, 2, 10, 28):
    rng = np.random.default_rng(1)
    found = table.apply(name, rng, image, level, table.Scale())
    assert found.shape == image.shape and found.dtype == np.uint8
  assert np.array_equal(image, before)
