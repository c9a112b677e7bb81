"""Pixels to the network's input, on the device."""

import jax
import jax.numpy as jnp

from effnet_jax.models.spec import ModelSpec


def normalize(images: jax.Array, spec: ModelSpec) -> jax.Array:
  """Subtracts the mean and divides by the standard deviation of the variant.

  Args:
    images: [..., 3] pixels in 0..255, uint8 or float.
    spec: whose `mean` and `std` are of pixels in 0..1.

  Returns:
    float32 images of the same shape.
  """
  mean = 255 * jnp.asarray(spec.mean, jnp.float32)
  scale = 1 / (255 * jnp.asarray(spec.std, jnp.float32))
  return (images.astype(jnp.float32) - mean) * scale
