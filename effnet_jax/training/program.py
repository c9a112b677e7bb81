"""From a config to what runs: network, optimiser, schedule, mapped steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from effnet_jax import errors, pretrained
from effnet_jax.evaluation import accuracy
from effnet_jax.models import auxiliary, efficientnet, macs, normalize
from effnet_jax.training import (
  attack,
  initial,
  mixing,
  optimizer,
  parallel,
  schedules,
  stages,
  state,
  step,
)
from effnet_jax.training.objectives import advprop, noisy_student, supervised

OBJECTIVES = {
  'advprop': advprop.advprop,
  'noisy_student': noisy_student.noisy_student,
  'supervised': supervised.supervised,
}


@dataclasses.dataclass(frozen=True)
class Program:
  """A run's network and compiled functions, built from shapes alone.

  Attributes:
    model: the network.
    total_steps: length of training.
    schedule: learning rate as a function of the step.
    init: () -> the state before the first step, not placed on devices.
    abstract_state: () -> its shapes and dtypes.
    stages: of training: one, unless it is progressive.
    train_steps: of each stage (state, batch, key) -> (state, metrics), mapped
      over devices; compiled when first called.
    eval_step: (variables, batch) -> metrics, mapped over devices.
    steps: converts a duration of the config to steps.
    devices: over all processes.
  """

  model: efficientnet.EfficientNet
  total_steps: int
  schedule: schedules.Schedule
  init: Callable[[], state.TrainState]
  abstract_state: Callable[[], state.TrainState]
  stages: tuple[stages.Stage, ...]
  train_steps: tuple[Callable[..., Any], ...]
  eval_step: Callable[..., Any]
  steps: Callable[[str, str], int]
  devices: Sequence[jax.Device]

  @property
  def train_step(self) -> Callable[..., Any]:
    """The step of the last stage, which has the largest images."""
    return self.train_steps[-1]


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
      'data.unlabelled_ratio',
      config.data.unlabelled_ratio,
      config.data.unlabelled_ratio >= 1,
      '1 or more',
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


def plan_stages(
  config: ConfigDict, total_steps: int
) -> tuple[stages.Stage, ...]:
  """Returns the stages of a run; without progressive learning it is one."""
  spec, data = pretrained.spec_of_run(config), config.data
  return stages.plan(
    config.stages.ladder,
    config.stages.count,
    total_steps,
    last=stages.Stage(
      first_step=0,
      resolution=spec.train_resolution or spec.resolution,
      magnitude=data.augment_magnitude
      if data.augment == 'randaugment'
      else None,
      mixup=config.objective.mixup,
      cutmix=config.objective.cutmix,
      dropout=spec.dropout_rate,
    ),
    min_resolution=config.stages.min_resolution,
    min_magnitude=config.stages.min_magnitude,
    min_dropout=config.stages.min_dropout,
  )


def attack_of(config: ConfigDict) -> attack.Attack:
  """Returns the attack of AdvProp's objective."""
  objective = config.objective
  return attack.Attack(
    objective.attack_epsilon,
    objective.attack_steps,
    objective.attack_step_size,
  )


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
    power=config.schedule.power,
    end_rate=config.schedule.end_rate,
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
    trust_coefficient=config.optimizer.trust_coefficient,
    group_rates=config.optimizer.group_rates,
    freeze=config.freeze,
  )
  if config.objective.name not in OBJECTIVES:
    near = errors.near_names(config.objective.name, OBJECTIVES)
    raise errors.UserError(
      f'unknown config.objective.name {config.objective.name!r}: {near}'
    )
  objective = functools.partial(
    OBJECTIVES[config.objective.name],
    label_smoothing=config.objective.label_smoothing,
  )
  # What the state holds beside the network's variables.
  complete = lambda variables: variables
  if config.objective.name == 'advprop':
    objective = functools.partial(objective, attack=attack_of(config))
    complete = auxiliary.add
  create = lambda variables: state.create(complete(variables), optimizer=tx)
  to_input = functools.partial(normalize.normalize, spec=model.spec)

  def train_step(stage):
    spec = dataclasses.replace(model.spec, dropout_rate=stage.dropout)
    return functools.partial(
      step.train_step,
      objective=mixing.objective(
        objective(model.clone(spec=spec).apply, to_input),
        num_classes=spec.num_classes,
        mixup_alpha=stage.mixup,
        cutmix_alpha=stage.cutmix,
      ),
      optimizer=tx,
      ema_limit=config.ema,
      accumulate=config.accumulate,
      axis_name=parallel.AXIS,
    )

  run_stages = plan_stages(config, total_steps)
  return Program(
    model=model,
    total_steps=total_steps,
    schedule=schedule,
    # One program: a small one for each shape takes 350 MiB on CPU.
    init=lambda: jax.jit(create)(initial.variables(config, model)),
    abstract_state=lambda: jax.eval_shape(create, efficientnet.shapes(model)),
    stages=run_stages,
    train_steps=tuple(
      parallel.pmap_train(train_step(stage), devices) for stage in run_stages
    ),
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
  student = f', {data.unlabelled_ratio} of {data.unlabelled} with each'
  return (
    f'{config.model.name} at {program.model.spec.resolution} pixels, '
    f'{config.model.dtype}: {counts.params:,} parameters, {counts.macs:,} MACs '
    f'an image, on {len(devices)} x {devices[0].device_kind}\n'
    f'{data.name or data.source}: {data.train_examples:,} training images, '
    f'{data.num_classes} classes{student * bool(data.unlabelled)}\n'
    f'{program.total_steps:,} steps of {config.batch_size} images, {start}'
  )
