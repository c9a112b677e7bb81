"""The network as it is used: batch norm folded away, no randomness.

It is written once, over the few operations of `Operations`. JAX interprets them
(the predictor, StableHLO), ONNX and TensorFlow too (`weights.export`).
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from effnet_jax import errors
from effnet_jax.models import efficientnet
from effnet_jax.models.spec import BlockSpec, ModelSpec

Tensor = Any  # whatever a backend computes with
Weights = dict[str, Any]  # {name: array or Weights}


class Operations(Protocol):
  """What a backend provides. Maps are [n, h, w, c] to whoever calls.

  Kernels and biases come as `fold` gives them: float32, [k, k, c, filters],
  depthwise [k, k, 1, c], with experts one axis more in front. `padding` is
  `same` or `symmetric`, its pixels are `models.depthwise.pixels`. `activation`
  is `silu`, `relu`, `relu6`, `sigmoid` or None.
  """

  def convolution(
    self, x, kernel, bias, stride: int, padding: str, activation: str | None
  ) -> Tensor: ...

  def depthwise(
    self, x, kernel, bias, stride: int, padding: str, activation: str | None
  ) -> Tensor: ...

  def mixed_convolution(
    self, x, kernels, bias, routing, activation: str | None
  ) -> Tensor:
    """CondConv's 1x1: image i has the kernel sum_e routing[i, e] kernels[e]."""
    ...

  def mixed_depthwise(
    self,
    x,
    kernels,
    bias,
    routing,
    stride: int,
    padding: str,
    activation: str | None,
  ) -> Tensor: ...

  def pool(self, x) -> Tensor:
    """Returns the mean over the map, [n, 1, 1, c], summed in float32."""
    ...

  def flatten(self, x) -> Tensor:
    """[n, 1, 1, c] to [n, c]."""
    ...

  def dense(self, x, kernel, bias, activation: str | None) -> Tensor:
    """[n, c] to [n, units], in float32; kernel [c, units]."""
    ...

  def gate(self, x, kernel, factors) -> tuple[Tensor, Tensor]:
    """Returns x and the kernel that reads it next, one of them multiplied.

    x by its factors [n, 1, 1, c], or the kernel's input channels.
    """
    ...

  def add(self, x, y) -> Tensor: ...

  def normalize(self, pixels, mean: np.ndarray, std: np.ndarray) -> Tensor:
    """(pixels - mean) / std by channel, of uint8 in 0..255; float32."""
    ...

  def softmax(self, logits) -> Tensor: ...


def fold(spec: ModelSpec, variables: Weights) -> Weights:
  """Folds batch norm into the kernels and biases before it.

  Args:
    spec: whose `bn_epsilon` counts.
    variables: `params` and `batch_stats`.

  Returns:
    numpy float32 under the names of the network: `stem_conv`, `blocks_0`
    (`expand_conv`, `depthwise_conv`, `se`, `project_conv`, `routing`), ...,
    `head_conv`, `classifier`, each with `kernel` and `bias`. Experts share
    one bias: only their kernels are mixed.

  Raises:
    UserError: variables that are not of this network.
  """
  _check(spec, variables)
  params, stats = variables['params'], variables['batch_stats']
  return _fold_layers(params, stats, spec.bn_epsilon)


def _check(spec, variables):
  """Raises UserError unless names and shapes are the network's."""

  def shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(
      {name: tree.get(name, {}) for name in ('params', 'batch_stats')}
    )
    return {
      jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
      for path, leaf in leaves
    }

  wanted = shapes(efficientnet.shapes(efficientnet.build(spec)))
  given = shapes(variables)
  for leaf in sorted(wanted | given):
    if wanted.get(leaf) != given.get(leaf):
      raise errors.UserError(
        f'these variables are not of {spec.name} with {spec.num_classes} '
        f'classes: {leaf} is {list(given.get(leaf, ())) or "missing"}, should '
        f'be {list(wanted.get(leaf, ())) or "left out"}'
      )


def check_images(images: Any) -> None:
  """Raises UserError unless these are normalised images [n, h, w, 3]."""
  shape, dtype = getattr(images, 'shape', None), getattr(images, 'dtype', None)
  if shape is None or dtype is None:
    raise errors.UserError(
      f'images must be an array, not {type(images).__name__}'
    )
  if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
    raise errors.UserError(
      f'images must be [n, height, width, 3], not {list(shape)}'
    )
  if not jnp.issubdtype(dtype, jnp.floating):
    raise errors.UserError(
      f'images must be normalised, not {dtype} pixels: '
      'effnet_jax.normalize(images, model.spec) makes them so'
    )


