"""What training carries from step to step: one small explicit pytree."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from effnet_jax.models import auxiliary


@flax.struct.dataclass
class TrainState:
  """Everything that a step reads and writes.

  Randomness is not part of it: it is folded from the run's seed and `step`.
  """

  step: jax.Array  # int32, steps completed
  params: Any
  batch_stats: Any
  ema_params: Any
  ema_batch_stats: Any
  opt_state: optax.OptState

  def variables(self, ema: bool = False) -> dict[str, Any]:
    """Returns what `model.apply` takes: the raw or the averaged weights.

    Of a network trained with a second set of batch norms, without that.
    """
    params, batch_stats = (
      (self.ema_params, self.ema_batch_stats)
      if ema
      else (self.params, self.batch_stats)
    )
    return auxiliary.main({'params': params, 'batch_stats': batch_stats})


def create(
  variables: dict[str, Any], optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step."""
  params, batch_stats = variables['params'], variables['batch_stats']
  # Copies: a donated buffer must not appear twice.
  copy = lambda tree: jax.tree.map(jnp.array, tree)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    ema_params=copy(params),
    ema_batch_stats=copy(batch_stats),
    opt_state=optimizer.init(params),
  )
