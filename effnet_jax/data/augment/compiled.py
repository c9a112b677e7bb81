"""Per-pixel work with TensorFlow's roundings in float32, compiled by numba.

numba keeps what it compiled next to this file or in the user's cache. The
functions free the GIL.
"""

import numba
import numpy as np

Matrix = tuple[float, float, float, float, float, float]

# tf.image.rgb_to_grayscale's products, of all values of each channel.
_GREY = (np.arange(256, dtype=np.float32) * np.float32(1 / 255))[:, None] * (
  np.array([0.2989, 0.587, 0.114], np.float32)
)
_SMOOTH = np.array([1, 5], np.float32) / np.float32(13)


def affine(image: np.ndarray, matrix: Matrix, fill: int) -> np.ndarray:
  """result[y, x] = image[round(dx + ey + f), round(ax + by + c)].

  As tensorflow/contrib/image's ImageProjectiveTransform computes it.

  Args:
    image: uint8 [h, w, 3].
    matrix: (a, b, c, d, e, f).
    fill: what lies outside.

  Returns:
    uint8 [h, w, 3]; halves are rounded away from zero.
  """
  result = np.empty_like(image, order='C')
  _affine(
    np.ascontiguousarray(image),
    np.array(matrix, np.float32),
    np.uint8(fill),
    result,
  )
  return result


def grey(image: np.ndarray) -> np.ndarray:
  """Returns uint8 [h, w] as tf.image.rgb_to_grayscale has it.

  To 0..1 and back to uint8, which rounds down: the sum of three products from
  the left, each rounded.
  """
  result = np.empty(image.shape[:2], np.uint8)
  _grey(np.ascontiguousarray(image), _GREY, result)
  return result


def smooth(image: np.ndarray) -> np.ndarray:
  """Returns uint8 [h, w, 3] under 1 1 1, 1 5 1, 1 1 1, divided by 13.

  As tf.nn.depthwise_conv2d sums it, row by row, and rounded down, so that a
  whole number is often just missed. TensorFlow's oneDNN kernels fuse products
  and sums, and miss others. The outermost pixels stay.
  """
  image = np.ascontiguousarray(image)
  result = image.copy()
  height, width, channels = image.shape
  if min(height, width) > 2:
    flat = height, width * channels
    _smooth(image.reshape(flat), _SMOOTH, result.reshape(flat), channels)
  return result


def blend(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
  """Returns start + factor (end - start), clipped and rounded down.

  Args:
    start: uint8, C-contiguous.
    end: likewise, of that shape.
    factor: of any size.
  """
  result = np.empty_like(end)
  _blend(start.ravel(), end.ravel(), np.float32(factor), result.ravel())
  return result


def _compiled(function):
  try:
    return numba.njit(nogil=True, cache=True)(function)
  except (RuntimeError, OSError):  # there is nowhere to keep it
    return numba.njit(nogil=True)(function)


@numba.njit(nogil=True)
def nearest(value):
  """C's round: halves away from zero. Adding .5 would lift .49999997 to 1."""
  whole = int(value)
  rest = value - np.float32(whole)
  if rest >= np.float32(0.5):
    return whole + 1
  if rest <= np.float32(-0.5):
    return whole - 1
  return whole


@_compiled
def _affine(image, matrix, fill, result):
  height, width = image.shape[:2]
  a, b, c, d, e, f = matrix
  for y in range(height):
    v = np.float32(y)
    for x in range(width):
      u = np.float32(x)
      column, row = nearest(a * u + b * v + c), nearest(d * u + e * v + f)
      inside = 0 <= row < height and 0 <= column < width
      for channel in range(3):
        result[y, x, channel] = image[row, column, channel] if inside else fill


@_compiled
def _grey(image, weights, result):
  for y in range(image.shape[0]):
    for x in range(image.shape[1]):
      red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
      total = weights[red, 0] + weights[green, 1] + weights[blue, 2]
      result[y, x] = np.uint8(total * np.float32(255.5))


@_compiled
def _smooth(image, weights, result, step):
  height, width = image.shape
  outer, centre = weights
  sums = np.empty(width, np.float32)
  for y in range(1, height - 1):
    sums[:] = 0
    for dy in range(-1, 2):
      for dx in range(-1, 2):
        weight = centre if dy == 0 and dx == 0 else outer
        row = image[y + dy, step + dx * step :]
        for x in range(width - 2 * step):
          sums[x] += np.float32(row[x]) * weight
    for x in range(width - 2 * step):
      result[y, x + step] = np.uint8(min(sums[x], np.float32(255)))


@_compiled
def _blend(start, end, factor, result):
  for i in range(len(result)):
    from_ = np.float32(start[i])
    value = from_ + factor * (np.float32(end[i]) - from_)
    value = min(max(value, np.float32(0)), np.float32(255))
    result[i] = np.uint8(value)
