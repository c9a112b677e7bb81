"""Images one by one over the cores, and the SiLU of the CPU."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.inference import cpu, silu


def _images(count, size, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(count, size, size, 3)).astype(np.float32)


def _recorded(calls):
  """A function of images that tells of its calls: [n, h, w, 3] to [n, 3]."""

  def function(images):
    calls.append((len(images), threading.current_thread().name))
    return jnp.asarray(images).sum((1, 2))

  return function


def test_order_is_kept_and_every_image_counted_once():
  images, calls = _images(7, 300), []
  found = cpu.run(_recorded(calls), images)
  assert isinstance(found, jax.Array)
  np.testing.assert_allclose(found, images.sum((1, 2)), rtol=1e-4, atol=1e-2)
  assert [count for count, _ in calls] == [1] * 7


def test_jax_arrays_as_numpy_ones():
  images = _images(3, 300)
  of_numpy = cpu.run(_recorded([]), images)
  np.testing.assert_array_equal(
    cpu.run(_recorded([]), jnp.asarray(images)), of_numpy
  )


def test_one_image_stays_in_the_callers_thread():
  calls = []
  cpu.run(_recorded(calls), _images(1, 300))
  assert calls == [(1, threading.current_thread().name)]


def test_small_images_go_in_groups(monkeypatch):
  """32 pixels: 64 images are one of 256; each core gets some all the same."""
  monkeypatch.setattr('os.sched_getaffinity', lambda _: {0, 1})
  calls = []
  cpu.run(_recorded(calls), _images(200, 32))
  assert sorted(count for count, _ in calls) == [8, 64, 64, 64]
  calls.clear()
  cpu.run(_recorded(calls), _images(10, 32))
  assert [count for count, _ in calls] == [5, 5]


def test_errors_come_through():
  def function(images):
    raise ValueError('of a thread')

  with pytest.raises(ValueError, match='of a thread'):
    cpu.run(function, _images(4, 300))


def test_where_images_are_computed():
  assert cpu.holds(_images(1, 8)) and cpu.holds(jnp.asarray(_images(1, 8)))


def test_silu_is_silu():
  """Over every magnitude, against float64."""
  positive = np.geomspace(1e-30, 80, 20_001)
  x = np.concatenate([-positive, [0.0], positive]).astype(np.float32)
  exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
  found = np.asarray(jax.jit(silu.silu)(x), np.float64)
  # Of e^-80 the argument's own rounding leaves 5 digits.
  np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-30)
  near = np.abs(x) < 10
  np.testing.assert_allclose(found[near], exact[near], rtol=2e-6)


def test_silu_beyond_float32():
  x = np.float32([-np.inf, -1e30, -200, 200, 1e30, np.inf])
  found = np.asarray(silu.silu(x))
  np.testing.assert_array_equal(found[3:], x[3:])
  # -0 as near as makes no difference, but for what is no number any more.
  assert abs(found[2]) < 1e-30
  assert not np.isnan(found[1:]).any()
  assert np.isnan(silu.silu(np.float32(np.nan)))


def test_silu_keeps_bfloat16():
  x = jnp.linspace(-20, 20, 1001, dtype=jnp.bfloat16)
  found = silu.silu(x)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    found.astype(np.float32),
    np.asarray(jax.nn.silu(x.astype(np.float32))),
    rtol=2**-8,
    atol=1e-9,
  )
