"""Top-1 and top-5 where a network may choose among some classes only, and
where an image may have several right ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effnet_jax.training import metrics

_NEVER = -jnp.inf


def eval_step(
  apply: Callable[..., Any],
  normalize: Callable[[jax.Array], jax.Array],
  ranked: np.ndarray,
) -> Callable[..., metrics.Metrics]:
  """Returns the pure function (variables, batch) -> sums and counts.

  The batch has `image` (uint8), `mask` (0 for padding) and `label`, [n] class
  indices or [n, classes], true for every right class. `ranked` [classes] says
  which classes the network may choose among.
  """

  def step(variables, batch):
    logits, _ = apply(variables, normalize(batch['image']), train=False)
    return hits(logits, batch['label'], batch['mask'], ranked)

  return step


def hits(
  logits: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
  ranked: np.ndarray,
) -> metrics.Metrics:
  """Returns top-1 and top-5 as sums over the batch; arguments as `eval_step`.

  An image counts as right if any of its classes is among the first k, as the
  paper on ReaL labels has it. Ties count against the network.
  """
  if labels.ndim == 1:
    labels = jax.nn.one_hot(labels, logits.shape[-1])
  right = (labels > 0) & ranked
  best = jnp.max(jnp.where(right, logits, _NEVER), axis=-1, keepdims=True)
  # As in metrics.classification: NaN never scores.
  before = jnp.sum(~(logits < best) & ranked & ~right, axis=-1)
  count = mask.sum()
  scores = lambda k: right.any(axis=-1) & (before < k)
  return {
    name: (jnp.sum(scores(k) * mask), count)
    for name, k in (('top1', 1), ('top5', 5))
  }
