"""The layouts of the PyTorch ports: timm, torchvision, lukemelas."""

import re

from effnet_jax.models.spec import BlockSpec, ModelSpec
from effnet_jax.weights.layouts.layout import (
  OIHW,
  OIHW_EXPERTS,
  SAME,
  TRANSPOSED,
  Layout,
)

_LEAVES = {
  'conv': {'kernel': ('.weight', OIHW)},
  'conv_experts': {'kernel': ('.weight', OIHW_EXPERTS)},
  'depthwise': {'kernel': ('.weight', OIHW)},
  'depthwise_experts': {'kernel': ('.weight', OIHW_EXPERTS)},
  'gate': {'kernel': ('.weight', OIHW), 'bias': ('.bias', SAME)},
  'norm': {
    'scale': ('.weight', SAME),
    'bias': ('.bias', SAME),
    'mean': ('.running_mean', SAME),
    'var': ('.running_var', SAME),
  },
  'routing': {'kernel': ('.weight', TRANSPOSED), 'bias': ('.bias', SAME)},
  'dense': {'kernel': ('.weight', TRANSPOSED), 'bias': ('.bias', SAME)},
}
_COUNTERS = re.compile(r'.*\.num_batches_tracked')


def _in_stage(spec: ModelSpec) -> list[tuple[BlockSpec, int]]:
  """Pairs of a block and its place within its stage, from 0."""
  blocks = spec.blocks()
  firsts = {}
  for block in blocks:
    firsts.setdefault(block.stage, block.index)
  return [(block, block.index - firsts[block.stage]) for block in blocks]


def _timm_block(block: BlockSpec) -> dict[str, str]:
  if block.operator == 'fused_mbconv':
    if not block.expands:
      return {'project_conv': 'conv', 'project_bn': 'bn1'}
    names = {'expand_conv': 'conv_exp', 'expand_bn': 'bn1'}
    last = ('conv_pwl', 'bn2')
  elif block.expands:
    names = {
      **{'expand_conv': 'conv_pw', 'expand_bn': 'bn1'},
      **{'depthwise_conv': 'conv_dw', 'depthwise_bn': 'bn2'},
      'routing': 'routing_fn',
    }
    last = ('conv_pwl', 'bn3')
  else:
    names = {'depthwise_conv': 'conv_dw', 'depthwise_bn': 'bn1'}
    last = ('conv_pw', 'bn2')
  return {
    **names,
    'se/reduce': 'se.conv_reduce',
    'se/expand': 'se.conv_expand',
    'project_conv': last[0],
    'project_bn': last[1],
  }


def _timm(spec: ModelSpec) -> dict[str, str]:
  names = {
    **{'stem_conv': 'conv_stem', 'stem_bn': 'bn1'},
    **{'head_conv': 'conv_head', 'head_bn': 'bn2'},
    'classifier': 'classifier',
  }
  for block, place in _in_stage(spec):
    for ours, theirs in _timm_block(block).items():
      names[f'blocks_{block.index}/{ours}'] = (
        f'blocks.{block.stage}.{place}.{theirs}'
      )
  return names


def _torchvision_block(block: BlockSpec) -> dict[str, str]:
  """Layers of a block are numbered in the order that they are there."""
  layers, names = [], {}
  if block.expands:
    layers.append('expand')
  if block.operator == 'mbconv':
    layers.append('depthwise')
  layers += ['se'] if block.se_filters else []
  layers.append('project')
  for number, layer in enumerate(layers):
    if layer == 'se':
      names['se/reduce'] = f'{number}.fc1'
      names['se/expand'] = f'{number}.fc2'
    else:
      names[f'{layer}_conv'] = f'{number}.0'
      names[f'{layer}_bn'] = f'{number}.1'
  return names


def _torchvision(spec: ModelSpec) -> dict[str, str]:
  head = f'features.{len(spec.stages) + 1}'
  names = {
    **{'stem_conv': 'features.0.0', 'stem_bn': 'features.0.1'},
    **{'head_conv': f'{head}.0', 'head_bn': f'{head}.1'},
    'classifier': 'classifier.1',
  }
  for block, place in _in_stage(spec):
    for ours, theirs in _torchvision_block(block).items():
      names[f'blocks_{block.index}/{ours}'] = (
        f'features.{block.stage + 1}.{place}.block.{theirs}'
      )
  return names


def _lukemelas(spec: ModelSpec) -> dict[str, str]:
  names = {
    **{'stem_conv': '_conv_stem', 'stem_bn': '_bn0'},
    **{'head_conv': '_conv_head', 'head_bn': '_bn1'},
    'classifier': '_fc',
  }
  for block in spec.blocks():
    for ours, theirs in {
      **{'expand_conv': '_expand_conv', 'expand_bn': '_bn0'},
      **{'depthwise_conv': '_depthwise_conv', 'depthwise_bn': '_bn1'},
      **{'se/reduce': '_se_reduce', 'se/expand': '_se_expand'},
      **{'project_conv': '_project_conv', 'project_bn': '_bn2'},
    }.items():
      names[f'blocks_{block.index}/{ours}'] = f'_blocks.{block.index}.{theirs}'
  return names


TIMM = Layout(
  'timm',
  lambda keys: 'conv_stem.weight' in keys,
  _timm,
  _LEAVES,
  _COUNTERS,
)
TORCHVISION = Layout(
  'torchvision',
  lambda keys: 'features.0.0.weight' in keys,
  _torchvision,
  _LEAVES,
  _COUNTERS,
)
LUKEMELAS = Layout(
  'lukemelas',
  lambda keys: '_conv_stem.weight' in keys,
  _lukemelas,
  _LEAVES,
  _COUNTERS,
)
