"""Optimisers of the published recipes, on optax."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from effnet_jax import errors
from effnet_jax.training import groups
from effnet_jax.training.schedules import Schedule

OPTIMIZERS = ('rmsprop', 'sgd', 'lars')
DECAY_MASKS = ('not_batch_norm', 'kernels')


def decay_mask(params: Any, rule: str) -> Any:
  """Returns which leaves weight decay applies to, as a tree of booleans.

  Args:
    params: parameters of a network of the family.
    rule: `not_batch_norm`, V1's: everything but batch norm, hence the biases
      of squeeze-and-excitation and of the classifier too; `kernels`, V2's: no
      bias, no batch norm.
  """
  _check('decay_mask', rule, DECAY_MASKS)

  def decayed(path, _):
    in_batch_norm = path[-2].key.endswith('_bn')
    return not in_batch_norm and (
      rule == 'not_batch_norm' or path[-1].key == 'kernel'
    )

  return jax.tree_util.tree_map_with_path(decayed, params)


def create(
  name: str,
  schedule: Schedule,
  *,
  momentum: float = 0.9,
  weight_decay: float = 1e-5,
  mask: str = 'not_batch_norm',
  rms_decay: float = 0.9,
  epsilon: float = 1e-3,
  clip_norm: float | None = None,
  trust_coefficient: float = 1e-3,
  group_rates: str = '',
  freeze: str = '',
) -> optax.GradientTransformation:
  """Returns the optimiser: clipping, weight decay, then `name`.

  Weight decay is the gradient of `weight_decay * sum(w^2 / 2)`, added to the
  loss's own before the optimiser scales it (L2 in the loss, not decoupled). The
  reported loss does not contain it. `lars` has it in its trust ratio too.

  Args:
    name: `rmsprop`, as TensorFlow 1 has it (second moment from 1, epsilon
      inside the root, learning rate before momentum), `sgd` (Nesterov), or
      `lars` (You et al., 2017), as the authors' large batches have it.
    schedule: learning rate as a function of the step.
    momentum: of the steps taken.
    weight_decay: 0 for none.
    mask: which leaves it applies to, see `decay_mask`; of `lars` also which
      have a trust ratio (published: `kernels`).
    rms_decay: of rmsprop's second moment.
    epsilon: of rmsprop.
    clip_norm: largest global norm of the loss's gradient; None for no limit.
    trust_coefficient: of lars.
    group_rates: factors on the learning rate, see `groups.rate_factors`.
    freeze: parameters that stay as they are, without decay or slots, see
      `groups.frozen_labels`; '' for none.
  """
  _check('name', name, OPTIMIZERS)
  _check('decay_mask', mask, DECAY_MASKS)
  if name == 'rmsprop':
    scale = optax.rmsprop(
      schedule,
      decay=rms_decay,
      eps=epsilon,
      initial_scale=1.0,
      eps_in_sqrt=True,
      momentum=momentum,
      bias_correction=False,
    )
  elif name == 'lars':
    scale = optax.chain(
      optax.masked(
        _scale_by_trust(trust_coefficient, weight_decay),
        lambda p: decay_mask(p, mask),
      ),
      optax.scale_by_learning_rate(schedule),
      optax.trace(momentum),
    )
  else:
    scale = optax.sgd(schedule, momentum=momentum, nesterov=True)
  chain = []
  if clip_norm:
    chain.append(optax.clip_by_global_norm(clip_norm))
  if weight_decay and name != 'lars':
    chain.append(
      optax.add_decayed_weights(weight_decay, lambda p: decay_mask(p, mask))
    )
  chain.append(scale)
  if group_rates:
    chain.append(_scaled_by_group(group_rates))
  tx = optax.chain(*chain)
  return _trained_only(tx, freeze) if freeze else tx


def _scaled_by_group(rates: str) -> optax.GradientTransformation:
  # Behind the momentum: a factor that stays the same commutes with it.
  def init(params):
    groups.rate_factors(params, rates)  # a wrong pattern is told of at once
    return optax.EmptyState()

  def update(updates, state, params=None):
    del params
    factors = groups.rate_factors(updates, rates)
    return jax.tree.map(lambda u, f: u * f, updates, factors), state

  return optax.GradientTransformation(init, update)


def _trained_only(
  tx: optax.GradientTransformation, freeze: str
) -> optax.GradientTransformation:
  transforms = {groups.TRAINED: tx, groups.FROZEN: optax.set_to_zero()}
  return optax.multi_transform(
    transforms, lambda params: groups.frozen_labels(params, freeze)
  )


def _scale_by_trust(
  coefficient: float, weight_decay: float
) -> optax.GradientTransformation:
  """Adds weight decay, then scales every leaf by its trust ratio.

  coefficient * |w| / (|g| + weight_decay * |w|), 1 where a norm is 0. Not
  `optax.lars`, which divides by |g + weight_decay * w|.
  """

  def scaled(gradient, weight):
    norms = optax.tree.norm(weight), optax.tree.norm(gradient)
    ratio = coefficient * norms[0] / (norms[1] + weight_decay * norms[0])
    ratio = jnp.where((norms[0] > 0) & (norms[1] > 0), ratio, 1.0)
    return ratio * (gradient + weight_decay * weight)

  return optax.stateless(lambda g, params: jax.tree.map(scaled, g, params))


def _check(key: str, value: str, known: tuple[str, ...]) -> None:
  if value not in known:
    raise errors.UserError(
      f'unknown config.optimizer.{key} {value!r}: '
      + errors.near_names(value, known)
    )
