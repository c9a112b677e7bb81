"""Noisy Student's loss by hand, and a student's whole run."""

import functools
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from effnet_jax import errors, pretrained
from effnet_jax.analysis import compile_check
from effnet_jax.labelling import teacher
from effnet_jax.models import efficientnet, normalize, spec
from effnet_jax.training import inputs, loop, parallel, program
from effnet_jax.training.objectives import noisy_student, supervised
from effnet_jax.weights import load

LOGITS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32) * 3
LABELS = np.array([0, 1])
SOFT = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype(np.float32)


def _losses(logits, targets):
  """Cross-entropy of every example, in float64."""
  logits = logits.astype(np.float64)
  log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return -(targets * log_probabilities).sum(-1)


def _smooth(labels, share):
  return (1 - share) * np.eye(4)[labels] + share / 4


@pytest.mark.parametrize('hard', [False, True])
def test_the_loss_by_hand(hard):
  seen = []

  def apply(variables, images, **arguments):
    seen.append((images, arguments))
    return (jnp.asarray(LOGITS), {}), {'batch_stats': {'mean': jnp.ones(1)}}

  objective = noisy_student.noisy_student(apply, lambda x: x + 1, 0.1)
  batch = {
    'image': np.zeros((2, 2, 2, 3), np.uint8),
    'label': LABELS,
    'unlabelled_image': np.full((6, 2, 2, 3), 7, np.uint8),
    'unlabelled_label': SOFT.argmax(1) if hard else SOFT,
  }
  loss, (scores, stats) = objective({}, batch, jax.random.key(3))
  ours = _losses(LOGITS[:2], _smooth(LABELS, 0.1))
  # Hard labels are smoothed as any; soft ones are left as they are.
  targets = _smooth(SOFT.argmax(1), 0.1) if hard else SOFT
  theirs = _losses(LOGITS[2:], targets)
  # Three unlabelled images for each labelled one.
  expected = ours.mean() + 3 * theirs.mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert scores.keys() == {
    *('loss', 'labelled_loss', 'unlabelled_loss'),
    *('cross_entropy', 'top1', 'top5'),
  }
  means = {name: total / count for name, (total, count) in scores.items()}
  np.testing.assert_allclose(means['loss'], expected, rtol=1e-6)
  np.testing.assert_allclose(means['labelled_loss'], ours.mean(), rtol=1e-6)
  np.testing.assert_allclose(means['unlabelled_loss'], theirs.mean(), rtol=1e-6)
  assert scores['top1'] == ((LOGITS[:2].argmax(1) == LABELS).sum(), 2)
  assert stats == {'mean': jnp.ones(1)}
  ((images, arguments),) = seen  # one pass, the labelled first
  assert images[:, 0, 0, 0].tolist() == [1] * 2 + [8] * 6
  assert arguments['train'] is True
  assert arguments['rngs'] == {'dropout': jax.random.key(3)}


def _tiny():
  model = efficientnet.build(
    spec.ModelSpec(
      'tiny',
      spec.parse_stages('r1_k3_s1_e1_o8'),
      stem_filters=8,
      head_filters=16,
      num_classes=4,
      dropout_rate=0.0,
    )
  )
  return model, functools.partial(normalize.normalize, spec=model.spec)


def test_batch_norm_sees_both_together():
  model, to_input = _tiny()
  variables = efficientnet.init(model, 0)
  rng = np.random.default_rng(0)
  dark = rng.integers(0, 60, (2, 8, 8, 3), np.uint8)
  light = rng.integers(180, 256, (6, 8, 8, 3), np.uint8)
  student = jax.jit(noisy_student.noisy_student(model.apply, to_input))
  whole = jax.jit(supervised.supervised(model.apply, to_input))
  key = jax.random.key(0)
  both = {
    'image': dark,
    'label': LABELS,
    'unlabelled_image': light,
    'unlabelled_label': SOFT,
  }
  one = {
    'image': np.concatenate([dark, light]),
    'label': np.concatenate([np.eye(4, dtype=np.float32)[LABELS], SOFT]),
  }
  (loss, (_, stats)), (mean, (_, all_stats)) = (
    student(variables, both, key),
    whole(variables, one, key),
  )
  # The sum over eight images by two, and by eight.
  np.testing.assert_allclose(loss, 4 * mean, rtol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, stats, all_stats)


