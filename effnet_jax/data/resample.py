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
  top, left, height, width = box or (0, 0, *image.shape[:2])
  if method == 'tf1' and (height, width) != tuple(size):
    return _resize_tf1(image, (top, left, height, width), *size)
  image = image[top : top + height, left : left + width]
  if (height, width) == tuple(size):  # every method is the identity there
    return image.copy()
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
def _row_taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray]:
  indices, weights = tf1_taps(size_in, size_out)
  return indices.astype(np.int32), weights


@functools.lru_cache(_SIZES_KEPT)
def _column_taps(size_in: int, size_out: int) -> tuple:
  """The taps of columns of three channels, each a row of its own.

  Returns:
    (used, indices, weights): the columns that matter, None for all of them,
    and int32 and float32 [3 * size_out, 4] into those.
  """
  used, (indices, weights) = None, tf1_taps(size_in, size_out)
  if size_in > 3 * size_out:  # below, the taps leave no gaps
    used, places = np.unique(indices, return_inverse=True)
    indices = places.reshape(indices.shape)
  indices = (3 * indices[:, None] + np.arange(3)[:, None]).reshape(-1, 4)
  return used, indices.astype(np.int32), np.repeat(weights, 3, axis=0)


def _resize_tf1(
  image: np.ndarray, box: Box, height: int, width: int
) -> np.ndarray:
  """Four taps an axis: rows first, then the columns as rows.

  Pixels are taken and transposed as flat rows of [w * 3], which is faster than
  by threes; so the second pass has three rows a column.
  """
  from effnet_jax.data import weighted_rows  # takes a while to import

  top, left, box_height, box_width = box
  used, *columns = _column_taps(box_width, width)
  if used is not None:
    image, left, box_width = image[:, left + used], 0, len(used)
  flat = image.reshape(len(image), -1)
  flat = flat[top : top + box_height, 3 * left : 3 * (left + box_width)]
  low = scratch.array('low', (height, flat.shape[1]), np.float32)
  weighted_rows.to_float32(flat, *_row_taps(box_height, height), low)
  narrow = scratch.array('narrow', (3 * width, height), np.uint8)
  weighted_rows.to_uint8(_transposed('turned', low), *columns, narrow)
  return cv2.transpose(narrow).reshape(height, width, 3)


def _transposed(name: str, matrix: np.ndarray) -> np.ndarray:
  return cv2.transpose(
    matrix, scratch.array(name, matrix.shape[::-1], matrix.dtype.type)
  )
