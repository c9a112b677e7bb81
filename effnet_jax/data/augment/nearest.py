"""The nearest pixel under an affine map, compiled by numba.

As tensorflow/contrib/image's ImageProjectiveTransform computes it, in float32.
"""

import numba
import numpy as np

Matrix = tuple[float, float, float, float, float, float]


def affine(image: np.ndarray, matrix: Matrix, fill: int) -> np.ndarray:
  """result[y, x] = image[round(dx + ey + f), round(ax + by + c)].

  Args:
    image: uint8 [h, w, 3].
    matrix: (a, b, c, d, e, f).
    fill: what lies outside.

  Returns:
    uint8 [h, w, 3]; halves are rounded away from zero.
  """
  result = np.empty_like(image)
  _fill(
    np.ascontiguousarray(image),
    np.array(matrix, np.float32),
    np.uint8(fill),
    result,
  )
  return result


def _round(value):
  if value < 0:
    return int(np.ceil(value - np.float32(0.5)))
  return int(np.floor(value + np.float32(0.5)))


def _compiled(function):
  try:
    return numba.njit(nogil=True, cache=True)(function)
  except (RuntimeError, OSError):  # there is nowhere to keep it
    return numba.njit(nogil=True)(function)


_nearest = numba.njit(nogil=True)(_round)


@_compiled
def _fill(image, matrix, fill, result):
  height, width = image.shape[:2]
  a, b, c, d, e, f = matrix
  for y in range(height):
    v = np.float32(y)
    for x in range(width):
      u = np.float32(x)
      column, row = _nearest(a * u + b * v + c), _nearest(d * u + e * v + f)
      inside = 0 <= row < height and 0 <= column < width
      for channel in range(3):
        result[y, x, channel] = image[row, column, channel] if inside else fill
