"""Training steps at the published batches, compiled for pods that are not here.

    python benchmarks/compile_table.py [--only REGEX] [--out FILE]

Every row is one `python -m effnet_jax compile-check` in a process of its own,
written to results/compile_table.json when it is there; what is there already is
not compiled again (--again does). A row that takes more than 60 minutes of both
cores or 20 GiB is given up and says so. Needs `pip install '.[tpu-compile]'`.
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import reports

ROOT = Path(__file__).resolve().parents[1]
MINUTES, GIB = 60, 20
CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Row:
  variant: str
  topology: str
  batch: int = 4096
  remat: str = 'none'

  def command(self) -> list[str]:
    return [
      *('-m', 'effnet_jax', 'compile-check', '--config=configs/b0.py'),
      f'--config.model.name={self.variant}',
      f'--config.batch_size={self.batch}',
      f'--config.remat={self.remat}',
      f'--topology={self.topology}',
      *('--no-search', '--json'),
    ]

  def name(self) -> str:
    return f'{self.variant} {self.topology} {self.batch} {self.remat}'


# The published global batches: V1 and V2 4096, Noisy Student's L2 2048 labelled
# images. `block` where memory is short: what it saves, and what it costs.
_V5E, _OTHERS = 'v5e:16x16', ('v6e:16x16', 'v5p:4x8x8', 'v4:4x8x8')
ROWS = (
  Row('b0', _V5E),
  *(Row('b0', pod) for pod in _OTHERS),
  Row('b3', _V5E),
  Row('v2_s', _V5E),
  Row('b5', _V5E),
  Row('b7', _V5E),
  Row('b7', _V5E, remat='block'),
  *(Row('v2_s', pod) for pod in _OTHERS),
  Row('v2_xl', _V5E),
  Row('l2', _V5E, batch=2048, remat='block'),
)


def compile_row(row: Row) -> dict:
  """Returns the check of a row, or why there is none."""
  limit = MINUTES * 60 * CORES
  begun = time.monotonic()
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  process = subprocess.Popen(
    [sys.executable, *row.command()],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)),
  )
  why = ''
  while process.poll() is None:
    time.sleep(1)
    if _resident(process.pid) > GIB * 2**30:
      why = f'not compiled within {GIB} GiB'
      process.kill()
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  found = {
    **dataclasses.asdict(row),
    'cpu_seconds': round(seconds),
    'wall_seconds': round(time.monotonic() - begun),
  }
  if seconds >= limit:
    why = f'not compiled within {MINUTES} minutes'
  assert process.stdout is not None
  output = process.stdout.read()
  if process.returncode < 0 and not why:
    # No result: something else took the memory, or somebody killed it.
    sys.exit(
      f'{row.name()}: ended by signal {-process.returncode}; run it alone'
    )
  if why or process.returncode not in (0, 1):
    return {**found, 'failed': why or f'exit status {process.returncode}'}
  return {**found, **json.loads(output)}


def _resident(pid: int) -> int:
  try:
    pages = Path(f'/proc/{pid}/statm').read_text().split()[1]
  except (OSError, IndexError):
    return 0
  return int(pages) * resource.getpagesize()


def main() -> None:
  parser = reports.parser(__doc__, 'compile_table', 'b0 v5e')
  parser.add_argument('--again', action='store_true')
  arguments = parser.parse_args()
  rows = reports.read(arguments.out).get('rows', {})
  known = {row.name(): row for row in ROWS}
  for name in reports.matching(arguments.only, known):
    if name in rows and not arguments.again:
      continue
    print(f'{name} ...', flush=True)
    rows[name] = compile_row(known[name])
    report = {
      'command': 'python benchmarks/compile_table.py',
      'machine': f'{reports.cores()}, shared with others: compile seconds are '
      'no measurement',
      'limits': {'minutes': MINUTES, 'gib': GIB},
      'rows': {name: rows[name] for name in known if name in rows},
    }
    reports.write(arguments.out, report)
    print(f'  {rows[name].get("failed", "compiled")}', flush=True)


if __name__ == '__main__':
  main()
