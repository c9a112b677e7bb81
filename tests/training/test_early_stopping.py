"""When a run ends, from its history alone."""

import pytest

from effnet_jax.training.early_stopping import stopped_at


def _history(*scores):
  entries = []
  for number, score in enumerate(scores, 1):
    entries.append({'step': 10 * number - 5, 'loss': 1.0})
    entries.append({'step': 10 * number, 'eval_top1_ema': score})
  return entries


@pytest.mark.parametrize(
  ('scores', 'patience', 'expected'),
  [
    ((), 1, None),
    ((0.1,), 1, None),
    ((0.1, 0.2, 0.3), 1, None),
    ((0.1, 0.1), 1, 20),  # no better is no improvement
    ((0.5, 0.4, 0.4), 3, None),
    ((0.5, 0.4, 0.4, 0.5), 3, 40),
    ((0.5, 0.4, 0.4, 0.6), 3, None),
    ((0.5, 0.4, 0.6, 0.5, 0.6), 2, 50),
    ((0.5, 0.4, 0.3), 0, None),
  ],
)
def test_patience(scores, patience, expected):
  assert stopped_at(_history(*scores), patience) == expected


def test_lines_of_training_do_not_count():
  history = _history(0.5) + [{'step': 15 + i, 'loss': 0.0} for i in range(9)]
  assert stopped_at(history, 1) is None
