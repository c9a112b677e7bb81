"""Writes the measured tables into the README, from benchmarks/results.

    python benchmarks/tables.py

Each goes between a pair of comments: `<!-- parity -->`, `<!-- /parity -->`.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from effnet_jax.models import variants

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results'
_COLUMNS = {
  'timm `tf_`': ('timm', True),
  'timm': ('timm', False),
  'torchvision': ('torchvision', False),
  'Keras': ('keras', False),
  'lukemelas': ('lukemelas', False),
}


def parity() -> str:
  """A row a variant, a column a peer: the largest difference of all."""
  report = json.loads((RESULTS / 'parity.json').read_text())
  cells: dict[str, dict[str, str]] = {}
  natives: dict[str, set[int]] = {}
  for row in report['comparisons']:
    if row['kind'] != 'outputs':
      continue
    of_tf = row['network'].startswith('tf_')
    (column,) = (
      name
      for name, (peer, tf) in _COLUMNS.items()
      if peer == row['peer'] and tf == of_tf
    )
    worst = max(max(at['logits'], at['largest']) for at in row['outputs'])
    cells.setdefault(row['variant'], {})[column] = f'{worst:.1e}'
    natives.setdefault(row['variant'], set()).update(
      at['resolution'] for at in row['outputs']
    )
  gradients = ', '.join(
    f'{row["variant"]} {row["gradients"]["largest"]:.1e}'
    for row in report['comparisons']
    if row['kind'] == 'gradients'
  )
  versions = report['versions']
  peers = ', '.join(
    f'{name} {versions[name]}'
    for name in ('timm', 'torchvision', 'keras', 'efficientnet_pytorch')
  )
  return '\n'.join(
    [
      _table(
        ('variant', 'pixels', *_COLUMNS),
        (
          (
            name,
            ', '.join(map(str, sorted(natives[name], reverse=True))),
            *(row.get(column, '') for column in _COLUMNS),
          )
          for name in variants.list_models()
          if (row := cells.get(name))
        ),
      ),
      '',
      f'Gradients in training mode, largest over all leaves: {gradients}. '
      f'Peers: {peers}. {len(report["comparisons"])} comparisons '
      '([result](benchmarks/results/parity.json)).',
      '',
      _predictors(),
    ]
  )


def _predictors() -> str:
  report = json.loads((RESULTS / 'predictors.json').read_text())
  worst = max(report['predictors'], key=lambda row: row['difference'])
  return (
    f'`effnet_jax.predictor` against `apply`, all {len(report["predictors"])} '
    f'networks whole: at most {worst["difference"]:.1e} ({worst["variant"]}) '
    '([result](benchmarks/results/predictors.json)).'
  )


def exports() -> str:
  """A row a network, a column a runtime: the largest difference."""
  report = json.loads((RESULTS / 'exports.json').read_text())
  runtimes = list(dict.fromkeys(row['runtime'] for row in report['exports']))
  cells: dict[str, dict[str, str]] = {}
  for row in report['exports']:
    value = row.get('difference')
    text = 'error' if value is None else f'{value:.1e}'
    cells.setdefault(row['case'], {})[row['runtime']] = text
  versions = ', '.join(
    f'{name} {version}'
    for name, version in report['versions'].items()
    if name != 'python'
  )
  (int8,) = (row for row in report['int8'] if row['case'] == 'lite0')
  return '\n'.join(
    [
      _table(
        ('network', *runtimes),
        (
          (case, *(row.get(runtime, '') for runtime in runtimes))
          for case, row in cells.items()
        ),
      ),
      '',
      f'Lite0 in int8 through TFLite: {int8["bytes"] / 1e6:.1f} MB, the same '
      f'top-1 as in float on {int8["top1_agreement_with_float"]:.1%} of '
      f'{int8["test_crops"]} real crops, {int8["right_of_20"]} of '
      f"foolbox's 20 photos right (float: {int8['right_of_20_float']}).",
      f'With {versions} ([result](benchmarks/results/exports.json)).',
    ]
  )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
  line = lambda cells: f'| {" | ".join(cells)} |'
  head = tuple(head)
  return '\n'.join(
    [line(head), line(['---'] * len(head)), *(line(row) for row in rows)]
  )


def main() -> None:
  readme = ROOT / 'README.md'
  text = readme.read_text()
  for name, render in (('parity', parity), ('exports', exports)):
    begin, end = f'<!-- {name} -->', f'<!-- /{name} -->'
    pattern = f'{re.escape(begin)}.*?{re.escape(end)}'
    parts = re.split(pattern, text, flags=re.DOTALL)
    if len(parts) != 2:
      raise SystemExit(f'README.md has {len(parts) - 1} places for {name}')
    text = f'{begin}\n{render()}\n{end}'.join(parts)
  readme.write_text(text)


if __name__ == '__main__':
  main()
