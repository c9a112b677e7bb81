"""Parts of an image that are replaced by noise or grey."""

import dataclasses

import numpy as np

from effnet_jax.data.augment.ops import FILL
from effnet_jax.errors import UserError, near_names

_ATTEMPTS = 10
MODES = ('pixel', 'const')


@dataclasses.dataclass(frozen=True)
class RandomErasing:
  """Random erasing (Zhong et al. 2020): a rectangle of noise or grey.

  Attributes:
    probability: of erasing at all.
    area: (lowest, highest) share of the image.
    aspect: (lowest, highest) height / width, uniform in its logarithm.
    mode: `pixel`, uniform noise in each, or `const`, 128 throughout.
  """

  probability: float
  area: tuple[float, float] = (0.02, 1 / 3)
  aspect: tuple[float, float] = (0.3, 1 / 0.3)
  mode: str = 'pixel'

  def __post_init__(self):
    if not 0 <= self.probability <= 1:
      raise UserError(f'random erasing of {self.probability}: give 0..1')
    if self.mode not in MODES:
      near = near_names(self.mode, MODES)
      raise UserError(f'unknown config.data.erasing_mode {self.mode!r}: {near}')

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    if rng.random() >= self.probability:
      return image
    height, width = image.shape[:2]
    for _ in range(_ATTEMPTS):
      area = rng.uniform(*self.area) * height * width
      aspect = np.exp(rng.uniform(*np.log(self.aspect)))
      h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
      if 0 < h < height and 0 < w < width:
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        if self.mode == 'pixel':
          return _noise(rng, image, int(top), int(left), h, w)
        result = image.copy()
        result[top : top + h, left : left + w] = FILL
        return result
    return image


@dataclasses.dataclass(frozen=True)
class Cutout:
  """Cutout (DeVries and Taylor 2017): a square of uniform noise.

  Its centre is anywhere, so that part of it may lie outside.

  Attributes:
    side: of the square, as a share of the image's; V2 fine-tunes with .5.
  """

  side: float

  def __post_init__(self):
    if not 0 < self.side <= 2:
      raise UserError(f'cutout of {self.side} of the side: give 0..2')

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    half = int(self.side * min(height, width) / 2)
    row, column = rng.integers(height), rng.integers(width)
    top, left = max(0, row - half), max(0, column - half)
    h, w = min(row + half, height) - top, min(column + half, width) - left
    return _noise(rng, image, int(top), int(left), int(h), int(w))


def _noise(
  rng: np.random.Generator,
  image: np.ndarray,
  top: int,
  left: int,
  height: int,
  width: int,
) -> np.ndarray:
  result = image.copy()
  result[top : top + height, left : left + width] = rng.integers(
    0, 256, (height, width, 3), np.uint8
  )
  return result
