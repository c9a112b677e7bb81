"""The registered variants: every published network as one row of data."""

import dataclasses

from effnet_jax import errors
from effnet_jax.models.spec import ModelSpec, StageSpec

# EfficientNet, Table 1. The stride of 2 is in stages 2, 3, 4 and 6.
_V1_STAGES = (
  #         repeats, kernel, stride, expand ratio, filters
  StageSpec(1, 3, 1, 1, 16),
  StageSpec(2, 3, 2, 6, 24),
  StageSpec(2, 5, 2, 6, 40),
  StageSpec(3, 3, 2, 6, 80),
  StageSpec(3, 5, 1, 6, 112),
  StageSpec(4, 5, 2, 6, 192),
  StageSpec(1, 3, 1, 6, 320),
)

# The released coefficients. They are hand-rounded: no phi gives them all.
_V1 = (
  # name, width, depth, resolution, dropout rate
  ('b0', 1.0, 1.0, 224, 0.2),
  ('b1', 1.0, 1.1, 240, 0.2),
  ('b2', 1.1, 1.2, 260, 0.3),
  ('b3', 1.2, 1.4, 300, 0.3),
  ('b4', 1.4, 1.8, 380, 0.4),
  ('b5', 1.6, 2.2, 456, 0.4),
  ('b6', 1.8, 2.6, 528, 0.5),
  ('b7', 2.0, 3.1, 600, 0.5),
)

# Not published: B0 scaled down for small images and for tests. Half the width,
# one layer a stage but for the sixth, which has two and with them the residual
# sum and stochastic depth, and a stem that keeps the resolution.
_MICRO = ModelSpec(
  'micro',
  _V1_STAGES,
  width=0.5,
  depth=0.3,
  resolution=16,
  stem_stride=1,
)

VARIANTS: dict[str, ModelSpec] = {
  spec.name: spec
  for spec in (
    *(
      ModelSpec(
        name,
        _V1_STAGES,
        width=width,
        depth=depth,
        resolution=resolution,
        dropout_rate=dropout_rate,
      )
      for name, width, depth, resolution, dropout_rate in _V1
    ),
    _MICRO,
  )
}


def _aliases() -> dict[str, str]:
  """Names that people know from timm, Keras and torchvision."""
  return {
    alias.format(name): name
    for name in VARIANTS
    if name.startswith('b')
    for alias in (
      'efficientnet_{}',
      'efficientnet-{}',
      'tf_efficientnet_{}',
      'efficientnet{}',
    )
  }


ALIASES = _aliases()


def list_models() -> tuple[str, ...]:
  """Returns the names of all registered variants."""
  return tuple(VARIANTS)


def get_spec(name: str, /, **overrides) -> ModelSpec:
  """Returns the specification of a variant, some of its fields replaced.

  Args:
    name: a variant, or another name for it such as `tf_efficientnet_b0`; in
      lower or upper case.
    **overrides: fields of `ModelSpec`.

  Raises:
    UserError: unknown name (with near names), unknown field, impossible value.

  >>> get_spec('b0', se_ratio=0).se_ratio
  0
  """
  known = name.lower()
  known = ALIASES.get(known, known)
  if known not in VARIANTS:
    near = errors.near_names(known, [*VARIANTS, *ALIASES])
    if near.startswith('known'):
      near = errors.near_names(known, VARIANTS)
    raise errors.UserError(f'unknown variant {name!r}: {near}')
  fields = [field.name for field in dataclasses.fields(ModelSpec)]
  for field in overrides:
    if field not in fields:
      near = errors.near_names(field, fields)
      raise errors.UserError(f'a model has no field {field!r}: {near}')
  return dataclasses.replace(VARIANTS[known], **overrides)
