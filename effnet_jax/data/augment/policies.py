"""Which operations an image undergoes: AutoAugment, RandAugment, Trivial."""

import dataclasses

import numpy as np

from effnet_jax.data.augment import ops, table
from effnet_jax.errors import UserError

# AutoAugment's policy v0 of the released code: sub-policies of two operations,
# each with its probability and level. It is not the policy that the paper
# prints for ImageNet (torchvision's).
POLICY_V0 = (
  (('Equalize', 0.8, 1), ('ShearY', 0.8, 4)),
  (('Color', 0.4, 9), ('Equalize', 0.6, 3)),
  (('Color', 0.4, 1), ('Rotate', 0.6, 8)),
  (('Solarize', 0.8, 3), ('Equalize', 0.4, 7)),
  (('Solarize', 0.4, 2), ('Solarize', 0.6, 2)),
  (('Color', 0.2, 0), ('Equalize', 0.8, 8)),
  (('Equalize', 0.4, 8), ('SolarizeAdd', 0.8, 3)),
  (('ShearX', 0.2, 9), ('Rotate', 0.6, 8)),
  (('Color', 0.6, 1), ('Equalize', 1.0, 2)),
  (('Invert', 0.4, 9), ('Rotate', 0.6, 0)),
  (('Equalize', 1.0, 9), ('ShearY', 0.6, 3)),
  (('Color', 0.4, 7), ('Equalize', 0.6, 0)),
  (('Posterize', 0.4, 6), ('AutoContrast', 0.4, 7)),
  (('Solarize', 0.6, 8), ('Color', 0.6, 9)),
  (('Solarize', 0.2, 4), ('Rotate', 0.8, 9)),
  (('Rotate', 1.0, 7), ('TranslateY', 0.8, 9)),
  (('ShearX', 0.0, 0), ('Solarize', 0.8, 4)),
  (('ShearY', 0.8, 0), ('Color', 0.6, 4)),
  (('Color', 1.0, 0), ('Rotate', 0.6, 2)),
  (('Equalize', 0.8, 4), ('Equalize', 0.0, 8)),
  (('Equalize', 1.0, 4), ('AutoContrast', 0.6, 2)),
  (('ShearY', 0.4, 7), ('SolarizeAdd', 0.6, 7)),
  (('Posterize', 0.8, 2), ('Solarize', 0.6, 10)),
  (('Solarize', 0.6, 8), ('Equalize', 0.6, 1)),
  (('Color', 0.8, 6), ('Rotate', 0.4, 5)),
)


@dataclasses.dataclass(frozen=True)
class AutoAugment:
  """AutoAugment (Cubuk et al. 2019), policy v0: one sub-policy an image."""

  increasing: bool = False

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    scale = dataclasses.replace(table.AUTOAUGMENT, increasing=self.increasing)
    for name, probability, level in POLICY_V0[rng.integers(len(POLICY_V0))]:
      if rng.random() < probability:
        image = table.apply(name, rng, image, level, scale)
    return image


@dataclasses.dataclass(frozen=True)
class RandAugment:
  """RandAugment (Cubuk et al. 2020): some operations at one magnitude.

  Every chosen operation is applied: the released code draws a probability of
  .2 to .8 for it, and does not use it.

  Attributes:
    layers: operations an image, drawn with replacement.
    magnitude: the level of all, 10 and beyond where published.
    increasing: see `table.Scale`.
  """

  layers: int = 2
  magnitude: float = 10.0
  increasing: bool = False

  def __post_init__(self):
    if self.layers < 1:
      raise UserError(f'RandAugment with {self.layers} layers: 1 or more')
    if self.magnitude < 0:
      raise UserError(f'RandAugment at magnitude {self.magnitude}: 0 or more')

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    scale = table.Scale(increasing=self.increasing)
    names = list(table.OPERATIONS)
    for choice in rng.integers(len(names), size=self.layers):
      image = table.apply(names[choice], rng, image, self.magnitude, scale)
    return image


_BINS = 31
# Largest strength; those of TrivialAugment's wide space that have a sign.
_TRIVIAL_SIGNED = {
  'shear_x': 0.99,
  'shear_y': 0.99,
  'translate_x': 32.0,
  'translate_y': 32.0,
  'rotate': 135.0,
}
_TRIVIAL_ENHANCED = ('brightness', 'color', 'contrast_of_mean', 'sharpness')
_TRIVIAL = (
  *('identity', 'autocontrast', 'equalize', 'posterize', 'solarize'),
  *(*_TRIVIAL_SIGNED, *_TRIVIAL_ENHANCED),
)


@dataclasses.dataclass(frozen=True)
class TrivialAugment:
  """TrivialAugment, wide (Mueller and Hutter 2021): one operation an image.

  The operation is uniform over 14, its strength over 31 steps up to the
  widest, its sign over both. Geometry fills with 128, as all here.
  """

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    name = _TRIVIAL[rng.integers(len(_TRIVIAL))]
    step = int(rng.integers(_BINS))
    strength = step / (_BINS - 1)
    sign = -1 if rng.random() < 0.5 else 1
    if name == 'identity':
      return image
    operation = getattr(ops, name)
    if name in _TRIVIAL_SIGNED:
      amount = strength * _TRIVIAL_SIGNED[name]
      whole = name.startswith('translate')  # pixels, as torchvision's
      return operation(image, sign * (int(amount) if whole else amount))
    if name in _TRIVIAL_ENHANCED:
      return operation(image, 1 + sign * strength * 0.99)
    if name == 'posterize':
      return operation(image, 8 - round(6 * strength))
    if name == 'solarize':
      return operation(image, -(-255 * (_BINS - 1 - step) // (_BINS - 1)))
    return operation(image)
