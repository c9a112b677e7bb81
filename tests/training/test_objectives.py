"""The supervised loss, against its formula in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import efficientnet, normalize, spec
from effnet_jax.training.objectives import supervised

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32) * 3
LABELS = np.asarray([0, 1, 2, 3, 0, 1])


def _fake(calls):
  """A network whose answer is known; records what it is called with."""

  def apply(variables, images, **arguments):
    calls.append((variables, images, arguments))
    return (jnp.asarray(LOGITS), {}), {'batch_stats': {'mean': jnp.ones(1)}}

  return apply


def _losses(targets):
  """Cross-entropy of every example, in float64."""
  logits = LOGITS.astype(np.float64)
  log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return -(targets * log_probabilities).sum(-1)


def _objective(smoothing, labels, calls=None):
  objective = supervised.supervised(
    _fake([] if calls is None else calls), lambda pixels: pixels + 1, smoothing
  )
  batch = {'image': np.zeros((6, 2, 2, 3), np.uint8), 'label': labels}
  return objective({'params': 'weights'}, batch, jax.random.key(3))


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.5])
def test_label_smoothing_by_hand(smoothing):
  loss, (scores, _) = _objective(smoothing, LABELS)
  # A share of `smoothing` is spread over all four, the right one included.
  targets = np.full((6, 4), smoothing / 4)
  targets[np.arange(6), LABELS] += 1 - smoothing
  losses = _losses(targets)
  np.testing.assert_allclose(loss, losses.mean(), rtol=1e-6)
  np.testing.assert_allclose(scores['loss'], (losses.sum(), 6), rtol=1e-6)
  # What is reported besides the loss knows nothing of smoothing.
  plain = _losses(np.eye(4)[LABELS]).sum()
  np.testing.assert_allclose(scores['cross_entropy'], (plain, 6), rtol=1e-6)
  assert scores['top1'] == ((LOGITS.argmax(1) == LABELS).sum(), 6)


def test_soft_labels_are_smoothed_too():
  soft = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype(np.float32)
  loss, _ = _objective(0.2, soft)
  expected = _losses(0.8 * soft + 0.2 / 4).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_network_is_called_for_training():
  calls = []
  _, (_, batch_stats) = _objective(0.1, LABELS, calls)
  assert batch_stats == {'mean': jnp.ones(1)}
  ((variables, images, arguments),) = calls
  assert variables == {'params': 'weights'}
  assert np.all(images == 1)  # normalised
  assert arguments['train'] is True
  assert arguments['mutable'] == ['batch_stats']
  assert arguments['rngs'] == {'dropout': jax.random.key(3)}


def _network(dtype):
  """A network with dropout, its objective and its variables."""
  model = efficientnet.build(
    spec.ModelSpec(
      'tiny',
      spec.parse_stages('r1_k3_s1_e1_o8'),
      stem_filters=8,
      head_filters=16,
      num_classes=4,
      dropout_rate=0.5,
    ),
    dtype,
  )
  to_input = functools.partial(normalize.normalize, spec=model.spec)
  objective = supervised.supervised(model.apply, to_input, 0.1)
  return model, to_input, objective, efficientnet.init(model, 0)


def _batch():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, 8, 8, 3), np.uint8)
  return {'image': images, 'label': LABELS}


def test_the_loss_is_float32_under_bfloat16():
  model, to_input, objective, variables = _network('bfloat16')
  batch, key = _batch(), jax.random.key(0)

  @jax.jit
  def both(variables, key):
    (logits, endpoints), _ = model.apply(
      variables,
      to_input(batch['image']),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return logits, endpoints['head'], objective(variables, batch, key)

  logits, head, (loss, (scores, batch_stats)) = both(variables, key)
  assert head.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves((logits, loss, scores, batch_stats)):
    assert leaf.dtype == jnp.float32
  # bfloat16 would keep three digits.
  logits = np.asarray(logits, np.float64)
  log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  targets = 0.9 * np.eye(4)[LABELS] + 0.1 / 4
  expected = -(targets * log_probabilities).sum(-1).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_the_key_decides_about_dropout():
  _, _, objective, variables = _network('float32')
  step = jax.jit(lambda key: objective(variables, _batch(), key))
  first, again, other = (step(jax.random.key(seed)) for seed in (0, 0, 1))
  assert first[0] == again[0]
  assert abs(first[0] - other[0]) > 1e-4
  # Statistics are of what comes before dropout: they move, by the batch alone.
  stats = [np.asarray(run[1][1]['stem_bn']['mean']) for run in (first, other)]
  assert np.array_equal(*stats)
  assert np.abs(stats[0]).max() > 1e-4
