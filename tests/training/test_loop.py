"""The whole run, on real digits with a network of two small stages."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

import effnet_jax
from configs import quickstart
from effnet_jax import errors, pretrained
from effnet_jax.training import inputs, loop, parallel


def tiny_config(**overrides):
  """A run of a few seconds; all that is random is on."""
  config = quickstart.get_config()
  config.duration = '6 steps'
  config.batch_size = 16
  config.model.overrides.stages = 'r1_k3_s1_e1_o8_se r2_k3_s2_e2_o16_se'
  config.model.overrides.depth = 1.0  # the third block has a residual sum
  config.model.overrides.resolution = 8
  config.model.overrides.head_filters = 32
  config.evaluation.every = '3 steps'
  config.evaluation.batch_size = 128
  config.checkpoint.every = '3 steps'
  config.log.every = '2 steps'
  config.update_from_flattened_dict(overrides)
  return config


def run(config, workdir, num_devices=1):
  return loop.train_and_evaluate(config, workdir, jax.devices()[:num_devices])


def without_times(history):
  return [
    {
      name: value
      for name, value in entry.items()
      if name not in ('images_per_second', 'input_wait')
    }
    for entry in history
  ]


def assert_equal_trees(left, right):
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get((left, right)))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """An uninterrupted run of 6 steps."""
  workdir = tmp_path_factory.mktemp('finished')
  blocks = pretrained.spec_of_run(inputs.Data(tiny_config()).config).blocks()
  assert any(b.residual and b.survival_probability < 1 for b in blocks)
  state, history = run(tiny_config(), workdir)
  return workdir, state, history


def interrupt_at(monkeypatch, step):
  """Sends a real SIGTERM while step `step` is under way."""
  calls = []
  shard = parallel.shard

  def sharding(batch, devices):
    if 'mask' not in batch:
      calls.append(None)
      if len(calls) == step:
        os.kill(os.getpid(), signal.SIGTERM)
    return shard(batch, devices)

  monkeypatch.setattr(parallel, 'shard', sharding)


@pytest.mark.parametrize('stop_at', [1, 3, 4])
def test_resumed_run_equals_uninterrupted(
  finished, tmp_path, monkeypatch, stop_at
):
  _, state, history = finished
  with monkeypatch.context() as patch:
    interrupt_at(patch, stop_at)
    with pytest.raises(loop.Interrupted, match=f'Saved step {stop_at} ') as e:
      run(tiny_config(), tmp_path)
  assert e.value.signal == signal.SIGTERM
  assert not (tmp_path / 'summary.json').exists()

  resumed, resumed_history = run(tiny_config(), tmp_path)
  # Parameters, statistics, their averages and the optimiser's, bit for bit;
  # equal losses at every line mean equal data, augmentation and dropout.
  assert_equal_trees(resumed, state)
  assert without_times(resumed_history) == without_times(history)


def test_what_a_run_leaves(finished):
  workdir, state, history = finished
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['step'] == int(state.step) == 6
  assert summary['examples'] == 6 * 16
  assert summary['test_examples'] == 300
  assert summary['params'] == sum(
    leaf.size for leaf in jax.tree.leaves(state.params)
  )
  assert 0 <= summary['test_top1'] <= 1 and 0 <= summary['test_top1_ema'] <= 1
  assert summary['config']['data']['train_examples'] == 1497
  assert summary['versions']['jax'] == jax.__version__
  assert {'seconds', 'macs', 'seed', 'git_commit', 'device'} <= set(summary)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == history
  assert [e['step'] for e in history if 'loss' in e] == [2, 4, 6]
  assert [e['step'] for e in history if 'eval_top1' in e] == [3, 6]
  assert (workdir / 'curves.png').read_bytes().startswith(b'\x89PNG')
  assert list((workdir / 'tensorboard').glob('*tfevents*'))
  assert {int(p.name) for p in (workdir / 'checkpoints').glob('[0-9]*')} == {
    3,
    6,
  }


def test_finished_run_does_not_start_over(finished, capsys):
  workdir, state, _ = finished
  before = (workdir / 'summary.json').stat().st_mtime_ns
  again, _ = run(tiny_config(), workdir)
  assert 'This run is finished' in capsys.readouterr().out
  assert (workdir / 'summary.json').stat().st_mtime_ns == before
  assert_equal_trees(again, state)


def test_longer_duration_goes_on(tmp_path, monkeypatch):
  config = tiny_config(**{'schedule.decay': 'constant'})
  run(config, tmp_path)
  assert (tmp_path / 'summary.json').exists()
  config.duration = '8 steps'
  with monkeypatch.context() as patch:
    interrupt_at(patch, 1)
    with pytest.raises(loop.Interrupted):
      run(config, tmp_path)
  assert not (tmp_path / 'summary.json').exists()  # it was of the shorter run
  state, history = run(config, tmp_path)
  assert int(state.step) == 8
  assert [e['step'] for e in history if 'loss' in e] == [2, 4, 6, 8]


@pytest.mark.parametrize('ema', [False, True])
def test_load_gives_the_trained_network(finished, ema):
  workdir, state, _ = finished
  model, variables = effnet_jax.load(workdir, ema=ema)
  assert_equal_trees(variables, state.variables(ema))
  images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
  logits, _ = model.apply(variables, images.astype('float32'))
  assert logits.shape == (2, 10) and np.isfinite(logits).all()


def test_a_run_is_a_source_of_weights(finished, tmp_path):
  """Of `create_model`, of `convert`, and of another run."""
  workdir, state, _ = finished
  trained = state.variables(ema=True)
  weights = pretrained.read(workdir)
  assert weights.class_names == tuple('0123456789')
  # Its images as the run has made them, not as the variant does.
  spec = weights.spec
  assert (spec.resampling, spec.crop_padding) == ('pillow', 0)
  assert (spec.resolution, spec.mean) == (8, (0.5, 0.5, 0.5))
  model, variables = effnet_jax.create_model('micro', pretrained=workdir)
  assert_equal_trees(variables, trained)
  assert model.spec.num_classes == 10
  with pytest.raises(errors.UserError, match='holds micro, not b0'):
    effnet_jax.create_model('b0', pretrained=workdir)
  # One step of a rate of zero changes the moving averages only.
  config = tiny_config(
    **{
      'init_from': str(workdir),
      'duration': '1 step',
      'schedule.learning_rate': 0.0,
      'optimizer.weight_decay': 0.0,
    }
  )
  second, _ = run(config, tmp_path)
  assert_equal_trees(second.params, trained['params'])
  # After its first step the average is new by 1 - 2/11 at most: still these.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    *jax.device_get((second.ema_params, trained['params'])),
  )


def test_shorter_duration_is_refused(finished):
  workdir, *_ = finished
  with pytest.raises(errors.UserError, match='is 5 steps, but .* has 6 behind'):
    run(tiny_config(duration='5 steps'), workdir)


@pytest.mark.parametrize('item', ['state', 'run', 'metrics'])
def test_broken_checkpoint_is_named(finished, tmp_path, item):
  workdir, *_ = finished
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  # As an earlier version saved it; with digests: tests/faults/test_damage.py.
  (copy / 'checkpoints' / '6' / 'digests.json').unlink()
  for file in (copy / 'checkpoints' / '6' / item).rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  with pytest.raises(errors.UserError, match='read .*one before') as error:
    run(tiny_config(), copy)
  assert str(copy / 'checkpoints') in str(error.value)
  assert item == 'metrics' or 'checkpoint 6 in' in str(error.value)
  assert '\n' not in str(error.value)


def test_load_without_a_run(tmp_path):
  with pytest.raises(errors.UserError, match='a directory without weights'):
    effnet_jax.load(tmp_path)


def test_non_finite_loss_stops_and_keeps_the_last_good(tmp_path):
  # The rate is sane while warm-up holds it down, then it is not.
  config = tiny_config(
    **{
      'duration': '40 steps',
      'schedule.learning_rate': 1e25,
      'schedule.decay': 'constant',
      'schedule.warmup': '1 step',
      'checkpoint.every': '1 step',
      'log.every': '1 step',
    }
  )
  with pytest.raises(
    errors.UserError, match=r'^step \d+: the (loss|gradient|update)'
  ):
    run(config, tmp_path)
  _, variables = effnet_jax.load(tmp_path)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def test_best_checkpoint_is_reported(tmp_path, monkeypatch):
  # Held-out top-1 by step: the third step is best, the fifth is last.
  scores = {1: 0.1, 2: 0.2, 3: 0.9, 4: 0.3, 5: 0.4}
  from effnet_jax.evaluation import accuracy

  evaluate = accuracy.evaluate

  def scored(step, weights, batches):
    results = evaluate(step, weights, batches)
    if results['examples'] == 100:  # the held-out split
      results['top1_ema'] = scores[len(seen) + 1]
      seen.append(None)
    return results

  seen = []
  monkeypatch.setattr(accuracy, 'evaluate', scored)
  config = tiny_config(
    **{
      'duration': '5 steps',
      'data.train_split': 'train[100:]',
      'data.eval_split': 'train[:100]',
      'evaluation.every': '1 step',
      'evaluation.report': 'best',
      'checkpoint.every': '5 steps',
      'checkpoint.keep': 1,
    }
  )
  state, _ = run(config, tmp_path)
  assert int(state.step) == 3
  assert json.loads((tmp_path / 'summary.json').read_text())['step'] == 3
  kept = {int(p.name) for p in (tmp_path / 'checkpoints').glob('[0-9]*')}
  assert kept == {3, 5}
  _, variables = effnet_jax.load(tmp_path)
  assert_equal_trees(variables, state.variables(ema=True))


def test_choosing_on_the_test_split_is_refused(tmp_path):
  config = tiny_config(**{'evaluation.report': 'best'})
  with pytest.raises(errors.UserError, match="split that is reported, 'test'"):
    run(config, tmp_path)


def test_another_config_does_not_resume(finished):
  workdir, *_ = finished
  config = tiny_config(
    **{'model.overrides.se_ratio': 0.5, 'optimizer.momentum': 0.8}
  )
  with pytest.raises(errors.UserError) as error:
    run(config, workdir)
  message = str(error.value)
  assert 'model.overrides.se_ratio (None before, 0.5 now)' in message
  assert 'optimizer.momentum (0.9 before, 0.8 now)' in message
  assert '\n' not in message


def test_wrong_sizes_of_the_data_set_are_named():
  config = tiny_config(**{'data.train_examples': 5})
  with pytest.raises(errors.UserError, match='train_examples=5.*1497'):
    inputs.Data(config)


def test_two_devices_train_and_resume_on_one(tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    interrupt_at(patch, 3)
    with pytest.raises(loop.Interrupted):
      run(tiny_config(), tmp_path, num_devices=2)
  state, history = run(tiny_config(), tmp_path, num_devices=1)
  assert int(state.step) == 6
  assert [e['step'] for e in history if 'loss' in e] == [2, 4, 6]
