"""What the network sees: maps for detection and segmentation, embeddings."""

from collections.abc import Mapping
from typing import Any

import jax

from effnet_jax.inference import network
from effnet_jax.models.efficientnet import EfficientNet
from effnet_jax.models.spec import BlockSpec, ModelSpec


def features(
  model: EfficientNet, variables: Mapping[str, Any], images: jax.Array
) -> dict[int, jax.Array]:
  """Returns the last map at each stride: the pyramid of detectors.

  Pure and differentiable; under `jax.jit` the head and the classifier cost
  nothing. To train the network along with what reads it, call `model.apply`
  with `train=True` and give `pyramid` its endpoints.

  Args:
    model: the network.
    variables: `params` and `batch_stats`.
    images: [n, h, w, 3], normalised.

  Returns:
    {stride: [n, ceil(h / stride), ceil(w / stride), channels]}, strides 2, 4,
    8, 16 and 32 (from 1 where `stem_stride` is 1), in the model's dtype.

  Raises:
    UserError: images of another shape or dtype.

  Example:
    >>> maps = features(model, variables, images)
    >>> maps[32].shape[-1] == feature_channels(model.spec)[32]
    True
  """
  network.check_images(images)
  _, endpoints = model.apply(variables, images, train=False)
  return pyramid(model.spec, endpoints)


def embed(
  model: EfficientNet, variables: Mapping[str, Any], images: jax.Array
) -> jax.Array:
  """Returns what the classifier reads: pooled [n, head width], float32.

  Arguments and errors are those of `features`.
  """
  network.check_images(images)
  _, endpoints = model.apply(variables, images, train=False)
  return endpoints['pooled_features']


def pyramid(
  spec: ModelSpec, endpoints: Mapping[str, jax.Array]
) -> dict[int, jax.Array]:
  """Returns the maps of `features` among the endpoints of `model.apply`."""
  return {
    stride: endpoints[f'reduction_{block.reduction}']
    for stride, block in _levels(spec).items()
  }


def feature_channels(spec: ModelSpec) -> dict[int, int]:
  """Returns {stride: channels} of `features`, without running anything.

  >>> feature_channels(effnet_jax.get_spec('b0'))
  {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
  """
  return {stride: block.filters for stride, block in _levels(spec).items()}


def _levels(spec: ModelSpec) -> dict[int, BlockSpec]:
  stride, levels = spec.stem_stride, {}
  for block in spec.blocks():
    stride *= block.stride
    if block.reduction:
      levels[stride] = block
  return levels
