"""The tables of docs/speed.md, and what the README says of them."""

import re

from result_tables import RESULTS, read, table, where

_RUNTIMES = {
  'keras_jax': 'Keras, JAX',
  'torch_eager': 'torch',
  'torch_compile': 'torch.compile',
  'tflite': 'TFLite',
  'onnxruntime': 'ONNX Runtime',
  'openvino': 'OpenVINO',
}


def headline() -> str:
  """A row a runtime, milliseconds at batch 1; then what the paper says."""
  report = read('headline.json')
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
  lines = [table(head, rows), '']
  tried = amoebanet['readings']
  counted = [reading for reading in tried if reading['counts']]
  lines.append(
    f'AmoebaNet-B (18, 512) is a reconstruction: '
    f'{amoebanet["parameters"]:,} parameters (published 557 M), '
    f'{amoebanet["parameter_ratio"]:.1f} times those of B7 (published 8.4). '
    f'Of {len(tried)} readings of its tables {len(counted)} have that size '
    'within 0.5 %.'
    if counted
    else 'None of the readings of AmoebaNet-B (18, 512) has 557 M parameters.'
  )
  machine = report['machine']
  lines.append(
    f'Batch 1, float32, {report["threads"]} threads of {machine["processor"]} '
    '([result](benchmarks/results/headline.json)).'
  )
  return '\n'.join(lines)


def gpu() -> str:
  """A row a case: images/s of the best of ours, of timm, and the ratio."""
  report = read('gpu.json')
  rows = []
  for row in report['rows']:
    case, competitors = row['case'], row.get('competitors')
    if competitors is None:
      continue
    speeds = {
      name: result.get('images_per_second')
      for name, result in competitors.items()
    }
    ours = [name for name in speeds if name.startswith('ours') and speeds[name]]
    best = max(ours, key=speeds.get, default=None)
    peers = [name for name in speeds if name.startswith('timm')]
    share = competitors[best].get('share_of_bandwidth') if best else None
    rows.append(
      (
        f'{case["section"]}, {case["variant"]}, batch {row["batch"]}',
        str(case['resolution']),
        f'{speeds[best]:,.0f} ({best.removeprefix("ours_")})' if best else '',
        ', '.join(
          f'{speeds[name]:,.0f} ({name})' if speeds[name] else f'error ({name})'
          for name in peers
        ),
        ', '.join(f'{value:.2f}' for value in row['speedups'].values()),
        f'{share:.0%}' if share else '',
      )
    )
  head = ('', 'pixels', 'ours', 'timm', 'ours / timm', 'of the bandwidth')
  versions = ', '.join(f'{n} {v}' for n, v in report['versions'].items())
  return '\n'.join(
    [
      table(head, rows),
      '',
      f'Images/s in bfloat16 on one {report["device"]}, {versions} '
      '([result](benchmarks/results/gpu.json)).',
    ]
  )


def startup() -> str:
  """Imports in a sentence; a row a network: seconds to the first step."""
  report = read('startup.json')
  imports = report['imports']
  rows = [
    (
      row['model'],
      str(row['resolution']),
      f'{row["cold"]["to_first_step"]:.0f} s',
      f'{min(warm["to_first_step"] for warm in row["warm"]):.0f} s',
      f'{row["cache_bytes"] / 1e6:.1f} MB',
    )
    for row in report['first_step']
  ]
  head = ('', 'pixels', 'nothing compiled yet', 'from the cache', 'kept')
  return '\n'.join(
    [
      table(head, rows),
      '',
      'From `python train.py` to the end of the first step, '
      f'{report["machine"]}. `import effnet_jax` takes '
      f'{imports["import effnet_jax"]["ratio"]:.3f} of the time of `import '
      'jax, flax`; with `effnet_jax.create_model` touched '
      f'{imports["effnet_jax.create_model"]["ratio"]:.2f}, with '
      f'`effnet_jax.build` {imports["effnet_jax.build"]["ratio"]:.2f} '
      '([result](benchmarks/results/startup.json)).',
    ]
  )


def memory() -> str:
  """A row a network: the peak of timm's step and of ours, each way."""
  report = read('memory.json')
  steps: dict[str, dict[str, dict]] = {}
  for row in report['steps']:
    steps.setdefault(row['model'], {})[row['way']] = row
  rows = []
  for name, ways in steps.items():
    any_way = next(iter(ways.values()))
    cells = [f'{name}, {any_way["batch"]} x {any_way["resolution"]} pixels']
    for way in ('timm', 'none', 'block', 'stage'):
      row = ways.get(way)
      cell = f'{row["peak_mib"]:,}' if row else ''
      if row and 'milliseconds_over_none' in row:
        cell += (
          f' ({row["peak_over_none"]:.2f} of the memory, '
          f'{row["milliseconds_over_none"]:.2f} of the time)'
        )
      cells.append(cell)
    rows.append(cells)
  head = ('', 'timm, eager', 'ours', '`remat=block`', '`remat=stage`')
  versions = ', '.join(f'{n} {v}' for n, v in report['versions'].items())
  return '\n'.join(
    [
      table(head, rows),
      '',
      'MiB at the peak of a training step, weights, averages and optimiser '
      f'included, float32 on CPU; {versions} '
      '([result](benchmarks/results/memory.json)).',
    ]
  )


