"""Clean images and attacked copies of them, each by its own batch norms.

AdvProp, Xie et al. 2020, Algorithm 1. The authors' training code was never
released. The attack runs through the auxiliary batch norms with the batch's own
statistics, which it leaves no trace in, and through the same dropped units and
blocks as the pass that learns from it; the paper says nothing of these two.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax import lax

from effnet_jax.models import auxiliary
from effnet_jax.training import metrics
from effnet_jax.training.attack import Attack, pgd


def advprop(
  apply: Callable[..., Any],
  normalize: Callable[[jax.Array], jax.Array],
  label_smoothing: float = 0.0,
  *,
  attack: Attack,
) -> Callable[..., Any]:
  """Returns the objective: the clean loss plus that of the attacked images.

  Args:
    apply: of the network.
    normalize: from pixels in 0..255 to the network's input.
    label_smoothing: share of the target spread evenly over all classes.
    attack: on the images, of epsilon and step size in 0..255.

  Returns:
    A pure function of `variables` (with an auxiliary set, see
    `models.auxiliary`), a batch (`image` [n, h, w, 3] in 0..255, `label` int
    [n] or probabilities [n, classes]) and a random key, giving the sum of both
    mean losses in float32 and (metrics, new batch statistics). `cross_entropy`,
    `top1` and `top5` are of the clean images.
  """

  def run(variables, images, rng):
    (logits, _), updated = apply(
      variables,
      normalize(images),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': rng},
    )
    return logits, updated['batch_stats']

  def objective(variables, batch, rng):
    for_start, for_clean, for_attacked = jax.random.split(rng, 3)
    clean, attacked = auxiliary.main(variables), auxiliary.other(variables)
    images, labels = batch['image'], batch['label']

    def losses(logits):
      targets = labels
      if labels.ndim == 1:
        targets = jax.nn.one_hot(labels, logits.shape[-1])
      targets = optax.losses.smooth_labels(targets, label_smoothing)
      return optax.losses.softmax_cross_entropy(logits, targets)

    frozen = lax.stop_gradient(attacked)
    raised = pgd(
      jax.random.uniform(for_start, images.shape, minval=-1, maxval=1),
      images,
      jax.grad(lambda x: losses(run(frozen, x, for_attacked)[0]).sum()),
      attack,
    )
    logits, statistics = run(clean, images, for_clean)
    fooled, others = run(attacked, lax.stop_gradient(raised), for_attacked)
    first, second = losses(logits), losses(fooled)
    scores = metrics.classification(logits, labels)
    count = scores['top1'][1]
    scores['loss'] = first.sum() + second.sum(), count
    scores['clean_loss'] = first.sum(), count
    scores['adversarial_loss'] = second.sum(), count
    scores['adversarial_top1'] = metrics.classification(fooled, labels)['top1']
    joined = auxiliary.join(statistics, others)
    return first.mean() + second.mean(), (scores, joined)

  return objective
