"""Tables of docs/speed.md: input, start and memory of a training run."""

from result_tables import read, result, step, table, versions

_PEERS = ('tensorflow', 'torch', 'timm')


def input_pipeline() -> str:
  """Images/s of each pipeline, by cores; then a core-second, and the ratios."""
  report = read('input_pipeline')
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
  loop = report['overlap']
  peers = {name: report['versions'][name] for name in _PEERS}
  asked = ' and '.join(f'{limit}' for limit in report['limits'].values())
  return table(
    ('images', *columns),
    rows,
    f'{asked} times are asked for. A training run of '
    f'{loop["images_per_second"]:.0f} images/s, on cores where the pipeline '
    f'alone gives {loop["pipeline_alone"]:,.0f}, waited for input during '
    f'{loop["input_wait"]:.2%} of its time. '
    f'{report["machine"]["processor"]}, {versions(peers)} '
    f'{result("input_pipeline")}',
  )


def startup() -> str:
  """Imports in a sentence; a row a network: seconds to the first step."""
  report = read('startup')
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
  return table(
    head,
    rows,
    'From `python train.py` to the end of the first step, from the cache the '
    'better of two, '
    f'{report["machine"]}. `import effnet_jax` takes '
    f'{imports["import effnet_jax"]["ratio"]:.3f} of the time of `import '
    'jax, flax`; with `effnet_jax.create_model` touched '
    f'{imports["effnet_jax.create_model"]["ratio"]:.2f}, with '
    f'`effnet_jax.build` {imports["effnet_jax.build"]["ratio"]:.2f} '
    f'{result("startup")}',
  )


def memory() -> str:
  """A row a network: the peak of timm's step and of ours, each way."""
  report = read('memory')
  steps: dict[str, dict[str, dict]] = {}
  for row in report['steps']:
    steps.setdefault(row['model'], {})[row['way']] = row
  rows = []
  for name, ways in steps.items():
    cells = [step(name, next(iter(ways.values())))]
    for way in ('timm', 'none', 'block', 'stage'):
      row = ways.get(way)
      cell = f'{row["peak_mib"]:,}' if row else ''
      if row and 'peak_over_none' in row:
        cell += f' ({row["peak_over_none"]:.2f} of ours)'
      cells.append(cell)
    rows.append(cells)
  head = ('', 'timm, eager', 'ours', '`remat=block`', '`remat=stage`')
  return table(
    head,
    rows,
    'MiB at the peak of a training step, weights, averages and optimiser '
    f'included, float32 on CPU; {versions(report["versions"])} '
    f'{result("memory")}',
  )


def remat_time() -> str:
  """A row a network: the time of a step each way, over that without."""
  report = read('remat_time')
  rows = [
    [
      step(name, {'resolution': resolution, 'batch': batch}),
      f'{row["times"]["none"]["milliseconds"]:,.0f}',
      *(f'{row["ratios"][way]["ratio"]:.2f}' for way in ('block', 'stage')),
    ]
    for row in report['rows']
    for name, resolution, batch in [row['case'].split('-')]
  ]
  return table(
    ('', 'ms without', '`remat=block`', '`remat=stage`'),
    rows,
    'Time of a training step over that without rematerialisation, float32 on '
    f'{report["machine"]["processor"]}, {report["machine"]["cores"]} cores; '
    f'{versions(report["versions"])} {result("remat_time")}',
  )
