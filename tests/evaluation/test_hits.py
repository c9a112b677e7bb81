"""Right answers: several for an image, among some classes, by plain Python."""

import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.evaluation import hits
from effnet_jax.training import metrics

CLASSES = 12
EVERY = np.ones(CLASSES, bool)


def _draw(count, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(count, CLASSES)).astype(np.float32)
  return rng, logits


def _means(*arguments):
  sums = hits.hits(*map(jnp.asarray, arguments[:-1]), arguments[-1])
  return metrics.divide(sums)


def test_one_label_is_what_training_reports():
  rng, logits = _draw(200)
  labels = rng.integers(0, CLASSES, 200)
  mask = (rng.random(200) < 0.7).astype(np.float32)
  expected = metrics.divide(metrics.classification(logits, labels, mask))
  means = _means(logits, labels, mask, EVERY)
  assert 0 < means['top1'] < means['top5'] < 1
  assert means == pytest.approx({k: expected[k] for k in means})


def test_several_labels_and_some_classes():
  rng, logits = _draw(200)
  labels = rng.random((200, CLASSES)) < 0.15
  labels[3] = False
  mask = (rng.random(200) < 0.7).astype(np.float32)
  mask[3] = 1
  ranked = np.isin(np.arange(CLASSES), (0, 2, 3, 5, 7, 8, 11))
  right = {1: 0, 5: 0}
  for row in range(200):
    order = [c for c in np.argsort(-logits[row]) if ranked[c]]
    for k in right:
      right[k] += mask[row] * any(labels[row, c] for c in order[:k])
  means = _means(logits, labels, mask, ranked)
  assert means == pytest.approx(
    {'top1': right[1] / mask.sum(), 'top5': right[5] / mask.sum()}
  )
  assert means != pytest.approx(_means(logits, labels, mask, EVERY))


@pytest.mark.parametrize('value', [0.0, np.nan])
def test_equal_and_nan_logits_never_score(value):
  logits = np.full((4, CLASSES), value, np.float32)
  labels = np.zeros((4, CLASSES), bool)
  labels[:, :2] = True
  ones = np.ones(4, np.float32)
  assert _means(logits, labels, ones, EVERY) == {'top1': 0, 'top5': 0}
  assert _means(logits, np.arange(4), ones, EVERY) == {'top1': 0, 'top5': 0}


def test_a_class_that_may_not_be_chosen_never_scores():
  logits = np.eye(CLASSES, dtype=np.float32)[:1]
  ranked = EVERY.copy()
  ranked[0] = False
  ones = np.ones(1, np.float32)
  assert _means(logits, np.zeros(1, int), ones, ranked)['top5'] == 0
  assert _means(logits, np.zeros(1, int), ones, EVERY)['top1'] == 1
