"""Labelled and pseudo-labelled images together: Noisy Student's loss.

Xie et al. 2020. The paper averages the cross-entropy over the concatenated
batch; the authors' code, followed here, divides its sum by the number of
labelled images: mean over labelled + ratio * mean over unlabelled.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from effnet_jax.training import metrics


def noisy_student(
  apply: Callable[..., Any],
  normalize: Callable[[jax.Array], jax.Array],
  label_smoothing: float = 0.0,
) -> Callable[..., Any]:
  """Returns the objective of a student.

  Both kinds of images go through the network in one batch: batch norm sees
  them together. It is cross-entropy to the teacher's probabilities, not their
  divergence; the gradient is the same.

  Args:
    apply: of the network.
    normalize: from pixels in 0..255 to the network's input.
    label_smoothing: of labels and of hard pseudo-labels, not of soft ones, as
      in the authors' code.

  Returns:
    A pure function of `variables`, a batch (`image` uint8 [n, h, w, 3],
    `label` int [n], `unlabelled_image` uint8 [m, h, w, 3], `unlabelled_label`
    probabilities [m, classes] or int [m]) and a random key, giving the loss in
    float32 and (metrics, new batch statistics). `cross_entropy`, `top1` and
    `top5` are of the labelled images.
  """

  def objective(variables, batch, rng):
    labels, pseudo = batch['label'], batch['unlabelled_label']
    pixels = jnp.concatenate([batch['image'], batch['unlabelled_image']])
    (logits, _), updated = apply(
      variables,
      normalize(pixels),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': rng},
    )
    count = labels.shape[0]
    ours = _losses(logits[:count], labels, label_smoothing)
    hard = pseudo.ndim == 1
    theirs = _losses(logits[count:], pseudo, label_smoothing if hard else 0.0)
    total = ours.sum() + theirs.sum()
    scores = metrics.classification(logits[:count], labels)
    images = scores['top1'][1]
    scores['loss'] = total, images
    scores['labelled_loss'] = ours.sum(), images
    scores['unlabelled_loss'] = theirs.sum(), jnp.float32(len(theirs))
    return total / count, (scores, updated['batch_stats'])

  return objective


def _losses(logits, labels, label_smoothing):
  if labels.ndim == 1:
    labels = jax.nn.one_hot(labels, logits.shape[-1])
  targets = optax.losses.smooth_labels(labels, label_smoothing)
  return optax.losses.softmax_cross_entropy(logits, targets)
