"""How long importing takes, and `python train.py` to its first step.

    python benchmarks/startup.py [--models b0,b3,b7] [--out FILE]

Importing: seconds of the statements alone, in new processes, in turn. Training:
configs/folder.py on a few synthetic JPEGs at the network's own resolution, two
images a step, from the start of the process to the line that says that the
first step is done; with an empty compilation cache, then with what that left.
The results go to results/startup.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np

from effnet_jax import environment
from effnet_jax.models import variants

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results'
IMPORTS = {
  'import jax, flax': 'import jax, flax',
  'import effnet_jax': 'import effnet_jax',
  'effnet_jax.create_model': 'import effnet_jax; effnet_jax.create_model',
  'effnet_jax.build': 'import effnet_jax; effnet_jax.build',
}
REFERENCE = 'import jax, flax'
REPEATS, WARM = 11, 2
BATCH = 2


def environ(**variables: str) -> dict[str, str]:
  """Returns this process's environment without what changes the results."""
  chosen = ('JAX_', 'XLA_', 'MALLOC_', 'GLIBC_TUNABLES', environment.SWITCH)
  plain = {k: v for k, v in os.environ.items() if not k.startswith(chosen)}
  return {**plain, 'JAX_PLATFORMS': 'cpu', **variables}


def imports() -> dict:
  """Returns the median seconds of each import, and its ratio to JAX's."""
  seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
  for _ in range(REPEATS):
    for name, statement in IMPORTS.items():
      code = (
        f'import time; begun = time.perf_counter(); {statement}; '
        'print(time.perf_counter() - begun)'
      )
      done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env=environ(),
        capture_output=True,
        text=True,
        check=True,
      )
      seconds[name].append(float(done.stdout))
  medians = {name: statistics.median(s) for name, s in seconds.items()}
  return {
    name: {
      'seconds': round(median, 4),
      'ratio': round(median / medians[REFERENCE], 3),
    }
    for name, median in medians.items()
  }


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
      env=environ(XDG_CACHE_HOME=str(cache)),
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


def training(names: list[str]) -> list[dict]:
  rows = []
  with tempfile.TemporaryDirectory() as temporary:
    images = Path(temporary) / 'images'
    make_images(images)
    for name in names:
      cache = Path(temporary) / name
      cold = first_step(name, images, cache)
      warm = [first_step(name, images, cache) for _ in range(WARM)]
      entries = [path for path in cache.rglob('*') if path.is_file()]
      rows.append(
        {
          'model': name,
          'resolution': variants.get_spec(name).resolution,
          'batch': BATCH,
          'cold': cold,
          'warm': warm,
          'cache_entries': len(entries),
          'cache_bytes': sum(path.stat().st_size for path in entries),
        }
      )
      print(json.dumps(rows[-1]), flush=True)
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--models', default='b0,b3,b7')
  parser.add_argument('--out', type=Path, default=RESULTS / 'startup.json')
  arguments = parser.parse_args()
  report = {
    'command': 'python benchmarks/startup.py',
    'machine': f'{os.cpu_count()} cores, {platform.machine()}',
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in ('jax', 'flax')},
    },
    'imports': imports(),
    'first_step': [],
  }
  print(json.dumps(report['imports'], indent=2), flush=True)
  report['first_step'] = training(
    list(filter(None, arguments.models.split(',')))
  )
  arguments.out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
  main()
