"""Every example once, whatever divides it: drawn at random, fixed seed."""

import numpy as np
import pytest

from effnet_jax.data.pipeline import eval_batches, train_batches
from effnet_jax.data.preprocess import Preprocess
from effnet_jax.data.sources import ArraySource

PLAIN = Preprocess(4, crop_area=None, flip=False, crop_padding=None)


def _cases(count):
  """(examples, processes, devices a process, examples a device)."""
  rng = np.random.default_rng(0)
  draw = lambda: [int(rng.integers(1, top)) for top in (60, 6, 4, 5)]
  return [draw() for _ in range(count)]


def _source(examples):
  images = np.zeros((examples, 4, 4), np.uint8)
  return ArraySource(images, np.arange(examples), [str(i) for i in range(60)])


@pytest.mark.parametrize('case', _cases(25), ids=str)
def test_evaluation_counts_each_example_once(case):
  examples, processes, devices, each = case
  shares = [
    list(
      eval_batches(
        _source(examples),
        PLAIN,
        batch_size=devices * each,
        process_index=index,
        process_count=processes,
      )
    )
    for index in range(processes)
  ]
  # In step: a process with a batch fewer would leave the others waiting.
  assert {len(share) for share in shares} == {
    -(-examples // (processes * devices * each))
  }
  seen = []
  for batch in (batch for share in shares for batch in share):
    # As `parallel.shard` deals it out.
    labels = batch['label'].reshape(devices, each)
    mask = batch['mask'].reshape(devices, each)
    seen += labels[mask == 1].tolist()
  assert sorted(seen) == list(range(examples))


@pytest.mark.parametrize('case', _cases(25), ids=str)
def test_training_shows_each_example_once_an_epoch(case):
  examples, processes, devices, each = case
  batch_size = devices * each
  steps = -(-2 * examples // (processes * batch_size))  # two epochs and more
  shares = []
  for index in range(processes):
    batches = train_batches(
      _source(examples),
      PLAIN,
      batch_size=batch_size,
      seed=7,
      process_index=index,
      process_count=processes,
    )
    shares.append([next(batches)['label'] for _ in range(steps)])
    batches.close()
  # [step, process, row]: the global batches, one after another.
  stream = np.asarray(shares).swapaxes(0, 1).ravel()
  for epoch in (0, 1):
    part = stream[epoch * examples : (epoch + 1) * examples]
    assert sorted(part) == list(range(examples))
