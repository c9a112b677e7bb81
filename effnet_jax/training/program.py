"""From a config to what runs: network, optimiser, schedule, mapped steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from effnet_jax import errors, pretrained
from effnet_jax.data import pipeline, preprocess, sources
from effnet_jax.evaluation import accuracy
from effnet_jax.models import efficientnet, macs, normalize
from effnet_jax.training import (
  auto_splits,
  initial,
  optimizer,
  parallel,
  schedules,
  state,
  step,
)
from effnet_jax.training.objectives import supervised

OBJECTIVES = {'supervised': supervised.supervised}


class Data:
  """The sources that a config names, and the batches they give.

  Attributes:
    config: as given, with the splits and the sizes of the data set filled in.
    said: a line on splits that were chosen, '' where the config names them.
  """

  def __init__(self, config: ConfigDict):
    config, self.said = auto_splits.resolve(config)
    if (
      config.evaluation.report == 'best'
      and config.data.eval_split == config.data.test_split
    ):
      raise errors.UserError(
        'config.evaluation.report=best would choose the checkpoint on the '
        f'split that is reported, {config.data.test_split!r}: set another '
        'config.data.eval_split, or report=last'
      )
    open_split = functools.cache(
      lambda split: sources.open_source(
        config.data.source,
        split,
        name=config.data.name,
        path=config.data.path,
      )
    )
    self._sources = {
      'train': open_split(config.data.train_split),
      'eval': open_split(config.data.eval_split),
      'test': open_split(config.data.test_split),
    }
    self.config = self._with_sizes(config)
    self._arguments()  # what is wrong with them is said before anything runs

  def class_names(self) -> list[str]:
    """Returns the names of the classes, in the order of the outputs."""
    return list(self._sources['train'].class_names)

  def _with_sizes(self, config):
    config = config.copy_and_resolve_references()
    train = self._sources['train']
    for key, counted in (
      ('num_classes', len(train.class_names)),
      ('train_examples', len(train)),
    ):
      said = config.data[key]
      if said is not None and said != counted:
        raise errors.UserError(
          f'config.data.{key}={said}, but {train!r} has {counted}'
        )
      config.data[key] = counted
    return config

  def _arguments(self, train=False):
    data, model = self.config.data, pretrained.spec_of_run(self.config)
    return {
      'preprocess': preprocess.Preprocess(
        size=train and model.train_resolution or model.resolution,
        resampling=model.resampling,
        crop_area=tuple(data.crop_area) or None,
        crop_aspect=data.crop_aspect,
        min_covered=data.min_covered,
        shift=data.shift,
        flip=data.flip,
        crop_padding=model.crop_padding,
        exif_orientation=data.exif_orientation,
      ),
      'process_index': parallel.process_index(),
      'process_count': parallel.process_count(),
      'workers': data.workers,
      'max_bad_fraction': data.max_bad_fraction,
    }

  def train_batches(
    self, start: dict[str, Any] | None = None
  ) -> pipeline.TrainIterator:
    """Returns this process's endless batches, from `start` on."""
    return pipeline.train_batches(
      self._sources['train'],
      batch_size=self.config.batch_size // parallel.process_count(),
      seed=self.config.seed,
      start=start,
      **self._arguments(train=True),
    )

  def eval_batches(self, split: str) -> pipeline.EvalBatches:
    """Returns this process's batches of `eval` or `test`."""
    batch_size = self.config.evaluation.batch_size
    return pipeline.eval_batches(
      self._sources[split],
      batch_size=batch_size // parallel.process_count(),
      **self._arguments(),
    )


@dataclasses.dataclass(frozen=True)
class Program:
  """A run's network and compiled functions, built from shapes alone.

  Attributes:
    model: the network.
    total_steps: length of training.
    schedule: learning rate as a function of the step.
    init: () -> the state before the first step, not placed on devices.
    abstract_state: () -> its shapes and dtypes.
    train_step: (state, batch, key) -> (state, metrics), mapped over devices.
    eval_step: (variables, batch) -> metrics, mapped over devices.
    steps: converts a duration of the config to steps.
    devices: over all processes.
  """

  model: efficientnet.EfficientNet
  total_steps: int
  schedule: schedules.Schedule
  init: Callable[[], state.TrainState]
  abstract_state: Callable[[], state.TrainState]
  train_step: Callable[..., Any]
  eval_step: Callable[..., Any]
  steps: Callable[[str, str], int]
  devices: Sequence[jax.Device]


