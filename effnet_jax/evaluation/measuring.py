"""Top-1 and top-5 of a network on a label set, as often as wanted."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from effnet_jax.data import class_names, pipeline
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.readers import Transform
from effnet_jax.errors import UserError
from effnet_jax.evaluation import accuracy, attacked, hits
from effnet_jax.evaluation.label_sets import Batch, LabelSet
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.training import parallel
from effnet_jax.training.attack import Attack
from effnet_jax.weights.load import Weights


class Measurement:
  """One compiled step, one copy of the weights, many passes over the images.

  Attributes:
    label_set: what is measured on.
    preprocess: the weights' own.
    imagenet: whether the network chooses among all of ImageNet's classes.
  """

  def __init__(
    self,
    weights: Weights,
    label_set: LabelSet,
    batch_size: int,
    workers: int,
    attack: Attack | None = None,
  ):
    spec, model = weights.spec, efficientnet.build(weights.spec)
    to_input = functools.partial(normalize, spec=spec)
    step = hits.eval_step(model.apply, to_input, label_set.ranked)
    if attack is not None:
      step = attacked.eval_step(model.apply, to_input, label_set.ranked, attack)
    self.label_set, self.preprocess = label_set, Preprocess.of(spec)
    offset = class_names.imagenet_offset(spec.num_classes, weights.class_names)
    self.imagenet = offset is not None and label_set.ranked.sum() == 1000
    self._devices = devices = parallel.devices_or_all(None)
    self._step = parallel.pmap_eval(step, devices)
    self._variables = parallel.replicate(weights.variables, devices)
    batch_size = min(batch_size, len(label_set.source))
    self._batches = pipeline.eval_batches(
      label_set.source,
      self.preprocess,
      batch_size=-(-batch_size // len(devices)) * len(devices),
      workers=workers,
      max_bad_fraction=1,  # left out with a warning, and counted
    )

  def __call__(
    self,
    advance: Callable[[int], object],
    transform: Transform | None = None,
  ) -> tuple[dict[str, float], int]:
    """Evaluates all images once.

    Args:
      advance: is told how many images are done.
      transform: of each image after its crop, see `EvalBatches.transformed`.

    Returns:
      `top1` and `top5` in 0..1 with `examples`, and how many images could be
      read.

    Raises:
      UserError: none of them could be used.
    """
    batches, complete = self._batches, self.label_set.complete
    if transform is not None:
      batches = batches.transformed(transform)
    total, read = len(self.label_set.source), 0

    def placed() -> Iterator[Any]:
      nonlocal read
      for number, batch in enumerate(batches):
        read += int(batch['mask'].sum())
        size = len(batch['mask'])
        filled: Batch = complete(batch) if complete else batch
        yield parallel.shard(filled, self._devices)
        advance(min(size, total - number * size))  # the last is padded

    means = accuracy.evaluate(self._step, {'': self._variables}, placed())
    if not means['examples']:
      raise UserError(f'no image of {self.label_set.title} could be used')
    return means, read
