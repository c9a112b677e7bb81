"""Accuracy under attack, on a linear network whose margins are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.evaluation import attacked, hits
from effnet_jax.training import metrics

EVERY = np.ones(3, bool)
# Logits are the mean red, green and blue.
apply = lambda variables, x, train: (variables * x.mean((1, 2)), {})
same = lambda images: jnp.asarray(images, jnp.float32)


def _batch(levels, labels):
  images = np.zeros((len(levels), 4, 4, 3), np.uint8)
  images[:] = np.asarray(levels, np.uint8)[:, None, None]
  return {
    'image': images,
    'label': np.asarray(labels),
    'mask': np.ones(len(labels), np.float32),
  }


def _top1(step, batch):
  return metrics.divide(jax.jit(step)(jnp.float32(1), batch))['top1']


@pytest.mark.parametrize(
  ('epsilon', 'expected'), [(0.0, 3), (4.0, 3), (5.0, 2), (6.0, 1), (60.0, 0)]
)
def test_margins_of_twice_epsilon_are_lost(epsilon, expected):
  # The right channel falls by epsilon, the best of the others rises by it:
  # margins are 9, 11 and 80.
  batch = _batch([(109, 100, 90), (90, 111, 100), (10, 20, 100)], [0, 1, 2])
  step = attacked.eval_step(apply, same, EVERY, attacked.attack_of(epsilon, 10))
  assert _top1(step, batch) == pytest.approx(expected / 3)
  assert _top1(hits.eval_step(apply, same, EVERY), batch) == 1


def test_several_right_classes_and_classes_left_out():
  # Either of the first two is right; the third may not be chosen.
  labels = np.array([[True, True, False]])
  batch = _batch([(100, 90, 250)], labels)
  ranked = np.array([True, True, False])
  step = attacked.eval_step(apply, same, ranked, attacked.attack_of(50.0, 5))
  assert _top1(step, batch) == 1


def test_neither_order_nor_batch_changes_an_images_attack():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 5, 4, 3), np.uint8)
  starts = jax.vmap(attacked._start)(images)
  assert np.array_equal(starts[2], attacked._start(images[2]))
  assert len({float(s.sum()) for s in starts}) == 6
  assert -1 <= starts.min() < -0.9 and 0.9 < starts.max() <= 1
