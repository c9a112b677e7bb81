"""The layers of the family: convolutions, the gate, MBConv and Fused-MBConv.

Parameters are named as in the TensorFlow source. Images are [n, h, w, c].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax.models.depthwise import depthwise_conv
from effnet_jax.models.spec import BlockSpec


def conv_init(key, shape, dtype=jnp.float32):
  """Untruncated normal of variance 2 / fan_out, as in the TensorFlow source."""
  return jax.random.normal(key, shape, dtype) * conv_std(shape)


def depthwise_init(key, shape, dtype=jnp.float32):
  """Untruncated normal of variance 2 / (k * k)."""
  return jax.random.normal(key, shape, dtype) * depthwise_std(shape)


def classifier_init(key, shape, dtype=jnp.float32):
  """Uniform within 1 / sqrt(num_classes) of zero."""
  bound = classifier_bound(shape)
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def conv_std(shape: tuple[int, ...]) -> float:
  rows, columns, _, filters = shape
  return (2 / (rows * columns * filters)) ** 0.5


def depthwise_std(shape: tuple[int, ...]) -> float:
  # TensorFlow's fan_out of a depthwise kernel [k, k, c, 1] is k * k. On Flax's
  # layout [k, k, 1, c] `variance_scaling` would take k * k * c instead and
  # start every kernel sqrt(c) times too small.
  rows, columns = shape[:2]
  return (2 / (rows * columns)) ** 0.5


def classifier_bound(shape: tuple[int, ...]) -> float:
  return shape[-1] ** -0.5


class Conv(nn.Module):
  """A convolution with 'SAME' padding; 1x1 is a matrix product."""

  filters: int
  kernel_size: int = 1
  stride: int = 1
  use_bias: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.filters)
    kernel = self.param('kernel', conv_init, shape).astype(self.dtype)
    x = x.astype(self.dtype)
    if self.kernel_size == self.stride == 1:
      x = lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    else:
      x = lax.conv_general_dilated(
        x,
        kernel,
        (self.stride, self.stride),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.filters,))
      x = x + bias.astype(self.dtype)
    return x


class DepthwiseConv(nn.Module):
  """See `depthwise.depthwise_conv`."""

  kernel_size: int
  stride: int = 1
  formulation: str = 'auto'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
    kernel = self.param('kernel', depthwise_init, shape).astype(self.dtype)
    x = x.astype(self.dtype)
    return depthwise_conv(x, kernel, self.stride, self.formulation)


class SqueezeExcite(nn.Module):
  """Scales every channel by a gate in (0, 1) read from the global average."""

  filters: int
  activation: Callable[[jax.Array], jax.Array]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    gate = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    gate = Conv(self.filters, use_bias=True, dtype=self.dtype, name='reduce')(
      gate
    )
    gate = self.activation(gate)
    gate = Conv(x.shape[-1], use_bias=True, dtype=self.dtype, name='expand')(
      gate
    )
    return x * nn.sigmoid(gate)


class Block(nn.Module):
  """MBConv or Fused-MBConv.

  MBConv: 1x1 expansion, depthwise convolution, gate, 1x1 projection, each
  convolution followed by batch norm; no activation after the projection.
  Fused-MBConv has one full convolution in place of the first two; without
  expansion that convolution is the projection too, with the activation, and
  the gate comes before it.
  """

  spec: BlockSpec
  norm: Callable[..., nn.Module]
  activation: Callable[[jax.Array], jax.Array]
  depthwise: str = 'auto'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    spec, inputs = self.spec, x

    def conv(x, name, filters, kernel_size=1, stride=1, activate=True):
      x = Conv(
        filters, kernel_size, stride, dtype=self.dtype, name=f'{name}_conv'
      )(x)
      x = self.norm(name=f'{name}_bn')(x)
      return self.activation(x) if activate else x

    kernel_size, stride = spec.kernel_size, spec.stride
    fused = spec.operator == 'fused_mbconv'
    if fused and spec.expands:
      x = conv(x, 'expand', spec.expanded_filters, kernel_size, stride)
    elif not fused:
      if spec.expands:
        x = conv(x, 'expand', spec.expanded_filters)
      x = DepthwiseConv(
        kernel_size,
        stride,
        self.depthwise,
        dtype=self.dtype,
        name='depthwise_conv',
      )(x)
      x = self.activation(self.norm(name='depthwise_bn')(x))
    if spec.se_filters:
      x = SqueezeExcite(
        spec.se_filters, self.activation, self.dtype, name='se'
      )(x)
    if fused and not spec.expands:
      x = conv(x, 'project', spec.filters, kernel_size, stride)
    else:
      x = conv(x, 'project', spec.filters, activate=False)
    if not spec.residual:
      return x
    # Stochastic depth: whole images lose the branch, the others are scaled up.
    x = nn.Dropout(
      1 - spec.survival_probability,
      broadcast_dims=(1, 2, 3),
      deterministic=not train,
    )(x)
    return inputs + x