# A student's run.


def _config(**overrides):
  config = quickstart.get_config()
  config.duration = '4 steps'
  config.batch_size = 8
  config.model.overrides.stages = 'r1_k3_s1_e1_o8_se r2_k3_s2_e2_o16_se'
  config.model.overrides.depth = 1.0
  config.model.overrides.resolution = 8
  config.model.overrides.head_filters = 32
  config.data.train_split = 'train[:200]'
  config.evaluation.every = '4 steps'
  config.evaluation.batch_size = 128
  config.checkpoint.every = '4 steps'
  config.log.every = '1 step'
  config.objective.name = 'noisy_student'
  config.data.unlabelled_ratio = 2
  config.update_from_flattened_dict(overrides)
  return config


@pytest.fixture(scope='module')
def labels(tmp_path_factory):
  """Pseudo-labels of 100 digits by a network that knows nothing."""
  config = _config(**{'data.num_classes': 10})
  model = efficientnet.build(pretrained.spec_of_run(config))
  variables = jax.device_get(efficientnet.init(model, 1))
  weights = load.Weights(model.spec, variables, 'native')
  out = tmp_path_factory.mktemp('labels') / 'first'
  teacher.pseudo_label(
    weights, 'digits:train[200:300]', out, min_confidence=0.0
  )
  return str(out)


def _run(workdir, labels, **overrides):
  config = _config(**{'data.unlabelled': labels, **overrides})
  return loop.train_and_evaluate(config, workdir, jax.devices()[:1])


def test_a_student_resumes_bit_for_bit(labels, tmp_path, monkeypatch, capsys):
  state, history = _run(tmp_path / 'straight', labels)
  said = f'200 training images, 10 classes, 2 of {labels} with each'
  assert said in capsys.readouterr().out
  calls = []
  shard = parallel.shard

  def sharding(batch, devices):
    calls.extend([None] * ('unlabelled_image' in batch))
    if len(calls) == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return shard(batch, devices)

  with monkeypatch.context() as patch:
    patch.setattr(parallel, 'shard', sharding)
    with pytest.raises(loop.Interrupted, match='Saved step 2 '):
      _run(tmp_path / 'resumed', labels)
  resumed, resumed_history = _run(tmp_path / 'resumed', labels)
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get((resumed, state)))
  losses = [
    [(e['loss'], e['unlabelled_loss']) for e in h if 'loss' in e]
    for h in (history, resumed_history)
  ]
  assert losses[0] == losses[1] and len(losses[0]) == 4
  for entry in history:
    if 'loss' in entry:
      assert entry['loss'] == pytest.approx(
        entry['labelled_loss'] + 2 * entry['unlabelled_loss'], rel=1e-5
      )
  # The student is the next teacher.
  manifest, _ = teacher.pseudo_label(
    pretrained.read(tmp_path / 'resumed'),
    'digits:train[200:300]',
    tmp_path / 'second',
    min_confidence=0.0,
  )
  first = json.loads(Path(labels, 'manifest.json').read_text())
  assert manifest['fingerprint'] != first['fingerprint']
  assert sum(manifest['counts']['labelled']) == 100


def test_objective_and_labels_go_together(labels):
  for changes in (
    {'data.unlabelled': ''},
    {'data.unlabelled': labels, 'objective.name': 'supervised'},
  ):
    with pytest.raises(errors.UserError, match='noisy_student, and it alone'):
      inputs.Data(_config(**changes))
  with pytest.raises(errors.UserError, match='unlabelled_ratio=0 must be'):
    program.check_values(_config(**{'data.unlabelled_ratio': 0}))


def test_the_compile_check_knows_a_students_batch():
  config = _config(**{'data.num_classes': 10, 'data.train_examples': 200})
  built = program.build(config, jax.devices()[:2])
  shapes = compile_check.step_shapes(built, 4, 8, unlabelled_ratio=2)
  assert {k: v.shape for k, v in shapes[1].items()} == {
    'image': (2, 4, 8, 8, 3),
    'label': (2, 4),
    'unlabelled_image': (2, 8, 8, 8, 3),
    'unlabelled_label': (2, 8, 10),
  }
  _, scores = jax.eval_shape(built.train_step, *shapes)
  assert 'unlabelled_loss' in scores