def growth() -> str:
  """A row an axis: slopes of log time on log MACs; then what a phi costs."""
  report = read('growth.json')
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
  return '\n'.join(
    [
      table(('', 'inference', 'training step'), rows),
      '',
      'Slope of log(time an image) on log(MACs an image), and R^2. Promised '
      f'is 2^phi; B0 scaled by phi has {max(of_macs, default=0):.2f} times the '
      f'MACs per phi, and {verdict} '
      '([result](benchmarks/results/growth.json)).',
    ]
  )


def huge_pages() -> str:
  """A row a step: milliseconds with and without, on one device and a core."""
  report = read('huge_pages.json')
  cases: dict[str, list[dict]] = {}
  for row in report['rows']:
    name = f'{row["model"]}, {row["batch"]} x {row["resolution"]} pixels'
    cases.setdefault(name, []).append(row)
  columns = [
    f'{row["devices"]} device{"s" * (row["devices"] > 1)}, '
    + ('huge pages' if row['huge_pages'] else 'plain')
    for row in next(iter(cases.values()))
  ]
  cell = lambda row: (
    f'{row["milliseconds"]:.0f} ms, {row["peak_mib"] / 1024:.1f} GiB'
  )
  return '\n'.join(
    [
      table(
        ('', *columns),
        ((name, *map(cell, rows)) for name, rows in cases.items()),
      ),
      '',
      f'A training step, {report["machine"]}, jax {report["versions"]["jax"]} '
      '([result](benchmarks/results/huge_pages.json)).',
    ]
  )


def compiled() -> str:
  """A row a network and pod: does the published batch fit, and how fast?"""
  report = read('compile_table.json')
  rows = []
  for row in report['rows'].values():
    cells = [row['variant'], row['topology'], f'{row["batch"]:,}', row['remat']]
    if 'failed' in row:
      rows.append([*cells, row['failed'], '', '', '', '', ''])
      continue
    gib = lambda amount: f'{amount / 2**30:.1f}' if amount else '?'
    memory = f'{gib(row["peak_bytes"])} of {gib(row["hbm_bytes"])}'
    if not row['fits']:
      rows.append([*cells, f'**no**: {memory}', '', '', '', '', ''])
      continue
    rows.append(
      [
        *cells,
        memory,
        f'{row["flops"] / 1e9:,.0f}',
        f'{row["bytes_accessed"] / 1e9:.1f}',
        f'{row["hbm_traffic_bytes"] / 1e9:.1f}',
        f'{row["images_per_second_bound"] / 1e3:,.0f}',
        f'{row["images_per_second_by_hbm"] / 1e3:,.0f}',
      ]
    )
  head = (
    *('', 'pod', 'batch', 'remat', 'GiB a chip', 'GFLOP', 'GB accessed'),
    *('GB to HBM', "k images/s by XLA's bytes", 'at most, by HBM'),
  )
  versions = next(
    (r['versions'] for r in report['rows'].values() if 'versions' in r), {}
  )
  with_ = ', '.join(f'{name} {version}' for name, version in versions.items())
  limits = report['limits']
  return '\n'.join(
    [
      table(head, rows),
      '',
      'Arithmetic and bytes are of one chip and step, images/s of the pod. '
      f'Compiled with {with_}; given up after {limits["minutes"]} minutes of '
      f'both cores or at {limits["gib"]} GiB. What is missing was not compiled '
      'here ([result](benchmarks/results/compile_table.json)).',
    ]
  )


def step_bytes() -> str:
  """A row a change: bytes of B0's step on a v5e chip."""
  report = read('step_bytes.json')
  rows = [
    (
      name,
      *(
        f'{row[key] / 1e9:.1f}'
        for key in ('bytes_accessed', 'operand_bytes', 'hbm_traffic_bytes')
      ),
      f'{row["flops"] / 1e9:.0f}',
    )
    for name, row in report['rows'].items()
  ]
  head = ('', 'GB by XLA', 'GB of operands', 'GB to HBM', 'GFLOP')
  return '\n'.join(
    [
      table(head, rows),
      '',
      f'{report["network"]}, {report["topology"]} '
      '([result](benchmarks/results/step_bytes.json)).',
    ]
  )


