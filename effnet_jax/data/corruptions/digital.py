"""Digital: contrast, elastic transform, pixelation and JPEG."""

import io

import cv2
import numpy as np
from PIL import Image

from effnet_jax.data.corruptions import fields

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
# Amplitude and sigma of the displacement, farthest move of the triangle that
# sets the affine map, all in units of 244 pixels: so in the published code,
# whose author says that 224 was meant.
ELASTIC = (
  (2, 0.7, 0.1),
  (2, 0.08, 0.2),
  (0.05, 0.01, 0.02),
  (0.07, 0.01, 0.02),
  (0.12, 0.01, 0.02),
)
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # sides of what is left
JPEG = (25, 18, 15, 10, 7)  # quality
_ELASTIC_UNIT = 244


def contrast(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Draws the values of each channel towards its mean."""
  pixels = image / 255
  means = pixels.mean((0, 1))
  return fields.to_bytes((pixels - means) * CONTRAST[severity - 1] + means)


def elastic_transform(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Applies a random affine map, then displaces pixels by smooth noise.

  Lengths are far larger than an image of a few pixels unless `scale` is given.
  """
  amplitude, sigma, farthest = (
    _ELASTIC_UNIT * scale * number for number in ELASTIC[severity - 1]
  )
  height, width = image.shape[:2]
  pixels = image.astype(np.float32) / 255
  centre = np.float32((height, width)) // 2
  reach = max(1, min(height, width) // 3)
  corners = centre + reach * np.float32([(1, 1), (1, -1), (-1, -1)])
  moved = corners + rng.uniform(-farthest, farthest, corners.shape)
  affine = cv2.getAffineTransform(corners, moved.astype(np.float32))
  pixels = cv2.warpAffine(
    pixels, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101
  )
  move_x, move_y = (
    amplitude
    * fields.gaussian(
      rng.uniform(-1, 1, (height, width)), sigma, 3, cv2.BORDER_REFLECT
    )
    for _ in range(2)
  )
  y, x = np.mgrid[:height, :width]
  return fields.to_bytes(fields.sampled(pixels, y + move_y, x + move_x))


def pixelate(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Shrinks and enlarges with a box filter."""
  height, width = image.shape[:2]
  share = PIXELATE[severity - 1]
  small = (max(1, int(width * share)), max(1, int(height * share)))
  box = Image.Resampling.BOX
  picture = Image.fromarray(image).resize(small, box)
  return np.asarray(picture.resize((width, height), box))


def jpeg_compression(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Writes and reads a JPEG file of low quality."""
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, 'JPEG', quality=JPEG[severity - 1])
  return np.asarray(Image.open(stream))
