"""Images one by one over the cores."""

import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.inference import cores


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
  found = cores.run(_recorded(calls), images)
  assert isinstance(found, jax.Array)
  np.testing.assert_allclose(found, images.sum((1, 2)), rtol=1e-4, atol=1e-2)
  assert [count for count, _ in calls] == [1] * 7


def test_jax_arrays_as_numpy_ones():
  images = _images(3, 300)
  of_numpy = cores.run(_recorded([]), images)
  np.testing.assert_array_equal(
    cores.run(_recorded([]), jnp.asarray(images)), of_numpy
  )


def test_one_image_stays_in_the_callers_thread():
  calls = []
  cores.run(_recorded(calls), _images(1, 300))
  assert calls == [(1, threading.current_thread().name)]


def test_small_images_go_in_groups(monkeypatch):
  """32 pixels: 64 images are one of 256; each core gets some all the same."""
  monkeypatch.setattr('effnet_jax.environment.cores', lambda: 2)
  calls = []
  cores.run(_recorded(calls), _images(200, 32))
  assert sorted(count for count, _ in calls) == [8, 64, 64, 64]
  calls.clear()
  cores.run(_recorded(calls), _images(10, 32))
  assert [count for count, _ in calls] == [5, 5]


def test_errors_come_through():
  def function(images):
    raise ValueError('of a thread')

  with pytest.raises(ValueError, match='of a thread'):
    cores.run(function, _images(4, 300))


def test_where_images_are_computed():
  assert cores.holds(_images(1, 8)) and cores.holds(jnp.asarray(_images(1, 8)))


class _Elsewhere(jax.Array):
  """Stands for an array on an accelerator, or on CPU and one."""

  def __init__(self, *platforms):
    self.platforms = platforms

  def devices(self):
    return [types.SimpleNamespace(platform=name) for name in self.platforms]


@pytest.mark.parametrize('platforms', [('tpu',), ('cpu', 'gpu')])
def test_what_lies_elsewhere_is_not_the_cpus(platforms):
  assert not cores.holds(_Elsewhere(*platforms))


def test_numpy_arrays_go_where_jax_computes(monkeypatch):
  monkeypatch.setattr(cores.jax, 'default_backend', lambda: 'gpu')
  assert not cores.holds(_images(1, 8))
  assert cores.holds(jnp.asarray(_images(1, 8)))  # placed


def test_only_what_the_cpu_holds_is_shared_among_cores(monkeypatch):
  monkeypatch.setattr(cores.jax, 'jit', lambda function, **_: function)
  monkeypatch.setattr(cores, 'run', lambda function, images: 'shared out')
  predict = cores.compiled(lambda weights, images: images, ())
  elsewhere = _Elsewhere('tpu')
  assert predict(elsewhere) is elsewhere
  assert predict(_images(2, 8)) == 'shared out'
