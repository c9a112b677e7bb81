"""Durations, learning-rate schedules, and the decay of the moving average."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from effnet_jax import errors

Schedule = Callable[[jax.Array | int], jax.Array]

DECAYS = ('exponential', 'cosine', 'polynomial', 'constant')
_DURATION = re.compile(
  r'(\d+(?:\.\d*)?(?:e\d+)?)\s*(step|epoch|example)s?', re.IGNORECASE
)


def to_steps(
  duration: str, examples_per_epoch: int, batch_size: int, key: str = 'duration'
) -> float:
  """Converts `350 epochs`, `1000 steps` or `5e6 examples` to steps.

  Args:
    duration: a number and its unit.
    examples_per_epoch: training examples.
    batch_size: of all devices together.
    key: the config key, for the error.

  Returns:
    Steps, not rounded: 2.4 epochs at batch 4096 are 750.7 of them, and the
    published staircase falls at its multiples.
  """
  match = _DURATION.fullmatch(duration.strip())
  if not match:
    raise errors.UserError(
      f'config.{key}={duration!r} is no duration: write a number and steps, '
      'epochs or examples, as in "350 epochs"'
    )
  number, unit = float(match[1]), match[2].lower()
  examples = {'step': batch_size, 'epoch': examples_per_epoch, 'example': 1}
  return number * examples[unit] / batch_size


def learning_rate(
  decay: str,
  peak: float,
  *,
  warmup_steps: float,
  total_steps: float,
  decay_factor: float = 0.97,
  decay_steps: float = 1.0,
  final_fraction: float = 0.0,
  power: float = 2.0,
  end_rate: float = 0.0,
) -> Schedule:
  """Returns the learning rate as a function of the step.

  Warm-up is linear from 0 to `peak`. The decay counts from step 0, not from the
  end of warm-up, as in the TensorFlow source: with 5 epochs of warm-up and a
  factor of .97 every 2.4 epochs the rate drops from `peak` to .97^2 of it when
  warm-up ends. `polynomial` counts from the end of warm-up, as it does there.

  Args:
    decay: `exponential` (a staircase: decay_factor^floor(step / decay_steps)),
      `cosine` (to `final_fraction` of the peak at `total_steps`),
      `polynomial` ((1 - progress)^power of the way from `end_rate`, reached one
      step after `total_steps`, to the peak), `constant`.
    peak: the rate that warm-up leads to, already scaled to the batch size.
    warmup_steps: 0 for none.
    total_steps: length of training.
    decay_factor: of `exponential`.
    decay_steps: of `exponential`.
    final_fraction: of `cosine`.
    power: of `polynomial`.
    end_rate: of `polynomial`, not scaled to the batch size.
  """
  if decay not in DECAYS:
    raise errors.UserError(
      f'unknown config.schedule.decay {decay!r}: '
      + errors.near_names(decay, DECAYS)
    )

  if decay == 'exponential' and decay_steps <= 0:
    raise errors.UserError('config.schedule.decay_every must be above 0')
  if decay == 'polynomial' and not 0 <= end_rate <= peak:
    raise errors.UserError(
      f'config.schedule.end_rate={end_rate:g} must be in 0..{peak:g}, which is '
      'config.schedule.learning_rate * config.batch_size / 256'
    )

  def schedule(step):
    step = jnp.asarray(step, jnp.float32)
    if decay == 'exponential':
      rate = peak * decay_factor ** jnp.floor(step / decay_steps)
    elif decay == 'cosine':
      progress = jnp.clip(step / total_steps, 0, 1)
      cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
      rate = peak * (final_fraction + (1 - final_fraction) * cosine)
    elif decay == 'polynomial':
      # From 1, as the authors have it: the peak itself is never reached.
      done = jnp.maximum(step - warmup_steps, 1)
      progress = jnp.minimum(done / max(total_steps - warmup_steps + 1, 1), 1)
      rate = end_rate + (peak - end_rate) * (1 - progress) ** power
    else:
      rate = jnp.float32(peak)
    warmup = peak * step / max(warmup_steps, 1)
    return jnp.where(step < warmup_steps, warmup, rate)

  return schedule


def ema_decay(step: jax.Array | int, limit: float) -> jax.Array:
  """Returns the decay of the moving average at `step` (from 0).

  min(limit, (1 + n) / (10 + n)): the average follows closely at first, where a
  fixed .9999 would hold on to the initial weights for thirty epochs.
  """
  step = jnp.asarray(step, jnp.float32)
  return jnp.minimum(limit, (1 + step) / (10 + step))
