"""Keeps what the runs of a sweep have reached, as a result file.

    python -m effnet_jax sweep --config=configs/ablations/NAME.py --workdir=DIR
    python benchmarks/ablation.py NAME --sweep DIR

Writes results/NAME.json: mean and spread of each variant over its seeds, each
run's test top-1, its training top-1 at the end and its seconds, and with which
settings, packages and machine.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import reports

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for configs/, as train.py has it

from effnet_jax.sweep import plan, results  # noqa: E402


def of_sweep(sweep: plan.Sweep, directory: Path) -> dict[str, Any]:
  """Returns the report of a sweep's work directories.

  Raises:
    SystemExit: a run is not finished.
  """
  runs = plan.runs(sweep)
  rows = results.collect(directory, runs)
  if left := [row['run'] for row in rows if row['state'] != 'done']:
    raise SystemExit(
      f'{len(left)} runs in {directory} are not finished, the first {left[0]}: '
      'give the sweep again'
    )
  for row in rows:
    history = (directory / row['run'] / 'metrics.jsonl').read_text()
    entries = [json.loads(line) for line in history.splitlines()]
    # Of the last line of the log: the steps since the one before.
    row['train_top1'] = [e['top1'] for e in entries if 'top1' in e][-1]
    row['eval'] = [
      [e['step'], e['eval_top1'], e['eval_top1_ema']]
      for e in entries
      if 'eval_top1' in e
    ]
  summary = json.loads(
    (directory / rows[0]['run'] / 'summary.json').read_text()
  )
  return {
    'base': sweep.base,
    'shared': dict(sweep.shared),
    'overrides': {name: dict(of) for name, of in sweep.runs.items()},
    'params': summary['params'],
    'macs': summary['macs'],
    'test_images': int(summary['test_examples']),
    'variants': results.by_variant(rows),
    'runs': rows,
    'machine': reports.machine(),
    'versions': summary['versions'],
  }


def main(argv: Sequence[str] | None = None) -> None:
  parser = reports.parser(__doc__, 'NAME')
  parser.add_argument('name', help='of the file in configs/ablations')
  parser.add_argument('--sweep', type=Path, required=True, help='its --workdir')
  arguments = parser.parse_args(argv)
  sweep = plan.load(str(ROOT / f'configs/ablations/{arguments.name}.py'))
  report = of_sweep(sweep, arguments.sweep)
  out = arguments.out.with_stem(
    arguments.out.stem.replace('NAME', arguments.name)
  )
  reports.write(out, report)
  print(json.dumps(report['variants'], indent=2))


if __name__ == '__main__':
  main()
