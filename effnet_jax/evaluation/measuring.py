"""Top-1 and top-5 of a network on a label set, as often as wanted."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from effnet_jax.data.pipeline import EvalBatches
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.readers import Transform
from effnet_jax.errors import UserError
from effnet_jax.evaluation import accuracy
from effnet_jax.evaluation.label_sets import Batch, LabelSet
from effnet_jax.training import metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
  """One compiled step, one copy of the weights, many passes over the images.

  Attributes:
    label_set: what is measured on.
    imagenet: whether the network chooses among all of ImageNet's classes.
    preprocess: the weights' own.
    batches: of the label set's source.
    step: (variables, placed batch) -> sums and counts, see `hits.eval_step`.
    variables: on the devices.
    place: puts a batch on the devices.
  """

  label_set: LabelSet
  imagenet: bool
  preprocess: Preprocess
  batches: EvalBatches
  step: Callable[[Any, Any], metrics.Metrics]
  variables: Any
  place: Callable[[Batch], Any]

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
    batches, complete = self.batches, self.label_set.complete
    if transform is not None:
      batches = batches.transformed(transform)
    total, read = len(self.label_set.source), 0

    def placed() -> Iterator[Any]:
      nonlocal read
      for number, batch in enumerate(batches):
        read += int(batch['mask'].sum())
        size = len(batch['mask'])
        filled: Batch = complete(batch) if complete else batch
        yield self.place(filled)
        advance(min(size, total - number * size))  # the last is padded

    means = accuracy.evaluate(self.step, {'': self.variables}, placed())
    if not means['examples']:
      raise UserError(f'no image of {self.label_set.title} could be used')
    return means, read
