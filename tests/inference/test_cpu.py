"""The CPU's forms of operations against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.inference import cpu
from effnet_jax.models import blocks


def test_silu_is_silu():
  """Over every magnitude, against float64."""
  positive = np.geomspace(1e-30, 80, 20_001)
  x = np.concatenate([-positive, [0.0], positive]).astype(np.float32)
  exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
  found = np.asarray(jax.jit(cpu.silu)(x), np.float64)
  # Of e^-80 the argument's own rounding leaves 5 digits.
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-30)
  near = np.abs(x) < 10
  np.testing.assert_allclose(found[near], exact[near], rtol=2e-6)


def test_silu_beyond_float32():
  x = np.float32([-np.inf, -1e30, -200, 200, 1e30, np.inf])
  found = np.asarray(cpu.silu(x))
  np.testing.assert_array_equal(found[3:], x[3:])
  # -0 as near as makes no difference, but for what is no number any more.
  assert abs(found[2]) < 1e-30
  assert not np.isnan(found[1:]).any()
  assert np.isnan(cpu.silu(np.float32(np.nan)))


def test_silu_has_its_derivative():
  x = np.linspace(-30, 30, 2001, dtype=np.float32)
  found = jax.vmap(jax.grad(cpu.silu))(x)
  expected = jax.vmap(jax.grad(jax.nn.silu))(x)
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_silu_keeps_bfloat16():
  x = jnp.linspace(-20, 20, 1001, dtype=jnp.bfloat16)
  found = cpu.silu(x)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    found.astype(np.float32),
    np.asarray(jax.nn.silu(x.astype(np.float32))),
    rtol=2**-8,
    atol=1e-9,
  )


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('padding', ['same', 'symmetric'])
@pytest.mark.parametrize('size', [(8, 8), (9, 7), (2, 3), (1, 1)])
def test_patches_are_the_convolution(size, padding, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, *size, 3)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
  expected = blocks.conv(x, kernel, stride, padding)
  found = cpu.patches(x, kernel, stride, padding)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_mean():
  rng = np.random.default_rng(0)
  x = rng.normal(3, 1, size=(3, 17, 5, 8)).astype(np.float32)
  np.testing.assert_allclose(
    cpu.mean(x), x.mean((1, 2), keepdims=True), rtol=1e-6
  )
  wide = cpu.mean(jnp.asarray(x, jnp.bfloat16))
  assert wide.dtype == jnp.float32
  np.testing.assert_allclose(wide, x.mean((1, 2), keepdims=True), rtol=1e-2)
