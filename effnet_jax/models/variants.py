"""The registered variants: every published network as one row of data."""

import dataclasses

from effnet_jax import errors
from effnet_jax.models.spec import ModelSpec, StageSpec, parse_stages

_FUSED = {'operator': 'fused_mbconv', 'squeeze_excite': False}
_NO_GATE = {'squeeze_excite': False}

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
  # name, width, depth, train and test resolution, dropout rate
  ('b0', 1.0, 1.0, 224, 224, 0.2),
  ('b1', 1.0, 1.1, 240, 240, 0.2),
  ('b2', 1.1, 1.2, 260, 260, 0.3),
  ('b3', 1.2, 1.4, 300, 300, 0.3),
  ('b4', 1.4, 1.8, 380, 380, 0.4),
  ('b5', 1.6, 2.2, 456, 456, 0.4),
  ('b6', 1.8, 2.6, 528, 528, 0.5),
  ('b7', 2.0, 3.1, 600, 600, 0.5),
  ('b8', 2.2, 3.6, 672, 672, 0.5),
  # Noisy Student, Table 7: most of the training is at 475 pixels.
  ('l2', 4.3, 5.3, 475, 800, 0.5),
  ('l2_475', 4.3, 5.3, 475, 475, 0.5),
)

_LITE = (
  # name, width, depth, resolution, dropout rate
  ('lite0', 1.0, 1.0, 224, 0.2),
  ('lite1', 1.0, 1.1, 240, 0.2),
  ('lite2', 1.1, 1.2, 260, 0.3),
  # timm runs these two at 300 and 380; 280 and 300 are the published sizes.
  ('lite3', 1.2, 1.4, 280, 0.3),
  ('lite4', 1.4, 1.8, 300, 0.3),
)

# The first stage expands as if the stem had 24 channels: to 96, not 128.
_EDGETPU_STAGES = (
  StageSpec(1, 3, 1, 4, 24, **_FUSED, nominal_filters=24, residual=False),
  StageSpec(2, 3, 2, 8, 32, **_FUSED),
  StageSpec(4, 3, 2, 8, 48, **_FUSED),
  StageSpec(5, 5, 2, 8, 96, **_NO_GATE),
  StageSpec(4, 5, 1, 8, 144, **_NO_GATE),
  StageSpec(2, 5, 2, 8, 192, **_NO_GATE),
)

_EDGETPU = (
  ('edgetpu_s', 1.0, 1.0, 224, 0.2),
  ('edgetpu_m', 1.0, 1.1, 240, 0.2),
  ('edgetpu_l', 1.2, 1.4, 300, 0.3),
)

_CONDCONV = (
  # name, depth, experts
  ('condconv_b0_4e', 1.0, 4),
  ('condconv_b0_8e', 1.0, 8),
  ('condconv_b1_8e', 1.1, 8),  # published as b0-8e-depth, at 224
)

