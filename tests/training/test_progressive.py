"""A run in two stages, on real digits: compiled once each, resumed exactly."""

import os
import signal

import jax
import numpy as np
import pytest

from configs import quickstart
from effnet_jax.errors import UserError
from effnet_jax.training import inputs, loop, parallel, program, stages, step

BORDER, LAST = 3, 6


def _config(**overrides):
  """Sizes 6, then 8; all that is random is on, in the second stage alone."""
  config = quickstart.get_config()
  config.duration = f'{LAST} steps'
  config.batch_size = 16
  config.model.overrides.stages = 'r1_k3_s1_e1_o8 r1_k3_s1_e1_o8'
  config.model.overrides.resolution = 8
  config.model.overrides.head_filters = 16
  config.model.overrides.dropout_rate = 0.3
  config.objective.mixup = 0.2
  config.objective.cutmix = 1.0
  config.stages.count = 2
  config.stages.min_resolution = 4
  config.evaluation.every = '6 steps'
  config.evaluation.batch_size = 300
  config.checkpoint.every = '6 steps'
  config.log.every = '2 steps'
  config.update_from_flattened_dict(overrides)
  return config


@pytest.fixture
def seen(monkeypatch):
  """The sizes that are compiled, and the (step, size) that run."""
  record = {'compiled': [], 'run': []}
  train_step, shard = step.train_step, parallel.shard

  def tracing(state, batch, key, **arguments):
    record['compiled'].append(batch['image'].shape[-2])
    return train_step(state, batch, key, **arguments)

  def sharding(batch, devices):
    if 'mask' not in batch:  # not an evaluation's
      record['run'].append(batch['image'].shape[-2])
      if len(record['run']) == record.get('stop_at'):
        os.kill(os.getpid(), signal.SIGTERM)
    return shard(batch, devices)

  monkeypatch.setattr(step, 'train_step', tracing)
  monkeypatch.setattr(parallel, 'shard', sharding)
  return record


def _run(workdir):
  return loop.train_and_evaluate(_config(), workdir, jax.devices()[:1])


def _without_times(history):
  times = ('images_per_second', 'input_wait')
  return [{k: v for k, v in e.items() if k not in times} for e in history]


def test_two_stages_and_a_resumption_across_the_border(seen, tmp_path, capsys):
  state, history = _run(tmp_path / 'straight')
  assert seen['run'] == [6] * BORDER + [8] * (LAST - BORDER)
  assert seen['compiled'] == [6, 8]  # once each
  output = capsys.readouterr().out
  lines = [line for line in output.splitlines() if line.startswith('stage')]
  assert lines == [
    'stage 1 of 2: 6 pixels, mixup 0, cutmix 0, dropout 0.3',
    'stage 2 of 2: 8 pixels, mixup 0.2, cutmix 1, dropout 0.3',
  ]
  # The second line spans the border: steps 3 and 4.
  assert [e['step'] for e in history if 'images_per_second' in e] == [2, 4, 6]

  # Within the first stage, at the border, within the second.
  for stop_at in (2, BORDER, 4):
    seen.update(run=[], compiled=[], stop_at=stop_at)
    workdir = tmp_path / f'stopped_at_{stop_at}'
    with pytest.raises(loop.Interrupted, match=f'Saved step {stop_at} '):
      _run(workdir)
    seen.pop('stop_at')
    resumed, resumed_history = _run(workdir)
    assert seen['run'] == [6] * BORDER + [8] * (LAST - BORDER)
    assert _without_times(resumed_history) == _without_times(history)
    jax.tree.map(
      np.testing.assert_array_equal, *jax.device_get((resumed, state))
    )


def test_the_stream_goes_on_at_the_border():
  data = inputs.Data(_config())
  small, large = program.build(data.config, jax.devices()[:1]).stages
  batches = data.train_batches(None, small)
  next(batches)
  state = batches.get_state()
  of_small = next(batches)
  batches.close()
  batches = data.train_batches(state, large)
  of_large = next(batches)
  batches.close()
  assert of_small['image'].shape == (16, 6, 6, 3)
  assert of_large['image'].shape == (16, 8, 8, 3)
  np.testing.assert_array_equal(of_small['label'], of_large['label'])


def test_the_step_of_a_program_is_the_last_stages():
  config = inputs.Data(_config(**{'stages.ladder': 'paper'})).config
  built = program.build(config, jax.devices()[:1])
  assert built.train_step is built.train_steps[-1]
  assert len(built.train_steps) == 2
  assert built.stages == (
    stages.Stage(0, 4, None, 0.0, 0.0, 0.1),
    stages.Stage(BORDER, 8, None, 0.2, 1.0, 0.3),
  )
  with pytest.raises(UserError, match='min_resolution=128 must be in'):
    config.stages.min_resolution = 128
    program.build(config, jax.devices()[:1])
