"""Records to batches: one stream, whatever the processes that read it.

Training reads an endless stream of positions. Position t shows example
order(t), shuffled anew every epoch, under an augmentation drawn from
(seed, t). Global batch n of B examples is the stream's [n * B, (n + 1) * B),
and process p of P takes the p-th contiguous share of it. So neither the number
of processes nor that of workers changes what is seen, and a position is all
that a checkpoint needs.

grain gives the order, the threads and the worker processes. Its unit here is a
piece of a batch, made by a reader (readers.py): its cost an element would
otherwise be most of the work at small sizes. What is read ahead is bounded in
bytes, however large the batches and however many the workers (running.py).
"""

import copy
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import grain
from absl import logging

from effnet_jax.data import running
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.readers import (
  Augment,
  BadList,
  Batch,
  EvalReader,
  TrainReader,
  Transform,
)
from effnet_jax.data.sources import Source
from effnet_jax.errors import UserError

_STATE_VERSION = 1


def train_batches(
  source: Source,
  preprocess: Preprocess,
  *,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
  max_bad_fraction: float = 0.0,
  augment: Augment | None = None,
  start: dict[str, Any] | None = None,
) -> 'TrainIterator':
  """Endless training batches.

  Every example comes once an epoch; batches cross the borders of epochs, and
  none is dropped. The same arguments give the same batches bit for bit, for
  any `workers`, and any `process_count` at the same global batch.

  Args:
    source: the examples.
    preprocess: crop, size and flip.
    batch_size: examples a batch, of this process.
    seed: of order and augmentation.
    process_index: which share of each global batch is this process's.
    process_count: processes that train together.
    workers: worker processes; 0 reads by threads of this process.
    max_bad_fraction: share of the source that may be undecodable. Such an
      example is replaced by the next in the source that decodes, and logged.
    augment: (rng, uint8 [s, s, 3]) -> uint8 [s, s, 3], after the flip. It
      must be picklable where there are workers.
    start: a `get_state()` to go on from; None for the beginning.

  Returns:
    An iterator of {'image': uint8 [b, s, s, 3], 'label': int32 [b], or float32
    [b, classes] of soft labels}, with `get_state`, `set_state` and `close`.

  Raises:
    UserError: an empty source; on `next`, too many bad examples, or a worker
      process that died.
  """
  _check_sizes(source, batch_size, process_index, process_count, workers)
  if not 0 <= seed < 2**32:
    raise UserError(f'seed {seed}: it must be in 0..2**32-1')
  # shuffle() gives every epoch, that is every `len` positions, its own order.
  order = grain.MapDataset.range(len(source)).seed(seed).shuffle()
  reader = TrainReader(
    source=source,
    preprocess=preprocess,
    batch_size=batch_size,
    process_index=process_index,
    process_count=process_count,
    seed=int(seed),
    order=order,
    augment=augment,
  )
  iterator = TrainIterator(reader, workers, max_bad_fraction)
  if start is not None:
    iterator.set_state(start)
  return iterator


def eval_batches(
  source: Source,
  preprocess: Preprocess,
  *,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
  workers: int = 0,
  max_bad_fraction: float = 0.0,
) -> 'EvalBatches':
  """Every example of the source once, over all processes, in order.

  All processes get the same number of batches, for they evaluate in step: the
  last are padded, and may be padding alone.

  Args:
    source: the examples.
    preprocess: centre crop and size.
    batch_size: examples a batch, of this process.
    process_index: which share of each global batch is this process's.
    process_count: processes that evaluate together.
    workers: worker processes; 0 reads by threads of this process.
    max_bad_fraction: share of the source that may be undecodable; such an
      example is masked out, and logged.

  Returns:
    An iterable, as often as wanted, of {'image': uint8 [b, s, s, 3], 'label':
    int32 [b], 'mask': float32 [b]}, with the mask 0 where there is no example.

  Raises:
    UserError: as `train_batches`.
  """
  _check_sizes(source, batch_size, process_index, process_count, workers)
  reader = EvalReader(
    source=source,
    preprocess=preprocess,
    batch_size=batch_size,
    process_index=process_index,
    process_count=process_count,
  )
  return EvalBatches(reader, workers, max_bad_fraction)


