"""The EfficientNet family in JAX and Flax: networks, recipes, method."""

import importlib

__version__ = '0.1.0'

# Where the public names live. They are imported when first used, so that
# `import effnet_jax` stays quick and loads no more than what is asked for.
_PUBLIC = {
  'create_model': 'effnet_jax.pretrained',
  'list_models': 'effnet_jax.models.variants',
  'get_spec': 'effnet_jax.models.variants',
  'normalize': 'effnet_jax.models.normalize',
  'predictor': 'effnet_jax.inference.predictor',
  'features': 'effnet_jax.inference.features',
  'embed': 'effnet_jax.inference.features',
  'UserError': 'effnet_jax.errors',
  'build': 'effnet_jax.training.program',
  'train_and_evaluate': 'effnet_jax.training.loop',
  'load': 'effnet_jax.pretrained',
}

__all__ = [*_PUBLIC]


def __getattr__(name: str):
  if name not in _PUBLIC:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_PUBLIC])
