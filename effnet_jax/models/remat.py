"""Computing activations again in the backward pass instead of keeping them.

As `flax.linen.remat` does it, but so that XLA on CPU does it too: there nothing
is left of the barriers that keep `jax.checkpoint`'s second computation apart,
and XLA merges it with the first, whose activations are then all kept.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
from flax.core import lift
from flax.linen import transforms
from jax import lax


def rematerialized(function: Callable[..., Any]) -> Callable[..., Any]:
  """Lifts `function(module, x, *static)`, of whose work only x is kept.

  Its numbers, variables and randomness stay as they are; it has reverse-mode
  derivatives alone. Where it gives several arrays, the last is taken for the
  one whose gradient comes from behind.
  """
  return transforms.lift_transform(_lifted, function)


def _lifted(function: Callable[..., Any]) -> Callable[..., Any]:
  def inner(scope_of, repack, variables, rngs, x, *static):
    def compute(x, variables, rngs):
      scope = scope_of(variables, rngs)
      return function(scope, x, *static), repack(scope)

    return _computed_again(compute, x, variables, rngs)

  return lift.pack(inner, (True,), (True,), (True,), name='remat')


def _computed_again(function, *args):
  """Returns `function(*args)`, whose gradient starts from `args` again."""
  # Traced once: a second time a module would draw other random numbers.
  jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
  traced = jax.extend.core.jaxpr_as_fun(jaxpr)
  last = len(jax.tree.leaves(shapes[0])) - 1

  @jax.custom_vjp
  def compute(*leaves):
    return traced(*leaves)

  def forward(*leaves):
    return traced(*leaves), leaves

  def backward(leaves, grads):
    x, *rest = leaves
    x = _not_before(x, grads[last])
    return jax.vjp(traced, x, *rest)[1](grads)

  compute.defvjp(forward, backward)
  found = compute(*jax.tree.leaves(args))
  return jax.tree.unflatten(jax.tree.structure(shapes), found)


def _not_before(x: jax.Array, other: jax.Array) -> jax.Array:
  """Returns x, but for the compiler a value that is made of the other."""

  def on_cpu(x, other):
    # Where the other is no number, neither is what comes of it.
    lost = jnp.isnan(other.ravel()[0])
    return jnp.where(lost, jnp.asarray(jnp.nan, x.dtype), x)

  return lax.platform_dependent(
    x,
    other,
    cpu=on_cpu,
    default=lambda x, other: lax.optimization_barrier((x, other))[0],
  )
