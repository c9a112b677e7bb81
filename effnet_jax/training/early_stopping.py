"""When a run that no longer improves may end."""

from collections.abc import Mapping, Sequence


def stopped_at(
  history: Sequence[Mapping[str, float]], patience: int
) -> int | None:
  """Returns the step at which training ends early, None while it goes on.

  It is a function of the metric history alone, which a checkpoint holds: a
  resumed run decides as the straight one.

  >>> scores = (.5, .7, .7, .6)
  >>> stopped_at([{'step': i, 'eval_top1_ema': s} for i, s in
  ...             enumerate(scores)], 2)
  3

  Args:
    history: entries with `step` and, of an evaluation, `eval_top1_ema`.
    patience: evaluations in a row without one above the best before them;
      0 to train to the end.
  """
  evaluations = [entry for entry in history if 'eval_top1_ema' in entry]
  if not patience or not evaluations:
    return None
  scores = [entry['eval_top1_ema'] for entry in evaluations]
  since_best = len(scores) - 1 - scores.index(max(scores))
  return int(evaluations[-1]['step']) if since_best >= patience else None