# EfficientNetV2, released code; the paper's Table 4 is the S.
_V2_BASE = (
  StageSpec(1, 3, 1, 1, 16, **_FUSED),
  StageSpec(2, 3, 2, 4, 32, **_FUSED),
  StageSpec(2, 3, 2, 4, 48, **_FUSED),
  StageSpec(3, 3, 2, 4, 96),
  StageSpec(5, 3, 1, 6, 112),
  StageSpec(8, 3, 2, 6, 192),
)
_V2_S = (
  StageSpec(2, 3, 1, 1, 24, **_FUSED),
  StageSpec(4, 3, 2, 4, 48, **_FUSED),
  StageSpec(4, 3, 2, 4, 64, **_FUSED),
  StageSpec(6, 3, 2, 4, 128),
  StageSpec(9, 3, 1, 6, 160),
  StageSpec(15, 3, 2, 6, 256),
)
_V2_M = (
  StageSpec(3, 3, 1, 1, 24, **_FUSED),
  StageSpec(5, 3, 2, 4, 48, **_FUSED),
  StageSpec(5, 3, 2, 4, 80, **_FUSED),
  StageSpec(7, 3, 2, 4, 160),
  StageSpec(14, 3, 1, 6, 176),
  StageSpec(18, 3, 2, 6, 304),
  StageSpec(5, 3, 1, 6, 512),
)
_V2_L = (
  StageSpec(4, 3, 1, 1, 32, **_FUSED),
  StageSpec(7, 3, 2, 4, 64, **_FUSED),
  StageSpec(7, 3, 2, 4, 96, **_FUSED),
  StageSpec(10, 3, 2, 4, 192),
  StageSpec(19, 3, 1, 6, 224),
  StageSpec(25, 3, 2, 6, 384),
  StageSpec(7, 3, 1, 6, 640),
)
_V2_XL = (
  StageSpec(4, 3, 1, 1, 32, **_FUSED),
  StageSpec(8, 3, 2, 4, 64, **_FUSED),
  StageSpec(8, 3, 2, 4, 96, **_FUSED),
  StageSpec(16, 3, 2, 4, 192),
  StageSpec(24, 3, 1, 6, 256),
  StageSpec(32, 3, 2, 6, 512),
  StageSpec(8, 3, 1, 6, 640),
)

_V2_B = (
  # name, width, depth, train and test resolution, dropout rate
  ('v2_b0', 1.0, 1.0, 192, 224, 0.2),
  ('v2_b1', 1.0, 1.1, 192, 240, 0.2),
  ('v2_b2', 1.1, 1.2, 208, 260, 0.3),
  ('v2_b3', 1.2, 1.4, 240, 300, 0.3),
)

_V2 = (
  # name, stages, stem filters, train and test resolution, dropout rate
  ('v2_s', _V2_S, 24, 300, 384, 0.2),
  ('v2_m', _V2_M, 24, 384, 480, 0.3),
  ('v2_l', _V2_L, 32, 384, 480, 0.4),
  ('v2_xl', _V2_XL, 32, 384, 512, 0.4),
)

# Pixels less 127 (Lite, EdgeTPU, CondConv) or 128 (V2-S to XL), over 128. The
# authors name bilinear resampling for Lite and EdgeTPU, but their input code
# didn't pass it on: what they trained and measured with is bicubic.
_BY_127 = {'mean': (127 / 255,) * 3, 'std': (128 / 255,) * 3}
_BY_128 = {'mean': (128 / 255,) * 3, 'std': (128 / 255,) * 3}

# V2 rounds widths without the rule of V1 (B3 differs), and its code has a
# momentum of .9 where the paper says .99.
_V2_RULES = {'ninety_percent': False, 'bn_momentum': 0.9}

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


def _published():
  for name, width, depth, train, test, dropout in _V1:
    yield ModelSpec(
      name,
      _V1_STAGES,
      width,
      depth,
      resolution=test,
      train_resolution=train,
      dropout_rate=dropout,
    )
  ungated = tuple(
    dataclasses.replace(stage, squeeze_excite=False) for stage in _V1_STAGES
  )
  for name, width, depth, resolution, dropout in _LITE:
    yield ModelSpec(
      name,
      ungated,
      width,
      depth,
      resolution,
      dropout_rate=dropout,
      activation='relu6',
      fix_head_stem=True,
      **_BY_127,
    )
  for name, width, depth, resolution, dropout in _EDGETPU:
    yield ModelSpec(
      name,
      _EDGETPU_STAGES,
      width,
      depth,
      resolution,
      dropout_rate=dropout,
      activation='relu',
      **_BY_127,
    )
  for name, depth, experts in _CONDCONV:
    mixed = tuple(
      dataclasses.replace(stage, experts=experts) for stage in _V1_STAGES[-3:]
    )
    yield ModelSpec(
      name,
      (*_V1_STAGES[:-3], *mixed),
      depth=depth,
      dropout_rate=0.25,
      **_BY_127,
    )
  for name, width, depth, train, test, dropout in _V2_B:
    yield ModelSpec(
      name,
      _V2_BASE,
      width,
      depth,
      resolution=test,
      train_resolution=train,
      dropout_rate=dropout,
      **_V2_RULES,
    )
  for name, stages, stem, train, test, dropout in _V2:
    yield ModelSpec(
      name,
      stages,
      resolution=test,
      train_resolution=train,
      dropout_rate=dropout,
      stem_filters=stem,
      resampling='tf_bilinear',
      # The released code squashes from 320 pixels on.
      crop_padding=None,
      **_BY_128,
      **_V2_RULES,
    )
  yield _MICRO


