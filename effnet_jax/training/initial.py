"""The variables that training begins with: fresh, or somebody's weights."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from effnet_jax import errors, pretrained
from effnet_jax.models import efficientnet

# Fields of ModelSpec that weights depend on and shapes do not show.
_LEARNED_WITH = (
  *('activation', 'padding', 'stem_stride', 'stride_in', 'bn_epsilon'),
  *('mean', 'std'),
)


def variables(
  config: ConfigDict, model: efficientnet.EfficientNet
) -> dict[str, Any]:
  """Returns the variables that training begins with.

  Raises:
    UserError: `init_from` does not fit the config's network.
  """
  if not config.init_from:
    return efficientnet.init(model, config.seed)
  weights = pretrained.read(
    config.init_from,
    config.model.name,
    num_classes=model.spec.num_classes,
    new_head=config.init_head != 'same',
    seed=config.seed,
  )
  differing = [
    f'--config.model.overrides.{field}={_as_flag(theirs)}'
    for field in _LEARNED_WITH
    if (theirs := getattr(weights.spec, field)) != getattr(model.spec, field)
  ]
  if differing:
    raise errors.UserError(
      f'the weights of config.init_from={config.init_from} were trained with '
      f'{" ".join(differing)}: add this'
    )
  saved, wanted = (
    jax.tree.map(lambda x: tuple(x.shape), tree)
    for tree in (weights.variables, efficientnet.shapes(model))
  )
  if saved != wanted:
    raise errors.UserError(
      f'config.init_from={config.init_from} holds another network than '
      f'config.model ({config.model.name} with its overrides)'
    )
  found = efficientnet.on_device(weights.variables)
  if config.init_head == 'zero':
    head = jax.tree.map(jnp.zeros_like, found['params']['classifier'])
    found['params']['classifier'] = head
  return found


def _as_flag(value: Any) -> str:
  # Parentheses mean something to a shell.
  text = repr(value).replace(' ', '')
  return f"'{text}'" if isinstance(value, tuple) else str(value)
