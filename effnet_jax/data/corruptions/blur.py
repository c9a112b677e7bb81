"""Blur: defocus, glass, motion and zoom. Lengths are in pixels."""

import math

import cv2
import numpy as np

from effnet_jax.data.corruptions import fields

DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))  # radius, sigma
# Sigma, farthest exchange, rounds.
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # radius, sigma
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))


def disk(radius: float, sigma: float, scale: float = 1.0) -> np.ndarray:
  """The kernel of `defocus_blur`: a disk with softened edges, of odd sides."""
  soft = 3 if radius <= 8 else 5
  reach = max(8, math.ceil(radius * scale))
  squares = np.arange(-reach, reach + 1) ** 2
  inside = squares[:, None] + squares <= (radius * scale) ** 2
  kernel = inside.astype(np.float32) / inside.sum()
  return cv2.GaussianBlur(kernel, (soft, soft), sigma * scale)


def defocus_blur(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Convolves with a disk."""
  kernel = disk(*DEFOCUS[severity - 1], scale)
  return fields.to_bytes(cv2.filter2D(image / 255, -1, kernel))


def glass_blur(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Blurs, puts pixels in the place of near ones, and blurs again.

  The published code means to exchange two pixels, but its assignment of views
  copies the one onto the other; the published images have that, so has this.
  """
  sigma, farthest, rounds = GLASS[severity - 1]
  farthest = max(1, round(farthest * scale))
  blur = lambda pixels: fields.gaussian(
    pixels / 255, sigma * scale, 4, cv2.BORDER_REPLICATE
  )
  image = fields.to_bytes(blur(image))
  for _ in range(rounds):
    image = _displaced(rng, image, farthest)
  return fields.to_bytes(blur(image))


def _displaced(rng, image, farthest):
  """From the last pixel to the first, each becomes one of those around it.

  A pixel that comes later in the image has been replaced before it is copied:
  so sources are followed until they lead to an untouched one.
  """
  height, width = image.shape[:2]
  count = height * width
  rows = np.arange(farthest + 1, height - farthest + 1)
  columns = np.arange(farthest + 1, width - farthest + 1)
  shape = (len(rows), len(columns))
  down = rng.integers(-farthest, farthest, shape)
  right = rng.integers(-farthest, farthest, shape)
  here = rows[:, None] * width + columns
  there = (rows[:, None] + down) * width + columns + right
  # 0 .. count - 1 are pixels of the result, those of the image come after.
  leads_to = np.concatenate([np.arange(count) + count] * 2)
  leads_to[here] = np.where(there > here, there, there + count)
  while (further := leads_to[leads_to]).tolist() != leads_to.tolist():
    leads_to = further
  return image.reshape(count, -1)[leads_to[:count] - count].reshape(image.shape)


def motion_blur(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Blurs along a line at -45 to 45 degrees, as ImageMagick does."""
  radius, sigma = MOTION[severity - 1]
  angle = rng.uniform(-45, 45)
  blurred = fields.motion_blur(image, radius * scale, sigma * scale, angle)
  return np.rint(blurred).astype(np.uint8)


def zoom_blur(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Averages the image with enlargements of its middle."""
  end, step = ZOOM[severity - 1]
  factors = np.arange(1, end, step)
  pixels = image.astype(np.float32) / 255
  total = pixels + sum(fields.zoomed(pixels, factor) for factor in factors)
  return fields.to_bytes(total / (len(factors) + 1))
