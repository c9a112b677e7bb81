"""Fine-tuning a folder of real photos' pieces: frozen, and stopped early."""

import functools
import json
import os
import shutil
import signal

import cv2
import jax
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from configs import finetune
from effnet_jax import errors, pretrained
from effnet_jax.models import efficientnet, variants
from effnet_jax.training import inputs, loop, parallel, program, reporting
from effnet_jax.weights import native

TINY = {
  'stages': 'r1_k3_s1_e1_o8_se r2_k3_s2_e2_o16_se',
  'depth': 1.0,
  'resolution': 8,
  'head_filters': 32,
}


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Two classes, 24 pieces of a photo each."""
  folder = tmp_path_factory.mktemp('photos')
  for name in ('china', 'flower'):
    image = load_sample_image(f'{name}.jpg')
    (folder / name).mkdir()
    for i in range(24):
      piece = image[50 * (i // 6) :, 100 * (i % 6) :][:16, :16, ::-1]
      cv2.imwrite(str(folder / name / f'{i}.png'), piece)
  return folder


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Weights of a network of 5 classes, their statistics not the initial."""
  folder = tmp_path_factory.mktemp('weights')
  spec = variants.get_spec('micro', num_classes=5, **TINY)
  variables = efficientnet.init(efficientnet.build(spec), seed=5)
  rng = np.random.default_rng(0)
  variables['batch_stats'] = jax.tree.map(
    lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32),
    variables['batch_stats'],
  )
  native.write(folder, spec, variables)
  return folder


@pytest.fixture
def config(photos, saved):
  """Learns too slowly for an image to change sides: stops at evaluation 3."""
  config = finetune.get_config()
  config.duration = '20 steps'
  config.batch_size = 8
  config.init_from = str(saved)
  config.init_head = 'new'  # of a head of zeros the first gradients are 0
  config.early_stop = 2
  config.freeze = 'stem|blocks_0|head_bn/bias'
  config.model.name = 'micro'
  config.model.frozen_bn = True
  config.model.overrides.update(TINY)
  config.data.path = str(photos)
  config.optimizer.name = 'rmsprop'
  config.optimizer.weight_decay = 0.01
  config.schedule.warmup = '0 steps'
  config.schedule.learning_rate = 1e-4
  config.evaluation.every = '2 steps'
  config.evaluation.batch_size = 8
  config.checkpoint.every = '3 steps'
  config.log.every = '2 steps'
  return config


def _run(config, workdir):
  return loop.train_and_evaluate(config, workdir, jax.devices()[:1])


def _without_times(history):
  times = ('images_per_second', 'input_wait')
  return [{k: v for k, v in e.items() if k not in times} for e in history]


def _assert_equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get((left, right)))


def _summary(workdir):
  summary = json.loads((workdir / 'summary.json').read_text())
  return {k: v for k, v in summary.items() if k not in ('seconds', 'config')}


def test_a_run_that_stops_early(config, tmp_path, capsys, monkeypatch):
  workdir = tmp_path / 'finished'
  state, history = _run(config, workdir)
  said = capsys.readouterr().out
  assert 'of 48 images, held out class by class: 32 for train, 8 for v' in said
  assert 'step      6  stopped early: the last 2 evaluations' in said
  scores = {e['step']: e['eval_top1_ema'] for e in history if 'eval_top1' in e}
  assert list(scores) == [2, 4, 6] and len(set(scores.values())) == 1
  summary = _summary(workdir)
  assert (summary['stopped_early'], summary['examples']) == (6, 6 * 8)
  assert summary['step'] == int(state.step) in scores
  assert summary['test_examples'] == 8

  # Called again it says so, and raises no finger.
  before = (workdir / 'summary.json').stat().st_mtime_ns
  again, _ = _run(config, workdir)
  said = capsys.readouterr().out
  assert 'This run is finished, stopped early at step 6' in said
  assert (workdir / 'summary.json').stat().st_mtime_ns == before
  _assert_equal(again, state)

  # Cut off after the last evaluation: only the report is left to do.
  (workdir / 'summary.json').unlink()
  again, _ = _run(config, workdir)
  assert 'compiling' not in capsys.readouterr().out
  assert _summary(workdir) == summary
  _assert_equal(again, state)

  _check_frozen(config, state)
  straight = workdir, state, history
  _check_resumed(config, straight, tmp_path / 'resumed', monkeypatch)


def _check_frozen(config, state):
  """What the patterns name and all statistics are those of the file."""
  weights = pretrained.read(config.init_from, 'micro')
  before = weights.variables
  for stats in (state.batch_stats, state.ema_batch_stats):
    _assert_equal(dict(stats), before['batch_stats'])
  for params in (state.params, state.ema_params):
    for module, leaves in jax.device_get(params).items():
      if module in ('stem_conv', 'stem_bn', 'blocks_0'):
        _assert_equal(leaves, before['params'][module])
      elif module == 'head_bn':
        _assert_equal(leaves['bias'], before['params'][module]['bias'])
      elif module.startswith('blocks'):
        _assert_kernels_differ(leaves, before['params'][module])


def _assert_kernels_differ(leaves, before):
  # Not all: a scale of 1 may be too large for a tiny step to change.
  for path, leaf in jax.tree_util.tree_leaves_with_path(leaves):
    if path[-1].key == 'kernel':
      old = functools.reduce(lambda tree, k: tree[k.key], path, before)
      assert not np.array_equal(leaf, old), path


def _check_resumed(config, straight, workdir, monkeypatch):
  """Interrupted at step 3, it stops where the straight run did."""
  finished, state, history = straight
  calls, shard = [], parallel.shard

  def sharding(batch, devices):
    if 'mask' not in batch:
      calls.append(None)
      if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
    return shard(batch, devices)

  with monkeypatch.context() as patch:
    patch.setattr(parallel, 'shard', sharding)
    with pytest.raises(loop.Interrupted):
      _run(config, workdir)
  resumed, resumed_history = _run(config, workdir)
  _assert_equal(resumed, state)
  assert _without_times(resumed_history) == _without_times(history)
  assert _summary(workdir) == _summary(finished)
  # More patience: it goes on from where it stopped.
  shutil.rmtree(workdir / 'tensorboard')
  config.early_stop = 3
  _, longer = _run(config, workdir)
  assert [e['step'] for e in longer if 'eval_top1' in e] == [2, 4, 6, 8]
  assert _without_times(longer)[: len(history)] == _without_times(history)
  assert reporting.finished_step(workdir) is not None


@pytest.mark.parametrize(
  ('changes', 'text'),
  [
    ({'evaluation.report': 'last'}, "report='last' must be best where"),
    ({'early_stop': -1}, 'config.early_stop=-1 must be 0 or more'),
  ],
)
def test_what_early_stopping_rules_out(config, changes, text):
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=text):
    program.check_values(config)


@pytest.mark.parametrize(
  'changes',
  [{'data.test_split': 'test'}, {'data.source': 'digits'}],
)
def test_auto_is_for_all_splits_of_a_folder(config, changes):
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match='=auto is for a folder, and'):
    inputs.Data(config)


def test_best_must_not_be_chosen_on_what_is_reported(config):
  config.data.train_split = 'train'
  config.data.eval_split = config.data.test_split = 'test'
  with pytest.raises(errors.UserError, match='split that is reported'):
    inputs.Data(config)
