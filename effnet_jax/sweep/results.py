"""What the runs of a sweep have reached, a line a variant."""

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effnet_jax.sweep import claims
from effnet_jax.sweep.plan import Run

METRICS = ('test_top1', 'test_top1_ema')
ERROR = 'error.txt'


def state(workdir: Path) -> str:
  """Returns done, running, failed, stopped (to be resumed) or waiting."""
  if (workdir / 'summary.json').exists():
    return 'done'
  if claims.is_taken(workdir):
    return 'running'
  if (workdir / ERROR).exists():
    return 'failed'
  return 'stopped' if (workdir / 'log.txt').exists() else 'waiting'


def collect(directory: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
  """Returns of each run its name, variant, seed, state and metrics."""
  rows = []
  for run in runs:
    workdir = directory / run.name
    row = {
      'run': run.name,
      'variant': run.variant,
      'seed': run.overrides['seed'],
      'state': state(workdir),
    }
    if row['state'] == 'done':
      summary = json.loads((workdir / 'summary.json').read_text())
      row |= {name: summary[name] for name in (*METRICS, 'seconds')}
    rows.append(row)
  return rows


def by_variant(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns of each variant how many are done, and mean and spread over them.

  The spread is the standard deviation over seeds (of n - 1), None for one.
  """
  found = []
  for variant in dict.fromkeys(row['variant'] for row in rows):
    done = [r for r in rows if r['variant'] == variant and r['state'] == 'done']
    line = {'variant': variant, 'runs': len(done)}
    for name in METRICS if done else ():
      values = [row[name] for row in done]
      line[name] = statistics.fmean(values)
      line[f'{name}_std'] = (
        statistics.stdev(values) if len(values) > 1 else None
      )
    found.append(line)
  return found


def write(directory: Path, rows: Sequence[dict[str, Any]]) -> None:
  """Writes results.json and results.csv."""
  report = {'variants': by_variant(rows), 'runs': list(rows)}
  _replace(directory / 'results.json', json.dumps(report, indent=2) + '\n')
  fields = ('run', 'variant', 'seed', 'state', *METRICS, 'seconds')
  part = directory / '.results.csv'
  with part.open('w', newline='') as file:
    writer = csv.DictWriter(file, fields)
    writer.writeheader()
    writer.writerows(rows)
  part.replace(directory / 'results.csv')


def _replace(path: Path, text: str) -> None:
  part = path.with_name('.' + path.name)
  part.write_text(text)
  part.replace(path)


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns the variants as lines for people, in per cent."""
  lines = by_variant(rows)
  width = max(len('variant'), *(len(line['variant']) for line in lines))
  text = [f'{"variant":<{width}}  runs  test top-1 (raw)  test top-1 (EMA)']
  for line in lines:
    cells = ''.join(_cell(line, name) for name in METRICS)
    text.append(f'{line["variant"]:<{width}}  {line["runs"]:>4}{cells}')
  return '\n'.join(text)


def _cell(line: dict[str, Any], name: str) -> str:
  if name not in line:
    return f'{"":>18}'
  spread = line[f'{name}_std']
  text = f'{100 * line[name]:.2f}'
  text += f' +- {100 * spread:.2f}' if spread is not None else ''
  return f'{text:>18}'
