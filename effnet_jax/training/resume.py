"""Whether a run may go on from what an earlier part of it saved."""

import json
from typing import Any

from ml_collections import ConfigDict

from effnet_jax import errors

# What may change between the parts of a run: how long it goes, where its data
# lie, what is watched, and how the same global batch is worked through.
_MAY_CHANGE = (
  'accumulate',
  'checkpoint',
  'data.max_bad_fraction',
  'data.path',
  'data.workers',
  'duration',
  'early_stop',
  'evaluation',
  'log',
  'model.depthwise',
  'remat',
)


def check_resumable(config: ConfigDict, saved: dict[str, Any]) -> None:
  """Raises `UserError` naming the keys in which a resumed config differs."""
  now, before = (
    {k: v for k, v in flatten(c) if not k.startswith(_MAY_CHANGE)}
    for c in (json.loads(json.dumps(config.to_dict())), saved)
  )
  differing = [
    f'{key} ({before.get(key)!r} before, {now.get(key)!r} now)'
    for key in sorted({**before, **now})
    if before.get(key) != now.get(key)
  ]
  if differing:
    raise errors.UserError(
      'the work directory holds a run of another config: '
      f'{", ".join(differing)}. Use another --workdir, or the same values'
    )


def flatten(tree: dict[str, Any], prefix: str = '') -> list[tuple[str, Any]]:
  """Returns (dotted key, value) of every leaf."""
  return [
    item
    for key, value in tree.items()
    for item in (
      flatten(value, f'{prefix}{key}.')
      if isinstance(value, dict)
      else [(prefix + key, value)]
    )
  ]
