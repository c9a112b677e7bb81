"""A batch of images on the cores of this machine.

A network's maps of one image fit the caches, those of a batch do not, and a
product of one image's size keeps one core as busy as two. So images go through
one by one, each core with its own; small ones in groups of an image's size.
"""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effnet_jax import environment

# Products by Eigen, XLA's own library: YNNPACK, its default, is slower on full
# convolutions (V2-S 10 %), and no faster on products.
OPTIONS = {'xla_cpu_experimental_ynn_fusion_type': ''}

# Pixels that go through together.
_GROUP = 256 * 256


def compiled(
  forward: Callable[[Any, Any], jax.Array],
  weights: Any,
  options: Mapping[str, Any] | None = None,
) -> Callable[[Any], jax.Array]:
  """Compiles a network as it is fastest where it will be computed.

  Args:
    forward: (weights, images [m, h, w, 3]) to [m, ...], for any m.
    weights: arguments of the compiled function, not constants in it: the
      executables of several shapes share them.
    options: of XLA, see `jax.jit`.

  Returns:
    A function of images [n, h, w, 3] to [n, ...].
  """
  options = dict(options or {})
  if is_default():
    options = OPTIONS | options
    environment.keep_freed_pages()
  weights = jax.device_put(weights)
  function = functools.partial(
    jax.jit(forward, compiler_options=options), weights
  )
  return lambda images: (
    run(function, images)
    if is_default() and holds(images)
    else function(images)
  )


def is_default() -> bool:
  """Whether what is not placed elsewhere is computed on CPU."""
  return jax.default_backend() == 'cpu'


def holds(images: Any) -> bool:
  """Whether the CPU computes on these images."""
  if isinstance(images, jax.Array):
    return all(device.platform == 'cpu' for device in images.devices())
  return is_default()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
  return ThreadPoolExecutor(threads, thread_name_prefix='effnet_jax')


def run(function: Callable[[Any], jax.Array], images: Any) -> jax.Array:
  """Computes a function of images, each on its own, over all cores.

  Args:
    function: [m, h, w, 3] to [m, ...], for any m.
    images: [n, h, w, 3], on CPU, which is JAX's default: the threads know
      nothing of what the caller's thread has set for itself.

  Returns:
    [n, ...], computed when this returns.
  """
  count, height, width, _ = images.shape
  cores = environment.cores()
  group = max(1, _GROUP // (height * width))
  group = min(group, -(-count // cores))
  if group >= count:
    return function(images)
  pixels = np.asarray(images)  # not copied
  groups = [pixels[i : i + group] for i in range(0, count, group)]
  # One more than cores: XLA shares an image's work out too, and waits for it.
  pool = _pool(cores + 1)
  parts = pool.map(lambda part: np.asarray(function(part)), groups)
  return jnp.asarray(np.concatenate(list(parts)))
