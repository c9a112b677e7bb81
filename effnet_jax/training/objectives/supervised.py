"""Softmax cross-entropy with label smoothing: the published recipes' loss."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from effnet_jax.training import metrics


def supervised(
  apply: Callable[..., Any],
  normalize: Callable[[jax.Array], jax.Array],
  label_smoothing: float = 0.0,
) -> Callable[..., Any]:
  """Returns the objective of ordinary classification.

  Args:
    apply: of the network.
    normalize: from pixels in 0..255 to the network's input.
    label_smoothing: share of the target spread evenly over all classes.

  Returns:
    A pure function of `variables`, a batch (`image` uint8 [n, h, w, 3], `label`
    int [n] or probabilities [n, classes]) and a random key, giving the mean
    loss in float32 and (metrics, new batch statistics).
  """

  def objective(variables, batch, rng):
    (logits, _), updated = apply(
      variables,
      normalize(batch['image']),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': rng},
    )
    labels = batch['label']
    targets = labels
    if labels.ndim == 1:
      targets = jax.nn.one_hot(labels, logits.shape[-1])
    targets = optax.losses.smooth_labels(targets, label_smoothing)
    losses = optax.losses.softmax_cross_entropy(logits, targets)
    scores = metrics.classification(logits, labels)
    scores['loss'] = losses.sum(), scores['top1'][1]
    return losses.mean(), (scores, updated['batch_stats'])

  return objective
