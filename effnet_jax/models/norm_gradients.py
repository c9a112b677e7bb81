"""Batch norm with its neighbours, in gradients written for memory traffic.

A training step moves far more than it computes, and most of what it moves are
the maps between convolutions. So of a layer one map waits for the backward
pass, the convolution's output in its own dtype; the normalised, the activated
and the gated one are computed again from it where they are needed. Sums are
float32.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Activation = Callable[[jax.Array], jax.Array]


class Layer(NamedTuple):
  """What is known of a layer before its arrays are."""

  activation: Activation
  epsilon: float
  dtype: Any
  axis_name: str | None
  groups: tuple[tuple[int, ...], ...] | None

  def average(self, tree):
    """Over the replicas that share statistics."""
    if self.axis_name is None:
      return tree
    return lax.pmean(tree, self.axis_name, axis_index_groups=self.groups)

  def statistics(self, x):
    """Mean and variance by channel, float32."""
    x = x.astype(jnp.float32)
    mean, squares = self.average((x.mean((0, 1, 2)), (x * x).mean((0, 1, 2))))
    # What rounding leaves of a constant map's variance may be negative.
    return mean, jnp.maximum(squares - mean * mean, 0)

  def normal(self, x, scale, bias, mean, var):
    """Before the activation, float32."""
    factor = lax.rsqrt(var + self.epsilon) * scale
    return (x.astype(jnp.float32) - mean) * factor + bias

  def activated(self, x, *arguments):
    return self.activation(self.normal(x, *arguments))

  def slope(self, x, *arguments):
    """The activation's derivative where `normal` is, float32."""
    normal = self.normal(x, *arguments)
    return jax.jvp(self.activation, (normal,), (jnp.ones_like(normal),))[1]


def _anew(x):
  """x, but what is computed from it is not what was computed before.

  XLA would find both alike and keep the first until the second is needed. On
  CPU, where products cost more than memory, it may.
  """
  return lax.platform_dependent(
    x, cpu=lambda x: x, default=lax.optimization_barrier
  )


def product(x, kernel, dtype):
  kernel = kernel.astype(dtype)
  return lax.dot_general(x, kernel, (((3,), (0,)), ((), ())))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def norm(layer, x, scale, bias):
  """Returns the layer's output, and the batch's mean and variance."""
  batch = layer.statistics(x)
  return layer.activated(x, scale, bias, *batch).astype(layer.dtype), batch


def _norm_forward(layer, x, scale, bias):
  out, batch = norm(layer, x, scale, bias)
  return (out, batch), (x, scale, bias, *batch)


def _norm_backward(layer, saved, grads):
  grad, sums = _activation_gradient(layer, saved, grads)
  dx = _map_gradient(layer, saved, grad, sums)
  return dx, *_parameter_gradients(layer, saved, sums)


norm.defvjp(_norm_forward, _norm_backward)


def _activation_gradient(layer, saved, grads):
  """The gradient before the activation, and its sums over the batch.

  Returns:
    [n, h, w, c], and of it two sums by channel: plain, and times the centred
    map.
  """
  x, _, _, mean, _ = saved
  grad = grads[0].astype(jnp.float32) * layer.slope(*saved)
  by_map = grad * (x.astype(jnp.float32) - mean)
  sums = grad.sum((0, 1, 2)), by_map.sum((0, 1, 2))
  return grad.astype(layer.dtype), sums


def _map_gradient(layer, saved, grad, sums):
  x, _, _, mean, _ = saved
  by_grad, by_x, constant = _linear(layer, saved, sums)
  # As the forward pass: of two large numbers first the difference.
  centred = x.astype(jnp.float32) - mean
  dx = by_grad * grad.astype(jnp.float32) + by_x * centred + constant
  return dx.astype(x.dtype)


def _linear(layer, saved, sums):
  """Factors of the gradient, of the centred map, and what is added.

  With the gradient g before the activation, the one of the map x is
  a g - a mean(g) - a (x - mean(x)) mean(g (x - mean(x))) / (var + epsilon).
  """
  x, scale, _, _, var = saved
  inverse = lax.rsqrt(var + layer.epsilon)
  size = x.size // x.shape[-1]
  grad_mean, product_mean = layer.average((sums[0] / size, sums[1] / size))
  factor = scale * inverse
  return factor, -factor * inverse**2 * product_mean, -factor * grad_mean


