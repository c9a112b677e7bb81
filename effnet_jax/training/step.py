"""One training step: a pure function that knows an axis name and no device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from effnet_jax.training import metrics as metrics_lib
from effnet_jax.training import schedules
from effnet_jax.training.state import TrainState


def train_step(
  state: TrainState,
  batch: dict[str, jax.Array],
  key: jax.Array,
  *,
  objective: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  ema_limit: float,
  accumulate: int = 1,
  axis_name: str = 'batch',
) -> tuple[TrainState, metrics_lib.Metrics]:
  """Computes the state after one batch.

  Args:
    state: the same on every replica.
    batch: this replica's share of the global batch, arrays [n, ...].
    key: the run's random key; the step and the replica are folded in.
    objective: see `objectives`.
    optimizer: see `optimizer`.
    ema_limit: of the moving average's decay, see `schedules.ema_decay`; it
      covers parameters and batch statistics.
    accumulate: the share is worked through in so many parts of equal size,
      whose gradients are averaged; memory falls by about that factor. Batch
      norm then sees one part at a time.
    axis_name: of the mapped axis that this function is called under.

  Returns:
    The new state, and metrics as (sum, count) over the global batch;
    `gradient_norm` is among them, before clipping and weight decay, and
    `update_norm`, of what is added to the parameters.
  """
  rng = jax.random.fold_in(key, state.step)
  rng = jax.random.fold_in(rng, lax.axis_index(axis_name))
  gradient = jax.value_and_grad(
    lambda params, batch_stats, batch, rng: objective(
      {'params': params, 'batch_stats': batch_stats}, batch, rng
    ),
    has_aux=True,
  )

  def part(batch_stats, batch_and_rng):
    (_, (metrics, batch_stats)), grads = gradient(
      state.params, batch_stats, *batch_and_rng
    )
    return batch_stats, (grads, metrics)

  if accumulate == 1:
    batch_stats, (grads, metrics) = part(state.batch_stats, (batch, rng))
  else:
    parts = jax.tree.map(
      lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch
    )
    rngs = jax.random.split(rng, accumulate)
    batch_stats, (grads, metrics) = lax.scan(
      part, state.batch_stats, (parts, rngs)
    )
    grads = jax.tree.map(lambda g: g.mean(0), grads)
    metrics = jax.tree.map(lambda m: m.sum(0), metrics)

  # All that goes into the state is made equal on every replica here: pmap does
  # not check, and would let replicas drift apart in silence.
  grads, batch_stats = lax.pmean((grads, batch_stats), axis_name)
  metrics = lax.psum(metrics, axis_name)
  metrics['gradient_norm'] = optax.tree.norm(grads), jnp.ones(())

  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  metrics['update_norm'] = optax.tree.norm(updates), jnp.ones(())
  params = optax.apply_updates(state.params, updates)
  decay = schedules.ema_decay(state.step, ema_limit)
  # In this form what is frozen stays bit for bit in the average too.
  average = lambda old, new: old + (1 - decay) * (new - old)
  new_state = TrainState(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    ema_params=jax.tree.map(average, state.ema_params, params),
    ema_batch_stats=jax.tree.map(average, state.ema_batch_stats, batch_stats),
    opt_state=opt_state,
  )
  return new_state, metrics
