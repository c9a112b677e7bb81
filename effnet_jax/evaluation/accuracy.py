"""Exact accuracy: every example counts once, whatever the batch and devices."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from effnet_jax.training import metrics


def eval_step(
  apply: Callable[..., Any], normalize: Callable[[jax.Array], jax.Array]
) -> Callable[..., metrics.Metrics]:
  """Returns the pure function (variables, batch) -> sums and counts.

  The batch has `image` (uint8), `label` and `mask` (0 for padding).
  """

  def step(variables, batch):
    logits, _ = apply(variables, normalize(batch['image']), train=False)
    return metrics.classification(logits, batch['label'], batch['mask'])

  return step


def evaluate(
  step: Callable[[Any, Any], metrics.Metrics],
  weights: dict[str, Any],
  batches: Iterable[Any],
) -> dict[str, float]:
  """Returns the means over all batches.

  Args:
    step: (variables, batch) -> sums and counts over the global batch.
    weights: variables by the suffix of their metrics, such as
      {'': raw, '_ema': averaged}; all are evaluated in one pass over the data.
    batches: placed on the devices.

  Returns:
    `cross_entropy`, `top1` and `top5`, in 0..1, for each suffix, and
    `examples`, the number that was counted.
  """
  totals: dict[str, metrics.Metrics] = {}
  for batch in batches:
    for suffix, variables in weights.items():
      # Fetched at once: at most one batch is in flight, and sums are added in
      # float64, where 2^24 float32 counts would stop growing.
      sums = jax.tree.map(float, jax.device_get(step(variables, batch)))
      totals[suffix] = (
        metrics.add(totals[suffix], sums) if suffix in totals else sums
      )
  results = {
    name + suffix: value
    for suffix, total in totals.items()
    for name, value in metrics.divide(total).items()
  }
  results['examples'] = next(iter(totals.values()))['top1'][1]
  return results
