"""Checkpoints of the original TPU (V1) and V2 repositories.

Layers are numbered in the order of their calls, anew in every block: `conv2d`
is the expansion, or the projection where there is none.
"""

import re
from collections.abc import Iterator

from effnet_jax.errors import UserError
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights.layouts.layout import (
  HWC1,
  HWC1_EXPERTS,
  HWIO_EXPERTS,
  TENSORFLOW_LEAVES,
  Arrays,
  Layout,
)

_LEAVES = {
  **TENSORFLOW_LEAVES,
  'conv_experts': {'kernel': ('/condconv_kernel', HWIO_EXPERTS)},
  'depthwise': {'kernel': ('/depthwise_kernel', HWC1)},
  'depthwise_experts': {
    'kernel': ('/depthwise_condconv_kernel', HWC1_EXPERTS),
  },
  'routing': TENSORFLOW_LEAVES['dense'],
}

_AVERAGE = '/ExponentialMovingAverage'
# Optimiser slots are named as their variable and one word more.
_NO_WEIGHTS = re.compile(
  r'(.*/)?(RMSProp|Momentum|Adam|LARS\w*)(_\d+)?|(.*/)?global_step|'
  r'(.*/)?(beta[12]_power|iterations|learning_rate|save_counter)'
)


def _numbered(name: str) -> Iterator[str]:
  """Yields name, name_1, name_2, ..."""
  yield name
  number = 1
  while True:
    yield f'{name}_{number}'
    number += 1


def _names(spec: ModelSpec) -> dict[str, str]:
  names = {
    **{'stem_conv': 'stem/conv2d', 'stem_bn': 'stem/batch_normalization'},
    **{'head_conv': 'head/conv2d', 'head_bn': 'head/batch_normalization'},
    'classifier': 'head/dense',
  }
  for block in spec.blocks():
    convs, norms = _numbered('conv2d'), _numbered('batch_normalization')
    ours, theirs = f'blocks_{block.index}/', f'blocks_{block.index}/'
    names[ours + 'routing'] = theirs + 'dense'
    if block.expands:
      names[ours + 'expand_conv'] = theirs + next(convs)
      names[ours + 'expand_bn'] = theirs + next(norms)
    if block.operator == 'mbconv':
      names[ours + 'depthwise_conv'] = theirs + 'depthwise_conv2d'
      names[ours + 'depthwise_bn'] = theirs + next(norms)
    names[ours + 'se/reduce'] = theirs + 'se/conv2d'
    names[ours + 'se/expand'] = theirs + 'se/conv2d_1'
    names[ours + 'project_conv'] = theirs + next(convs)
    names[ours + 'project_bn'] = theirs + next(norms)
  return names


# The layers' classes differ among the repositories and their versions.
_CLASSES = (
  (
    re.compile(r'/(?:\w+_)?batch_normalization(_\d+)?/'),
    r'/batch_normalization\1/',
  ),
  (re.compile(r'/depthwise_cond_?conv2d(_\d+)?/'), r'/depthwise_conv2d\1/'),
  (re.compile(r'/cond_?conv2d(_\d+)?/'), r'/conv2d\1/'),
)


def _prepare(arrays: Arrays) -> Arrays:
  """Takes averages for raw weights, the scope and what is no weight off."""
  chosen = {}
  for key in arrays:
    name = key.removesuffix(_AVERAGE)
    if _NO_WEIGHTS.fullmatch(name):
      continue
    if name not in chosen or key.endswith(_AVERAGE):
      chosen[name] = key
  scopes = {name.partition('/')[0] for name in chosen}
  if len(scopes) > 1:
    raise UserError(
      f'a checkpoint of several networks ({", ".join(sorted(scopes))}): '
      'keep the variables of one'
    )
  prepared = {}
  for name, key in chosen.items():
    name = '/' + name.partition('/')[2]
    for pattern, replacement in _CLASSES:
      name = pattern.sub(replacement, name)
    prepared[name[1:]] = arrays[key]
  return prepared


TENSORFLOW = Layout(
  'tensorflow',
  lambda keys: any('/stem/conv2d/kernel' in key for key in keys),
  _names,
  _LEAVES,
  prepare=_prepare,
)
