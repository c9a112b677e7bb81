"""Resizing against TensorFlow's own values, a slow loop, and JAX."""

import pathlib

import jax
import numpy as np
import pytest
from skimage import data
from sklearn.datasets import load_sample_image

from effnet_jax.data.resample import METHODS, resize, tf1_taps

GOLDEN = np.load(pathlib.Path(__file__).parent / 'golden' / 'tf1.npz')
SIZES = [name for name in GOLDEN if name.startswith('size_')]


def _difference(a, b):
  return np.abs(np.asarray(a, int) - np.asarray(b, int))


def test_all_golden_sizes_are_there():
  assert len(SIZES) == 5


@pytest.mark.parametrize('name', SIZES)
def test_tf1_is_tensorflows(name):
  height, width = map(int, name.removeprefix('size_').split('x'))
  difference = _difference(
    resize(GOLDEN['image'], (height, width), 'tf1'), GOLDEN[name]
  )
  assert difference.max() <= 1
  assert difference.mean() < 0.01


def _cubic(x, a=-0.75):
  x = abs(x)
  if x <= 1:
    return (a + 2) * x**3 - (a + 3) * x**2 + 1
  if x < 2:
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
  return 0.0


def _loop(image, height, width):
  """The formula, an output pixel at a time, in double precision."""
  h, w = image.shape[:2]
  result = np.zeros((height, width, 3))
  for i in range(height):
    for j in range(width):
      y, x = i * h / height, j * w / width
      for m in range(int(y) - 1, int(y) + 3):
        for n in range(int(x) - 1, int(x) + 3):
          pixel = image[min(max(m, 0), h - 1), min(max(n, 0), w - 1)]
          result[i, j] += _cubic(y - m) * _cubic(x - n) * pixel
  return np.rint(np.clip(result, 0, 255))


@pytest.mark.parametrize(
  ('shape', 'size'),
  [
    ((8, 8), (16, 16)),
    ((23, 17), (9, 31)),
    ((60, 50), (7, 5)),  # so coarse that most pixels are never read
    ((1, 1), (5, 4)),
    ((1, 9), (3, 3)),
    ((5, 200), (60, 50)),  # more than one tile across
    ((90, 3), (130, 60)),
  ],
)
def test_tf1_is_its_formula(shape, size):
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  difference = _difference(resize(image, size, 'tf1'), _loop(image, *size))
  assert difference.max() <= 1
  assert difference.mean() < 0.1


def test_tf1_doubles_a_row_by_hand():
  # Even outputs are source pixels; halfway, the weights are those of x = 1/2
  # and 3/2: 0.59375 and -0.09375.
  row = np.array([[0, 0, 160, 160]], np.uint8)[..., None].repeat(3, -1)
  assert resize(row, (1, 8), 'tf1')[0, :, 0].tolist() == [
    0,
    0,  # 160 * -0.09375 = -15, clipped
    0,
    80,
    160,
    175,  # 160 * (1 + 0.09375)
    160,
    160,
  ]
  indices, weights = tf1_taps(4, 8)
  assert indices[3].tolist() == [0, 1, 2, 3]
  assert weights[3].tolist() == [-0.09375, 0.59375, 0.59375, -0.09375]
  assert indices[7].tolist() == [2, 3, 3, 3]


PHOTOS = {
  'chelsea': np.asarray(data.chelsea())[:, :, :3],
  'china': load_sample_image('china.jpg'),
}


@pytest.mark.parametrize('photo', PHOTOS)
@pytest.mark.parametrize('size', [(224, 224), (97, 130), (480, 700)])
def test_pillow_is_jaxs_antialiased_cubic(photo, size):
  # JAX's kernel is the same Keys cubic, a = -0.5. Pillow keeps bytes between
  # its two passes, rows first.
  image = PHOTOS[photo]
  for shape in ((image.shape[0], size[1], 3), (*size, 3)):
    cubic = jax.image.resize(
      image.astype(np.float32), shape, 'cubic', antialias=True
    )
    image = np.rint(np.clip(cubic, 0, 255))
  difference = _difference(resize(PHOTOS[photo], size, 'pillow'), image)
  assert difference.max() <= 2
  assert difference.mean() < 0.01


@pytest.mark.parametrize('photo', PHOTOS)
@pytest.mark.parametrize('size', [(224, 224), (97, 130), (480, 700)])
def test_bilinear_is_jaxs_linear(photo, size):
  image = PHOTOS[photo].astype(np.float32)
  linear = jax.image.resize(image, (*size, 3), 'linear', antialias=False)
  difference = _difference(
    resize(PHOTOS[photo], size, 'tf_bilinear'), np.rint(linear)
  )
  assert difference.max() <= 1
  assert difference.mean() < 0.01
  for shape in ((image.shape[0], size[1], 3), (*size, 3)):
    image = np.rint(jax.image.resize(image, shape, 'linear', antialias=True))
  difference = _difference(
    resize(PHOTOS[photo], size, 'pillow_bilinear'), image
  )
  assert difference.max() <= 2
  assert difference.mean() < 0.02


@pytest.mark.parametrize(
  'one, other',
  [('tf1', 'pillow'), ('tf1', 'tf_bilinear'), ('pillow', 'pillow_bilinear')],
)
def test_the_methods_differ_on_a_photo(one, other):
  image = PHOTOS['china']
  a, b = (resize(image, (200, 300), method) for method in (one, other))
  assert 1 < _difference(a, b).mean() < 30


@pytest.mark.parametrize('method', METHODS)
def test_a_box_is_a_crop_first(method):
  image = PHOTOS['chelsea']
  cropped = np.ascontiguousarray(image[20:120, 33:183])
  expected = resize(cropped, (64, 64), method)
  boxed = resize(image, (64, 64), method, box=(20, 33, 100, 150))
  assert np.array_equal(boxed, expected)
  assert boxed.flags.c_contiguous and boxed.dtype == np.uint8
  # What lies outside has no influence, not even at the border.
  other = np.zeros_like(image)
  other[20:120, 33:183] = cropped
  again = resize(other, (64, 64), method, box=(20, 33, 100, 150))
  assert np.array_equal(again, expected)


@pytest.mark.parametrize('method', METHODS)
def test_the_same_size_changes_nothing_and_shares_nothing(method):
  image = PHOTOS['chelsea'].copy()
  same = resize(image, image.shape[:2], method)
  assert np.array_equal(same, image)
  assert not np.shares_memory(same, image)


def test_unknown_method():
  with pytest.raises(ValueError, match='one of tf1, pillow'):
    resize(PHOTOS['chelsea'], (8, 8), 'lanczos')
