"""The story of a run, in order: config and data in, checkpoints out."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from effnet_jax import errors
from effnet_jax.evaluation import accuracy
from effnet_jax.models import macs
from effnet_jax.training import (
  agreement,
  damage,
  early_stopping,
  lock,
  metrics,
  parallel,
  reporting,
  resume,
  stages,
)
from effnet_jax.training.checkpoint import Checkpoints, open_workdir
from effnet_jax.training.guards import Interrupted, Interruption
from effnet_jax.training.inputs import Data
from effnet_jax.training.program import Program, build, describe
from effnet_jax.training.state import TrainState


def train_and_evaluate(
  config: ConfigDict,
  workdir: epath.PathLike,
  devices: Sequence[jax.Device] | None = None,
) -> tuple[TrainState, reporting.History]:
  """Trains what the config says, going on from what the work directory holds.

  Args:
    config: complete, see configs/base.py.
    workdir: where checkpoints, metrics.jsonl, summary.json, TensorBoard events
      and curves.png go; local or a bucket.
    devices: to train on; all there are if None.

  Returns:
    The state that was reported and the metric history. A run that was finished
    before is not trained again.

  Raises:
    UserError: anything wrong with config, data or work directory.
    Interrupted: SIGINT or SIGTERM, after saving.
  """
  workdir = open_workdir(workdir)
  data = agreement.open_data(config, workdir)
  program = build(data.config, devices)
  with lock.held(workdir) as unlocked:
    said = [unlocked, *damage.set_aside(workdir), data.said]
    return _go_on(data, program, workdir, filter(None, said))


def _go_on(
  data: Data, program: Program, workdir: epath.Path, said: Iterable[str]
) -> tuple[TrainState, reporting.History]:
  config = data.config
  with Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
    first = checkpoints.latest() or 0
    if first > program.total_steps:
      raise errors.UserError(
        f'config.duration={config.duration!r} is {program.total_steps} steps, '
        f'but {workdir} has {first} behind it'
      )
    if first:
      run = checkpoints.run(first)
      resume.check_resumable(config, run['config'])
      state = restore(checkpoints, first, program)
    else:
      run = {'history': [], 'seconds': 0.0, 'window': {}, 'data': None}
      state = parallel.replicate(program.init(), program.devices)
    with reporting.Reporter(
      workdir, run['history'], first, parallel.process_index() == 0
    ) as report:
      report.say(describe(config, program, first))
      for line in said:
        report.say(line)
      finished = reporting.finished_step(workdir)
      stopped = early_stopping.stopped_at(run['history'], config.early_stop)
      ended = stopped is not None or first == program.total_steps
      if ended and finished is not None:
        early = f', stopped early at step {first}' if stopped else ''
        report.say(f'This run is finished{early}; nothing to do.')
        state = restore(checkpoints, finished, program)
      else:
        report.begin()
        evaluate = evaluator(program, data, report)
        state, seconds = train(
          config, program, data, state, run, evaluate, checkpoints, report
        )
        state = report_test(
          config, program, state, seconds, evaluate, checkpoints, report
        )
      report.conclude()
  return state, report.history


def report_test(
  config: ConfigDict,
  program: Program,
  state: TrainState,
  seconds: float,
  evaluate: Callable[[TrainState, str], dict[str, float]],
  checkpoints: Checkpoints,
  report: reporting.Reporter,
) -> TrainState:
  """Evaluates the test split, once; returns the state it was done with."""
  step = trained = int(jax.device_get(state.step))
  if config.evaluation.report == 'best':
    step = checkpoints.best() or step
    state = restore(checkpoints, step, program)
  test = evaluate(state, 'test')
  counts = macs.count(program.model.spec)
  summary = {
    **{f'test_{name}': value for name, value in test.items()},
    'step': step,
    'stopped_early': trained if trained < program.total_steps else None,
    'examples': trained * config.batch_size,
    'seconds': round(seconds, 1),
    'params': counts.params,
    'macs': counts.macs,
    'seed': config.seed,
    'config': config.to_dict(),
    **reporting.environment(program.devices),
  }
  dataset = config.data.name or config.data.source
  report.finish(summary, f'{config.model.name} on {dataset}')
  return state


def train(
  config: ConfigDict,
  program: Program,
  data: Data,
  state: TrainState,
  run: dict[str, Any],
  evaluate: Callable[[TrainState, str], dict[str, float]],
  checkpoints: Checkpoints,
  report: reporting.Reporter,
) -> tuple[TrainState, float]:
  """Runs the steps that are left; returns the state and the seconds spent."""
  first, last = int(jax.device_get(state.step)), program.total_steps
  stopped = early_stopping.stopped_at(run['history'], config.early_stop)
  if stopped is not None:  # before its test split was evaluated
    return state, run['seconds']
  log_every = program.steps(config.log.every, 'log.every')
  eval_every = program.steps(config.evaluation.every, 'evaluation.every')
  save_every = program.steps(config.checkpoint.every, 'checkpoint.every')
  due = lambda number, every: number % every == 0 or number == last
  epoch = lambda n: n * config.batch_size / config.data.train_examples
  key = jax.random.key(config.seed)
  data_state = run['data']
  window = metrics.Window(run['window'], first)
  timer = reporting.Timer(run['seconds'], first, config.batch_size)

  with contextlib.ExitStack() as opened, Interruption() as interruption:
    for number in range(first + 1, last + 1):
      index = stages.index_at(program.stages, number - 1)
      stage = program.stages[index]
      begins = number in (first + 1, stage.first_step + 1)
      if begins:  # the data go on where they are, at the stage's size
        if number > first + 1:
          timer.before_compiling(state)
        opened.close()
        batches = data.train_batches(data_state, stage)
        opened.enter_context(contextlib.closing(batches))
        if len(program.stages) > 1:
          report.say(stages.describe(program.stages, index))
        report.say('compiling the training step ...')
      with timer.waiting(window.latest_is_done):
        batch = next(batches)
      data_state = batches.get_state()
      batch = parallel.shard(batch, program.devices)
      state, step_metrics = program.train_steps[index](state, batch, key)
      window.append(step_metrics)
      if begins:
        report.say(timer.compiled(step_metrics, number))

      if due(number, log_every):  # waits for the steps since the last line
        entry = {
          'step': number,
          'epoch': epoch(number),
          **window.drain(),
          'learning_rate': float(program.schedule(number - 1)),
          **timer.read(number),
        }
        report.add(entry)
        report.say(
          reporting.progress_line(entry, last, timer.left(number, last))
        )
      evaluated = None
      if due(number, eval_every):
        with timer.paused():
          evaluated = evaluate(state, 'eval')
        entry = {f'eval_{name}': value for name, value in evaluated.items()}
        report.add({'step': number, 'epoch': epoch(number), **entry})
        report.say(reporting.evaluation_line(number, evaluated))
        stopped = early_stopping.stopped_at(report.history, config.early_stop)

      stop = parallel.any_process(interruption.caught, due(number, log_every))
      chosen_from = evaluated and config.evaluation.report == 'best'
      if due(number, save_every) or chosen_from or stop:
        window.read()  # a state that is not finite is never saved
        checkpoints.save(
          number,
          parallel.to_global(state, program.devices),
          {
            'config': config.to_dict(),
            'class_names': data.class_names(),
            'data': data_state,
            'history': list(report.history),  # written later
            'seconds': timer.seconds(),
            'window': window.sums,
          },
          evaluated and evaluated['top1_ema'],
        )
      if stopped is not None and number < last:
        report.say(reporting.stopped_line(number, config.early_stop))
        break
      if stop and number < last:
        checkpoints.wait()
        raise Interrupted(
          f'Saved step {number} in {checkpoints.directory}. The same command '
          'goes on from there.',
          interruption.signal,
        )
  checkpoints.wait()
  return state, timer.seconds()


def evaluator(
  program: Program, data: Data, report: reporting.Reporter
) -> Callable[[TrainState, str], dict[str, float]]:
  """Returns (state, `eval` or `test`) -> metrics of raw and EMA weights."""

  def evaluate(state, split):
    weights = {'': state.variables(), '_ema': state.variables(ema=True)}
    batches = data.eval_batches(split)
    placed = (
      parallel.shard(batch, program.devices)
      for batch in report.progress(batches, 'evaluating')
    )
    return accuracy.evaluate(program.eval_step, weights, placed)

  return evaluate


def restore(
  checkpoints: Checkpoints, step: int, program: Program
) -> TrainState:
  """Returns the state of a step, placed on the program's devices."""
  return checkpoints.state(
    step,
    program.abstract_state(),
    parallel.global_sharding(program.devices),
  )
