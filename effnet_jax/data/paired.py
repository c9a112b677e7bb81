"""Labelled and unlabelled batches in step, for a student.

Two streams of `pipeline`, each with a position of its own; both positions are
the state. The second has another seed, so that what is drawn for an image does
not depend on what is drawn for the labelled one at the same position.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from effnet_jax.data import pipeline
from effnet_jax.data.pipeline import TrainIterator
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.readers import Batch
from effnet_jax.data.sources import Source

UNLABELLED = 'unlabelled_'


def unlabelled_seed(seed: int) -> int:
  """Returns the seed of the second stream, in 0..2**32-1."""
  return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


def train_batches(
  labelled: Source,
  unlabelled: Source | None,
  preprocess: Preprocess,
  *,
  ratio: int,
  batch_size: int,
  seed: int,
  start: dict[str, Any] | None = None,
  **arguments: Any,
) -> 'TrainIterator | PairedIterator':
  """Endless batches of both sources, or of the first alone.

  Args:
    labelled: examples with labels.
    unlabelled: examples with pseudo-labels, if there are.
    preprocess: of both.
    ratio: pseudo-labelled examples for each labelled one.
    batch_size: labelled examples a batch, of this process.
    seed: as of `pipeline.train_batches`; the second source has
      `unlabelled_seed` of it.
    start: a `get_state()` to go on from; None for the beginning.
    **arguments: of `pipeline.train_batches`, the same for both.
  """
  open_stream = functools.partial(pipeline.train_batches, **arguments)
  iterator = open_stream(labelled, preprocess, batch_size=batch_size, seed=seed)
  if unlabelled is not None:
    other = open_stream(
      unlabelled,
      preprocess,
      batch_size=ratio * batch_size,
      seed=unlabelled_seed(seed),
    )
    iterator = PairedIterator(iterator, other)
  if start is not None:
    iterator.set_state(start)
  return iterator


class PairedIterator(Iterator[Batch]):
  """Batches of two iterators in one dictionary.

  Args:
    labelled: whose examples are counted.
    unlabelled: whose arrays are `unlabelled_image` and `unlabelled_label`.
  """

  def __init__(self, labelled: TrainIterator, unlabelled: TrainIterator):
    self._labelled, self._unlabelled = labelled, unlabelled

  def __next__(self) -> Batch:
    before = self._labelled.get_state()
    batch = next(self._labelled)
    try:
      other = next(self._unlabelled)
    except BaseException:
      # Both begin this batch anew, whichever failed.
      self._labelled.set_state(before)
      raise
    return {**batch, **{UNLABELLED + k: v for k, v in other.items()}}

  def get_state(self) -> dict[str, Any]:
    """Returns what JSON can hold, for `set_state` in any later run."""
    return {
      'labelled': self._labelled.get_state(),
      'unlabelled': self._unlabelled.get_state(),
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to where `state` was taken.

    Raises:
      UserError: the state is of another seed or another source.
    """
    self._labelled.set_state(state['labelled'])
    self._unlabelled.set_state(state['unlabelled'])

  def close(self) -> None:
    """Ends the threads and worker processes of both."""
    self._labelled.close()
    self._unlabelled.close()
