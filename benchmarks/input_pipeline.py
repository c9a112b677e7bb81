"""Training images per second: ours, tf.data and torch, on the same photos.

    python benchmarks/input_pipeline.py [--rounds N] [--folder DIR] [--out FILE]

512 photos of 500 x 375 pixels and about 96 kB (input_photos.py): random crop,
resize to 224, flip, batches of 256; ours from ArrayRecord, tf.data from
TFRecord, torch from files, all in the page cache. Each pipeline is a process of
its own, kept to one core and then to two; they take turns, and each turn
starts anew and drops what was read ahead (input_readers.py). Ratios are
ours / theirs: more than one is faster. Last, a short training run says what
share of its time it waits for input. It needs requirements-speed.txt.
"""

import argparse
import json
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import input_photos
import workers

HERE = Path(__file__).resolve().parent
PACKAGES = (
  *('array_record', 'grain', 'numpy', 'opencv-python-headless', 'pillow'),
  *('scipy', 'simplejpeg', 'tensorflow', 'timm', 'torch'),
)
# The peers, each with what is asked for; of torch the faster way on a core.
LIMITS = {'tf.data': 1.2, 'torch': 1.5}
# Batches: more than any reads ahead, then those that are timed.
SKIP = {1: 3, 2: 5}
COUNT = 2


def competitors(cores: int) -> list[str]:
  """Torch reads in its own process on one core: a worker would share it."""
  peer = 'torch' if cores == 1 else 'torch, processes'
  return ['ours, threads', 'ours, processes', 'tf.data', peer]


def measure(folder: Path, cores: int, rounds: int) -> dict:
  names = competitors(cores)
  running = {
    name: workers.Worker(
      [str(HERE / 'input_readers.py'), name, str(folder), str(cores)],
      {'CUDA_VISIBLE_DEVICES': '', 'TF_CPP_MIN_LOG_LEVEL': '3'},
    )
    for name in names
  }
  rates = {name: [] for name in names}
  try:
    for number in range(rounds + 1):  # the first is to warm up
      for name in names:
        rate = running[name].ask('measure', skip=SKIP[cores], count=COUNT)
        print(
          f'{cores} cores, round {number}: {name:16} {rate:6.0f}', flush=True
        )
        if number:
          rates[name].append(rate)
        workers.rest()
  finally:
    for worker in running.values():
      worker.close()
  # A ratio a round: what slows the machine down slows both.
  ours = rates['ours, threads']
  ratios = {
    name.partition(',')[0]: round(
      statistics.median(a / b for a, b in zip(ours, rates[name], strict=True)),
      3,
    )
    for name in names[2:]
  }
  return {
    'cores': cores,
    'images_per_second': {
      name: round(statistics.median(values), 1)
      for name, values in rates.items()
    },
    'ratios': ratios,
    'rounds': {name: [round(v, 1) for v in rates[name]] for name in names},
  }


def overlap(folder: Path) -> dict:
  """A run whose step is slower than the pipeline: how long it waits."""
  with workers.Worker(
    [str(HERE / 'input_overlap.py'), str(folder)], {'JAX_PLATFORMS': 'cpu'}
  ) as worker:
    alone = worker.ask('read')
    return {'pipeline_alone': round(alone, 1), **worker.ask('train')}


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--cores', type=int, nargs='+', default=[1, 2])
  parser.add_argument('--folder', type=Path, help='keeps and reuses the photos')
  parser.add_argument(
    '--out', type=Path, default=HERE / 'results' / 'input_pipeline.json'
  )
  arguments = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    folder = arguments.folder or Path(temporary)
    if not (folder / 'train.tfrecord').exists():
      folder.mkdir(parents=True, exist_ok=True)
      input_photos.write(folder)
    rows = [
      measure(folder, cores, arguments.rounds) for cores in arguments.cores
    ]
    loop = overlap(folder)
    print(
      f'training {loop["images_per_second"]:.0f} images/s, pipeline alone '
      f'{loop["pipeline_alone"]:.0f}: waits {loop["input_wait"]:.2%}'
    )
  report = {
    'command': 'python benchmarks/input_pipeline.py',
    'machine': workers.machine(),
    'versions': {name: metadata.version(name) for name in PACKAGES},
    'limits': LIMITS,
    'measurements': rows,
    'overlap': loop,
  }
  arguments.out.write_text(json.dumps(report, indent=2) + '\n')
  reached = loop['input_wait'] < 0.02
  for row in rows:
    for peer, ratio in row['ratios'].items():
      reached &= ratio >= LIMITS[peer]
      print(
        f'{row["cores"]} cores: {ratio:.2f} x {peer} ({LIMITS[peer]} asked)'
      )
  return 0 if reached else 1


if __name__ == '__main__':
  sys.exit(main())