VARIANTS: dict[str, ModelSpec] = {spec.name: spec for spec in _published()}


# Names that people know from timm, Keras, torchvision and TensorFlow: how each
# begins here, and there.
_ALIASES = {
  'b': (
    *('efficientnet_b', 'efficientnet-b', 'efficientnetb'),
    'tf_efficientnet_b',
  ),
  'l2': ('efficientnet_l2', 'efficientnet-l2', 'tf_efficientnet_l2'),
  'lite': ('efficientnet_lite', 'efficientnet-lite', 'tf_efficientnet_lite'),
  'edgetpu_': (
    *('efficientnet_e', 'tf_efficientnet_e'),
    *('efficientnet-edgetpu-', 'efficientnet_edgetpu_'),
  ),
  'condconv_': ('efficientnet_cc_', 'tf_efficientnet_cc_'),
  'v2_': (
    *('efficientnetv2_', 'efficientnetv2-', 'efficientnetv2'),
    *('efficientnet_v2_', 'tf_efficientnetv2_'),
  ),
}

ALIASES = {
  theirs + name.removeprefix(ours): name
  for name in VARIANTS
  for ours, prefixes in _ALIASES.items()
  if name.startswith(ours)
  for theirs in prefixes
}
ALIASES['efficientnet-condconv-b0-8e-depth'] = 'condconv_b1_8e'
ALIASES['efficientnet-condconv-b0-4e'] = 'condconv_b0_4e'
ALIASES['efficientnet-condconv-b0-8e'] = 'condconv_b0_8e'


def list_models() -> tuple[str, ...]:
  """Returns the names of all registered variants."""
  return tuple(VARIANTS)


def get_spec(name: str, /, **overrides) -> ModelSpec:
  """Returns the specification of a variant, some of its fields replaced.

  Args:
    name: a variant, or another name for it such as `tf_efficientnet_b0`; in
      lower or upper case.
    **overrides: fields of `ModelSpec`; `stages` as their strings too. Another
      `resolution` is that of training too, unless `train_resolution` is given.

  Raises:
    UserError: unknown name (with near names), unknown field, impossible value.

  >>> get_spec('b0', se_ratio=0.5).se_ratio
  0.5
  """
  if not isinstance(name, str):
    raise errors.UserError(f'{name!r} is no variant: give its name, as in b0')
  known = name.lower()
  known = ALIASES.get(known, known)
  if known not in VARIANTS:
    near = errors.near_names(known, [*VARIANTS, *ALIASES])
    if near.startswith('known'):
      near = errors.near_names(known, VARIANTS)
    raise errors.UserError(f'unknown variant {name!r}: {near}')
  return replace(VARIANTS[known], **overrides)


def replace(spec: ModelSpec, /, **overrides) -> ModelSpec:
  """Returns a specification, some of its fields replaced as by `get_spec`."""
  fields = [field.name for field in dataclasses.fields(ModelSpec)]
  for field in overrides:
    if field not in fields:
      near = errors.near_names(field, fields)
      raise errors.UserError(f'a model has no field {field!r}: {near}')
  if isinstance(overrides.get('stages'), str):
    overrides['stages'] = parse_stages(overrides['stages'])
  if 'resolution' in overrides:
    overrides = {'train_resolution': None, **overrides}
  return dataclasses.replace(spec, **overrides)
