"""Runs a reader by threads or processes, and puts its pieces together.

grain does the former. What waits is bounded in bytes: see `read_ahead`.
"""

import gc
import signal
import sys
import threading

import cv2
import grain
import numpy as np
from absl import flags

from effnet_jax import environment
from effnet_jax.data.readers import BadList, Batch, Reader
from effnet_jax.data.scratch import Recycler
from effnet_jax.errors import UserError

# What may wait, in bytes and in batches, whichever is less.
_AHEAD_BYTES, _AHEAD_BATCHES = 256 * 2**20, 2
_MAX_THREADS = 16
_GRAIN_FLAG = 'grain_enable_multiprocess_worker_profiling'


def read_ahead(reader: Reader, workers: int) -> int:
  """Returns how many pieces each worker, or all threads, may have waiting.

  grain lets as many again wait on this side of a worker's queue, and each side
  has one more in hand. So there are at most 256 MiB, or four pieces (of 8 MiB,
  or one image if larger) for each worker, two for each thread, where that is
  more; and the batch that is put together. Of workers it is shared memory.
  """
  size = 3 * reader.preprocess.size**2
  piece_bytes = size * -(-reader.batch_size // reader.pieces)
  wanted = min(_AHEAD_BYTES // piece_bytes, _AHEAD_BATCHES * reader.pieces)
  if workers:
    return max(wanted // workers // 2 - 1, 1)
  return max(wanted, _threads() + 1)


def batches(reader: Reader, count: int, workers: int) -> 'Batches':
  """The first `count` batches of a reader, by threads or worker processes."""
  return (_FromWorkers if workers else _FromThreads)(reader, count, workers)


class Batches:
  """Batches with the names of their bad examples; `close` ends what runs."""

  def __init__(self, pieces: grain.IterDataset, reader: Reader):
    self._reader, self._memory = reader, Recycler()
    self._pieces = iter(pieces)

  def __next__(self) -> tuple[Batch, BadList]:
    """Puts the next batch together.

    Raises:
      UserError: a worker process died.
    """
    raise NotImplementedError

  def close(self) -> None:
    self._pieces.close()

  def _empty(self) -> Batch:
    return self._reader.empty(self._reader.batch_size, self._memory)


class _FromThreads(Batches):
  """Threads write their pieces into the batch where they belong."""

  def __init__(self, reader: Reader, count: int, workers: int):
    self._lock = threading.Lock()
    self._begun: dict[int, Batch] = {}
    self._number = 0
    options = grain.ReadOptions(
      num_threads=_threads(), prefetch_buffer_size=read_ahead(reader, workers)
    )
    pieces = _numbers(reader, count).map(self._fill)
    super().__init__(pieces.to_iter_dataset(options), reader)

  def _fill(self, n: int) -> BadList:
    number, rows = n // self._reader.pieces, self._reader.rows(n)
    with self._lock:
      if number not in self._begun:
        self._begun[number] = self._empty()
      batch = self._begun[number]
    piece = {k: array[rows.start : rows.stop] for k, array in batch.items()}
    return self._reader.fill(n, piece)

  def __next__(self) -> tuple[Batch, BadList]:
    bad = [b for _ in range(self._reader.pieces) for b in next(self._pieces)]
    with self._lock:
      batch = self._begun.pop(self._number)
    self._number += 1
    return batch, bad


class _FromWorkers(Batches):
  """Pieces come through shared memory and are copied together."""

  def __init__(self, reader: Reader, count: int, workers: int):
    # grain reads this flag of its own, which fails before flags are parsed:
    # in notebooks and tests they never are.
    if _GRAIN_FLAG in flags.FLAGS:
      flags.FLAGS[_GRAIN_FLAG].present = True
    # Semaphores of iterators that an exception holds: collected while the
    # workers start, they fail inside multiprocessing (a reentrant call).
    gc.collect()
    serial = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    options = grain.MultiprocessingOptions(workers, read_ahead(reader, workers))
    pieces = _numbers(reader, count).map(reader).to_iter_dataset(serial)
    super().__init__(pieces.mp_prefetch(options, _start_worker), reader)

  def __next__(self) -> tuple[Batch, BadList]:
    batch, bad = self._empty(), []
    for number in range(self._reader.pieces):
      piece, names = self._next_piece()
      rows = self._reader.rows(number)
      for key, array in piece.items():
        batch[key][rows.start : rows.stop] = np.asarray(array)
      bad += names
    return batch, bad

  def _next_piece(self):
    try:
      return next(self._pieces)
    except RuntimeError as error:
      if 'Worker process was terminated' not in str(error):
        raise
      raise UserError(
        f'a data worker process died: {error} Exit codes -9 and -7 mean that '
        'memory or /dev/shm is full: lower config.data.workers'
      ) from error


def _numbers(reader, count):
  return grain.MapDataset.range(min(count * reader.pieces, sys.maxsize))


def _threads() -> int:
  return min(environment.cores(), _MAX_THREADS)


def _start_worker(index: int, count: int) -> None:
  del index, count
  # Ctrl-C goes to every process of a terminal; the main one saves and ends us.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  cv2.setNumThreads(1)  # the workers are the parallelism
