"""Adversarial images by projected gradient ascent (Madry et al. 2018)."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax import errors


@dataclasses.dataclass(frozen=True)
class Attack:
  """How far, and how, images are changed against a network.

  Attributes:
    epsilon: the most that any value changes, of 0..255.
    steps: along the sign of the gradient.
    step_size: of each, of 0..255.
  """

  epsilon: float = 4.0
  steps: int = 5
  step_size: float = 1.0

  def __post_init__(self):
    for key, value, least in (
      ('epsilon', self.epsilon, 0),
      ('steps', self.steps, 1),
      ('step_size', self.step_size, 0),
    ):
      if not value >= least:
        raise errors.UserError(f'an attack with {key}={value}: {least} or more')


def pgd(
  start: jax.Array,
  images: jax.Array,
  gradient: Callable[[jax.Array], jax.Array],
  attack: Attack,
) -> jax.Array:
  """Returns images at which a loss is higher.

  From a start within epsilon, each step adds step_size times the sign of the
  gradient, then returns to within epsilon of the images and to 0..255.

  Args:
    start: [n, h, w, 3] in -1..1, times epsilon: where to begin.
    images: [n, h, w, 3] in 0..255.
    gradient: of the loss, by images in float32.
    attack: how.

  Returns:
    float32 [n, h, w, 3].
  """
  images = images.astype(jnp.float32)
  low = jnp.maximum(images - attack.epsilon, 0)
  high = jnp.minimum(images + attack.epsilon, 255)

  def step(_, changed):
    moved = changed + attack.step_size * jnp.sign(gradient(changed))
    return jnp.clip(moved, low, high)

  begin = jnp.clip(images + attack.epsilon * start, low, high)
  return lax.fori_loop(0, attack.steps, step, begin)
