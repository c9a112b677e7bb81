"""Scores against a sort by numpy, sums, and the window between log lines."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import metrics


def _random(n=64, classes=12, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(n, classes)).astype(np.float32)
  return logits, rng.integers(0, classes, n)


def _by_numpy(logits, labels, k):
  """How many examples have the label among the k largest logits."""
  top = np.argsort(-logits, axis=-1)[:, :k]
  return int((top == labels[:, None]).any(1).sum())


def _log_softmax(logits):
  logits = logits.astype(np.float64)
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.fixture(scope='module')
def classification():
  return jax.jit(metrics.classification)


def test_scores_are_those_of_a_sort(classification):
  logits, labels = _random()
  scores = classification(logits, labels)
  top1, top5 = (_by_numpy(logits, labels, k) for k in (1, 5))
  assert 0 < top1 < top5 < 64
  assert scores['top1'] == (top1, 64)
  assert scores['top5'] == (top5, 64)
  cross_entropy = -_log_softmax(logits)[np.arange(64), labels].sum()
  np.testing.assert_allclose(
    scores['cross_entropy'], (cross_entropy, 64), rtol=1e-6
  )


def test_the_mask_leaves_out(classification):
  logits, labels = _random()
  mask = (np.arange(64) % 3 > 0).astype(np.float32)
  scores = classification(logits, labels, mask)
  kept = classification(logits[mask > 0], labels[mask > 0])
  assert kept['top1'][1] == 42
  for name in kept:
    np.testing.assert_allclose(scores[name], kept[name], rtol=1e-6)


def test_soft_labels_score_by_their_largest(classification):
  logits, labels = _random(n=16)
  soft = np.full((16, 12), 0.3 / 11, np.float32)
  soft[np.arange(16), labels] = 0.7
  scores, hard = classification(logits, soft), classification(logits, labels)
  assert scores['top1'] == hard['top1']
  assert scores['top5'] == hard['top5']
  cross_entropy = -(soft * _log_softmax(logits)).sum()
  np.testing.assert_allclose(
    scores['cross_entropy'][0], cross_entropy, rtol=1e-6
  )


def test_a_tie_does_not_score(classification):
  # The right class shares the first place, then the fifth.
  first = np.asarray([[3, 3, 0, 0, 0, 0, 0]], np.float32)
  assert classification(first, np.asarray([0]))['top1'] == (0, 1)
  assert classification(first, np.asarray([0]))['top5'] == (1, 1)
  fifth = np.asarray([[9, 8, 7, 6, 3, 3, 0]], np.float32)
  assert classification(fifth, np.asarray([4]))['top5'] == (0, 1)
  assert classification(fifth, np.asarray([3]))['top5'] == (1, 1)
  # A network that says nothing is right about nothing.
  silent = classification(np.zeros((7, 7), np.float32), np.arange(7))
  assert silent['top1'] == (0, 7)
  assert silent['top5'] == (0, 7)


@pytest.mark.parametrize('where', ['right', 'others', 'all'])
def test_not_a_number_does_not_score(classification, where):
  logits = np.asarray([[9, 1, 2, 3, 4, 5, 6]], np.float32)
  logits[:, {'right': 0, 'others': slice(1, 7), 'all': slice(0, 7)}[where]] = (
    np.nan
  )
  scores = classification(logits, np.asarray([0]))
  assert scores['top1'] == (0, 1)
  assert scores['top5'] == (0, 1)


def test_sums_add_up_to_the_whole(classification):
  logits, labels = _random()
  whole = metrics.divide(classification(logits, labels))
  # Parts of different sizes: a mean of their means would be another number.
  total, means = None, []
  for start, stop in ((0, 7), (7, 20), (20, 64)):
    mask = np.zeros(64, np.float32)
    mask[start:stop] = 1
    part = classification(logits, labels, mask)
    means.append(metrics.divide(part)['top1'])
    total = metrics.add(total, part) if total else part
  assert metrics.divide(total) == pytest.approx(whole, rel=1e-6)
  assert abs(np.mean(means) - whole['top1']) > 1e-3


def test_nothing_divides_to_nothing():
  assert metrics.divide({'m': (0.0, 0.0), 'n': (3.0, 2.0)}) == {
    'm': 0.0,
    'n': 1.5,
  }


# The window.


def _step(loss, norm=1.0, count=3):
  return {
    'loss': (jnp.float32(loss * count), jnp.float32(count)),
    'gradient_norm': (jnp.float32(norm), jnp.float32(1)),
  }


def test_a_window_averages_and_starts_over():
  window = metrics.Window({}, 0)
  window.append(_step(1.0, norm=2, count=1))
  window.append(_step(2.0, norm=4, count=3))
  assert window.drain() == {'loss': 7 / 4, 'gradient_norm': 3}
  assert window.sums == {}
  window.append(_step(5.0))
  assert window.drain() == {'loss': 5, 'gradient_norm': 1}


def test_reading_keeps_what_has_been_read():
  window = metrics.Window({}, 0)
  window.append(_step(1.0))
  window.read()
  assert window.sums == {'loss': (3, 3), 'gradient_norm': (1, 1)}
  window.read()  # nothing is pending
  assert window.sums == {'loss': (3, 3), 'gradient_norm': (1, 1)}
  window.append(_step(2.0))
  assert window.drain() == {'loss': 1.5, 'gradient_norm': 1}


class _OnTheDevice:
  """A number that tells when it is fetched."""

  def __init__(self, fetched):
    self._fetched = fetched

  def __array__(self, dtype=None, copy=None):
    self._fetched.append(1)
    return np.float32(1.0)


def test_nothing_is_fetched_before_it_is_read():
  fetched = []
  number = lambda: _OnTheDevice(fetched)
  window = metrics.Window({}, 0)
  for _ in range(3):
    window.append(
      {
        'loss': (number(), number()),
        'gradient_norm': (number(), number()),
      }
    )
  assert not fetched
  window.read()
  assert len(fetched) == 12
  window.read()
  assert len(fetched) == 12
  assert window.sums['loss'] == (3, 3)


def test_a_resumed_window_continues_exactly():
  rng = np.random.default_rng(0)
  steps = [_step(*values) for values in rng.uniform(0, 1, (6, 2))]
  straight = metrics.Window({}, 0)
  cut = metrics.Window({}, 0)
  for number, step in enumerate(steps):
    straight.append(step)
    if number == 3:
      cut.read()
      saved = json.loads(json.dumps(cut.sums))
      cut = metrics.Window(saved, number)
      assert cut.sums == {k: tuple(v) for k, v in saved.items()}
    cut.append(step)
  # Sums are float64, exact in JSON; equal to the last bit.
  assert cut.drain() == straight.drain()


@pytest.mark.parametrize('name', ['loss', 'gradient_norm'])
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_is_named(name, value):
  window = metrics.Window({}, 40)
  window.append(_step(1.0))
  window.read()
  good, bad = _step(1.0), _step(1.0)
  bad[name] = jnp.float32(value), jnp.float32(1)
  for step in (good, bad, good, bad):
    window.append(step)
  with pytest.raises(metrics.NonFiniteError) as caught:
    window.drain()
  text = str(caught.value)
  assert text.startswith(f'step 43: the {name.replace("_", " ")} is {value}')
  assert 'config.schedule.learning_rate' in text
  assert '\n' not in text
  assert isinstance(caught.value, UserError)
