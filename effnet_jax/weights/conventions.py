"""What the keys of a layout cannot say: padding, epsilon, preprocessing.

Each function returns fields of `ModelSpec`.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from effnet_jax.errors import UserError
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights.hub_config import HubConfig

# torchvision's transforms: (side of the crop, side that the short side of the
# image is resized to). B0 to B4 are timm's networks, B5 to B7 lukemelas'.
_TORCHVISION = {
  'b0': (224, 256),
  'b1': (240, 256),
  'b2': (288, 288),
  'b3': (300, 320),
  'b4': (380, 384),
  'b5': (456, 456),
  'b6': (528, 528),
  'b7': (600, 600),
  'v2_s': (384, 384),
  'v2_m': (480, 480),
  'v2_l': (480, 480),
}
_IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}
_HALF = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
_PYTORCH = {
  **{'padding': 'symmetric', 'bn_epsilon': 1e-5, 'bn_momentum': 0.9},
  'resampling': 'pillow',  # trained and evaluated with
}
_TIMM_NAME = re.compile('(tf_)?efficientnet')
_ADVPROP = re.compile(r'(^|[-_./])(ap|adv|advprop)([-_./]|$)')


def timm(names: Iterable[str | None], given: Iterable[str]) -> dict[str, Any]:
  """Says what timm's naming does: `tf_` networks are TensorFlow's.

  Args:
    names: what the network is called, the surest first.
    given: fields that the caller sets; with both of these nothing is asked.

  Raises:
    UserError: no name says it.
  """
  forms = [name for name in names if name and _TIMM_NAME.match(name)]
  if len({form.startswith('tf_') for form in forms}) > 1:
    raise UserError(
      f'{" and ".join(forms)} pad in two ways: name the model as its file does'
    )
  if forms:
    return {} if forms[0].startswith('tf_') else dict(_PYTORCH)
  if {'padding', 'bn_epsilon'} <= set(given):
    return {}
  raise UserError(
    "weights in timm's layout do not say how they pad: name the model as timm "
    'does, tf_efficientnet_b0 (SAME padding, epsilon .001) or efficientnet_b0 '
    '(symmetric, .00001)'
  )


def by_file(path: Path, spec: ModelSpec) -> dict[str, Any]:
  """Says what the name of a file, or of its directory, does.

  AdvProp's weights take pixels in -1..1, whatever the variant's own are.
  """
  name = f'{path.parent.name}/{path.name}'
  fields: dict[str, Any] = dict(_HALF) if _ADVPROP.search(name) else {}
  if spec.name == 'l2' and '475' in path.name:
    fields |= {'name': 'l2_475', 'resolution': 475}
  return fields


def torchvision(variant: str, file: str = '') -> dict[str, Any]:
  """Says what torchvision's builders and transforms do.

  Args:
    variant: ours.
    file: its name; B1 was released twice.
  """
  # TensorFlow's epsilon since B5, and with it in B5 to B7 the momentum.
  fields: dict[str, Any] = {'padding': 'symmetric', 'resampling': 'pillow'}
  late = variant in ('b5', 'b6', 'b7')
  v2 = variant.startswith('v2_')
  fields['bn_epsilon'] = 1e-3 if late or v2 else 1e-5
  fields['bn_momentum'] = 0.99 if late else 0.9
  if variant in ('v2_s', 'v2_m'):
    fields['resampling'] = 'pillow_bilinear'
  fields |= _HALF if variant == 'v2_l' else _IMAGENET
  if variant in _TORCHVISION:
    crop, resized = _TORCHVISION[variant]
    fields |= {'resolution': crop, 'crop_padding': resized - crop}
  if variant == 'b1' and file.startswith('efficientnet_b1-'):
    # IMAGENET1K_V2; the first ones are called efficientnet_b1_rwightman.
    fields |= {'crop_padding': 15, 'resampling': 'pillow_bilinear'}
  return fields


def hub(hub_config: HubConfig, spec: ModelSpec) -> dict[str, Any]:
  """Says what a config of timm's on the hub does."""
  fields: dict[str, Any] = {}
  if hub_config.mean:
    fields['mean'] = hub_config.mean
  if hub_config.std:
    fields['std'] = hub_config.std
  if hub_config.resolution:
    fields['resolution'] = hub_config.resolution
  size = hub_config.resolution or spec.resolution
  if hub_config.interpolation:
    # What timm evaluates with; `random` is in training only.
    bilinear = hub_config.interpolation == 'bilinear'
    fields['resampling'] = 'pillow_bilinear' if bilinear else 'pillow'
  if hub_config.crop_mode == 'squash':
    fields['crop_padding'] = None
  elif hub_config.crop_fraction:
    fields['crop_padding'] = int(size / hub_config.crop_fraction) - size
  return fields
