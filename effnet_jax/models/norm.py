"""Batch norm, and what follows it up to the next convolution.

Their gradients, written for memory traffic, are in `norm_gradients`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from effnet_jax.models import norm_gradients
from effnet_jax.models.norm_gradients import Activation, Layer


class BatchNorm(nn.Module):
  """flax's `nn.BatchNorm` over [n, h, w, c], followed by an activation.

  Variables, statistics and numbers are flax's: parameters `scale` and `bias`,
  moving `mean` and (biased) `var` in `batch_stats`, the variance as the mean of
  squares less the squared mean.

  Attributes:
    use_running_average: the moving statistics instead of the batch's.
    momentum: share of the old value in the moving statistics.
    epsilon: added to the variance.
    dtype: of the output.
    axis_name, axis_index_groups: replicas whose statistics are averaged.
  """

  use_running_average: bool
  momentum: float = 0.99
  epsilon: float = 1e-3
  dtype: Any = jnp.float32
  axis_name: str | None = None
  axis_index_groups: tuple[tuple[int, ...], ...] | None = None

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    activation: Activation | None = None,
    kernel: jax.Array | None = None,
    gate: nn.Module | None = None,
    project: nn.Module | None = None,
  ) -> jax.Array:
    """Normalises and activates; with a gate also gates and projects.

    No gradient flows through the statistics that it leaves in `batch_stats`.

    Args:
      x: [n, h, w, c], a convolution's output.
      activation: None for none.
      kernel: [k, c] of a 1x1 convolution. It is taken into this layer, whose
        `x` is then the convolution's input [n, h, w, k]: a cheaper gradient
        where k is much less than c.
      gate: from the mean over the map, [n, c] in float32, to factors [n, c].
        Not together with `kernel`.
      project: linear, what follows the gate: cheaper computed twice than its
        gradient is kept. Only with `gate`.

    Returns:
      [n, h, w, c], or what `project` makes of it.
    """
    if gate is not None and kernel is not None:
      raise ValueError('a norm takes a gate or a kernel, not both')
    if project is not None and gate is None:
      raise ValueError('a norm projects only what it gates')
    channels = x.shape[-1] if kernel is None else kernel.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (channels,))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    moving = {
      name: self.variable('batch_stats', name, start, (channels,), jnp.float32)
      for name, start in (('mean', jnp.zeros), ('var', jnp.ones))
    }
    layer = Layer(
      activation or (lambda x: x),
      self.epsilon,
      jnp.dtype(self.dtype),
      self.axis_name,
      self.axis_index_groups,
    )
    arguments = x, scale, bias, kernel, gate, project
    if self.use_running_average or self.is_initializing():
      statistics = (moving['mean'].value, moving['var'].value)
      return _by_moving(layer, statistics, *arguments)
    out, batch = _by_batch(layer, *arguments)
    for variable, value in zip(moving.values(), batch, strict=True):
      variable.value = (
        self.momentum * variable.value + (1 - self.momentum) * value
      )
    return out


def _by_moving(layer, statistics, x, scale, bias, kernel, gate, project):
  if kernel is not None:
    x = norm_gradients.product(x, kernel, layer.dtype)
  out = layer.activated(x, scale, bias, *statistics).astype(layer.dtype)
  if gate is None:
    return out
  factors = gate(out.mean((1, 2), dtype=jnp.float32))
  out = out * factors[:, None, None].astype(layer.dtype)
  return out if project is None else project(out)


def _by_batch(layer, x, scale, bias, kernel, gate, project):
  """The output, and the batch's mean and variance."""
  if kernel is not None:
    return norm_gradients.product_norm(layer, x, kernel, scale, bias)
  if gate is None:
    return norm_gradients.norm(layer, x, scale, bias)
  applies, variables = zip(*map(_unbind, (gate, project)), strict=True)
  return norm_gradients.gated_norm(layer, applies, x, scale, bias, variables)


def _unbind(module):
  """A module as a pure function and its variables; None is the identity."""
  if module is None:
    return lambda _, x: x, {}
  module, variables = module.unbind()
  return module.apply, variables
