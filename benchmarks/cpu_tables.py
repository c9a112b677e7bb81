"""Tables of docs/speed.md: times on a CPU, of calls and of steps."""

import re

from result_tables import read, result, step, table, where

_RUNTIMES = {
  'keras_jax': 'Keras, JAX',
  'torch_eager': 'torch',
  'torch_compile': 'torch.compile',
  'tflite': 'TFLite',
  'onnxruntime': 'ONNX Runtime',
  'openvino': 'OpenVINO',
}


def inference() -> str:
  """A row a network and batch: our time, and its ratio to every peer's."""
  report = read('inference')
  means = report['summary']
  rows = []
  for row in report['rows']:
    narrow = '' if row['dtype'] == 'float32' else f', {row["dtype"]}'
    of = {
      peer.removesuffix('_bfloat16'): ratio['ratio']
      for peer, ratio in row['ratios'].items()
    }
    ours = row['competitors']['ours']
    rows.append(
      (
        f'{row["model"]}, {row["resolution"]} pixels{narrow}',
        str(row['batch']),
        f'{ours["milliseconds"]:.1f}' if 'milliseconds' in ours else 'error',
        *(f'{of[peer]:.2f}' if peer in of else '' for peer in _RUNTIMES),
      )
    )
  for what, value in (('geometric mean', 'ratio'), ('asked for', 'at_most')):
    cells = (means.get(peer, {}).get(value) for peer in _RUNTIMES)
    rows.append(
      (what, '', '', *(f'{cell:.2f}' if cell else '' for cell in cells))
    )
  text = (
    'Time of ours over that of each runtime, medians of calls that take turns: '
    'below 1 is faster. Means are over float32.'
  )
  if narrow := means.get('openvino_bfloat16'):
    text += f' In bfloat16: {narrow["ratio"]:.2f} of OpenVINO'
    units = report['machine']['bfloat16_units']
    text += '.' if units else ', on a CPU without units for it.'
  head = ('', 'batch', 'ours, ms', *_RUNTIMES.values())
  return table(head, rows, text, where(report, 'inference'))


def headline() -> str:
  """A row a runtime, milliseconds at batch 1; then what the paper says."""
  report = read('headline')
  resnet, amoebanet = report['resnet152'], report['amoebanet']
  rows = []
  for runtime in resnet['runtimes']:
    cells = [runtime]
    for part in (resnet, amoebanet):
      of = part.get('runtimes', {}).get(runtime)
      times = of['milliseconds'].values() if of else ()
      cells += [f'{time:,.0f}' for time in times] or ['', '']
      cells.append(f'{of["time_ratio"]:.1f}' if of else '')
    rows.append(cells)
  published = [f'{p["published_time_ratio"]}' for p in (resnet, amoebanet)]
  rows.append(['published', '', '', published[0], '', '', published[1]])
  head = ('', 'ResNet-152', 'B1', 'ratio', 'AmoebaNet-B', 'B7', 'ratio')
  tried = amoebanet['readings']
  counted = [reading for reading in tried if reading['counts']]
  size = (
    f'AmoebaNet-B (18, 512) is a reconstruction: '
    f'{amoebanet["parameters"]:,} parameters (published 557 M), '
    f'{amoebanet["parameter_ratio"]:.1f} times those of B7 (published 8.4). '
    f'Of {len(tried)} readings of its tables {len(counted)} have that size '
    'within 0.5 %.'
    if counted
    else 'None of the readings of AmoebaNet-B (18, 512) has 557 M parameters.'
  )
  machine = report['machine']
  return table(
    *(head, rows, size),
    f'Batch 1, float32, {report["threads"]} threads of {machine["processor"]} '
    f'{result("headline")}',
  )


def training() -> str:
  """A row a case: the best time of either side, and the ratios."""
  report = read('training_step')
  peers, rows = ('torch_eager', 'torch_compile'), []
  for row in report['rows']:
    times, of = row['final'], row['ratios']
    cells = [step(row['name'], row)]
    names = [next(iter(of.values()))['ours']] if of else []
    names += [of[peer]['peer'] if peer in of else '' for peer in peers]
    for name in names:
      pages = ', huge pages' if name.endswith('_huge_pages') else ''
      time = f'{times[name]["milliseconds"]:.0f} ms' if name else ''
      devices = re.sub(r'^ours_(\d)_device.*', r', devices: \1', name)
      cells.append(time + (devices if devices != name else '') + pages)
    cells += [
      f'{of[peer]["ratio"]:.2f}' if peer in of else '' for peer in peers
    ]
    rows.append(cells)
  means = [report['summary'].get(peer, {}).get('ratio') for peer in peers]
  rows.append(
    ['geometric mean', '', '', '', *(f'{m:.2f}' if m else '' for m in means)]
  )
  head = ('', 'ours', 'timm, eager', 'timm, compiled', 'ours / eager')
  return table(
    (*head, 'ours / compiled'),
    rows,
    'Forward, backward, RMSProp and moving average, float32; each side the '
    'fastest of its ways. ' + where(report, 'training_step'),
  )


def huge_pages() -> str:
  """A row a step: milliseconds with and without, on one device and a core."""
  report = read('huge_pages')
  cases: dict[str, list[dict]] = {}
  for row in report['rows']:
    cases.setdefault(step(row['model'], row), []).append(row)
  columns = [
    f'{row["devices"]} device{"s" * (row["devices"] > 1)}, '
    + ('huge pages' if row['huge_pages'] else 'plain')
    for row in next(iter(cases.values()))
  ]
  cell = lambda row: (
    f'{row["milliseconds"]:.0f} ms, {row["peak_mib"] / 1024:.1f} GiB'
  )
  return table(
    ('', *columns),
    ((name, *map(cell, rows)) for name, rows in cases.items()),
    f'A training step, {report["machine"]}, jax {report["versions"]["jax"]} '
    f'{result("huge_pages")}',
  )


def growth() -> str:
  """A row an axis: slopes of log time on log MACs; then what a phi costs."""
  report = read('growth')
  slopes: dict[str, dict[str, dict]] = {}
  for row in report['slopes']:
    slopes.setdefault(row['axis'], {})[row['work']] = row
  cell = lambda row: f'{row["slope"]:.2f} ({row["r2"]:.3f})' if row else ''
  rows = [
    (
      {'batch': 'batch (on the batch)', 'phi': 'compound'}.get(axis, axis),
      *(cell(works.get(work)) for work in ('inference', 'training')),
    )
    for axis, works in slopes.items()
  ]
  verdict = '; '.join(
    f'{work} takes {row["time_a_phi"]:.2f} times as long per phi'
    for work, row in slopes.get('phi', {}).items()
  )
  of_macs = {row['macs_a_phi'] for row in slopes.get('phi', {}).values()}
  return table(
    ('', 'inference', 'training step'),
    rows,
    'Slope of log(time an image) on log(MACs an image), and R^2. Promised '
    f'is 2^phi; B0 scaled by phi has {max(of_macs, default=0):.2f} times the '
    f'MACs per phi, and {verdict} {result("growth")}',
  )
