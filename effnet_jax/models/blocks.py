"""The layers of the family: convolutions, the gate, MBConv and Fused-MBConv.

Parameters are named as in the TensorFlow source. Images are [n, h, w, c].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax.models.depthwise import depthwise_conv, pixels
from effnet_jax.models.spec import BlockSpec


def conv_init(key, shape, dtype=jnp.float32):
  """Untruncated normal of variance 2 / fan_out, as in the TensorFlow source.

  Of experts [e, k, k, c, filters] each is drawn as an ordinary kernel.
  """
  return jax.random.normal(key, shape, dtype) * conv_std(shape)


def depthwise_init(key, shape, dtype=jnp.float32):
  """Untruncated normal of variance 2 / (k * k)."""
  return jax.random.normal(key, shape, dtype) * depthwise_std(shape)


def classifier_init(key, shape, dtype=jnp.float32):
  """Uniform within 1 / sqrt(num_classes) of zero."""
  bound = classifier_bound(shape)
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def conv_std(shape: tuple[int, ...]) -> float:
  rows, columns, _, filters = shape[-4:]
  return (2 / (rows * columns * filters)) ** 0.5


def depthwise_std(shape: tuple[int, ...]) -> float:
  # TensorFlow's fan_out of a depthwise kernel [k, k, c, 1] is k * k. On Flax's
  # layout [k, k, 1, c] `variance_scaling` would take k * k * c instead and
  # start every kernel sqrt(c) times too small.
  rows, columns = shape[-4:-2]
  return (2 / (rows * columns)) ** 0.5


def classifier_bound(shape: tuple[int, ...]) -> float:
  return shape[-1] ** -0.5


def routing_bound(shape: tuple[int, ...]) -> float:
  """Glorot's uniform bound."""
  return (6 / sum(shape)) ** 0.5


def conv(
  x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = 'same'
) -> jax.Array:
  """Convolves [n, h, w, c] with [k, k, c, filters]; 1x1 as a product."""
  if kernel.shape[:2] == (1, 1):
    x = x[:, ::stride, ::stride]
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [
      pixels(size, k, stride, padding)
      for size, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    ],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def mix(kernels: jax.Array, routing: jax.Array) -> jax.Array:
  """Returns each image's sum of the experts' kernels (CondConv, Eq. 2).

  Args:
    kernels: [experts, ...].
    routing: [n, experts], weights in (0, 1).

  Returns:
    [n, ...].
  """
  return jnp.tensordot(routing, kernels, 1)


class Conv(nn.Module):
  """See `conv`; with experts each image has a kernel of its own."""

  filters: int
  kernel_size: int = 1
  stride: int = 1
  padding: str = 'same'
  use_bias: bool = False
  experts: int = 0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, routing: jax.Array | None = None
  ) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.filters)
    x = x.astype(self.dtype)
    if self.experts:
      kernels = self.param('kernel', conv_init, (self.experts, *shape))
      x = jax.vmap(
        lambda image, kernel: conv(
          image[None], kernel, self.stride, self.padding
        )[0]
      )(x, mix(kernels, routing).astype(self.dtype))
    else:
      kernel = self.param('kernel', conv_init, shape).astype(self.dtype)
      x = conv(x, kernel, self.stride, self.padding)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros, (self.filters,))
      x = x + bias.astype(self.dtype)
    return x


class DepthwiseConv(nn.Module):
  """See `depthwise.depthwise_conv`; experts as in `Conv`."""

  kernel_size: int
  stride: int = 1
  padding: str = 'same'
  formulation: str = 'auto'
  experts: int = 0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, routing: jax.Array | None = None
  ) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
    x = x.astype(self.dtype)
    arguments = self.stride, self.formulation, self.padding
    if not self.experts:
      kernel = self.param('kernel', depthwise_init, shape).astype(self.dtype)
      return depthwise_conv(x, kernel, *arguments)
    kernels = self.param('kernel', depthwise_init, (self.experts, *shape))
    return jax.vmap(
      lambda image, kernel: depthwise_conv(image[None], kernel, *arguments)[0]
    )(x, mix(kernels, routing).astype(self.dtype))


class Routing(nn.Module):
  """Weighs the experts for each image, from the block's pooled input.

  Gives [n, experts] in (0, 1), float32; they need not sum to one.
  """

  experts: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    shape = (x.shape[-1], self.experts)
    kernel = self.param('kernel', nn.initializers.glorot_uniform(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.experts,))
    return nn.sigmoid(pooled @ kernel + bias)


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
  convolution followed by batch norm; no activation after the projection. With
  experts the three convolutions share one routing of the block's input.
  Fused-MBConv has one full convolution in place of the first two; without
  expansion that convolution is the projection too, with the activation, and
  the gate comes before it.
  """

  spec: BlockSpec
  norm: Callable[..., nn.Module]
  activation: Callable[[jax.Array], jax.Array]
  padding: str = 'same'
  depthwise: str = 'auto'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    spec, inputs = self.spec, x
    routing = None
    if spec.experts:
      routing = Routing(spec.experts, name='routing')(x)

    def layer(x, name, filters, kernel_size=1, stride=1, activate=True):
      x = Conv(
        filters,
        kernel_size,
        stride,
        self.padding,
        experts=spec.experts,
        dtype=self.dtype,
        name=f'{name}_conv',
      )(x, routing)
      x = self.norm(name=f'{name}_bn')(x)
      return self.activation(x) if activate else x

    kernel_size, stride = spec.kernel_size, spec.stride
    fused = spec.operator == 'fused_mbconv'
    if fused and spec.expands:
      late = spec.stride_in == 'project'
      x = layer(
        x, 'expand', spec.expanded_filters, kernel_size, 1 if late else stride
      )
      stride = stride if late else 1
    elif not fused:
      if spec.expands:
        x = layer(x, 'expand', spec.expanded_filters)
      x = DepthwiseConv(
        kernel_size,
        stride,
        self.padding,
        self.depthwise,
        spec.experts,
        self.dtype,
        name='depthwise_conv',
      )(x, routing)
      x = self.activation(self.norm(name='depthwise_bn')(x))
      stride = 1
    if spec.se_filters:
      x = SqueezeExcite(
        spec.se_filters, self.activation, self.dtype, name='se'
      )(x)
    if fused and not spec.expands:
      x = layer(x, 'project', spec.filters, kernel_size, stride)
    else:
      x = layer(x, 'project', spec.filters, 1, stride, activate=False)
    if not spec.residual:
      return x
    # Stochastic depth: whole images lose the branch, the others are scaled up.
    x = nn.Dropout(
      1 - spec.survival_probability,
      broadcast_dims=(1, 2, 3),
      deterministic=not train,
    )(x)
    return inputs + x