def _parameter_gradients(layer, saved, sums):
  inverse = lax.rsqrt(saved[-1] + layer.epsilon)
  return sums[1] * inverse, sums[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product_norm(layer, x, kernel, scale, bias):
  """`norm` of a 1x1 convolution's output, which widens x."""
  return norm(layer, product(x, kernel, layer.dtype), scale, bias)


def _product_forward(layer, x, kernel, scale, bias):
  y = product(x, kernel, layer.dtype)
  outputs, saved = _norm_forward(layer, y, scale, bias)
  return outputs, (x, kernel, saved)


def _product_backward(layer, saved, grads):
  """Both gradients from g, x and small matrices: y is not read again.

  The gradient of y = x W is linear in g and y, so that what goes back to x and
  W takes products of g and of x, and small matrices. x is centred: its mean
  would add large numbers that cancel.
  """
  x, kernel, saved = saved
  grad, sums = _activation_gradient(layer, saved, grads)
  by_grad, by_y, constant = _linear(layer, saved, sums)
  kernel = kernel.astype(layer.dtype).astype(jnp.float32)  # as it was used
  x_mean = x.mean((0, 1, 2), dtype=jnp.float32)
  centred = (x.astype(jnp.float32) - x_mean).astype(layer.dtype)
  # Of replicas that share statistics the mean of y is another.
  constant += by_y * (x_mean @ kernel - saved[3])
  back = lambda array, matrix, dtype: lax.dot_general(
    array,
    matrix.astype(layer.dtype),
    (((3,), (1,)), ((), ())),
    preferred_element_type=dtype,
  )
  through_y = (kernel * by_y) @ kernel.T
  dx = back(grad, kernel * by_grad, jnp.float32)
  dx += back(centred, through_y, layer.dtype)
  over_pixels = lambda array: lax.dot_general(
    centred,
    array,
    (((0, 1, 2), (0, 1, 2)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  pixels = x.size // x.shape[-1]
  dkernel = over_pixels(grad) * by_grad + (over_pixels(centred) @ kernel) * by_y
  dkernel += jnp.outer(x_mean, by_grad * sums[0] + pixels * constant)
  return (
    (dx + kernel @ constant).astype(x.dtype),
    dkernel,
    *_parameter_gradients(layer, saved, sums),
  )


product_norm.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def gated_norm(layer, applies, x, scale, bias, variables):
  """`norm`, times factors read from the mean over its map, projected.

  Args:
    applies: the gate, (variables, [n, c] float32) -> [n, c], and what follows
      it, (variables, [n, h, w, c]) -> array, linear.
    variables: of both.
  """
  return _gated_forward(layer, applies, x, scale, bias, variables)[0]


def _gated_forward(layer, applies, x, scale, bias, variables):
  gate, project = applies
  saved = (x, scale, bias, *layer.statistics(x))
  activated = layer.activated(*saved)
  pooled = activated.astype(layer.dtype).mean((1, 2), dtype=jnp.float32)
  gated = _gated(layer, activated, gate(variables[0], pooled))
  out = project(variables[1], gated)
  return (out, saved[3:]), (saved, variables, pooled)


def _gated(layer, activated, factors):
  factors = factors[:, None, None].astype(jnp.float32)
  return (activated * factors).astype(layer.dtype)


def _gated_backward(layer, applies, saved, grads):
  """Reads the map twice: before the gate's gradient is known, and after.

  What the norm's gradient needs of the whole batch is taken in the first pass,
  by linearity: sums by image, that the gate's factors and gradient then weigh.
  """
  gate, project = applies
  saved, variables, pooled = saved
  x, _, _, mean, _ = saved
  slope, activated = layer.slope(*saved), layer.activated(*saved)
  centred = x.astype(jnp.float32) - mean
  factors, gate_backward = jax.vjp(gate, variables[0], pooled)
  gated = _gated(layer, activated, factors)
  _, project_backward = jax.vjp(project, variables[1], gated)
  dproject, grad = project_backward(grads[0])

  grad = grad.astype(jnp.float32)
  total = lambda array: array.sum((1, 2))
  dfactors = total(grad * activated)
  through = total(grad * slope), total(grad * slope * centred)
  slopes = total(slope), total(slope * centred)

  dgate, dpooled = gate_backward(dfactors.astype(factors.dtype))
  factors = factors.astype(jnp.float32)
  pixel = dpooled / (x.shape[1] * x.shape[2])
  sums = tuple(
    (factors * plain + pixel * of_mean).sum(0)
    for plain, of_mean in zip(through, slopes, strict=True)
  )
  _, grad = project_backward(_anew(grads[0]))
  grad = factors[:, None, None] * grad.astype(jnp.float32)
  grad = (grad + pixel[:, None, None]) * slope
  dx = _map_gradient(layer, saved, grad, sums)
  return dx, *_parameter_gradients(layer, saved, sums), (dgate, dproject)


gated_norm.defvjp(_gated_forward, _gated_backward)
