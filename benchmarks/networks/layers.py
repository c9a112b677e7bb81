"""Layers of a network given by name; what has no weights; counting them."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from effnet_jax.inference import cores
from effnet_jax.inference.jax_operations import JaxOperations

Weights = Mapping[str, Mapping[str, Any]]  # {layer: {kernel, bias}}


@dataclasses.dataclass(frozen=True)
class Layer:
  """A layer's kernel [k, k, in, out] (dense [in, out]) and what goes with it.

  Attributes:
    parameters: of training: the kernel, and its batch norm or its bias.
    macs: multiply-adds of one image.
  """

  kernel: tuple[int, ...]
  parameters: int
  macs: int


class Layers:
  """The layers of one forward pass: they take their weights by their names.

  Args:
    ops: what computes, see `effnet_jax.inference.network.Operations`.
    weights: `kernel` and `bias` of every layer; None: zeros are made of the
      shapes that are asked for.

  Attributes:
    asked: the layers that the pass has asked for, {name: Layer}.
  """

  def __init__(self, ops: Any, weights: Weights | None = None):
    self.ops = ops
    self.asked: dict[str, Layer] = {}
    self._weights = weights

  def _take(self, name, kernel, shape, extra):
    """Returns a layer's weights; `shape` is that of its outputs."""
    if name in self.asked:
      raise ValueError(f'two layers have the name {name}')
    size = math.prod(kernel)
    positions = math.prod(shape[1:-1])
    self.asked[name] = Layer(kernel, size + extra, size * positions)
    if self._weights is not None:
      return self._weights[name]
    return {'kernel': jnp.zeros(kernel), 'bias': jnp.zeros(kernel[-1])}

  def convolution(
    self, name, x, filters, size=1, stride=1, padding='same', activation=None
  ):
    """With its batch norm."""
    weights = self._take(
      name,
      (size, size, x.shape[-1], filters),
      _strided(x.shape, stride),
      extra=2 * filters,
    )
    return self.ops.convolution(
      x, **weights, stride=stride, padding=padding, activation=activation
    )

  def depthwise(self, name, x, size, stride=1, dilation=1):
    """Without a batch norm or a bias."""
    channels = x.shape[-1]
    shape = _strided(x.shape, stride)
    kernel = self._take(name, (size, size, 1, channels), shape, 0)['kernel']
    # Constant zeros, which the compiler leaves out.
    arguments = (kernel, np.zeros(channels, np.float32), stride, 'same', None)
    if dilation == 1:
      return self.ops.depthwise(x, *arguments)
    assert stride == 1
    return dilated(x, dilation, lambda x: self.ops.depthwise(x, *arguments))

  def dense(self, name, x, units):
    weights = self._take(name, (x.shape[-1], units), (len(x), units), units)
    return self.ops.dense(x, **weights, activation=None)


def _strided(shape, stride):
  n, height, width, c = shape
  return n, math.ceil(height / stride), math.ceil(width / stride), c


def dilated(x: jax.Array, dilation: int, convolve: Callable) -> jax.Array:
  """Convolves every dilation-th pixel with its like, at stride 1, SAME.

  The phases of the map become images of their own, for an ordinary `convolve`.
  """
  n, height, width, c = x.shape
  rows, columns = (math.ceil(size / dilation) for size in (height, width))
  bottom, right = rows * dilation - height, columns * dilation - width
  x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
  x = x.reshape(n, rows, dilation, columns, dilation, c)
  x = x.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, c)
  x = convolve(x).reshape(dilation, dilation, n, rows, columns, c)
  x = x.transpose(2, 3, 0, 4, 1, 5)
  x = x.reshape(n, rows * dilation, columns * dilation, c)
  return x[:, :height, :width]


def max_pool(
  x: jax.Array, size: int, stride: int = 1, padding: Any = 'SAME'
) -> jax.Array:
  return _reduce_window(x, -jnp.inf, lax.max, size, stride, padding)


def average_pool(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
  """Padding takes no part in the mean."""
  total, count = (
    _reduce_window(x, 0.0, lax.add, size, stride, 'SAME')
    for x in (x, np.ones((1, *x.shape[1:3], 1), np.float32))
  )
  return total / count


def _reduce_window(x, start, function, size, stride, padding):
  if padding != 'SAME':
    padding = ((0, 0), padding, padding, (0, 0))
  window, strides = (1, size, size, 1), (1, stride, stride, 1)
  return lax.reduce_window(x, start, function, window, strides, padding)


def layers_of(forward: Callable, resolution: int) -> dict[str, Layer]:
  """Returns the layers of `forward(layers, images)`, without computing."""
  layers = Layers(JaxOperations())
  images = jax.ShapeDtypeStruct((1, resolution, resolution, 3), np.float32)
  jax.eval_shape(lambda images: forward(layers, images), images)
  return layers.asked


def random_weights(layers: Mapping[str, Layer], seed: int = 0) -> Weights:
  """Draws weights that keep a signal's size about: for timing."""
  rng = np.random.default_rng(seed)

  def draw(layer):
    kernel = rng.standard_normal(layer.kernel, np.float32)
    kernel *= np.float32(math.prod(layer.kernel[:-1]) ** -0.5)
    bias = 0.1 * rng.standard_normal(layer.kernel[-1], np.float32)
    return {'kernel': kernel, 'bias': bias}

  return {name: draw(layer) for name, layer in layers.items()}


def predictor(
  forward: Callable[[Layers, jax.Array], jax.Array], weights: Weights
) -> Callable[[Any], jax.Array]:
  """Returns images to logits, computed as `effnet_jax.predictor` does it."""
  ops = JaxOperations()
  return cores.compiled(
    lambda weights, images: forward(Layers(ops, weights), images), weights
  )