def input_pipeline() -> str:
  """Images/s of each pipeline, by cores; then a core-second, and the ratios."""
  report = read('input_pipeline.json')
  rows = []
  for row in report['measurements']:
    speeds = {
      name.partition(',')[0] if name.startswith('torch') else name: speed
      for name, speed in row['images'].items()
    }
    cores = f'{row["cores"]} core{"s" * (row["cores"] > 1)}'
    for unit, per in (
      ('per_second', f'a second, {cores}'),
      ('per_core_second', 'a core-second of these'),
    ):
      ratios = (row['ratios'][peer][unit] for peer in report['limits'])
      rows.append(
        [
          per,
          *(f'{speed[unit]:,.0f}' for speed in speeds.values()),
          *(f'{ratio:.2f}' for ratio in ratios),
        ]
      )
  columns = [*speeds, *(f'ours / {peer}' for peer in report['limits'])]
  loop, versions = report['overlap'], report['versions']
  peers = ', '.join(
    f'{name} {versions[name]}' for name in ('tensorflow', 'torch', 'timm')
  )
  asked = ' and '.join(f'{limit}' for limit in report['limits'].values())
  return '\n'.join(
    [
      table(('images', *columns), rows),
      '',
      f'{asked} times are asked for. A training run of '
      f'{loop["images_per_second"]:.0f} images/s, on cores where the pipeline '
      f'alone gives {loop["pipeline_alone"]:,.0f}, waited for input during '
      f'{loop["input_wait"]:.2%} of its time. '
      f'{report["machine"]["processor"]}, {peers} '
      '([result](benchmarks/results/input_pipeline.json)).',
    ]
  )


def inference() -> str:
  """A row a network and batch: our time, and its ratio to every peer's."""
  report = read('inference.json')
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
  lines = [
    table(('', 'batch', 'ours, ms', *_RUNTIMES.values()), rows),
    '',
    'Time of ours over that of each runtime, medians of calls that take turns: '
    'below 1 is faster. Means are over float32.',
  ]
  if narrow := means.get('openvino_bfloat16'):
    lines[-1] += f' In bfloat16: {narrow["ratio"]:.2f} of OpenVINO'
    units = report['machine']['bfloat16_units']
    lines[-1] += '.' if units else ', on a CPU without units for it.'
  lines.append(where(report, 'inference.json'))
  return '\n'.join(lines)


def training() -> str:
  """A row a case: the best time of either side, and the ratios."""
  report = read('training_step.json')
  peers, rows = ('torch_eager', 'torch_compile'), []
  for row in report['rows']:
    times, of = row['final'], row['ratios']
    cells = [f'{row["name"]}, {row["batch"]} x {row["resolution"]} pixels']
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
  return '\n'.join(
    [
      table((*head, 'ours / compiled'), rows),
      '',
      'Forward, backward, RMSProp and moving average, float32; each side the '
      'fastest of its ways. ' + where(report, 'training_step.json'),
    ]
  )


# What the README says of a result, and the ratio at most that was asked for.
_ASKED = (
  ('inference on CPU, time', 'inference', 'keras_jax', 'Keras 3 on JAX', 0.15),
  ('', 'inference', 'torch_eager', 'torch, eager', 0.6),
  ('', 'inference', 'torch_compile', 'torch, compiled', 0.8),
  ('', 'inference', 'tflite', 'TFLite', 0.6),
  ('', 'inference', 'onnxruntime', 'ONNX Runtime', 0.9),
  ('', 'inference', 'openvino', 'OpenVINO', 1.0),
  (
    *('training step on CPU, time', 'training_step', 'torch_eager'),
    *('timm, eager', 1.3),
  ),
  ('', 'training_step', 'torch_compile', 'timm, compiled', 1.3),
)


def speed() -> str:
  """A row a peer: the geometric mean over networks and batches."""
  rows = []
  for what, file, peer, name, asked in _ASKED:
    measured = _result(file, {'summary': {}})['summary'].get(peer, {})
    ratio, cases = _NOT_MEASURED, ''
    if measured:
      ratio, cases = f'{measured["ratio"]:.2f}', str(measured['cases'])
    rows.append((what, name, ratio, cases, f'at most {asked}'))
  what = 'input pipeline, images/s'
  report = _result('input_pipeline', {'limits': {}})
  for peer, asked in report['limits'].items():
    ratios = [
      f'{row["ratios"][peer]["per_second"]:.2f}'
      for row in report['measurements']
    ]
    rows.append((what, peer, ', '.join(ratios), '1 and 2 cores', f'{asked}'))
    what = ''
  speedups = [
    f'{value:.2f}'
    for row in _result('gpu', {'rows': []})['rows']
    for value in row.get('speedups', {}).values()
  ]
  ratio = ', '.join(speedups) or _NOT_MEASURED
  rows.append(('GPU, images/s', 'timm, compiled', ratio, '', '1.2'))
  return table(('', 'peer', 'ours / theirs', 'cases', 'asked for'), rows)


_NOT_MEASURED = 'not measured'


def _result(name, otherwise):
  there = (RESULTS / f'{name}.json').exists()
  return read(f'{name}.json') if there else otherwise
