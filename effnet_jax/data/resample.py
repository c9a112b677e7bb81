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

METHODS = ('tf1', 'pillow', 'tf_bilinear', 'pillow_bilinear')

_PILLOW = {
  'pillow': Image.Resampling.BICUBIC,
  'pillow_bilinear': Image.Resampling.BILINEAR,
}

Box = tuple[int, int, int, int]

_TABLE_SIZE = 1024
# The resize works in tiles of the output: whole images would go through memory
# once more, and OpenBLAS starts threads for products of more than 2**18
# multiply-adds, which fight for the cores with the threads and processes that
# each prepare a batch of their own.
_TILE = 48
_BLAS_SERIAL = 2**18


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


@functools.lru_cache(maxsize=128)
def _tf1_blocks(size_in: int, size_out: int, chunk: int) -> tuple:
  """The taps of one axis as small dense matrices.

  Returns:
    (used, blocks): the source indices that matter, None for all of them; and
    for each run of `chunk` outputs (start, stop, low, high, matrix), where
    output[start:stop] = matrix @ source[used][low:high].
  """
  indices, weights = tf1_taps(size_in, size_out)
  used, count = None, size_in
  if size_in > 3 * size_out:  # below, the taps leave no gaps
    used, places = np.unique(indices, return_inverse=True)
    indices, count = places.reshape(indices.shape), len(used)
  matrix = np.zeros((size_out, count), np.float32)
  rows = np.arange(size_out)
  for tap in range(4):  # in turn, for at a border several taps share an index
    matrix[rows, indices[:, tap]] += weights[:, tap]
  blocks = []
  for start in range(0, size_out, chunk):
    stop = min(start + chunk, size_out)
    low, high = int(indices[start, 0]), int(indices[stop - 1, 3]) + 1
    block = matrix[start:stop, low:high].copy()
    blocks.append((start, stop, low, high, block))
  return used, tuple(blocks)


def _resize_tf1(image: np.ndarray, height: int, width: int) -> np.ndarray:
  columns_read = min(image.shape[1], 4 * _TILE)
  columns_read = min(columns_read, image.shape[1] * _TILE // width + 5)
  products = 3 * columns_read * min(_TILE, width)  # of one output row
  tile_rows = min(max(_BLAS_SERIAL // products, 1), _TILE)
  used_rows, row_blocks = _tf1_blocks(image.shape[0], height, tile_rows)
  used_columns, column_blocks = _tf1_blocks(image.shape[1], width, _TILE)
  if used_rows is not None:
    image = image[used_rows]
  if used_columns is not None:
    image = image[:, used_columns]
  planes = np.ascontiguousarray(image.transpose(2, 0, 1))
  resized = np.empty((3, height, width), np.uint8)
  for top, bottom, low, high, rows in row_blocks:
    for left, right, start, stop, columns in column_blocks:
      tile = planes[:, low:high, start:stop].astype(np.float32)
      tile = (rows @ tile).reshape(-1, stop - start) @ columns.T
      np.rint(tile, out=tile)
      np.maximum(tile, 0, out=tile)
      np.minimum(tile, 255, out=tile)
      resized[:, top:bottom, left:right] = tile.reshape(3, bottom - top, -1)
  return cv2.merge(list(resized))
