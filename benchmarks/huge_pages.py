"""What huge pages for malloc, and a device a core, do for a training step.

    python benchmarks/huge_pages.py [--only REGEX] [--out FILE]

effnet_jax/environment.py rests on this. Every combination in processes of its
own, which take turns; the median of all their steps and the resident memory at
its highest. The results go to results/huge_pages.json.
"""

import functools
import json
import os
import resource
import statistics
import sys
import tempfile
import time

import growth
import interleaved
import our_step
import reports
import workers

from effnet_jax import environment
from effnet_jax.models import variants

KEYS = ('model', 'resolution', 'batch')
CASES = (('micro', 16, 64), ('micro', 28, 256), ('b0', 224, 16))
ROUNDS, SECONDS = 2, 6  # processes a combination, of so many seconds of steps


def steps(name: str, resolution: int, batch: int) -> dict:
  """Returns the milliseconds of some steps, in this process."""
  spec = variants.get_spec(name, resolution=resolution)
  step = growth.training(spec, batch)
  step()
  milliseconds, begun = [], time.perf_counter()
  while time.perf_counter() < begun + SECONDS:
    milliseconds += interleaved.measure(step, 0, 1)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
  return {'milliseconds': milliseconds, 'peak_mib': peak}


def in_a_process(case: tuple, devices: int, huge: bool, cache: str) -> dict:
  chosen = our_step.compiled_in(cache) | {'JAX_NUM_CPU_DEVICES': str(devices)}
  if huge:
    chosen['GLIBC_TUNABLES'] = environment.MALLOC
  with workers.Worker([__file__, '--worker'], chosen) as worker:
    return worker.ask('steps', case=case)


def measure(case: tuple, cache: str) -> list[dict]:
  ways = [(d, h) for d in (1, os.cpu_count() or 1) for h in (False, True)]
  for devices, _ in ways[::2]:
    in_a_process(case, devices, False, cache)  # compiles
  runs = interleaved.in_turns(
    {way: functools.partial(in_a_process, case, *way, cache) for way in ways},
    ROUNDS,
  )
  rows = [
    {
      **dict(zip(KEYS, case, strict=True)),
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
  arguments = reports.parser(__doc__, 'huge_pages', 'micro-28-256').parse_args()
  cases = {reports.name_of(case): case for case in CASES}
  names = reports.matching(arguments.only, cases)
  interleaved.forget_settings()
  # What is not measured again stays.
  rows = reports.read(arguments.out).get('rows', [])
  with tempfile.TemporaryDirectory() as cache:
    for name in names:
      case = cases[name]
      rows = [row for row in rows if tuple(map(row.get, KEYS)) != case]
      rows += measure(case, cache)
      print(json.dumps(rows[-4:], indent=1), flush=True)
      report = {
        'command': 'python benchmarks/huge_pages.py',
        'machine': reports.cores(),
        **interleaved.huge_pages(),
        'versions': reports.versions(['jax']),
        'rows': rows,
      }
      reports.write(arguments.out, report)


if __name__ == '__main__':
  if sys.argv[1:] == ['--worker']:
    workers.serve({'steps': lambda case: steps(*case)})
  else:
    workers.run(main)
