"""From an operation's name and a level of 0 to 10 to what is done to an image.

The levels are those of the released TPU code. There is no bound at 10: the
published RandAugment runs extrapolate, to 28.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from effnet_jax.data.augment import ops

_MAX_LEVEL = 10


@dataclasses.dataclass(frozen=True)
class Scale:
  """What a level of 10 stands for where the published policies differ.

  Attributes:
    translate: pixels; 250 in AutoAugment, 100 in RandAugment.
    cutout: half the side of the square, pixels; 100 and 40.
    increasing: posterize and solarize grow stronger with the level, not weaker
      as published (where solarize's threshold, level / 10 * 256, starts anew
      from 0 at level 10); color, contrast, brightness and sharpness move away
      from the image, up or down, by .9 at level 10 (published: from .1 to 1.9
      times, the image itself at 5).
  """

  translate: float = 100
  cutout: float = 40
  increasing: bool = False


AUTOAUGMENT = Scale(translate=250, cutout=100)

_Change = Callable[[np.random.Generator, np.ndarray, float, Scale], np.ndarray]


def apply(
  name: str,
  rng: np.random.Generator,
  image: np.ndarray,
  level: float,
  scale: Scale,
) -> np.ndarray:
  """Applies one of OPERATIONS to uint8 [h, w, 3]."""
  return OPERATIONS[name](rng, image, level, scale)


def _plain(operation) -> _Change:
  return lambda rng, image, level, scale: operation(image)


def _signed(operation, largest: Callable[[Scale], float]) -> _Change:
  def change(rng, image, level, scale):
    amount = level / _MAX_LEVEL * largest(scale)
    return operation(image, -amount if rng.random() < 0.5 else amount)

  return change


def _enhanced(operation) -> _Change:
  def change(rng, image, level, scale):
    if scale.increasing:
      amount = level / _MAX_LEVEL * 0.9
      factor = max(0.1, 1 - amount if rng.random() < 0.5 else 1 + amount)
    else:
      factor = level / _MAX_LEVEL * 1.8 + 0.1
    return operation(image, factor)

  return change


def _posterize(rng, image, level, scale):
  bits = int(level / _MAX_LEVEL * 4)
  return ops.posterize(image, max(4 - bits, 1) if scale.increasing else bits)


def _solarize(rng, image, level, scale):
  threshold = int(level / _MAX_LEVEL * 256)
  if scale.increasing:
    threshold = max(256 - threshold, 0)
    if threshold == 256:
      return image
  return ops.solarize(image, threshold)


def _solarize_add(rng, image, level, scale):
  return ops.solarize_add(image, int(level / _MAX_LEVEL * 110))


def _cutout(rng, image, level, scale):
  center = int(rng.integers(image.shape[0])), int(rng.integers(image.shape[1]))
  return ops.cutout(image, int(level / _MAX_LEVEL * scale.cutout), center)


OPERATIONS: dict[str, _Change] = {
  'AutoContrast': _plain(ops.autocontrast),
  'Equalize': _plain(ops.equalize),
  'Invert': _plain(ops.invert),
  'Rotate': _signed(ops.rotate, lambda scale: 30),  # degrees
  'Posterize': _posterize,
  'Solarize': _solarize,
  'Color': _enhanced(ops.color),
  'Contrast': _enhanced(ops.contrast),
  'Brightness': _enhanced(ops.brightness),
  'Sharpness': _enhanced(ops.sharpness),
  'ShearX': _signed(ops.shear_x, lambda scale: 0.3),
  'ShearY': _signed(ops.shear_y, lambda scale: 0.3),
  'TranslateX': _signed(ops.translate_x, lambda scale: scale.translate),
  'TranslateY': _signed(ops.translate_y, lambda scale: scale.translate),
  'Cutout': _cutout,
  'SolarizeAdd': _solarize_add,
}
