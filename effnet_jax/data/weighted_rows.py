"""Sums of four rows each, compiled by numba: what resizing an axis is.

Importing this takes half a second, and in the first process another to compile,
which numba keeps next to this file or in the user's cache. They free the GIL.
"""

import functools
from collections.abc import Callable

import numba
import numpy as np
from numba import types

Sums = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]


def _matrix(kind: types.Type, layout: str) -> types.Type:
  return types.Array(kind, 2, layout, readonly=True)


def _compiled(source: types.Type, result: types.Type) -> Callable[..., Sums]:
  signature = types.void(
    source,
    _matrix(types.int32, 'C'),
    _matrix(types.float32, 'C'),
    types.Array(result, 2, 'C'),
  )

  def compile_(function):
    compiled = functools.partial(
      numba.njit, signature, nogil=True, fastmath={'contract'}
    )
    try:
      return compiled(cache=True)(function)
    except (RuntimeError, OSError):  # there is nowhere to keep it
      return compiled()(function)

  return compile_


@_compiled(_matrix(types.uint8, 'A'), types.float32)
def to_float32(source, indices, weights, result):
  """result[i] = sum over k of weights[i, k] * source[indices[i, k]].

  Args:
    source: uint8 [m, w], of any strides.
    indices: int32 [n, 4].
    weights: float32 [n, 4].
    result: float32 [n, w], written.
  """
  for i in range(len(result)):
    w, x, y, z = weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3]
    a, b = source[indices[i, 0]], source[indices[i, 1]]
    c, d = source[indices[i, 2]], source[indices[i, 3]]
    row = result[i]
    for j in range(len(row)):
      row[j] = (
        w * np.float32(a[j])
        + x * np.float32(b[j])
        + y * np.float32(c[j])
        + z * np.float32(d[j])
      )


# Of any strides its loop is not vectorised, and takes five times as long.
@_compiled(_matrix(types.float32, 'C'), types.uint8)
def to_uint8(source, indices, weights, result):
  """As `to_float32`, from contiguous float32; clipped and rounded to even."""
  low, high = np.float32(0), np.float32(255)
  for i in range(len(result)):
    w, x, y, z = weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3]
    a, b = source[indices[i, 0]], source[indices[i, 1]]
    c, d = source[indices[i, 2]], source[indices[i, 3]]
    row = result[i]
    for j in range(len(row)):
      value = w * a[j] + x * b[j] + y * c[j] + z * d[j]
      row[j] = np.uint8(np.int32(np.rint(min(max(value, low), high))))
