"""Accuracy under attack: each image changed to raise the network's loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from effnet_jax.evaluation import hits
from effnet_jax.training import metrics
from effnet_jax.training.attack import Attack, pgd

# Steps together go 2.5 times as far as the ball, so that any place in it can be
# reached (Madry et al. 2018, section 5).
_REACH = 2.5


def attack_of(epsilon: float, steps: int) -> Attack:
  """Returns an attack whose steps can cross its ball."""
  return Attack(epsilon, steps, _REACH * epsilon / max(steps, 1))


def eval_step(
  apply: Callable[..., Any],
  normalize: Callable[[jax.Array], jax.Array],
  ranked: np.ndarray,
  attack: Attack,
) -> Callable[..., metrics.Metrics]:
  """Returns `hits.eval_step` on attacked images.

  The attack knows the network, its moving statistics and the labels. Where it
  begins depends on the image alone, so that neither batches nor devices change
  the result.
  """
  count = hits.eval_step(apply, normalize, ranked)

  def step(variables, batch):
    labels = batch['label']
    if labels.ndim == 1:
      labels = jax.nn.one_hot(labels, len(ranked))
    labels = labels.astype(jnp.float32)
    targets = labels / jnp.maximum(labels.sum(-1, keepdims=True), 1)

    def loss(images):
      logits, _ = apply(variables, normalize(images), train=False)
      logits = jnp.where(ranked, logits, jnp.finfo(logits.dtype).min)
      return optax.losses.softmax_cross_entropy(logits, targets).sum()

    raised = pgd(
      jax.vmap(_start)(batch['image']), batch['image'], jax.grad(loss), attack
    )
    return count(variables, {**batch, 'image': raised})

  return step


def _start(image: jax.Array) -> jax.Array:
  weights = jnp.arange(1, image.size + 1, dtype=jnp.uint32)
  number = (image.reshape(-1).astype(jnp.uint32) * weights).sum()
  key = jax.random.fold_in(jax.random.key(0), number)
  return jax.random.uniform(key, image.shape, minval=-1, maxval=1)
