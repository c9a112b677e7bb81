"""What huge pages for malloc, and a device a core, do for a training step.

    python benchmarks/huge_pages.py [--only REGEX] [--out FILE]

effnet_jax/environment.py rests on this. Every combination in processes of its
own, which take turns; the median of all their steps and the resident memory at
its highest. The results go to results/huge_pages.json.
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import growth
import startup

from effnet_jax import environment
from effnet_jax.models import variants

RESULTS = Path(__file__).resolve().parent / 'results'
CASES = (('micro', 16, 64), ('micro', 28, 256), ('b0', 224, 16))
ROUNDS, SECONDS = 2, 6  # processes a combination, of so many seconds of steps


def one(name: str, resolution: int, batch: int) -> dict:
  """Returns the milliseconds of some steps, in this process."""
  spec = variants.get_spec(name, resolution=resolution)
  step = growth.training(spec, batch)
  step()
  milliseconds, begun = [], time.perf_counter()
  while time.perf_counter() < begun + SECONDS:
    before = time.perf_counter()
    step()
    milliseconds.append(1e3 * (time.perf_counter() - before))
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
  return {'milliseconds': milliseconds, 'peak_mib': peak}


def in_a_process(case: tuple, devices: int, huge: bool, cache: str) -> dict:
  tunables = {'GLIBC_TUNABLES': environment.MALLOC} if huge else {}
  done = subprocess.run(
    [sys.executable, __file__, '--one', *map(str, case)],
    env=startup.environ(
      JAX_NUM_CPU_DEVICES=str(devices),
      JAX_COMPILATION_CACHE_DIR=cache,
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
      **tunables,
    ),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def measure(case: tuple, cache: str) -> list[dict]:
  ways = [(d, h) for d in (1, os.cpu_count() or 1) for h in (False, True)]
  for devices, _ in ways[::2]:
    in_a_process(case, devices, False, cache)  # compiles
  runs = {way: [] for way in ways}
  for _ in range(ROUNDS):
    for way in ways:
      runs[way].append(in_a_process(case, *way, cache))
  rows = [
    {
      **dict(zip(('model', 'resolution', 'batch'), case, strict=True)),
      'devices': devices,
      'huge_pages': huge,
      'milliseconds': round(
        statistics.median(t for run in runs for t in run['milliseconds']), 1
      ),
      'peak_mib': max(run['peak_mib'] for run in runs),
    }
    for (devices, huge), runs in runs.items()
  ]
  for row in rows:
    for figure in ('milliseconds', 'peak_mib'):
      row[f'{figure}_ratio'] = round(row[figure] / rows[0][figure], 3)
  return rows


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', metavar='REGEX', default='', help='b0')
  parser.add_argument('--out', type=Path, default=RESULTS / 'huge_pages.json')
  parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.one:
    name, *sizes = arguments.one
    print(json.dumps(one(name, *map(int, sizes))))
    return
  pages = Path('/sys/kernel/mm/transparent_hugepage/enabled')
  rows = []
  with tempfile.TemporaryDirectory() as cache:
    for case in CASES:
      if re.search(arguments.only, case[0]):
        rows += measure(case, cache)
        print(json.dumps(rows[-4:], indent=1), flush=True)
  report = {
    'command': 'python benchmarks/huge_pages.py',
    'machine': f'{os.cpu_count()} cores, {platform.machine()}',
    'transparent_hugepage': pages.read_text().strip(),
    'tunables': environment.MALLOC,
    'versions': {'jax': metadata.version('jax')},
    'rows': rows,
  }
  arguments.out.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
  main()
