"""timm's config.json: how the images of published weights are prepared."""

import dataclasses
import json
import math
from pathlib import Path

from effnet_jax.errors import UserError

_MAX_BYTES = 16 << 20  # with the names of all classes of ImageNet-21k: 2 MB


@dataclasses.dataclass(frozen=True)
class HubConfig:
  """What timm's config.json says of weights; None where it is silent."""

  architecture: str  # as timm calls it: tf_efficientnet_b0
  tag: str | None = None  # ns_jft_in1k
  num_classes: int | None = None
  mean: tuple[float, float, float] | None = None  # of pixels in 0..1
  std: tuple[float, float, float] | None = None
  resolution: int | None = None  # pixels a side, in evaluation
  interpolation: str | None = None  # 'bicubic', ...
  crop_fraction: float | None = None  # of the short side; 1 is all of it
  crop_mode: str | None = None  # 'center', 'squash' (to a square) or 'border'
  label_names: tuple[str, ...] | None = None


def read_config(path: Path) -> HubConfig | None:
  """Reads timm's config.json; None if it is of another library.

  Raises:
    UserError: no JSON, or a value that can't be.
  """
  try:
    if path.stat().st_size > _MAX_BYTES:
      raise ValueError(f'larger than {_MAX_BYTES >> 20} MB')
    outer = json.loads(path.read_text('utf-8'))
    if not isinstance(outer, dict) or 'architecture' not in outer:
      return None
    return _parse(outer)
  except (OSError, ValueError, TypeError, RecursionError) as error:
    what = ' '.join(str(error).split())[:120]
    raise UserError(
      f'{path} is no config of timm ({what}): download it again'
    ) from None


def _parse(outer: dict) -> HubConfig:
  # Old ones have no inner dictionary.
  inner = outer.get('pretrained_cfg', outer)
  if not isinstance(inner, dict):
    raise ValueError('pretrained_cfg is no object')
  size = _triple(inner, 'test_input_size') or _triple(inner, 'input_size')
  std = _triple(inner, 'std')
  crop = inner.get('test_crop_pct') or inner.get('crop_pct')
  classes = outer.get('num_classes') or inner.get('num_classes')
  labels = outer.get('label_names') or inner.get('label_names')
  for what, value, good in (
    ('architecture', outer['architecture'], str),
    ('tag', inner.get('tag'), str | None),
    ('interpolation', inner.get('interpolation'), str | None),
    ('crop_mode', inner.get('crop_mode'), str | None),
    ('num_classes', classes, int | None),
    ('label_names', labels, list | None),
  ):
    if not isinstance(value, good):
      raise ValueError(f'{what} is {value!r}'[:80])
  if std and min(std) <= 0:
    raise ValueError(f'std is {std}')
  if size and not (size[1] == size[2] == int(size[1]) and 1 <= size[1] <= 8192):
    raise ValueError(f'input_size is {size}')
  if crop is not None and not 0 < crop <= 1:
    raise ValueError(f'crop_pct is {crop}')
  return HubConfig(
    architecture=outer['architecture'],
    tag=inner.get('tag') or None,
    num_classes=classes,
    mean=_triple(inner, 'mean'),
    std=std,
    resolution=int(size[1]) if size else None,
    interpolation=inner.get('interpolation'),
    crop_fraction=crop,
    crop_mode=inner.get('crop_mode'),
    label_names=tuple(map(str, labels)) if labels else None,
  )


def _triple(values: dict, key: str) -> tuple[float, float, float] | None:
  value = values.get(key)
  if value is None:
    return None
  if len(value) != 3 or not all(math.isfinite(x) for x in value):
    raise ValueError(f'{key} is {value!r}'[:80])
  return (value[0], value[1], value[2])
