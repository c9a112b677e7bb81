"""Progressive learning: image size and regularisation rise by stages.

Tan and Le 2021 (EfficientNetV2), section 4. A run is cut into equal parts; each
has its own image size, RandAugment magnitude, mixup, cutmix and dropout.
"""

import dataclasses
from collections.abc import Sequence

from effnet_jax import errors

LADDERS = ('released', 'paper')


@dataclasses.dataclass(frozen=True)
class Stage:
  """What is the same over a part of a run.

  Attributes:
    first_step: steps that are done before it.
    resolution: of the training images, pixels a side.
    magnitude: of RandAugment; None without it.
    mixup: alpha of its Beta distribution, 0 for none.
    cutmix: likewise.
    dropout: rate before the classifier.
  """

  first_step: int
  resolution: int
  magnitude: float | None
  mixup: float
  cutmix: float
  dropout: float


def plan(
  ladder: str,
  count: int,
  total_steps: int,
  *,
  last: Stage,
  min_resolution: int,
  min_magnitude: float,
  min_dropout: float,
) -> tuple[Stage, ...]:
  """Returns the stages of a run, equally long to a step.

  `released` is what the authors' code does (automl/efficientnetv2, main.py):
  the size rises by equal parts from `min_resolution`, at which it never trains,
  magnitude, mixup and cutmix from their least values in the first stage, and
  dropout does not change. `paper` is Algorithm 1 with Table 6: the first stage
  has the least values, the size and the dropout too. Sizes are rounded down.

  Args:
    ladder: `released` or `paper`.
    count: of stages; 1 for `last` alone.
    total_steps: length of training.
    last: the values that are reached; its first step is not looked at.
    min_resolution: pixels a side.
    min_magnitude: of RandAugment.
    min_dropout: of `paper`.

  Raises:
    UserError: an unknown ladder, more stages than steps, a least value above
      the last one.
  """
  if ladder not in LADDERS:
    near = errors.near_names(ladder, LADDERS)
    raise errors.UserError(f'unknown config.stages.ladder {ladder!r}: {near}')
  if not 1 <= count <= total_steps:
    raise errors.UserError(
      f'config.stages.count={count!r} must be in 1..{total_steps}, the steps '
      'of this run'
    )
  if count == 1:
    return (dataclasses.replace(last, first_step=0),)
  paper = ladder == 'paper'
  for key, least, most, used in (
    ('resolution', min_resolution, last.resolution, True),
    ('magnitude', min_magnitude, last.magnitude, last.magnitude is not None),
    ('dropout', min_dropout, last.dropout, paper),
  ):
    if used and not 0 <= least <= most:
      raise errors.UserError(
        f'config.stages.min_{key}={least!r} must be in 0..{most!r}, the {key} '
        'of the last stage'
      )

  def stage(index):
    rise = index / (count - 1)
    between = lambda least, most: least + (most - least) * rise
    parts, of = (index, count - 1) if paper else (index + 1, count)
    return Stage(
      first_step=total_steps * index // count,
      resolution=min_resolution
      + (last.resolution - min_resolution) * parts // of,
      magnitude=None
      if last.magnitude is None
      else between(min_magnitude, last.magnitude),
      mixup=between(0.0, last.mixup),
      cutmix=between(0.0, last.cutmix),
      dropout=between(min_dropout, last.dropout) if paper else last.dropout,
    )

  return tuple(map(stage, range(count)))


def index_at(stages: Sequence[Stage], step: int) -> int:
  """Returns which stage the step is in that follows `step` finished ones."""
  return max(i for i, stage in enumerate(stages) if stage.first_step <= step)


def describe(stages: Sequence[Stage], index: int) -> str:
  """Returns one line on a stage, for people."""
  stage = stages[index]
  values = [f'{stage.resolution} pixels']
  if stage.magnitude is not None:
    values.append(f'RandAugment {stage.magnitude:.3g}')
  for name in ('mixup', 'cutmix', 'dropout'):
    values.append(f'{name} {getattr(stage, name):.2g}')
  return f'stage {index + 1} of {len(stages)}: {", ".join(values)}'
