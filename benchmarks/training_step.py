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

import contextlib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import case_report
import interleaved
import our_step
import reports
import workers

from effnet_jax import environment

SCRIPT = str(Path(__file__).resolve().parent / 'training_step_sides.py')
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


def environ(competitor: str, cache: str) -> dict[str, str]:
  """Returns the environment of a competitor, beside this process's."""
  found = our_step.compiled_in(cache)
  if devices := re.match(r'ours_(\d)', competitor):
    found['JAX_NUM_CPU_DEVICES'] = devices[1]
  if competitor.endswith(HUGE):
    found['GLIBC_TUNABLES'] = environment.MALLOC
  return found


def measure(
  case: tuple[str, int, int], names: Iterable[str], rounds: int, seconds: float
) -> dict[str, Any]:
  """Returns the row of a case.

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
    'case': reports.name_of(case),
    **_arguments(case),
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


def main() -> None:
  arguments = case_report.parse(
    *(__doc__, 'training_step', 'micro-16-256'),
    rounds=15,
    seconds=40,
    some='competitors',
  )
  names = [c for c in COMPETITORS if re.search(arguments.competitors, c)]
  head = {'command': 'python benchmarks/training_step.py'}
  head |= interleaved.huge_pages()
  report = case_report.Report(arguments, CASES, head, PACKAGES, summary)
  wanted = report.wanted()
  interleaved.begin()
  for case in wanted:
    row = measure(case, names, arguments.rounds, arguments.seconds)
    _show(row)
    report.add(row)


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
  workers.run(main)
