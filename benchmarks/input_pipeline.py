"""Training images per second: ours, tf.data and torch, on the same photos.

    python benchmarks/input_pipeline.py [--rounds N] [--folder DIR] [--out FILE]

512 photos of 500 x 375 pixels and about 96 kB (input_photos.py): random crop,
resize to 224, flip, batches of 256; ours from ArrayRecord, tf.data from
TFRecord, torch from files, all in the page cache. Each pipeline is a process of
its own, kept to one core and then to two; they take turns, and each turn
starts anew and drops what was read ahead (input_readers.py). Ratios are
ours / theirs: more than one is faster. Images are counted a second and a
second of a core's work, of all threads and processes together: the latter is
what a machine that does other things as well leaves alone. A short
training run says what share of its time it waits for input. Last, ours and
tf.data under RandAugment(2, 9) and AutoAugment. Each part is
written as it ends; --parts measures some again and leaves the others as they
are. It needs requirements-speed.txt.
"""

import functools
import statistics
import tempfile
from pathlib import Path

import input_photos
import interleaved
import reports
import workers

HERE = Path(__file__).resolve().parent
PACKAGES = (
  *('array_record', 'grain', 'numba', 'numpy', 'opencv-python-headless'),
  *('pillow', 'simplejpeg', 'tensorflow', 'timm', 'torch'),
)
# The peers, each with what is asked for; of torch the faster way on a core.
LIMITS = {'tf.data': 1.2, 'torch': 1.5}
AUGMENTED_LIMIT = 1.5  # of tf.data with the published operations
# Batches: more than any reads ahead, then those that are timed.
SKIP = {1: 3, 2: 5}
COUNT = 2
POLICIES = ('randaugment', 'autoaugment')
PARTS = ('1', '2', 'overlap', *POLICIES)  # cores, the training run, policies


def competitors(cores: int, policy: str) -> list[str]:
  """Torch reads in its own process on one core: a worker would share it."""
  if policy:
    return ['ours, threads', 'ours, processes', 'tf.data']
  peer = 'torch' if cores == 1 else 'torch, processes'
  return ['ours, threads', 'ours, processes', 'tf.data', peer]


def measure(folder: Path, cores: int, rounds: int, policy: str = '') -> dict:
  names = competitors(cores, policy)
  options = [policy] * bool(policy)
  running = {
    name: workers.Worker(
      [
        *(str(HERE / 'input_readers.py'), name, str(folder), str(cores)),
        *options,
      ],
      {'CUDA_VISIBLE_DEVICES': '', 'TF_CPP_MIN_LOG_LEVEL': '3'},
    )
    for name in names
  }

  def turn(name):
    workers.rest()
    rate = running[name].ask('measure', skip=SKIP[cores], count=COUNT)
    print(
      f'{cores} cores: {policy} {name:16} {rate["per_second"]:5.0f} images/s, '
      f'{rate["per_core_second"]:5.0f} a core-second',
      flush=True,
    )
    return rate

  calls = {name: functools.partial(turn, name) for name in names}
  try:
    interleaved.in_turns(calls, 1)  # to warm up
    rates = interleaved.in_turns(calls, rounds)
  finally:
    for worker in running.values():
      worker.close()
  medians = {
    name: {
      unit: round(statistics.median(rate[unit] for rate in values), 1)
      for unit in values[0]
    }
    for name, values in rates.items()
  }
  # A ratio a round: what slows the machine down slows both.
  ratios = {
    name.partition(',')[0]: {
      unit: round(
        statistics.median(
          ours[unit] / theirs[unit]
          for ours, theirs in zip(rates[names[0]], rates[name], strict=True)
        ),
        3,
      )
      for unit in medians[name]
    }
    for name in names[2:]
  }
  return {'cores': cores, 'images': medians, 'ratios': ratios, 'rounds': rates}


def overlap(folder: Path) -> dict:
  """A run whose step is slower than the pipeline: how long it waits."""
  with workers.Worker(
    [str(HERE / 'input_overlap.py'), str(folder)], {'JAX_PLATFORMS': 'cpu'}
  ) as worker:
    alone = worker.ask('read')
    return {'pipeline_alone': round(alone, 1), **worker.ask('train')}


def reached(report: dict) -> bool:
  """Prints what is asked for beside what is measured."""
  good = True
  if loop := report['overlap']:
    print(
      f'training {loop["images_per_second"]:.0f} images/s, pipeline alone '
      f'{loop["pipeline_alone"]:.0f}: waits {loop["input_wait"]:.2%}'
    )
    good = loop['input_wait'] < 0.02
  rows = [(row, '', LIMITS) for row in report['measurements']]
  for policy, measured in report['augmented'].items():
    rows += [(row, policy, {'tf.data': AUGMENTED_LIMIT}) for row in measured]
  for row, policy, limits in rows:
    for peer, ratios in row['ratios'].items():
      good &= min(ratios.values()) >= limits[peer]
      print(
        f'{row["cores"]} cores: {policy} {ratios["per_second"]:.2f} x {peer}, '
        f'{ratios["per_core_second"]:.2f} a core-second '
        f'({limits[peer]} asked)'
      )
  return good


def main() -> int:
  parser = reports.parser(__doc__, 'input_pipeline')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS)
  parser.add_argument('--folder', type=Path, help='keeps and reuses the photos')
  arguments = parser.parse_args()
  report = {
    'command': 'python benchmarks/input_pipeline.py',
    'machine': reports.machine(),
    'versions': reports.versions(PACKAGES),
    'limits': LIMITS,
  }
  earlier = reports.read(arguments.out)
  if any(earlier.get(key) != value for key, value in report.items()):
    earlier = {}  # of something else
  rows = {str(row['cores']): row for row in earlier.get('measurements', [])}
  report['measurements'] = list(rows.values())
  report['overlap'] = earlier.get('overlap')
  report['augmented'] = earlier.get('augmented', {})
  with tempfile.TemporaryDirectory() as temporary:
    folder = arguments.folder or Path(temporary)
    if not (folder / 'train.tfrecord').exists():
      folder.mkdir(parents=True, exist_ok=True)
      input_photos.write(folder)
    for part in arguments.parts:
      if part == 'overlap':
        report['overlap'] = overlap(folder)
      elif part in POLICIES:
        report['augmented'][part] = [
          measure(folder, cores, arguments.rounds, part) for cores in SKIP
        ]
      else:
        rows[part] = measure(folder, int(part), arguments.rounds)
      report['measurements'] = [rows[part] for part in PARTS if part in rows]
      reports.write(arguments.out, report)
  complete = (
    report['overlap']
    and len(report['measurements']) == 2
    and len(report['augmented']) == len(POLICIES)
  )
  return 0 if reached(report) and complete else 1


if __name__ == '__main__':
  workers.run(main)
