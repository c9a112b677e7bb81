"""A training step on a CPU: the one of `effnet_jax.build` against timm's.

    python benchmarks/training_step.py [--only REGEX] [--again] [--rounds 15]
      [--seconds 40] [--competitors REGEX] [--out FILE]

Forward, backward, RMSProp as TensorFlow 1 has it, moving average of weights, in
float32 on two threads, from uint8 images; dropout, drop path and label
smoothing are on. B0 at 224 pixels with 16 images, `micro` with 256 at its
native 16 pixels and at Fashion-MNIST's 28. Ours on one device and on a device a
core, timm's in eager torch and compiled, channels last; each also with the huge
pages of effnet_jax/environment.py. The ways of a side race first, then the best
of each side: those are the ratios, time(ours) / time(peer). Each is a process
that sleeps while the others are timed, and they take turns. Needs
requirements-speed.txt, and a machine that does nothing else: `cores_of_others`
says. The results go to results/training_step.json case by case; a further call
goes on with what it lacks, or what was measured with other versions.
"""

import argparse
import contextlib
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import interleaved
import workers

from effnet_jax import environment

FOLDER = Path(__file__).resolve().parent
SCRIPT = str(FOLDER / 'training_step_sides.py')
# (network, pixels, images)
CASES = (('b0', 224, 16), ('micro', 16, 256), ('micro', 28, 256))
PEERS = ('torch_eager', 'torch_compile')
SIDES = ('ours', *PEERS)
HUGE = '_huge_pages'
COMPETITORS = tuple(
  way + pages
  for way in ('ours_1_device', 'ours_2_devices', *PEERS)
  for pages in ('', HUGE)
)
BAR, GOAL = 1.3, 1.0
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'timm')


def name_of(case: tuple[str, int, int]) -> str:
  return '-'.join(map(str, case))


def environ(competitor: str, cache: str) -> dict[str, str]:
  """Returns the environment of a competitor, beside this process's."""
  found = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  found['JAX_COMPILATION_CACHE_DIR'] = cache
  if devices := re.match(r'ours_(\d)', competitor):
    found['JAX_NUM_CPU_DEVICES'] = devices[1]
  if competitor.endswith(HUGE):
    found['GLIBC_TUNABLES'] = environment.MALLOC
  return found