def _fold_layers(params, stats, epsilon):
  folded = {}
  for name, layer in params.items():
    norm = name.removesuffix('_conv') + '_bn'
    if name.endswith('_bn'):
      continue
    if name.endswith('_conv'):
      folded[name] = _fold_norm(layer, params[norm], stats[norm], epsilon)
    elif isinstance(layer, Mapping):
      folded[name] = _fold_layers(layer, stats.get(name, {}), epsilon)
    else:
      folded[name] = np.asarray(layer, np.float32)
  return folded


def _fold_norm(conv, norm, stats, epsilon):
  kernel, scale, bias, mean, var = (
    np.asarray(leaf, np.float64)
    for leaf in (
      conv['kernel'],
      norm['scale'],
      norm['bias'],
      stats['mean'],
      stats['var'],
    )
  )
  scale = scale / np.sqrt(var + epsilon)
  # The filters are a kernel's last axis, a depthwise kernel's too.
  return {
    'kernel': (kernel * scale).astype(np.float32),
    'bias': (bias - mean * scale).astype(np.float32),
  }


def forward(
  spec: ModelSpec, folded: Weights, images: Tensor, ops: Operations
) -> tuple[Tensor, dict[str, Tensor]]:
  """Computes logits and endpoints, as `EfficientNet` does without training.

  Args:
    spec: the network.
    folded: its weights from `fold`.
    images: normalised [n, h, w, 3].
    ops: the backend.

  Returns:
    logits [n, num_classes]; endpoints under the model's names.
  """
  padding, activation = spec.padding, spec.activation
  endpoints = {}
  x = ops.convolution(
    images,
    **folded['stem_conv'],
    stride=spec.stem_stride,
    padding=padding,
    activation=activation,
  )
  endpoints['stem'] = x
  for block in spec.blocks():
    weights = folded[f'blocks_{block.index}']
    x = _block(block, weights, x, ops, padding, activation)
    endpoints[f'block_{block.index}'] = x
    if block.reduction:
      endpoints[f'reduction_{block.reduction}'] = x
  x = ops.convolution(
    x, **folded['head_conv'], stride=1, padding=padding, activation=activation
  )
  endpoints['head'] = x
  x = endpoints['pooled_features'] = ops.flatten(ops.pool(x))
  return ops.dense(x, **folded['classifier'], activation=None), endpoints


def _block(
  block: BlockSpec,
  weights: Weights,
  x: Tensor,
  ops: Operations,
  padding: str,
  activation: str,
) -> Tensor:
  """MBConv or Fused-MBConv, see `models.blocks.Block`."""
  inputs, stride, routing = x, block.stride, None
  if block.experts:
    pooled = ops.flatten(ops.pool(x))
    routing = ops.dense(pooled, **weights['routing'], activation='sigmoid')

  def convolution(x, name, stride=1, activation=activation):
    layer = weights[name]
    if routing is None:
      return ops.convolution(
        x, **layer, stride=stride, padding=padding, activation=activation
      )
    return ops.mixed_convolution(
      x, layer['kernel'], layer['bias'], routing, activation
    )

  def depthwise(x, stride):
    layer, rest = weights['depthwise_conv'], (stride, padding, activation)
    if routing is None:
      return ops.depthwise(x, layer['kernel'], layer['bias'], *rest)
    return ops.mixed_depthwise(
      x, layer['kernel'], layer['bias'], routing, *rest
    )

  fused = block.operator == 'fused_mbconv'
  if fused and block.expands:
    late = block.stride_in == 'project'
    x = convolution(x, 'expand_conv', 1 if late else stride)
    stride = stride if late else 1
  elif not fused:
    x = convolution(x, 'expand_conv') if block.expands else x
    x = depthwise(x, stride)
    stride = 1
  if block.se_filters:
    factors, reads = ops.pool(x), {'stride': 1, 'padding': padding}
    factors = ops.convolution(
      factors, **weights['se']['reduce'], **reads, activation=activation
    )
    factors = ops.convolution(
      factors, **weights['se']['expand'], **reads, activation='sigmoid'
    )
    project = dict(weights['project_conv'])
    x, project['kernel'] = ops.gate(x, project['kernel'], factors)
    weights = {**weights, 'project_conv': project}
  # Without expansion a fused block is one convolution, with its activation.
  last = activation if fused and not block.expands else None
  x = convolution(x, 'project_conv', stride, last)
  return ops.add(inputs, x) if block.residual else x


def probabilities(
  spec: ModelSpec, folded: Weights, pixels: Tensor, ops: Operations
) -> Tensor:
  """uint8 [n, h, w, 3] to softmax probabilities [n, num_classes]."""
  mean, std = (255 * np.asarray(v, np.float64) for v in (spec.mean, spec.std))
  images = ops.normalize(
    pixels, mean.astype(np.float32), std.astype(np.float32)
  )
  return ops.softmax(forward(spec, folded, images, ops)[0])