class TrainIterator(Iterator[Batch]):
  """The batches of `train_batches`; its state counts those handed out."""

  def __init__(
    self, reader: TrainReader, workers: int, max_bad_fraction: float
  ):
    self._reader, self._workers = reader, workers
    self._bad = _BadExamples(len(reader.source), max_bad_fraction)
    self._examples = 0  # position in the stream, over all processes
    self._batches: running.Batches | None = None

  def __next__(self) -> Batch:
    if self._batches is None:
      reader = dataclasses.replace(self._reader, start=self._examples)
      self._batches = running.batches(reader, sys.maxsize, self._workers)
    try:
      batch, bad = next(self._batches)
    except BaseException:
      self.close()  # a piece may be lost: the next call begins this batch anew
      raise
    self._bad.add(bad)
    self._examples += self._reader.global_batch
    return batch

  def get_state(self) -> dict[str, Any]:
    """Returns what JSON can hold, for `set_state` in any later run."""
    return {
      'version': _STATE_VERSION,
      'examples': self._examples,
      'source_size': len(self._reader.source),
      'seed': self._reader.seed,
      'bad': self._bad.names,
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to where `state` was taken, at no cost that grows with the position.

    The number of processes, workers and examples a batch may have changed.

    Raises:
      UserError: the state is of another seed or another source.
    """
    if state.get('version') != _STATE_VERSION:
      raise UserError(
        f'the data state has version {state.get("version")}, this code reads '
        f'{_STATE_VERSION}: resume with the code that wrote the checkpoint'
      )
    own = self.get_state()
    for key, config_key in (
      ('seed', 'config.seed'),
      ('source_size', 'config.data'),
    ):
      if state[key] != own[key]:
        raise UserError(
          f'the checkpoint was written with {key} {state[key]}, this run has '
          f'{own[key]}: set {config_key} as it was, or start in a new workdir'
        )
    self.close()
    self._examples = int(state['examples'])
    self._bad.restore(state['bad'])

  def close(self) -> None:
    """Ends threads and worker processes. `next` would start new ones."""
    if self._batches is not None:
      self._batches.close()
      self._batches = None


class EvalBatches:
  """The batches of `eval_batches`: iterable many times, with a length."""

  def __init__(self, reader: EvalReader, workers: int, max_bad_fraction: float):
    self._reader, self._workers = reader, workers
    self._bad = _BadExamples(len(reader.source), max_bad_fraction)

  def __len__(self) -> int:
    return -(-len(self._reader.source) // self._reader.global_batch)

  def transformed(self, transform: Transform) -> 'EvalBatches':
    """Returns the batches with every image changed, after its crop.

    Args:
      transform: (index in the source, uint8 [s, s, 3]) -> uint8 [s, s, 3]. It
        must be picklable where there are workers.
    """
    changed = copy.copy(self)  # one account of bad examples: each logged once
    changed._reader = dataclasses.replace(self._reader, transform=transform)
    return changed

  def __iter__(self) -> Iterator[Batch]:
    batches = running.batches(self._reader, len(self), self._workers)
    try:
      for _ in range(len(self)):
        batch, bad = next(batches)
        self._bad.add(bad)
        yield batch
    finally:
      batches.close()


class _BadExamples:
  """Counts the distinct examples that could not be decoded, and judges."""

  def __init__(self, source_size: int, max_fraction: float):
    self._allowed = max_fraction * source_size
    self._size, self._fraction = source_size, max_fraction
    self._names: dict[str, None] = {}  # an ordered set

  @property
  def names(self) -> list[str]:
    return list(self._names)

  def restore(self, names: list[str]) -> None:
    self._names = dict.fromkeys(names)

  def add(self, bad: BadList) -> None:
    for name, reason in bad:
      if name in self._names:
        continue
      self._names[name] = None
      logging.warning('left out %s: %s', name, reason)
      if len(self._names) > self._allowed:
        raise UserError(
          f'{name}: {reason}; that makes {len(self._names)} bad of '
          f'{self._size} examples, config.data.max_bad_fraction allows '
          f'{self._fraction:g}: repair or remove them, or raise it'
        )


def _check_sizes(
  source: Source,
  batch_size: int,
  process_index: int,
  process_count: int,
  workers: int,
) -> None:
  if len(source) == 0:
    raise UserError(f'{source!r} has no examples')
  if batch_size < 1:
    raise UserError(f'batch size {batch_size}: it must be at least 1')
  if not 0 <= process_index < process_count:
    raise UserError(f'process {process_index} of {process_count}: no such one')
  if workers < 0:
    raise UserError(f'config.data.workers is {workers}: 0 or more')
