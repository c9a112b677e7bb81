"""Mixup and cutmix: images of a batch mixed with one another, on the device.

As in the authors' V2 code the partner of an image is its mirror image in the
batch (the first with the last), every image draws its own weight, and where
both are on, the first half of the batch is mixed by mixup and the second by
cutmix. A batch here is what the objective sees: a replica's share, or a part of
it where gradients are accumulated.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from effnet_jax import errors

Mixed = tuple[jax.Array, jax.Array]


def mix(
  rng: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  *,
  num_classes: int,
  mixup_alpha: float = 0.0,
  cutmix_alpha: float = 0.0,
) -> Mixed:
  """Mixes a batch by what is on: mixup, cutmix, or half of it by each.

  Args:
    rng: random key.
    images: [n, h, w, c], uint8 or float.
    labels: [n] class indices, or [n, classes] probabilities.
    num_classes: of the network.
    mixup_alpha: of the Beta distribution; 0 for no mixup.
    cutmix_alpha: likewise.

  Returns:
    Images [n, h, w, c] in float32, in the range of those given, and
    probabilities [n, classes].
  """
  images = images.astype(jnp.float32)
  if labels.ndim == 1:
    labels = jax.nn.one_hot(labels, num_classes)
  if mixup_alpha and cutmix_alpha:
    half = len(images) // 2
    rngs = jax.random.split(rng)
    mixed = mixup(rngs[0], images[:half], labels[:half], mixup_alpha)
    pasted = cutmix(rngs[1], images[half:], labels[half:], cutmix_alpha)
    images, labels = map(jnp.concatenate, zip(mixed, pasted, strict=True))
  elif mixup_alpha:
    images, labels = mixup(rng, images, labels, mixup_alpha)
  elif cutmix_alpha:
    images, labels = cutmix(rng, images, labels, cutmix_alpha)
  return images, labels


def mixup(
  rng: jax.Array, images: jax.Array, labels: jax.Array, alpha: float
) -> Mixed:
  """Returns weighted sums of images and labels (Zhang et al., 2018, Eq. 1).

  The weight is max(w, 1 - w) for w of Beta(alpha, alpha), so that an image
  keeps at least half of itself. Arguments as `mix`, but float32 images and
  probabilities.
  """
  weights = jax.random.beta(rng, alpha, alpha, (len(images),))
  weights = jnp.maximum(weights, 1 - weights)
  return _blend(images, weights[:, None, None, None]), _blend(
    labels, weights[:, None]
  )


def cutmix(
  rng: jax.Array, images: jax.Array, labels: jax.Array, alpha: float
) -> Mixed:
  """Pastes a box of the partner into every image (Yun et al., 2019, Eq. 1, 2).

  The box has sides of sqrt(1 - w) of the image's for w of Beta(alpha, alpha), a
  uniform centre, and what is outside the image is cut off. The partner's share
  of the label is the pasted share of the area. (The authors' V2 code takes the
  batch's mean area for all labels.) Arguments as `mixup`.
  """
  count, height, width, _ = images.shape
  for_weight, for_row, for_column = jax.random.split(rng, 3)
  side = jnp.sqrt(1 - jax.random.beta(for_weight, alpha, alpha, (count,)))
  inside = lambda rng, size: _interval(
    jax.random.randint(rng, (count,), 0, size), side, size
  )
  rows, columns = inside(for_row, height), inside(for_column, width)
  kept = 1 - (rows[:, :, None] & columns[:, None, :]).astype(jnp.float32)
  return _blend(images, kept[..., None]), _blend(
    labels, kept.mean((1, 2))[:, None]
  )


def objective(
  inner: Callable[..., Any],
  *,
  num_classes: int,
  mixup_alpha: float = 0.0,
  cutmix_alpha: float = 0.0,
) -> Callable[..., Any]:
  """Returns an objective on mixed batches; `inner` itself where all is off.

  Args:
    inner: an objective (see `objectives`) that takes float images in 0..255 and
      probabilities as labels.
    num_classes: as `mix`, like the rest.

  Raises:
    UserError: an alpha below 0.
  """
  for key, alpha in (('mixup', mixup_alpha), ('cutmix', cutmix_alpha)):
    if not alpha >= 0:
      raise errors.UserError(f'config.objective.{key}={alpha!r} is below 0')
  if not (mixup_alpha or cutmix_alpha):
    return inner

  def mixed(variables, batch, rng):
    rng, for_mixing = jax.random.split(rng)
    images, labels = mix(
      for_mixing,
      batch['image'],
      batch['label'],
      num_classes=num_classes,
      mixup_alpha=mixup_alpha,
      cutmix_alpha=cutmix_alpha,
    )
    return inner(variables, {**batch, 'image': images, 'label': labels}, rng)

  return mixed


def _blend(values: jax.Array, weights: jax.Array) -> jax.Array:
  return weights * values + (1 - weights) * values[::-1]


def _interval(centre: jax.Array, share: jax.Array, size: int) -> jax.Array:
  """Returns [n, size], true where an axis of `size` pixels is in the box."""
  half = (share * size).astype(jnp.int32)[:, None] // 2
  distance = jnp.arange(size) - centre[:, None]
  return (distance >= -half) & (distance < half)
