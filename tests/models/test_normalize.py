"""Pixels to the network's input, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

import effnet_jax


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_black_and_white(dtype):
  images = jnp.asarray([[[[0, 0, 0], [255, 255, 255]]]], dtype)
  normal = effnet_jax.normalize(images, effnet_jax.get_spec('b0'))
  assert normal.dtype == jnp.float32
  # (0 - .485) / .229 = -2.1179, (1 - .485) / .229 = 2.2489, and so on.
  np.testing.assert_allclose(
    normal,
    [[[[-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64]]]],
    atol=5e-5,
  )


def test_mean_and_std_of_the_variant():
  model_spec = effnet_jax.get_spec(
    'b0', mean=(0.2, 0.4, 0.6), std=(0.5, 0.25, 0.1)
  )
  # One batch of one pixel, or the pixel alone.
  pixel = jnp.asarray([51.0, 204.0, 0.0])  # .2, .8, 0
  for images in (pixel, pixel.reshape(1, 1, 1, 3)):
    normal = effnet_jax.normalize(images, model_spec)
    assert normal.shape == images.shape
    np.testing.assert_allclose(normal.ravel(), [0, 1.6, -6], atol=1e-5)
