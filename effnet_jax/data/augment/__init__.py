"""Augmentation: from one uint8 image to another of the same size."""

import dataclasses

import numpy as np

from effnet_jax.data.augment.erasing import Cutout, RandomErasing
from effnet_jax.data.augment.policies import (
  AutoAugment,
  RandAugment,
  TrivialAugment,
)
from effnet_jax.errors import UserError, near_names

POLICIES = ('autoaugment', 'randaugment', 'trivialaugment')
Step = AutoAugment | RandAugment | TrivialAugment | RandomErasing | Cutout


@dataclasses.dataclass(frozen=True)
class Augment:
  """(rng, uint8 [h, w, 3]) -> uint8 [h, w, 3], by one step after another."""

  steps: tuple[Step, ...]

  def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    for step in self.steps:
      image = step(rng, image)
    return image


def create(
  policy: str = '',
  *,
  layers: int = 2,
  magnitude: float = 10.0,
  increasing: bool = False,
  erasing: float = 0.0,
  erasing_mode: str = 'pixel',
  cutout: float = 0.0,
) -> Augment | None:
  """Returns what follows crop and flip in training; None for nothing.

  Args:
    policy: one of POLICIES, or '' for none.
    layers: of randaugment: operations an image.
    magnitude: of randaugment.
    increasing: of autoaugment and randaugment: the corrected direction of
      levels, see `table.Scale`.
    erasing: probability of random erasing.
    erasing_mode: pixel (noise) or const (grey).
    cutout: side of a square of noise, as a share of the image's; 0 for none.

  Raises:
    UserError: an unknown policy, a number outside its range.
  """
  made = {
    '': lambda: (),
    'autoaugment': lambda: (AutoAugment(increasing),),
    'randaugment': lambda: (RandAugment(layers, magnitude, increasing),),
    'trivialaugment': lambda: (TrivialAugment(),),
  }
  if policy not in made:
    near = near_names(policy, POLICIES)
    raise UserError(f'unknown config.data.augment {policy!r}: {near}')
  steps: list[Step] = list(made[policy]())
  random_erasing = RandomErasing(erasing, mode=erasing_mode)
  if erasing:
    steps.append(random_erasing)
  if cutout:
    steps.append(Cutout(cutout))
  return Augment(tuple(steps)) if steps else None
