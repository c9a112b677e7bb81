"""What several corruptions are made of. Arrays of floats, any size."""

import math

import cv2
import numpy as np


def to_bytes(image: np.ndarray) -> np.ndarray:
  """Pixels in 0..1 to uint8, truncated as the published files were."""
  return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def gaussian(
  image: np.ndarray, sigma: float, truncate: float, border: int
) -> np.ndarray:
  """Blurs as scipy.ndimage.gaussian_filter, its kernel `truncate` sigmas long.

  `border` is cv2's name: scipy's `nearest` is BORDER_REPLICATE, its `reflect`
  BORDER_REFLECT.
  """
  side = 2 * int(truncate * sigma + 0.5) + 1
  return cv2.GaussianBlur(image, (side, side), sigma, borderType=border)


def motion_blur(
  image: np.ndarray, radius: float, sigma: float, angle: float
) -> np.ndarray:
  """Blurs [h, w] or [h, w, c] as ImageMagick's MotionBlurImage.

  Its kernel is half a Gaussian: 2 radius + 1 pixels of which the first, where
  the pixel itself is, weighs most. They lie at `angle` (degrees, clockwise from
  the right), each at the nearest whole pixel; borders are repeated.
  """
  reach = 2 * math.ceil(radius)
  weights = np.exp(-(np.arange(reach + 1) ** 2) / (2 * sigma**2))
  weights /= weights.sum()
  around = [(reach, reach)] * 2 + [(0, 0)] * (image.ndim - 2)
  padded = np.pad(image.astype(np.float32), around, 'edge')
  height, width = image.shape[:2]
  down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
  blurred = np.zeros(image.shape, np.float32)
  for i, weight in enumerate(weights):
    top = reach + math.ceil(i * down - 0.5)
    left = reach + math.ceil(i * right - 0.5)
    blurred += weight * padded[top : top + height, left : left + width]
  return blurred


def zoomed(image: np.ndarray, factor: float) -> np.ndarray:
  """The middle of [h, w, ...], enlarged `factor` times to the same size.

  Bilinear, corner on corner, as scipy.ndimage.zoom with order 1.
  """
  for axis in (0, 1):
    size = image.shape[axis]
    kept = math.ceil(size / factor)
    first = (size - kept) // 2
    large = round(kept * factor)
    step = (kept - 1) / max(large - 1, 1)
    trim = (large - size) // 2
    places = first + step * np.arange(trim, trim + size)
    lower = np.clip(places.astype(int), 0, size - 1)
    upper = np.minimum(lower + 1, first + kept - 1)
    share = (places - lower).reshape([-1] + [1] * (image.ndim - 1 - axis))
    low, high = np.take(image, lower, axis), np.take(image, upper, axis)
    image = low + (high - low) * share.astype(image.dtype)
  return image


def plasma(rng: np.random.Generator, side: int, decay: float) -> np.ndarray:
  """A fractal of 0..1, [side, side], by diamonds and squares on a torus.

  Every point is the mean of its four neighbours at twice its distance plus
  uniform noise, whose amplitude falls by `decay` squared from one distance to
  the next. `side` is a power of two.
  """
  field = np.zeros((side, side))
  step, amplitude = side, 1.0
  noise = lambda like: amplitude * rng.uniform(-1, 1, like.shape)
  while step >= 2:
    half = step // 2
    corners = field[::step, ::step]
    pairs = corners + np.roll(corners, -1, 0)
    middle = (pairs + np.roll(pairs, -1, 1)) / 4
    field[half::step, half::step] = middle + noise(middle)
    middle = field[half::step, half::step]
    for axis, place in (
      (0, (slice(0, None, step), slice(half, None, step))),
      (1, (slice(half, None, step), slice(0, None, step))),
    ):
      sides = middle + np.roll(middle, 1, axis)
      ends = corners + np.roll(corners, -1, 1 - axis)
      field[place] = (sides + ends) / 4 + noise(middle)
    step, amplitude = half, amplitude / decay**2
  field -= field.min()
  return field / field.max()


def sampled(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Bilinear values of [h, w, c] at y and x [h, w], mirrored at the borders.

  As scipy.ndimage.map_coordinates with order 1 and mode 'reflect'.
  """
  rows, columns = _inside(y, image.shape[0]), _inside(x, image.shape[1])
  result = np.zeros(image.shape, np.float32)
  for row, row_share in rows:
    for column, column_share in columns:
      weight = (row_share * column_share)[..., None].astype(np.float32)
      result += weight * image[row, column]
  return result


def _inside(places, size):
  """Pairs (index, share) of the two pixels between which each place lies."""
  places = np.mod(places + 0.5, 2 * size)
  places = np.minimum(places, 2 * size - places) - 0.5
  below = np.floor(places)
  share = places - below
  keep = lambda index: np.clip(index, 0, size - 1).astype(int)
  return (keep(below), 1 - share), (keep(below + 1), share)