def check_values(config: ConfigDict) -> None:
  """Raises `UserError` for a number outside its range, naming the key."""
  for key, value, holds, what in (
    ('seed', config.seed, 0 <= config.seed < 2**32, 'in 0..2**32-1'),
    ('ema', config.ema, 0 <= config.ema < 1, 'in [0, 1)'),
    (
      'objective.label_smoothing',
      config.objective.label_smoothing,
      0 <= config.objective.label_smoothing < 1,
      'in [0, 1)',
    ),
    (
      'init_head',
      config.init_head,
      config.init_head in ('same', 'new', 'zero'),
      'same, new or zero',
    ),
    (
      'checkpoint.keep',
      config.checkpoint.keep,
      config.checkpoint.keep >= 1,
      '1 or more',
    ),
    (
      'data.max_bad_fraction',
      config.data.max_bad_fraction,
      0 <= config.data.max_bad_fraction <= 1,
      'in 0..1',
    ),
    (
      'data.workers',
      config.data.workers,
      config.data.workers >= 0,
      '0 or more',
    ),
    (
      'evaluation.report',
      config.evaluation.report,
      config.evaluation.report in ('last', 'best'),
      'last or best',
    ),
    (
      'early_stop',
      config.early_stop,
      config.early_stop >= 0,
      '0 or more',
    ),
    (
      'evaluation.report',
      config.evaluation.report,
      not config.early_stop or config.evaluation.report == 'best',
      'best where config.early_stop is set',
    ),
  ):
    if not holds:
      raise errors.UserError(f'config.{key}={value!r} must be {what}')


def build(
  config: ConfigDict, devices: Sequence[jax.Device] | None = None
) -> Program:
  """Builds the very step that trains, without reading data.

  Args:
    config: complete, see configs/base.py, the sizes of the data set given.
    devices: to train on; all there are if None.

  Raises:
    UserError: a value that the config's other values or the devices rule out.
  """
  if None in (config.data.num_classes, config.data.train_examples):
    raise errors.UserError(
      'this config leaves its data set to be counted: set '
      'config.data.num_classes and config.data.train_examples'
    )
  check_values(config)
  devices = parallel.devices_or_all(devices)
  parallel.check_batch(config.batch_size, config.accumulate, devices)
  parallel.check_batch(
    config.evaluation.batch_size, 1, devices, key='evaluation.batch_size'
  )
  model = efficientnet.build(
    pretrained.spec_of_run(config),
    config.model.dtype,
    config.model.depthwise,
    remat=config.remat,
    frozen_bn=config.model.frozen_bn,
    **parallel.bn_groups(config.model.bn_groups, len(devices)),
  )
  steps = lambda duration, key: schedules.to_steps(
    duration, config.data.train_examples, config.batch_size, key
  )
  whole_steps = lambda duration, key: max(1, round(steps(duration, key)))
  total_steps = whole_steps(config.duration, 'duration')
  schedule = schedules.learning_rate(
    config.schedule.decay,
    config.schedule.learning_rate * config.batch_size / 256,
    warmup_steps=int(steps(config.schedule.warmup, 'schedule.warmup')),
    total_steps=total_steps,
    decay_factor=config.schedule.decay_factor,
    decay_steps=steps(config.schedule.decay_every, 'schedule.decay_every'),
    final_fraction=config.schedule.final_fraction,
  )
  tx = optimizer.create(
    config.optimizer.name,
    schedule,
    momentum=config.optimizer.momentum,
    weight_decay=config.optimizer.weight_decay,
    mask=config.optimizer.decay_mask,
    rms_decay=config.optimizer.rms_decay,
    epsilon=config.optimizer.epsilon,
    clip_norm=config.optimizer.clip_norm,
    group_rates=config.optimizer.group_rates,
    freeze=config.freeze,
  )
  if config.objective.name not in OBJECTIVES:
    near = errors.near_names(config.objective.name, OBJECTIVES)
    raise errors.UserError(
      f'unknown config.objective.name {config.objective.name!r}: {near}'
    )
  create = functools.partial(state.create, optimizer=tx)
  to_input = functools.partial(normalize.normalize, spec=model.spec)
  train_step = functools.partial(
    step.train_step,
    objective=OBJECTIVES[config.objective.name](
      model.apply, to_input, config.objective.label_smoothing
    ),
    optimizer=tx,
    ema_limit=config.ema,
    accumulate=config.accumulate,
    axis_name=parallel.AXIS,
  )
  return Program(
    model=model,
    total_steps=total_steps,
    schedule=schedule,
    # One program: a small one for each shape takes 350 MiB on CPU.
    init=lambda: jax.jit(create)(initial.variables(config, model)),
    abstract_state=lambda: jax.eval_shape(create, efficientnet.shapes(model)),
    train_step=parallel.pmap_train(train_step, devices),
    eval_step=parallel.pmap_eval(
      accuracy.eval_step(model.apply, to_input), devices
    ),
    steps=whole_steps,
    devices=devices,
  )


def describe(config: ConfigDict, program: Program, first: int) -> str:
  """Returns what is about to run, for people; `first` steps are done."""
  data, devices = config.data, program.devices
  counts = macs.count(program.model.spec)
  start = f'resumed after step {first}' if first else 'from the start'
  return (
    f'{config.model.name} at {program.model.spec.resolution} pixels, '
    f'{config.model.dtype}: {counts.params:,} parameters, {counts.macs:,} MACs '
    f'an image, on {len(devices)} x {devices[0].device_kind}\n'
    f'{data.name or data.source}: {data.train_examples:,} training images, '
    f'{data.num_classes} classes\n'
    f'{program.total_steps:,} steps of {config.batch_size} images, {start}'
  )
