"""ResNet-152 (He et al., 2016), with the stride in the 3x3 convolutions.

As torchvision and timm have it ("v1.5"): 60.19 M parameters, 224 pixels.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from . import layers as layers_lib

RESOLUTION = 224
BLOCKS = (3, 8, 36, 3)
WIDTH, EXPANSION = 64, 4
EPSILON = 1e-5


def forward(layers: layers_lib.Layers, images: jax.Array) -> jax.Array:
  """Returns logits of normalised images [n, h, w, 3].

  Layers have torch's names of their convolutions.
  """

  def conv(name, x, filters, size=1, stride=1, activation='relu'):
    return layers.convolution(
      name, x, filters, size, stride, 'symmetric', activation
    )

  x = conv('conv1', images, WIDTH, 7, 2)
  x = layers_lib.max_pool(x, 3, 2, padding=(1, 1))
  for stage, blocks in enumerate(BLOCKS):
    width = WIDTH * 2**stage
    for block in range(blocks):
      name, shortcut = f'layer{stage + 1}.{block}', x
      stride = 2 if stage and not block else 1
      if not block:
        shortcut = conv(
          f'{name}.downsample.0', x, width * EXPANSION, 1, stride, None
        )
      x = conv(f'{name}.conv1', x, width)
      x = conv(f'{name}.conv2', x, width, 3, stride)
      x = conv(f'{name}.conv3', x, width * EXPANSION, activation=None)
      x = jax.nn.relu(layers.ops.add(x, shortcut))
  return layers.dense('fc', layers.ops.flatten(layers.ops.pool(x)), 1000)


def layers_of() -> dict[str, layers_lib.Layer]:
  return layers_lib.layers_of(forward, RESOLUTION)


def fold(state: Mapping[str, np.ndarray]) -> layers_lib.Weights:
  """Folds a torch state dict (timm's and torchvision's names are the same)."""

  def layer(name) -> dict[str, Any]:
    kernel = np.asarray(state[f'{name}.weight'], np.float64)
    if name == 'fc':
      return {'kernel': kernel.T, 'bias': state['fc.bias']}
    norm = name.replace('conv', 'bn').replace('downsample.0', 'downsample.1')
    scale, bias, mean, variance = (
      np.asarray(state[f'{norm}.{leaf}'], np.float64)
      for leaf in ('weight', 'bias', 'running_mean', 'running_var')
    )
    scale = scale / np.sqrt(variance + EPSILON)
    return {
      'kernel': kernel.transpose(2, 3, 1, 0) * scale,
      'bias': bias - mean * scale,
    }

  return jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32),
    {name: layer(name) for name in layers_of()},
  )
