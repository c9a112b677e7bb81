"""Writes the measured tables into README.md and docs/, from results/.

    python benchmarks/tables.py

Each goes between a pair of comments: `<!-- parity -->`, `<!-- /parity -->`.
"""

import re
from pathlib import Path

import accelerator_tables
import cpu_tables
import experiment_tables
import run_tables
import summary_table
from result_tables import read, result, table, versions

from effnet_jax.models import variants

ROOT = Path(__file__).resolve().parents[1]
_COLUMNS = {
  'timm `tf_`': ('timm', True),
  'timm': ('timm', False),
  'torchvision': ('torchvision', False),
  'Keras': ('keras', False),
  'lukemelas': ('lukemelas', False),
}
_PACKAGES = ('timm', 'torchvision', 'keras', 'efficientnet_pytorch')


def parity() -> str:
  """A row a variant, a column a peer: the largest difference of all."""
  report = read('parity')
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
  peers = {name: report['versions'][name] for name in _PACKAGES}
  return table(
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
    f'Gradients in training mode, largest over all leaves: {gradients}. '
    f'Peers: {versions(peers)}. {len(report["comparisons"])} comparisons '
    f'{result("parity")}',
    '',
    _predictors(),
  )


def _predictors() -> str:
  report = read('predictors')
  worst = max(report['predictors'], key=lambda row: row['difference'])
  return (
    f'`effnet_jax.predictor` against `apply`, all {len(report["predictors"])} '
    f'networks whole: at most {worst["difference"]:.1e} ({worst["variant"]}) '
    f'{result("predictors")}'
  )


def exports() -> str:
  """A row a network, a column a runtime: the largest difference."""
  report = read('exports')
  runtimes = list(dict.fromkeys(row['runtime'] for row in report['exports']))
  cells: dict[str, dict[str, str]] = {}
  for row in report['exports']:
    value = row.get('difference')
    text = 'error' if value is None else f'{value:.1e}'
    cells.setdefault(row['case'], {})[row['runtime']] = text
  packages = {k: v for k, v in report['versions'].items() if k != 'python'}
  (int8,) = (row for row in report['int8'] if row['case'] == 'lite0')
  return table(
    ('network', *runtimes),
    (
      (case, *(row.get(runtime, '') for runtime in runtimes))
      for case, row in cells.items()
    ),
    f'Lite0 in int8 through TFLite: {int8["bytes"] / 1e6:.1f} MB, the same '
    f'top-1 as in float on {int8["top1_agreement_with_float"]:.1%} of '
    f'{int8["test_crops"]} real crops, {int8["right_of_20"]} of '
    f"foolbox's 20 photos right (float: {int8['right_of_20_float']}).",
    f'With {versions(packages)} {result("exports")}',
  )


# Of each file the places: their name, what renders them, and the result.
PLACES = {
  'README.md': (
    ('parity', parity, 'parity'),
    ('exports', exports, 'exports'),
    ('speed', summary_table.speed, None),
  ),
  'docs/speed.md': (
    ('inference', cpu_tables.inference, 'inference'),
    ('headline', cpu_tables.headline, 'headline'),
    ('training', cpu_tables.training, 'training_step'),
    ('huge_pages', cpu_tables.huge_pages, 'huge_pages'),
    ('gpu', accelerator_tables.gpu, 'gpu'),
    ('compiled', accelerator_tables.compiled, 'compile_table'),
    ('step_bytes', accelerator_tables.step_bytes, 'step_bytes'),
    ('input_pipeline', run_tables.input_pipeline, 'input_pipeline'),
    ('startup', run_tables.startup, 'startup'),
    ('memory', run_tables.memory, 'memory'),
    ('remat_time', run_tables.remat_time, 'remat_time'),
    ('growth', cpu_tables.growth, 'growth'),
  ),
  'docs/experiments.md': (
    ('stamps', experiment_tables.stamps, 'stamps'),
    (
      'fashion_regularizers',
      experiment_tables.regularizers,
      'fashion_regularizers',
    ),
  ),
}


def main() -> None:
  for file, places in PLACES.items():
    path = ROOT / file
    text = path.read_text()
    up = '../' * file.count('/')
    for name, render, measured in places:
      begin, end = f'<!-- {name} -->', f'<!-- /{name} -->'
      pattern = f'{re.escape(begin)}.*?{re.escape(end)}'
      parts = re.split(pattern, text, flags=re.DOTALL)
      if len(parts) != 2:
        raise SystemExit(f'{file} has {len(parts) - 1} places for {name}')
      content = f'Not measured yet: `python benchmarks/{measured}.py` does.'
      if measured is None or read(measured):
        content = render().replace('](benchmarks/', f']({up}benchmarks/')
      text = f'{begin}\n{content}\n{end}'.join(parts)
    path.write_text(text)


if __name__ == '__main__':
  main()
