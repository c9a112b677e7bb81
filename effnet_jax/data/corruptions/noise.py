"""Noise: gaussian, shot and impulse."""

import numpy as np

from effnet_jax.data.corruptions.fields import to_bytes

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, pixels in 0..1
SHOT = (60, 25, 12, 5, 3)  # photons of a white pixel
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the values that are hit


def gaussian_noise(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Adds normal noise to every value."""
  noise = rng.normal(scale=GAUSSIAN[severity - 1], size=image.shape)
  return to_bytes(image / 255 + noise)


def shot_noise(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Draws every value from a Poisson distribution about it."""
  photons = SHOT[severity - 1]
  return to_bytes(rng.poisson(image / 255 * photons) / photons)


def impulse_noise(
  rng: np.random.Generator, image: np.ndarray, severity: int, scale: float
) -> np.ndarray:
  """Makes a share of the values, channel by channel, 0 or 255."""
  hit = rng.random(image.shape) <= IMPULSE[severity - 1]
  salt = rng.random(image.shape) <= 0.5
  return np.where(hit, np.where(salt, 255, 0), image).astype(np.uint8)
