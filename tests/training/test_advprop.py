"""AdvProp's objective, and a run with it from first step to what users load."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from effnet_jax import pretrained
from effnet_jax.models import auxiliary, efficientnet, normalize, variants
from effnet_jax.training import loop
from effnet_jax.training.attack import Attack
from effnet_jax.training.objectives.advprop import advprop
from effnet_jax.training.objectives.supervised import supervised

STAGES = 'r1_k3_s2_e2_o8_se'
KEY = jax.random.key(3)


def _model(**overrides):
  spec = variants.get_spec(
    'micro', stages=STAGES, head_filters=32, num_classes=4, **overrides
  )
  return efficientnet.build(spec)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (6, 16, 16, 3), np.uint8),
    'label': np.array([0, 1, 2, 3, 0, 1], np.int32),
  }


@pytest.fixture(scope='module')
def computed(batch):
  """Losses, metrics, statistics and gradients of AdvProp and of its halves."""
  model = _model(dropout_rate=0.0, survival_probability=1.0)
  to_input = functools.partial(normalize.normalize, spec=model.spec)
  variables = efficientnet.init(model)
  both = auxiliary.add(variables)
  # Another second set, so that a mistake about which is used shows.
  both['params'][auxiliary.NAME] = jax.tree.map(
    lambda x: x + 0.3, both['params'][auxiliary.NAME]
  )

  def gradients(objective, variables):
    def loss(params):
      return objective({**variables, 'params': params}, batch, KEY)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables['params'])

  make = functools.partial(advprop, model.apply, to_input, 0.1)
  plain = supervised(model.apply, to_input, 0.1)
  return {
    'both': both,
    'attacked': gradients(make(attack=Attack(4.0, 2, 2.0)), both),
    'unmoved': gradients(make(attack=Attack(0.0, 1, 1.0)), both),
    'main': gradients(plain, auxiliary.main(both)),
    'other': gradients(plain, auxiliary.other(both)),
  }


def _near(found, right):
  assert jax.tree.structure(found) == jax.tree.structure(right)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
    b = np.asarray(b)
    assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max() + 1e-7)


def test_without_room_to_move_it_is_two_ordinary_losses(computed):
  (loss, (scores, stats)), grads = computed['unmoved']
  (first, (_, main_stats)), main_grads = computed['main']
  (second, (_, other_stats)), other_grads = computed['other']
  _near(loss, first + second)
  _near(stats, auxiliary.join(main_stats, other_stats))
  # All is shared but the batch norms, each of which has its own loss's part.
  norms = lambda tree: auxiliary.join({}, tree)[auxiliary.NAME]
  shared = jax.tree.map(jnp.add, main_grads, other_grads)
  expected = {
    **auxiliary._replaced(shared, norms(main_grads)),
    auxiliary.NAME: norms(other_grads),
  }
  _near(grads, expected)
  assert float(scores['clean_loss'][0]) == pytest.approx(6 * float(first))


def test_an_attack_raises_the_second_loss_alone(computed):
  (_, (scores, stats)), _ = computed['attacked']
  (_, (unmoved, unmoved_stats)), _ = computed['unmoved']
  mean = lambda scores, name: float(scores[name][0] / scores[name][1])
  assert mean(scores, 'adversarial_loss') > 1.05 * mean(
    unmoved, 'adversarial_loss'
  )
  assert mean(scores, 'adversarial_top1') <= mean(unmoved, 'adversarial_top1')
  _near(scores['clean_loss'], unmoved['clean_loss'])
  # The clean images' statistics: one ordinary step, whatever was attacked.
  first = auxiliary.main({'batch_stats': stats})
  _near(first, auxiliary.main({'batch_stats': unmoved_stats}))


def _config(workdir):
  config = quickstart.get_config()
  config.update_from_flattened_dict(
    {
      'duration': '4 steps',
      'batch_size': 16,
      'schedule.warmup': '1 step',
      'model.overrides.stages': STAGES,
      'model.overrides.head_filters': 32,
      'objective.name': 'advprop',
      'objective.attack_steps': 1,
      'data.train_split': 'train[:64]',
      'data.eval_split': 'test[:16]',
      'data.test_split': 'test[16:32]',
      'evaluation.every': '2 steps',
      'evaluation.batch_size': 16,
      'checkpoint.every': '2 steps',
      'log.every': '1 step',
    }
  )
  return config


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('advprop')
  config = _config(workdir)
  devices = jax.devices()[:1]
  return workdir, *loop.train_and_evaluate(config, workdir, devices)


def test_what_is_loaded_is_the_plain_network(trained):
  workdir, state, history = trained
  model, variables = pretrained.load(workdir)
  plain = efficientnet.shapes(model)
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert shapes(variables) == shapes(plain)
  _near(variables, state.variables(ema=True))
  assert auxiliary.NAME in state.params
  assert all('adversarial_top1' in e for e in history if 'loss' in e)
  # Both sets have learnt, apart.
  first = auxiliary.main({'params': state.params})['params']
  second = state.params[auxiliary.NAME]
  scale = lambda tree: tree['stem_bn']['scale']
  assert not np.array_equal(scale(first), scale(second))
  for tree in (first, second):
    assert not np.array_equal(scale(tree), np.ones_like(scale(tree)))


@pytest.mark.soak
def test_a_resumed_run_is_the_same(trained, tmp_path):
  _, state, history = trained
  config = _config(tmp_path)
  config.duration = '2 steps'
  config.schedule.decay = 'constant'
  devices = jax.devices()[:1]
  loop.train_and_evaluate(config, tmp_path / 'a', devices)
  config.duration = '4 steps'
  resumed, _ = loop.train_and_evaluate(config, tmp_path / 'a', devices)
  straight, _ = loop.train_and_evaluate(config, tmp_path / 'b', devices)
  for a, b in zip(
    jax.tree.leaves(resumed), jax.tree.leaves(straight), strict=True
  ):
    assert np.array_equal(a, b)
  summary = json.loads((tmp_path / 'a' / 'summary.json').read_text())
  assert summary['config']['objective']['name'] == 'advprop'
