"""Resizing, in the ways that the published weights saw.

'tf1'     the TensorFlow 1 op `resize_bicubic`, which the official code trains
          and evaluates with: a = -0.75, no antialias, source position =
          output position * scale (pixel centres are not aligned), borders
          repeated. Weights come from a table of 1024 steps a pixel.
'pillow'  Pillow's BICUBIC, which the PyTorch ports evaluate with: a = -0.5,
          antialias, pixel centres aligned.
'tf_bilinear'      TensorFlow 2's `tf.image.resize`, which the V2 code uses:
          pixel centres aligned, no antialias.
'pillow_bilinear'  Pillow's BILINEAR, antialias, pixel centres aligned.

On a photo they differ by several grey levels; each set of weights wants its
own. All return uint8, clipped and rounded to the nearest; the official
pipeline keeps the float of the resize, overshoots included, unless an
augmentation follows (which truncates to uint8).
"""

import functools

import cv2
import numpy as np
from PIL import Image

from effnet_jax.data import scratch

METHODS = ('tf1', 'pillow', 'tf_bilinear', 'pillow_bilinear')

_PILLOW = {
  'pillow': Image.Resampling.BICUBIC,
  'pillow_bilinear': Image.Resampling.BILINEAR,
}

Box = tuple[int, int, int, int]

_TABLE_SIZE = 1024
# Of one axis, a pair of sizes each: more than a data set's crops have.
_SIZES_KEPT = 1024


def resize(
  image: np.ndarray,
  size: tuple[int, int],
  method: str = 'tf1',
  *,
  box: Box | None = None,
) -> np.ndarray:
  """Crops and resizes one image.

  Args:
    image: uint8 [h, w, 3].
    size: (height, width) of the result, pixels.
    method: one of METHODS, see the top of this file.
    box: (top, left, height, width) to crop first, pixels; None for no crop.
      What lies outside the box has no influence.

  Returns:
    uint8 [height, width, 3], contiguous.

  Raises:
    ValueError: unknown method.
  """
  if box is not None:
    top, left, height, width = box
    image = image[top : top + height, left : left + width]
  if image.shape[:2] == tuple(size):  # every method is the identity there
    return image.copy()
  if method == 'tf1':
    return _resize_tf1(image, *size)
  if method == 'tf_bilinear':
    # In float32: on uint8 OpenCV keeps the weights to 11 bits.
    resized = cv2.resize(
      image.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR
    )
    return np.rint(resized).astype(np.uint8)
  if method in _PILLOW:
    resized = Image.fromarray(image).resize(size[::-1], _PILLOW[method])
    return np.array(resized)
  raise ValueError(f'no resampling {method!r}: one of {", ".join(METHODS)}')


def tf1_taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray]:
  """The four source indices and weights of each output position, one axis.

  tensorflow/core/kernels/image/resize_bicubic_op.cc, LegacyScaler.

  Returns:
    int64 and float32, each [size_out, 4]. Indices are clamped to the image.
  """
  scale = np.float32(size_in) / np.float32(size_out)
  position = np.arange(size_out, dtype=np.float32) * scale
  first = np.floor(position)
  step = np.rint((position - first) * np.float32(_TABLE_SIZE)) / _TABLE_SIZE
  a = -0.75
  near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1  # |x| <= 1
  far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a  # 1 <= |x| <= 2
  weights = [far(1 + step), near(step), near(1 - step), far(2 - step)]
  indices = first.astype(np.int64)[:, None] + np.arange(-1, 3)
  return (
    np.clip(indices, 0, size_in - 1),
    np.stack(weights, axis=1).astype(np.float32),
  )


@functools.lru_cache(_SIZES_KEPT)
def _tf1_matrix(size_in: int, size_out: int, channels: int) -> tuple:
  """The taps of one axis as a sparse matrix.

  Returns:
    (used, matrix): the source indices that matter, None for all of them, and
    [size_out * channels, len(used) * channels], in which channels don't mix.
  """
  from scipy import sparse  # takes a while to import

  indices, weights = tf1_taps(size_in, size_out)
  used, count = None, size_in
  if size_in > 3 * size_out:  # below, the taps leave no gaps
    used, places = np.unique(indices, return_inverse=True)
    indices, count = places.reshape(indices.shape), len(used)
  columns = indices[:, None] * channels + np.arange(channels)[:, None]
  rows = size_out * channels
  matrix = sparse.csr_array(
    (
      np.repeat(weights, channels, axis=0).ravel(),
      columns.ravel(),
      4 * np.arange(rows + 1),
    ),
    shape=(rows, count * channels),
  )
  return used, matrix


def _resize_tf1(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Four taps an axis, as sparse products, columns first: they free the GIL.

  Pixels are transposed as flat rows of [w * 3], which is faster than by
  threes; so the channels are in the columns' matrix.
  """
  used_rows, rows = _tf1_matrix(image.shape[0], height, 1)
  used_columns, columns = _tf1_matrix(image.shape[1], width, 3)
  if used_rows is not None:
    image = image[used_rows]
  if used_columns is not None:
    image = image[:, used_columns]
  flat = image.reshape(len(image), -1)  # a copy where columns were chosen
  floats = scratch.array('floats', flat.shape[::-1], np.float32)
  np.copyto(floats, _transposed('bytes', flat))
  narrow = rows @ _transposed('narrow', columns @ floats)
  # OpenCV's conversion clips and rounds (to even), in one pass.
  pixels = np.empty(narrow.shape, np.uint8)
  cv2.add(narrow, 0, pixels, dtype=cv2.CV_8U)
  return pixels.reshape(height, width, 3)


def _transposed(name: str, matrix: np.ndarray) -> np.ndarray:
  return cv2.transpose(
    matrix, scratch.array(name, matrix.shape[::-1], matrix.dtype.type)
  )