def measure(
  case: tuple[str, int, int], names: Iterable[str], rounds: int, seconds: float
) -> dict[str, Any]:
  """Returns what a row says of times.

  `heats` has those of all competitors, one side after the other; `final` those
  of the best of each side, in turns.
  """
  heats: dict[str, dict] = {}
  pool: dict[str, workers.Worker] = {}
  with contextlib.ExitStack() as stack:
    # What is compiled for one is there for the other with the same devices.
    cache = stack.enter_context(tempfile.TemporaryDirectory())
    for side in SIDES:
      ready = {}
      for name in (name for name in names if name.startswith(side)):
        worker = stack.enter_context(
          workers.Worker([SCRIPT, side], environ(name, cache))
        )
        try:
          heats[name] = worker.ask('prepare', **_arguments(case))
          ready[name] = worker
        except workers.WorkerError as error:
          heats[name] = {'error': str(error)}
      times, _ = interleaved.race(ready, max(2, rounds // 3), seconds / 3)
      for name, result in times.items():
        heats[name] |= result
      winner = best(heats, side)
      for name, worker in ready.items():
        if name == winner:
          pool[name] = worker
        else:
          worker.close()  # its memory is needed
    final, others = interleaved.race(pool, rounds, seconds)
    for name, result in final.items():
      if 'error' not in result:
        result |= pool[name].ask('after')
  sizes = {of['parameters'] for of in heats.values() if 'parameters' in of}
  if len(sizes) > 1:
    raise workers.WorkerError(f'these are different networks: {sizes}')
  return {
    'cores_of_others': others,
    'heats': heats,
    'final': final,
    'ratios': ratios(final),
  }


def _arguments(case):
  return dict(zip(('name', 'resolution', 'batch'), case, strict=True))


def best(results: dict[str, dict], side: str) -> str | None:
  """Returns the fastest competitor of a side."""
  of = [
    name
    for name, result in results.items()
    if name.startswith(side) and 'error' not in result
  ]
  return min(of, key=lambda name: results[name]['milliseconds'], default=None)


def ratios(results: dict[str, dict]) -> dict[str, dict]:
  """Returns time(ours) / time(peer) for every peer, each at its best."""
  found, mine = {}, best(results, 'ours')
  for peer in PEERS:
    theirs = best(results, peer)
    if mine and theirs:
      ratio = interleaved.ratio(results[mine], results[theirs])
      found[peer] = {'ours': mine, 'peer': theirs, **(ratio or {})}
  return found


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, dict]:
  """Returns, for each peer, the geometric means over all cases."""
  rows, found = list(rows), {}
  for peer in PEERS:
    of = [row['ratios'][peer] for row in rows if peer in row['ratios']]
    if of:
      found[peer] = {
        **interleaved.means(of, BAR),
        'goal': GOAL,
        'goal_met': interleaved.means(of, GOAL)['met'],
      }
  return found


def main() -> int:
  arguments = _parse()
  interleaved.begin()
  names = [c for c in COMPETITORS if re.search(arguments.competitors, c)]
  versions = {
    'python': platform.python_version(),
    **interleaved.versions(PACKAGES),
  }
  rows = interleaved.read_rows(arguments.out)
  try:
    for case in CASES:
      name = name_of(case)
      known = rows.get(name, {}).get('versions') == versions
      if not re.search(arguments.only, name) or known and not arguments.again:
        continue
      rows[name] = {
        'case': name,
        **_arguments(case),
        'versions': versions,
        **measure(case, names, arguments.rounds, arguments.seconds),
      }
      _show(rows[name])
      _write(arguments.out, rows, versions)
  except workers.WorkerError as error:
    print(f'training_step: {error}', file=sys.stderr)
    return 1
  return 0


def _parse():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add('--only', metavar='REGEX', default='', help='micro-16-256')
  add('--again', action='store_true', help='what has been measured too')
  add('--rounds', type=int, default=15, metavar='N')
  add('--seconds', type=float, default=40, help='of each competitor in a case')
  add('--competitors', metavar='REGEX', help='some only, to try; needs --out')
  add('--out', type=Path)
  arguments = parser.parse_args()
  if arguments.competitors and not arguments.out:
    parser.error('--competitors leaves ratios out: give another --out')
  arguments.out = arguments.out or FOLDER / 'results' / 'training_step.json'
  arguments.competitors = arguments.competitors or ''
  return arguments


def _write(path, rows, versions):
  ordered = [rows[name_of(case)] for case in CASES if name_of(case) in rows]
  pages = Path('/sys/kernel/mm/transparent_hugepage/enabled')
  interleaved.write(
    path,
    {
      'command': 'python benchmarks/training_step.py',
      'machine': interleaved.machine(),
      'transparent_hugepage': pages.read_text().strip(),
      'tunables': environment.MALLOC,
      'versions': versions,
      'summary': summary(ordered),
      'rows': ordered,
    },
  )


def _show(row):
  for kind in ('heats', 'final'):
    for name, result in row[kind].items():
      text = result.get('error') or f'{result["milliseconds"]:8.1f} ms'
      if 'loss' in result:
        text += f'  {result["peak_mib"]:,} MiB, loss {result["loss"]}'
      print(f'{row["case"]:13} {kind} {name:25} {text}', flush=True)
  for of in row['ratios'].values():
    print(
      f'{row["case"]:13} {of["ours"]} / {of["peer"]}: {of["ratio"]:.3f}',
      flush=True,
    )


if __name__ == '__main__':
  sys.exit(main())
