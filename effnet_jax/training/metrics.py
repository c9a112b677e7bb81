"""Metrics as sums and counts, so that every example weighs the same."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from effnet_jax import errors

# A metric is (sum, count): added over images, devices and batches, divided once
# at the end.
Metrics = dict[str, tuple[jax.Array, jax.Array]]


def classification(
  logits: jax.Array,
  labels: jax.Array,
  mask: jax.Array | None = None,
) -> Metrics:
  """Returns cross-entropy, top-1 and top-5 as sums over the batch.

  Args:
    logits: [n, classes], float32.
    labels: [n] class indices, or [n, classes] probabilities (whose largest
      counts as the class).
    mask: [n], 0 for padding.
  """
  if mask is None:
    mask = jnp.ones(logits.shape[0], jnp.float32)
  if labels.ndim == 1:
    labels = jax.nn.one_hot(labels, logits.shape[-1])
  hard = labels.argmax(-1)
  cross_entropy = optax.losses.softmax_cross_entropy(logits, labels)
  # Classes with a logit at least as large, besides the right one: ties count
  # against the network, so that equal or NaN logits never score.
  right = jnp.take_along_axis(logits, hard[:, None], axis=-1)
  others = jnp.arange(logits.shape[-1]) != hard[:, None]
  rank = jnp.sum(~(logits < right) & others, axis=-1)
  count = mask.sum()
  return {
    name: (jnp.sum(values * mask), count)
    for name, values in (
      ('cross_entropy', cross_entropy),
      ('top1', rank < 1),
      ('top5', rank < 5),
    )
  }


def add(left: Any, right: Any) -> Any:
  """Adds two sets of (sum, count)."""
  return jax.tree.map(lambda a, b: a + b, left, right)


def divide(metrics: Metrics) -> dict[str, float]:
  """Returns the means."""
  return {
    name: float(total) / max(float(count), 1e-9)
    for name, (total, count) in metrics.items()
  }


# A state whose last step has all three finite is finite itself.
_MUST_BE_FINITE = ('loss', 'gradient_norm', 'update_norm')


class NonFiniteError(errors.UserError):
  """Loss, gradient or update of a step is infinite or not a number."""


class Window:
  """Metrics of the steps since the last line of the log.

  They stay on the devices until they are read, so that nothing waits for a step
  between two lines.

  Attributes:
    sums: metric -> (sum, count) of what has been read, as Python floats; part
      of a checkpoint, so that a resumed run logs what a straight one does.
  """

  def __init__(self, sums: dict[str, Any], step: int):
    self.sums = {name: tuple(pair) for name, pair in sums.items()}
    self._step = step
    self._pending: list[Metrics] = []

  def append(self, metrics: Metrics) -> None:
    self._pending.append(metrics)

  def latest_is_done(self) -> bool:
    """Returns whether the devices have finished the latest step."""
    return not self._pending or self._pending[-1]['loss'][0].is_ready()

  def read(self) -> None:
    """Fetches and adds up what is pending.

    Raises:
      NonFiniteError: naming the first step where one of them is bad.
    """
    for metrics in jax.device_get(self._pending):
      self._step += 1
      sums = jax.tree.map(float, metrics)
      for name in (n for n in _MUST_BE_FINITE if n in sums):
        if not math.isfinite(sums[name][0]):
          raise NonFiniteError(
            f'step {self._step}: the {name.replace("_", " ")} is '
            f'{sums[name][0]}. The run has stopped, the checkpoints before '
            'this step are kept. Try a smaller config.schedule.learning_rate, '
            'a longer config.schedule.warmup or config.optimizer.clip_norm'
          )
      self.sums = add(self.sums, sums) if self.sums else sums
    self._pending = []

  def drain(self) -> dict[str, float]:
    """Returns the means, and starts over."""
    self.read()
    means, self.sums = divide(self.sums), {}
    return means
