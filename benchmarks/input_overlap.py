"""A real run whose step is slower than its input, as a worker.

    python benchmarks/input_overlap.py FOLDER

FOLDER holds what input_photos.py has written. Half of B0's width and a third of
its depth, at 128 pixels, on the CPU, whose cores decode the photos as well.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import input_photos
import workers

STEPS, LOG, BATCH, SIZE = 48, 8, 32, 128


def train(folder: Path) -> dict:
  """Returns what the loop itself says of its lines, without the first."""
  from configs import b0
  from effnet_jax.training import loop

  config = b0.get_config()
  config.batch_size = BATCH
  config.duration = f'{STEPS} steps'
  config.log.every = f'{LOG} steps'
  config.evaluation.every = config.checkpoint.every = config.duration
  config.evaluation.batch_size = BATCH
  config.model.overrides.width, config.model.overrides.depth = 0.5, 0.3
  config.model.overrides.resolution = SIZE
  config.data.name = input_photos.NAME
  config.data.path = str(folder / 'tfds')
  config.data.eval_split = config.data.test_split = 'train[:32]'
  # What follows is of ImageNet and of a TPU in that config.
  config.model.dtype = 'float32'
  config.evaluation.report = 'last'
  config.data.workers = 0
  config.data.train_split = 'train'
  config.data.train_examples = config.data.num_classes = None
  with tempfile.TemporaryDirectory() as workdir:
    _, history = loop.train_and_evaluate(config, workdir)
  lines = [entry for entry in history if 'loss' in entry][1:]
  return {
    'steps': len(lines) * LOG,
    'input_wait': statistics.mean(line['input_wait'] for line in lines),
    'images_per_second': statistics.median(
      line['images_per_second'] for line in lines
    ),
  }


def read(folder: Path) -> float:
  """Returns images/s of the pipeline alone."""
  from effnet_jax.data import pipeline, preprocess, sources

  source = sources.open_source(
    'tfds', 'train', name=input_photos.NAME, path=str(folder / 'tfds')
  )
  batches = pipeline.train_batches(
    source, preprocess.Preprocess(SIZE), batch_size=BATCH, seed=0
  )
  for _ in range(8):
    next(batches)
  begun = time.perf_counter()
  for _ in range(32):
    next(batches)
  seconds = time.perf_counter() - begun
  batches.close()
  return 32 * BATCH / seconds


if __name__ == '__main__':
  root = Path(sys.argv[1])
  sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # configs
  workers.serve({'train': lambda: train(root), 'read': lambda: read(root)})
