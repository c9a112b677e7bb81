"""Projected gradient ascent, by hand on losses whose gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training.attack import Attack, pgd

WEIGHTS = jnp.array([2.0, -0.5, 1e-3])
IMAGES = jnp.full((2, 4, 4, 3), 100, jnp.uint8)
NOWHERE = jnp.zeros(IMAGES.shape)


def _linear(images):
  return (images * WEIGHTS).sum()


def test_a_linear_loss_is_raised_to_the_corner_of_the_ball():
  found = pgd(NOWHERE, IMAGES, jax.grad(_linear), Attack(4, 5, 1))
  expected = 100 + 4 * np.sign(WEIGHTS)
  assert np.array_equal(found, np.broadcast_to(expected, found.shape))


def test_too_few_steps_fall_short():
  found = pgd(NOWHERE, IMAGES, jax.grad(_linear), Attack(4, 3, 0.5))
  expected = 100 + 1.5 * np.sign(WEIGHTS)
  assert np.allclose(found, np.broadcast_to(expected, found.shape))


def test_it_starts_where_it_is_told_and_stays_in_the_range():
  start = jax.random.uniform(
    jax.random.key(0), IMAGES.shape, minval=-1, maxval=1
  )
  still = pgd(start, IMAGES, jnp.zeros_like, Attack(4, 1, 1))
  assert np.allclose(still, 100 + 4 * start, atol=1e-5)
  for level in (0, 254):
    images = jnp.full(IMAGES.shape, level, jnp.uint8)
    found = np.asarray(pgd(start, images, jax.grad(_linear), Attack(8, 5, 4)))
    assert found.min() >= max(level - 8, 0)
    assert found.max() <= min(level + 8, 255)
    assert (found[..., 0] == min(level + 8, 255)).all()


def test_no_room_to_move_is_the_image():
  start = jnp.ones(IMAGES.shape)
  found = pgd(start, IMAGES, jax.grad(_linear), Attack(0, 5, 1))
  assert np.array_equal(found, IMAGES)


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ({'epsilon': -1.0}, 'epsilon=-1.0'),
    ({'steps': 0}, 'steps=0'),
    ({'step_size': -0.5}, 'step_size=-0.5'),
    ({'epsilon': float('nan')}, 'epsilon=nan'),
  ],
)
def test_impossible_attacks(arguments, text):
  with pytest.raises(UserError, match=text):
    Attack(**arguments)
