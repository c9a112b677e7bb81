"""Weather: snow, frost, fog and brightness.

`frost` is NOT the published one: that overlays six photographs of frosted
glass, which are not ours to ship. Here the pictures are drawn, with the
published weights. Its errors compare with others got by this code only.
"""

import functools

import cv2
import numpy as np

from effnet_jax.data.corruptions import fields

# Mean and deviation of the flakes, their zoom, the least that is kept, radius
# and sigma of their motion, weight of the image.
SNOW = (
  (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
  (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
  (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
  (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
  (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
# Weights of the image and of the frost.
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
FOG = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))  # thickness, decay
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
FOG_SIDE = 256  # of the fractal that the published images are cropped from
FROST_PICTURES = 5  # of six the published code draws from the first five
_FROST_SIDE = 512


def snow(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Whitens the image and adds two layers of falling flakes."""
  mean, deviation, zoom, least, radius, sigma, kept = SNOW[severity - 1]
  flakes = rng.normal(mean, deviation, image.shape[:2])
  flakes = fields.zoomed(flakes, max(1, zoom * scale))
  flakes = fields.to_bytes(np.where(flakes < least, 0, flakes))
  angle = rng.uniform(-135, -45)
  flakes = fields.motion_blur(flakes, radius * scale, sigma * scale, angle)
  flakes = np.rint(flakes)[..., None] / 255
  pixels = image.astype(np.float32) / 255
  grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
  white = np.maximum(pixels, 1.5 * grey + 0.5)
  pixels = kept * pixels + (1 - kept) * white
  return fields.to_bytes(pixels + flakes + np.rot90(flakes, 2))


def frost(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Adds a part of a drawn picture of frost: see the top of this file."""
  kept, weight = FROST[severity - 1]
  height, width = image.shape[:2]
  picture = _frost_picture(
    int(rng.integers(FROST_PICTURES)), _power(max(height, width, _FROST_SIDE))
  )
  top = rng.integers(len(picture) - height + 1)
  left = rng.integers(len(picture) - width + 1)
  part = picture[top : top + height, left : left + width]
  return np.clip(kept * image + weight * part, 0, 255).astype(np.uint8)


@functools.lru_cache(2 * FROST_PICTURES)
def _frost_picture(number: int, side: int) -> np.ndarray:
  """uint8 [side, side, 3]: needles of ice over a cloudy film, bluish."""
  rng = np.random.default_rng(number)
  film = fields.plasma(rng, side, 1.5)
  ice = np.zeros((side, side), np.float32)
  for angle in rng.uniform(0, 360, 12):
    seeds = rng.random((side, side)) < 0.002
    seeds = np.where(seeds, rng.uniform(0.4, 1, seeds.shape), 0)
    needles = fields.motion_blur(seeds, rng.uniform(8, 24), 14, angle)
    needles = cv2.GaussianBlur(needles, (3, 3), 0.8)
    ice = np.maximum(ice, needles / max(needles.max(), 1e-6))
  # Ice is thickest along what is called the ridges of a fractal.
  ridges = 1 - np.abs(2 * fields.plasma(rng, side, 1.45) - 1)
  grown = 0.3 * film + 0.9 * ice**0.7 * film + 0.75 * ridges**6
  tint = np.array([0.84, 0.93, 1.0])
  return fields.to_bytes(grown[..., None] * tint + 0.05)


def fog(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Adds a fractal and restores the range.

  The fractal has at least the published 256 pixels a side; of a larger image
  it is the next power of two, and its clouds are larger in pixels.
  """
  thickness, decay = FOG[severity - 1]
  height, width = image.shape[:2]
  side = _power(max(height, width, round(FOG_SIDE * scale)))
  clouds = fields.plasma(rng, side, decay)[:height, :width, None]
  pixels = image / 255
  highest = pixels.max()
  pixels = pixels + thickness * clouds
  return fields.to_bytes(pixels * highest / (highest + thickness))


def brightness(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Adds to the value (of hue, saturation, value), hue and saturation kept."""
  pixels = image / 255
  value = pixels.max(-1, keepdims=True)
  raised = np.minimum(value + BRIGHTNESS[severity - 1], 1)
  # Black has neither hue nor saturation: it becomes grey.
  lit = np.where(value > 0, pixels / np.maximum(value, 1 / 255), 1)
  return fields.to_bytes(lit * raised)


def _power(least: int) -> int:
  """The first power of two that is no less, from 2 on."""
  return 1 << (max(least, 2) - 1).bit_length()
