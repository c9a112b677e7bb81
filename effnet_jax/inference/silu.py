"""SiLU in as few operations as a CPU can do it in; for inference alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# 2^f for f in [-1/2, 1/2], relative error 7.5e-8 (minimax).
_POWER_OF_TWO = (
  0.0013276471,
  0.009675541,
  0.05550713,
  0.2402212,
  0.69314694,
  1.0000001,
)


def silu(x: jax.Array) -> jax.Array:
  """x / (1 + exp(-x)), without XLA's exponential.

  On CPU, where half of B0's time beside the products is SiLU, it takes 0.6 of
  the time of `jax.nn.silu`, and differs by rounding: 1e-6 of the larger of
  |x| and 1. It has no derivative.

  Args:
    x: any shape. bfloat16 is computed in float32.
  """
  # exp(-x) = 2^k 2^f. Within these bounds 2^k is a normal float32.
  wide = x.astype(jnp.float32)
  power = jnp.clip(wide * np.float32(-1 / np.log(2)), -126.0, 126.0)
  whole = lax.round(power, lax.RoundingMethod.TO_NEAREST_EVEN)
  rest = power - whole
  fraction = jnp.full_like(rest, _POWER_OF_TWO[0])
  for coefficient in _POWER_OF_TWO[1:]:
    fraction = fraction * rest + np.float32(coefficient)
  # 1.5 * 2^23 + k has k in its lowest bits: cheaper than a checked conversion.
  shift = lax.bitcast_convert_type(whole + np.float32(1.5 * 2**23), jnp.int32)
  bits = lax.bitcast_convert_type(fraction, jnp.int32) + (shift << 23)
  exponential = lax.bitcast_convert_type(bits, jnp.float32)
  return (wide / (1 + exponential)).astype(x.dtype)
