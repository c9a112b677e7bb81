"""The operations of `network` in JAX: for the predictor and StableHLO."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax.inference import cpu
from effnet_jax.models import blocks, depthwise, efficientnet

ACTIVATIONS = {
  **efficientnet.ACTIVATIONS,
  'sigmoid': jax.nn.sigmoid,
  None: lambda x: x,
}


@dataclasses.dataclass(frozen=True)
class JaxOperations:
  """See `network.Operations`.

  Attributes:
    dtype: of convolutions and activations; pooling, routing and the classifier
      are float32 whatever it is.
    formulation: of the depthwise convolution, see `models.depthwise`. With
      `grouped` nothing depends on the size of the batch, CondConv included,
      and nothing on the platform.
  """

  dtype: Any = jnp.float32
  formulation: str = 'auto'

  def _by_platform(self, cpu, default, *arrays):
    """What is faster on CPU there, unless nothing may depend on it."""
    if self.formulation == 'grouped':
      return default(*arrays)
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)

  def _finish(self, x, bias, activation):
    x = x + jnp.asarray(bias, self.dtype)
    plain = ACTIVATIONS[activation]
    if activation != 'silu':
      return plain(x)
    return self._by_platform(cpu.silu, plain, x)

  def convolution(self, x, kernel, bias, stride, padding, activation):
    x = x.astype(self.dtype)
    kernel = jnp.asarray(kernel, self.dtype)
    conv = functools.partial(blocks.conv, stride=stride, padding=padding)
    if x.shape[-1] == 3 and kernel.shape[0] > 1:
      patches = functools.partial(cpu.patches, stride=stride, padding=padding)
      x = self._by_platform(patches, conv, x, kernel)
    else:
      x = conv(x, kernel)
    return self._finish(x, bias, activation)

  def depthwise(self, x, kernel, bias, stride, padding, activation):
    x = depthwise.depthwise_conv(
      x, jnp.asarray(kernel, self.dtype), stride, self.formulation, padding
    )
    return self._finish(x, bias, activation)

  def mixed_convolution(self, x, kernels, bias, routing, activation):
    mixed = blocks.mix(kernels, routing)[:, 0, 0].astype(self.dtype)
    x = jnp.einsum('nhwc,ncf->nhwf', x, mixed)
    return self._finish(x, bias, activation)

  def mixed_depthwise(
    self, x, kernels, bias, routing, stride, padding, activation
  ):
    if self.formulation == 'grouped':
      x = self._sum_of_experts(x, kernels, routing, stride, padding)
    else:
      x = jax.vmap(
        lambda image, kernel: depthwise.depthwise_conv(
          image[None], kernel, stride, self.formulation, padding
        )[0]
      )(x, blocks.mix(kernels, routing).astype(self.dtype))
    return self._finish(x, bias, activation)

  def _sum_of_experts(self, x, kernels, routing, stride, padding):
    """Mixes what the experts give; their kernels' mix would need the batch.

    A grouped convolution with one kernel an image folds the batch into the
    groups, so that its size would have to be known.
    """
    terms = [
      depthwise.depthwise_conv(
        x, jnp.asarray(kernel, self.dtype), stride, 'grouped', padding
      ).astype(jnp.float32)
      * routing[:, expert, None, None, None]
      for expert, kernel in enumerate(kernels)
    ]
    return sum(terms[1:], terms[0]).astype(self.dtype)

  def pool(self, x):
    mean = functools.partial(
      jnp.mean, axis=(1, 2), keepdims=True, dtype=jnp.float32
    )
    return self._by_platform(cpu.mean, mean, x)

  def flatten(self, x):
    return x[:, 0, 0]

  def dense(self, x, kernel, bias, activation):
    return ACTIVATIONS[activation](x @ kernel + bias)

  def gate(self, x, kernel, factors):
    if self.formulation != 'grouped' and x.shape[0] == 1:
      _, height, width, _ = x.shape
      if height * width > kernel.shape[-1]:  # 3 % of B0's time on CPU
        return x, kernel * factors.reshape(-1, 1)
    return x * factors, kernel

  def add(self, x, y):
    return x + y

  def normalize(self, pixels, mean, std):
    return (pixels.astype(jnp.float32) - mean) / std

  def softmax(self, logits):
    return jax.nn.softmax(logits)
