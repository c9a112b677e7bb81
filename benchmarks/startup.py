"""How long importing takes, and `python train.py` to its first step.

    python benchmarks/startup.py [--models b0,b3,b7] [--out FILE]

Importing: seconds of the statements alone, in new processes, in turn. Training:
configs/folder.py on a few synthetic JPEGs at the network's own resolution, two
images a step, from the start of the process to the line that says that the
first step is done; with an empty compilation cache, then with what that left.
The results go to results/startup.json.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import interleaved
import numpy as np
import reports

from effnet_jax.models import variants

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = {
  'import jax, flax': 'import jax, flax',
  'import effnet_jax': 'import effnet_jax',
  'effnet_jax.create_model': 'import effnet_jax; effnet_jax.create_model',
  'effnet_jax.build': 'import effnet_jax; effnet_jax.build',
}
REFERENCE = 'import jax, flax'
REPEATS, WARM = 11, 2
BATCH = 2
MODELS = ('b0', 'b3', 'b7')


def imports() -> dict:
  """Returns the median seconds of each import, and its ratio to JAX's."""
  seconds = interleaved.in_turns(
    {
      name: functools.partial(_seconds, statement)
      for name, statement in IMPORTS.items()
    },
    REPEATS,
  )
  medians = {name: statistics.median(s) for name, s in seconds.items()}
  return {
    name: {
      'seconds': round(median, 4),
      'ratio': round(median / medians[REFERENCE], 3),
    }
    for name, median in medians.items()
  }


def _seconds(statement):
  code = (
    f'import time; begun = time.perf_counter(); {statement}; '
    'print(time.perf_counter() - begun)'
  )
  command = [sys.executable, '-c', code]
  return float(subprocess.check_output(command, cwd=ROOT, text=True))


def make_images(directory: Path) -> None:
  rng = np.random.default_rng(0)
  for split in ('train', 'test'):
    for label in ('left', 'right'):
      folder = directory / split / label
      folder.mkdir(parents=True)
      for number in range(8):
        image = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number}.jpg'), image)


def first_step(name: str, images: Path, cache: Path) -> dict[str, float]:
  """Returns the seconds to the lines `compiling` and `first step done`."""
  command = [
    *(sys.executable, 'train.py', '--config=configs/folder.py'),
    *(f'--config.model.name={name}', f'--config.data.path={images}'),
    *(
      f'--config.batch_size={BATCH}',
      f'--config.evaluation.batch_size={BATCH}',
    ),
    '--config.duration=1000 steps',
  ]
  seconds, begun = {}, time.perf_counter()
  with tempfile.TemporaryDirectory() as workdir:
    process = subprocess.Popen(
      [*command, f'--workdir={workdir}'],
      cwd=ROOT,
      env={**os.environ, 'XDG_CACHE_HOME': str(cache)},
      stdout=subprocess.PIPE,
      text=True,
    )
    for line in process.stdout or ():
      now = time.perf_counter() - begun
      if line.startswith('compiling'):
        seconds['to_compiling'] = round(now, 2)
      if line.startswith('first step done'):
        seconds['to_first_step'] = round(now, 2)
        break
    process.kill()
    process.communicate()
  if 'to_first_step' not in seconds:
    raise SystemExit(f'{" ".join(command)} ended before its first step')
  return seconds


def training(name: str) -> dict:
  with tempfile.TemporaryDirectory() as temporary:
    images, cache = Path(temporary) / 'images', Path(temporary) / 'cache'
    make_images(images)
    cold = first_step(name, images, cache)
    warm = [first_step(name, images, cache) for _ in range(WARM)]
    entries = [path for path in cache.rglob('*') if path.is_file()]
    return {
      'model': name,
      'resolution': variants.get_spec(name).resolution,
      'batch': BATCH,
      'cold': cold,
      'warm': warm,
      'cache_entries': len(entries),
      'cache_bytes': sum(path.stat().st_size for path in entries),
    }


def main() -> None:
  parser = reports.parser(__doc__, 'startup')
  parser.add_argument('--models', default=','.join(MODELS))
  arguments = parser.parse_args()
  interleaved.forget_settings()
  rows = reports.read(arguments.out).get('first_step', [])
  rows = {row['model']: row for row in rows}  # what is not measured again stays
  report = {
    'command': 'python benchmarks/startup.py',
    'machine': reports.cores(),
    'versions': reports.versions(('python', 'jax', 'flax')),
    'imports': imports(),
  }
  print(json.dumps(report['imports'], indent=2), flush=True)
  for name in filter(None, arguments.models.split(',')):
    rows[name] = training(name)
    print(json.dumps(rows[name]), flush=True)
    order = sorted(rows, key=variants.list_models().index)
    report['first_step'] = [rows[model] for model in order]
    reports.write(arguments.out, report)


if __name__ == '__main__':
  main()
