"""The layouts of Keras Applications.

`.h5` files (hosted weights, and those of `model.save`) name their layers; files
that `save_weights('....weights.h5')` writes number them by class, in the order
of the network.
"""

import itertools
import re
from collections.abc import Iterator, Set

import numpy as np

from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights.layouts.layout import (
  HWC1,
  TENSORFLOW_LEAVES,
  Arrays,
  Layout,
  modules,
)

_LEAVES = {**TENSORFLOW_LEAVES, 'depthwise': {'kernel': ('/kernel', HWC1)}}

# What a layer's variables are called, in the order of `layer.weights`.
_VARIABLES = {
  'conv2d': ('kernel', 'bias'),
  'depthwise_conv2d': ('kernel',),
  'batch_normalization': ('gamma', 'beta', 'moving_mean', 'moving_variance'),
  'dense': ('kernel', 'bias'),
  'normalization': ('mean', 'variance', 'count'),
}
_CLASSES = {
  'conv': 'conv2d',
  'gate': 'conv2d',
  'depthwise': 'depthwise_conv2d',
  'norm': 'batch_normalization',
  'dense': 'dense',
}
_NORMALIZATION = re.compile(r'normalization(_\d+)?/(mean|variance|count)')
_NUMBERED = re.compile(
  r'(?:layers|_layer_checkpoint_dependencies)/'
  r'(\w+?)(?:_(\d+))?/vars/(\d+)'
)


def is_v2(spec: ModelSpec) -> bool:
  return any(stage.operator == 'fused_mbconv' for stage in spec.stages)


def _names(spec: ModelSpec) -> dict[str, str]:
  # V1 calls its depthwise convolution dwconv, V2 dwconv2.
  depthwise = 'dwconv2' if is_v2(spec) else 'dwconv'
  names = {
    **{'stem_conv': 'stem_conv', 'stem_bn': 'stem_bn'},
    **{'head_conv': 'top_conv', 'head_bn': 'top_bn'},
    'classifier': 'predictions',
  }
  for stage, blocks in itertools.groupby(
    spec.blocks(), key=lambda block: block.stage
  ):
    for place, block in enumerate(blocks):
      prefix = f'block{stage + 1}{chr(ord("a") + place)}_'
      for ours, theirs in {
        **{'expand_conv': 'expand_conv', 'expand_bn': 'expand_bn'},
        **{'depthwise_conv': depthwise, 'depthwise_bn': 'bn'},
        **{'se/reduce': 'se_reduce', 'se/expand': 'se_expand'},
        **{'project_conv': 'project_conv', 'project_bn': 'project_bn'},
      }.items():
        names[f'blocks_{block.index}/{ours}'] = prefix + theirs
  return names


def _prepare(arrays: Arrays) -> Arrays:
  """`stem_conv/stem_conv/kernel:0` -> `stem_conv/kernel`."""
  prepared = {}
  for key, array in arrays.items():
    layer, *_, leaf = key.removeprefix('model_weights/').split('/')
    leaf = leaf.removesuffix(':0').replace('depthwise_kernel', 'kernel')
    if layer != 'optimizer_weights':
      prepared[f'{layer}/{leaf}'] = array
  return prepared


def _numbers(spec: ModelSpec) -> Iterator[tuple[str, str]]:
  """Yields (our module, class and number of its layer)."""
  counts = dict.fromkeys(_VARIABLES, 0)
  for module, kind in modules(spec):
    layer = _CLASSES[kind]
    number = counts[layer]
    counts[layer] += 1
    yield module, f'{layer}_{number}' if number else layer


def _prepare_numbered(arrays: Arrays) -> Arrays:
  """`layers/conv2d_1/vars/0` -> `conv2d_1/kernel`."""
  prepared = {}
  for key, array in arrays.items():
    match = _NUMBERED.fullmatch(key)
    if match and match[1] in _VARIABLES:
      variables, place = _VARIABLES[match[1]], int(match[3])
      if place < len(variables):
        layer = f'{match[1]}_{match[2]}' if match[2] else match[1]
        key = f'{layer}/{variables[place]}'
    if not key.startswith('optimizer/'):
      prepared[key] = array
  return prepared


def normalization(
  prepared: Arrays,
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
  """Returns mean and std of the built-in normalisation, None without one.

  Keras' V1 models divide pixels by 255, subtract `mean` and divide by the root
  of `variance`. The hosted weights hold a standard deviation as that variance;
  with them, and only with them, Keras divides by the root of the standard
  deviation once more, so that all in all it is the usual normalisation.
  """
  state = {
    match[2]: array
    for key, array in prepared.items()
    if (match := _NORMALIZATION.fullmatch(key))
  }
  if not {'mean', 'variance'} <= set(state):
    return None
  mean, variance = (np.float64(state[k]).ravel() for k in ('mean', 'variance'))
  hosted = np.allclose(variance, (0.229, 0.224, 0.225), atol=1e-4)
  std = variance if hosted else np.sqrt(variance)
  return (
    tuple(round(float(value), 6) for value in mean),
    tuple(round(float(value), 6) for value in std),
  )


def file_arrays(spec: ModelSpec, arrays: Arrays) -> Arrays:
  """Returns what `model.load_weights` of a `.weights.h5` file reads.

  Args:
    spec: of the network.
    arrays: by the keys of NUMBERED.

  Returns:
    Arrays by their path in the file, the state of V1's normalisation included.
  """
  if not is_v2(spec):
    arrays = {
      **arrays,
      'normalization/mean': np.float32(spec.mean),
      'normalization/variance': np.float32(spec.std) ** 2,
      'normalization/count': np.int32(0),
    }
  paths = {}
  for key, array in arrays.items():
    layer, leaf = key.split('/')
    place = _VARIABLES[re.sub(r'_\d+$', '', layer)].index(leaf)
    paths[f'layers/{layer}/vars/{place}'] = array
  return paths


def _is_named(keys: Set[str]) -> bool:
  return any(
    key.removeprefix('model_weights/').startswith('stem_conv/') for key in keys
  )


NAMED = Layout('keras', _is_named, _names, _LEAVES, _NORMALIZATION, _prepare)
NUMBERED = Layout(
  'keras',
  lambda keys: any(
    (match := _NUMBERED.fullmatch(key)) and match[1] == 'conv2d' for key in keys
  ),
  lambda spec: dict(_numbers(spec)),
  _LEAVES,
  _NORMALIZATION,
  _prepare_numbered,
)
