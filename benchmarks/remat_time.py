"""What rematerialisation costs in time: a training step on this CPU.

    python benchmarks/remat_time.py [--only REGEX] [--rounds 9] [--out FILE]

The step of `effnet_jax.build` for B0 at 224 pixels with 16 images and B4 at 380
with 4, float32, with huge pages; each `config.remat` in a process of its own
that sleeps while the others are timed; they take turns. Ratios are time / time
without. What it saves is in memory.py, the cost on a TPU in compile_table.py.
The results go to results/remat_time.json.
"""

import contextlib
import sys
import tempfile
from typing import Any

import interleaved
import memory
import our_step
import reports
import workers

from effnet_jax import environment

CASES = (('b0', 224, 16), ('b4', 380, 4))
WAYS = memory.WAYS[1:]


def measure(
  case: tuple[str, int, int], rounds: int, seconds: float
) -> dict[str, Any]:
  """Returns the row of a case."""
  with contextlib.ExitStack() as stack:
    cache = stack.enter_context(tempfile.TemporaryDirectory())
    chosen = {
      **our_step.compiled_in(cache),
      'GLIBC_TUNABLES': environment.MALLOC,
    }
    pool = {}
    for way in WAYS:
      worker = workers.Worker([__file__, '--worker'], chosen)
      pool[way] = stack.enter_context(worker)
      worker.ask('prepare', case=case, way=way)
    times, others = interleaved.race(pool, rounds, seconds)
  return {
    'case': reports.name_of(case),
    'cores_of_others': others,
    'times': times,
    'ratios': {
      way: interleaved.ratio(times[way], times['none']) for way in WAYS[1:]
    },
  }


def serve() -> None:
  current = []

  def prepare(case: tuple[str, int, int], way: str) -> None:
    step, _ = memory.ours(*case, way)
    step()
    current.append(step)

  workers.serve(
    {
      'prepare': prepare,
      'measure': lambda warm, calls: interleaved.measure(
        current[0], warm, calls
      ),
    }
  )


def main() -> None:
  parser = reports.parser(__doc__, 'remat_time', 'b0')
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--seconds', type=float, default=40)
  arguments = parser.parse_args()
  cases = {reports.name_of(case): case for case in CASES}
  rows = {
    row['case']: row for row in reports.read(arguments.out).get('rows', [])
  }
  names = reports.matching(arguments.only, cases)
  interleaved.begin()
  for name in names:
    row = rows[name] = measure(cases[name], arguments.rounds, arguments.seconds)
    print(row['case'], row['ratios'], flush=True)
    report = {
      'command': 'python benchmarks/remat_time.py',
      'machine': interleaved.machine(),
      'versions': reports.versions(('jax', 'jaxlib')),
      'rows': [rows[name] for name in cases if name in rows],
    }
    reports.write(arguments.out, report)


if __name__ == '__main__':
  if sys.argv[1:] == ['--worker']:
    serve()
  else:
    workers.run(main)
