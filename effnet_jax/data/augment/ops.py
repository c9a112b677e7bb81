"""The sixteen operations of AutoAugment and RandAugment.

Pixel for pixel those of the released TPU code (tensorflow/tpu, efficientnet,
autoaugment.py), oddities included: casts to uint8 truncate, the mean that
`contrast` blends with is a number of pixels, and geometry takes the nearest
pixel. Images are uint8 [h, w, 3]; nothing is changed in place.
"""

from collections.abc import Callable

import cv2
import numpy as np

from effnet_jax.data.augment.compiled import affine, blend, grey, smooth

FILL = 128  # of what comes in from outside, and of cutout

_VALUES = np.arange(256, dtype=np.uint8)


def autocontrast(image: np.ndarray) -> np.ndarray:
  """Stretches each channel to 0..255."""

  def table(channel):
    low, high = np.float32(channel.min()), np.float32(channel.max())
    if high <= low:
      return _VALUES
    scale = np.float32(255) / (high - low)
    stretched = _VALUES.astype(np.float32) * scale - low * scale
    return np.clip(stretched, 0, 255).astype(np.uint8)

  return _by_channel(image, table)


def equalize(image: np.ndarray) -> np.ndarray:
  """Makes each channel's histogram flat."""

  def table(channel):
    histogram = cv2.calcHist([channel], [0], None, [256], [0, 256])
    histogram = histogram.ravel().astype(np.int64)
    last = histogram[np.flatnonzero(histogram)[-1]]
    step = (histogram.sum() - last) // 255
    if not step:
      return _VALUES
    before = np.cumsum(histogram) - histogram
    # The first entry is 0, not the rounding's share of a step.
    values = np.minimum((before + step // 2) // step, 255)
    values[0] = 0
    return values.astype(np.uint8)

  return _by_channel(image, table)


def invert(image: np.ndarray) -> np.ndarray:
  """255 less the image."""
  return cv2.bitwise_not(image)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
  """Keeps the upper `bits` bits.

  One bit where `bits` is not within 1..8: TensorFlow shifts a uint8 by 7 at the
  most, and a negative shift wraps to a large one.
  """
  shift = 8 - bits if 1 <= bits <= 8 else 7
  return image if not shift else cv2.LUT(image, _VALUES >> shift << shift)


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
  """Inverts what is `threshold` or brighter.

  Modulo 256, as TensorFlow makes a uint8 of it: 256, the published level 10,
  inverts all.
  """
  inverted = _VALUES >= threshold % 256
  return cv2.LUT(image, np.where(inverted, 255 - _VALUES, _VALUES))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
  """Adds to what is darker than 128."""
  added = np.clip(_VALUES.astype(np.int64) + addition, 0, 255)
  table = np.where(_VALUES < 128, added, _VALUES)
  return cv2.LUT(image, table.astype(np.uint8))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with black."""
  return cv2.LUT(image, _blend(np.zeros_like(_VALUES), _VALUES, factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with a grey of (number of pixels) / 256, at most 255.

  Meant to be the mean grey level: the released code takes the mean of the
  histogram's counts. It is 196 at 224 pixels, and 255 from 256 on.
  """
  count = image.shape[0] * image.shape[1]
  grey = np.full_like(_VALUES, min(count / 256, 255))
  return cv2.LUT(image, _blend(grey, _VALUES, factor))


def contrast_of_mean(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the mean grey level: what `contrast` was meant to be."""
  level = np.full_like(_VALUES, int(grey(image).mean() + 0.5))
  return cv2.LUT(image, _blend(level, _VALUES, factor))


def color(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with the grey image."""
  return _blend(cv2.merge([grey(image)] * 3), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
  """Blends with a smoothed image; the outermost pixels stay."""
  return _blend(smooth(image), image, factor)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
  """Turns about the centre, counter-clockwise for positive degrees."""
  height, width = image.shape[:2]
  radians = float(np.float32(degrees) * np.float32(np.pi / 180))
  # Not numpy's float32 ones, which differ from machine to machine.
  cos, sin = np.float32(np.cos(radians)), np.float32(np.sin(radians))
  h, w = np.float32(height - 1), np.float32(width - 1)
  x = (w - (cos * w - sin * h)) / np.float32(2)
  y = (h - (sin * w + cos * h)) / np.float32(2)
  return affine(image, (cos, -sin, x, sin, cos, y), FILL)


def shear_x(image: np.ndarray, factor: float) -> np.ndarray:
  """Moves each row by `factor` pixels more than the one above."""
  return affine(image, (1, factor, 0, 0, 1, 0), FILL)


def shear_y(image: np.ndarray, factor: float) -> np.ndarray:
  """Moves each column by `factor` pixels more than the one before."""
  return affine(image, (1, 0, 0, factor, 1, 0), FILL)


def translate_x(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moves the image to the left."""
  return affine(image, (1, 0, pixels, 0, 1, 0), FILL)


def translate_y(image: np.ndarray, pixels: float) -> np.ndarray:
  """Moves the image up."""
  return affine(image, (1, 0, 0, 0, 1, pixels), FILL)


def cutout(image: np.ndarray, half: int, center: tuple[int, int]) -> np.ndarray:
  """Fills a square of 2 `half` pixels around `center` (row, column)."""
  result = image.copy()
  top, left = (max(0, at - half) for at in center)
  result[top : center[0] + half, left : center[1] + half] = FILL
  return result


def _by_channel(
  image: np.ndarray, table: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  tables = [table(np.ascontiguousarray(image[..., c])) for c in range(3)]
  return cv2.LUT(image, np.stack(tables, axis=-1)[None])


def _blend(
  degenerate: np.ndarray, image: np.ndarray, factor: float
) -> np.ndarray:
  """`factor` of the image, the rest of the other; beyond 1 extrapolates."""
  if factor == 0:
    return degenerate
  if factor == 1:
    return image
  return blend(degenerate, np.ascontiguousarray(image), factor)
