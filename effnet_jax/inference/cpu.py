"""Operations in the form that XLA makes most of on CPU; for inference alone.

They give the numbers of the plain ones but for rounding, and were chosen by
XLA's profile (benchmarks/results/inference.json has the outcome).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from effnet_jax.models.depthwise import pixels

# 2^f for f in [-1/2, 1/2], relative error 7.5e-8 (minimax).
_POWER_OF_TWO = (
  0.0013276471,
  0.009675541,
  0.05550713,
  0.2402212,
  0.69314694,
  1.0000001,
)


@jax.custom_jvp
def silu(x: jax.Array) -> jax.Array:
  """x / (1 + exp(-x)), without XLA's exponential.

  On CPU, where half of B0's time beside the products is SiLU, it takes 0.6 of
  the time of `jax.nn.silu`, and differs by rounding: 1e-6 of the larger of
  |x| and 1.

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


@silu.defjvp
def _silu_jvp(primals, tangents):
  # Of what is rounded and cast bit by bit JAX would take zero.
  (x,), (tangent,) = primals, tangents
  y, sigmoid = silu(x), jax.nn.sigmoid(x)
  return y, tangent * (sigmoid + y * (1 - sigmoid))


def mean(x: jax.Array) -> jax.Array:
  """The mean over the map, [n, h, w, c] to [n, 1, 1, c] in float32.

  As a product: XLA's own sum takes four times as long, a tenth of B0's time.
  """
  n, height, width, c = x.shape
  pixel = jnp.full((n, 1, height * width), 1 / (height * width), jnp.float32)
  x = x.reshape(n, height * width, c).astype(jnp.float32)
  return lax.dot_general(pixel, x, (((2,), (1,)), ((0,), (0,))))[:, None]


def patches(
  x: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
  """A convolution as one product of all windows; for few input channels.

  Args:
    x: [n, h, w, c].
    kernel: [k, k, c, filters].
    stride, padding: as `models.depthwise.depthwise_conv` takes them.
  """
  n, *size, c = x.shape
  out = [-(-s // stride) for s in size]
  paddings = [
    pixels(s, k, stride, padding)
    for s, k in zip(size, kernel.shape, strict=False)
  ]
  x = jnp.pad(x, [(0, 0), *paddings, (0, 0)])
  rows, columns = kernel.shape[:2]
  windows = [
    lax.slice(
      x,
      (0, i, j, 0),
      (n, i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1, c),
      (1, stride, stride, 1),
    )
    for i in range(rows)
    for j in range(columns)
  ]
  windows = jnp.concatenate(windows, axis=-1)
  kernel = kernel.reshape(-1, kernel.shape[-1])
  return lax.dot_general(windows, kernel, (((3,), (0,)), ((), ())))
