"""The command `sweep`: the runs of an ablation, one after another or many."""

import argparse
import shlex
from pathlib import Path

from effnet_jax import flags
from effnet_jax.arguments import ArgumentParser
from effnet_jax.sweep import plan, results, runner

_DESCRIPTION = """\
Runs the variants of a config, each with several seeds. Every run is an ordinary
work directory DIR/NAME of train.py. The same command again, also at the same
time or on another machine that shares DIR, takes what is left: a finished run
is not repeated, a killed one goes on from its last checkpoint, a failed one is
named, begins again at the next call, and does not stop the others.

--config.KEY=VALUE holds for all runs, whatever the sweep shares; a key in which
the runs differ is refused.

At the end: mean and spread of each variant over its seeds, also as
DIR/results.json and DIR/results.csv. The exit status is 1 if a run failed."""

_EXAMPLES = """\
examples:
  python -m effnet_jax sweep --config=configs/ablations/se.py --workdir=runs/se
  python -m effnet_jax sweep --config=configs/ablations/se.py \\
    --workdir=runs/se --workers=2 --config.duration='20 epochs'
  python -m effnet_jax sweep --config=... --workdir=... --shard=3/8
  python -m effnet_jax sweep --config=... --workdir=... --list > jobs.txt
    one command a line, for the job array of any cluster

configs/ablations/*.py return a Sweep (effnet_jax/sweep/plan.py)."""


def sweep(argv: list[str]) -> int:
  """Runs, or lists, a sweep; returns 0, 1 if a run failed, or 128 + signal."""
  arguments, overrides = _parse(argv)
  directory = Path(arguments.workdir).expanduser()
  runner.check_root()
  planned = plan.without(plan.load(arguments.config), overrides)
  runs = plan.runs(planned)
  base = flags.parse(['sweep', f'--config={planned.base}', *overrides])
  for run in runs:
    plan.check(base, run)
  mine = plan.shard(runs, arguments.shard) if arguments.shard else runs
  command = lambda run, workdir: runner.train_command(
    plan.arguments(planned, run, overrides), workdir
  )
  if arguments.list:
    for run in mine:
      print(shlex.join(['python', *command(run, directory / run.name)[1:]]))
    return 0
  directory.mkdir(parents=True, exist_ok=True)
  rows = results.collect(directory, mine)
  states = [row['state'] for row in rows]
  print(
    f'{len(mine)} runs of {planned.base}: '
    + ', '.join(f'{states.count(s)} {s}' for s in dict.fromkeys(states)),
    flush=True,
  )
  say = lambda line: print(line, flush=True)
  status = runner.Runner(directory, command, arguments.workers, say).run(mine)
  rows = results.collect(directory, runs)
  results.write(directory, rows)
  print(results.table(rows))
  for row in rows:
    if row['state'] == 'failed':
      error = (directory / row['run'] / results.ERROR).read_text().strip()
      print(f'failed: {row["run"]}: {error}')
  return status


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
  overrides = [a for a in argv if a.startswith('--config.')]
  parser = ArgumentParser(
    prog='python -m effnet_jax sweep',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  add = parser.add_argument
  add('--config', metavar='FILE', required=True, help='the sweep')
  add('--workdir', metavar='DIR', required=True, help='of all its runs')
  add(
    '--workers',
    metavar='N',
    type=int,
    default=1,
    help='runs at a time, which share cores and GPUs (default: %(default)s)',
  )
  add('--shard', metavar='I/N', help='the I-th of N shares, from 0')
  add('--list', action='store_true', help='print the commands, run nothing')
  parsed = parser.parse_args([a for a in argv if a not in overrides])
  if parsed.workers < 1:
    parser.error('--workers must be 1 or more')
  return parsed, overrides
