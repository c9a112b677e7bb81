"""Logits of images, as fast as the machine gives them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from effnet_jax import errors
from effnet_jax.inference import cores, network
from effnet_jax.inference.jax_operations import JaxOperations
from effnet_jax.models import efficientnet
from effnet_jax.models.efficientnet import DTYPES, EfficientNet


def predictor(
  model: EfficientNet,
  variables: Mapping[str, Any],
  *,
  dtype: str = 'float32',
  compiler_options: dict[str, Any] | None = None,
) -> Callable[[Any], jax.Array]:
  """Returns a function from images to logits, equal to `model.apply`.

  Batch norm is folded, the rest compiled: once for every shape of a batch, so
  give batches of few shapes. On CPU the images go through one by one, small
  ones in groups, on all cores (`cores.run`); there what a thread sets for
  itself, such as `jax.default_matmul_precision`, counts at batch 1 alone. It
  may be called within `jax.jit` and `jax.grad`. Making one on CPU lets malloc
  keep what the whole process frees from then on, whatever frees it; not so
  with EFFNET_JAX_TUNE=0 in the environment (`environment.keep_freed_pages`).

  Args:
    model: the network; its `depthwise` counts, its `dtype` doesn't.
    variables: `params` and `batch_stats`; not needed afterwards.
    dtype: of convolutions and activations, `float32` or `bfloat16`.
    compiler_options: of XLA, see `jax.jit`.

  Returns:
    A function of images [n, h, w, 3], normalised (`effnet_jax.normalize`), of
    any float dtype. It gives logits [n, num_classes], float32, and raises
    UserError for images of another shape or dtype.

  Raises:
    UserError: an unknown dtype; variables of another network.

  Example:
    >>> predict = predictor(model, variables)
    >>> probabilities = jax.nn.softmax(predict(images))
  """
  if dtype not in DTYPES:
    near = errors.near_names(dtype, DTYPES)
    raise errors.UserError(f'unknown dtype {dtype!r}: {near}')
  spec = model.spec
  ops = JaxOperations(jnp.dtype(dtype), model.depthwise)
  folded = efficientnet.on_device(network.fold(spec, variables))
  forward = lambda folded, images: network.forward(spec, folded, images, ops)[0]
  run = cores.compiled(forward, folded, compiler_options)
  traced = jax.jit(forward)  # whoever traces compiles it with the rest

  def predict(images):
    network.check_images(images)
    if isinstance(images, jax.core.Tracer):
      return traced(folded, images)
    return run(images)

  return predict
