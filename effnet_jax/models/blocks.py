"""The layers of the family: convolutions, the gate, MBConv and Fused-MBConv.

Parameters are named as in the TensorFlow source. Images are [n, h, w, c].
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax.models.depthwise import depthwise_conv, pixels
from effnet_jax.models.norm import BatchNorm
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
    self,
    x: jax.Array,
    routing: jax.Array | None = None,
    norm: BatchNorm | None = None,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    gate: nn.Module | None = None,
  ) -> jax.Array:
    """Convolves, then normalises, activates and gates if told to."""
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.filters)
    x = x.astype(self.dtype)
    widens = self.kernel_size == self.stride == 1 and shape[2] < shape[3]
    if norm and widens and not (self.experts or self.use_bias or gate):
      # Its gradient is cheaper together with the norm's.
      kernel = self.param('kernel', conv_init, shape)
      return norm(x, activation, kernel=kernel[0, 0])
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
    return norm(x, activation, gate=gate) if norm else x


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
  """From the mean over the map [n, c], float32, to a gate in (0, 1), [n, c]."""

  filters: int
  activation: Callable[[jax.Array], jax.Array]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, pooled: jax.Array) -> jax.Array:
    conv = functools.partial(Conv, use_bias=True, dtype=self.dtype)
    gate = conv(self.filters, name='reduce')(pooled[:, None, None])
    gate = conv(pooled.shape[-1], name='expand')(self.activation(gate))
    return nn.sigmoid(gate)[:, 0, 0]


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
    spec = self.spec
    routing = gate = None
    if spec.experts:
      routing = Routing(spec.experts, name='routing')(x)
    if spec.se_filters:
      gate = SqueezeExcite(
        spec.se_filters, self.activation, self.dtype, name='se'
      )
    if spec.operator == 'mbconv':
      branch = self._mbconv(x, routing, gate)
    elif spec.expands:
      branch = self._fused(x, routing, gate)
    else:
      branch = self._fused_alone(x, routing, gate)
    if not spec.residual:
      return branch
    # Stochastic depth: whole images lose the branch, the others are scaled up.
    branch = nn.Dropout(
      1 - spec.survival_probability,
      broadcast_dims=(1, 2, 3),
      deterministic=not train,
    )(branch)
    return x + branch

  # Not wrapped: as methods of flax they would stand in the operations' names.

  @nn.nowrap
  def _mbconv(self, x, routing, gate):
    spec = self.spec
    if spec.expands:
      expand = self._conv('expand', spec.expanded_filters)
      x = expand(x, routing, self._norm('expand'), self.activation)
    x = DepthwiseConv(
      spec.kernel_size,
      spec.stride,
      self.padding,
      self.depthwise,
      spec.experts,
      self.dtype,
      name='depthwise_conv',
    )(x, routing)
    project = self._conv('project', spec.filters)
    norm = self._norm('depthwise')
    if gate and not spec.experts:
      x = norm(x, self.activation, gate=gate, project=project)
      return self._norm('project')(x)
    x = norm(x, self.activation, gate=gate)
    return project(x, routing, self._norm('project'))

  @nn.nowrap
  def _fused(self, x, routing, gate):
    spec = self.spec
    late = spec.stride_in == 'project'
    first, last = (1, spec.stride) if late else (spec.stride, 1)
    expand = self._conv(
      'expand', spec.expanded_filters, spec.kernel_size, first
    )
    x = expand(x, routing, self._norm('expand'), self.activation, gate)
    project = self._conv('project', spec.filters, 1, last)
    return project(x, routing, self._norm('project'))

  @nn.nowrap
  def _fused_alone(self, x, routing, gate):
    spec = self.spec
    if gate:
      x = x * gate(x.mean((1, 2), dtype=jnp.float32))[:, None, None]
    project = self._conv('project', spec.filters, spec.kernel_size, spec.stride)
    return project(x, routing, self._norm('project'), self.activation)

  @nn.nowrap
  def _conv(self, name, filters, kernel_size=1, stride=1):
    return Conv(
      filters,
      kernel_size,
      stride,
      self.padding,
      experts=self.spec.experts,
      dtype=self.dtype,
      name=f'{name}_conv',
    )

  @nn.nowrap
  def _norm(self, name):
    return self.norm(name=f'{name}_bn')
