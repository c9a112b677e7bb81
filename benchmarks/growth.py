"""Time per image as B0 grows: in batch, resolution, width, depth, and all.

    python benchmarks/growth.py [--small] [--only REGEX] [--out FILE]

Inference by `effnet_jax.predictor`, a training step by `effnet_jax.build`, in
float32 on this machine's CPU. The sizes of one axis take turns; each time is
the median of the rounds. Slopes are of log(time per image) on log(MACs per
image), by least squares; compound scaling (paper, Eq. 3: depth 1.2^phi, width
1.1^phi, resolution 1.15^phi) promises 2^phi. The results go to
results/growth.json, the figure to growth.png beside it.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import interleaved
import numpy as np
import our_step
import reports

from effnet_jax import environment
from effnet_jax.models import macs, variants
from effnet_jax.models.spec import ModelSpec

AXES = {
  'batch': (1, 2, 4, 8, 16, 32),
  'resolution': (112, 160, 224, 320, 448),
  'width': (0.5, 0.7, 1.0, 1.4, 2.0),
  'depth': (0.5, 1.0, 1.5, 2.0, 3.0),
  'phi': (0, 1, 2, 3, 4),
}
SMALL = {
  'batch': (1, 2),
  'resolution': (32, 48),
  'width': (0.5, 1.0),
  'depth': (0.5, 1.0),
  'phi': (0, 1),
}
BATCH = {'inference': 4, 'training': 8}
ROUNDS, SMALL_ROUNDS = 15, 2
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15


def overrides(axis: str, size: float, resolution: int) -> dict:
  """Returns the fields of B0's specification that a size replaces."""
  if axis == 'batch':
    return {'resolution': resolution}
  if axis == 'resolution':
    return {'resolution': int(size)}
  if axis == 'phi':
    return {
      'depth': ALPHA**size,
      'width': BETA**size,
      'resolution': round(resolution * GAMMA**size),
    }
  return {axis: float(size), 'resolution': resolution}


def inference(spec: ModelSpec, batch: int) -> Callable[[], None]:
  import jax

  import effnet_jax
  from effnet_jax.models import efficientnet

  model = efficientnet.build(spec)
  predict = effnet_jax.predictor(model, efficientnet.init(model))
  rng = np.random.default_rng(0)
  shape = (batch, spec.resolution, spec.resolution, 3)
  images = jax.numpy.asarray(rng.standard_normal(shape, np.float32))
  return lambda: jax.block_until_ready(predict(images))


def training(spec: ModelSpec, batch: int) -> Callable[[], None]:
  import jax

  config = our_step.config_of(
    *(spec.name, batch),
    depth=spec.depth,
    width=spec.width,
    resolution=spec.resolution,
  )
  program, state, images = our_step.start(config, spec.resolution)
  key = jax.random.key(0)

  def step():
    nonlocal state
    state, _ = jax.block_until_ready(program.train_step(state, images, key))

  return step


WORK = {'inference': inference, 'training': training}


def measure(
  work: str, axis: str, sizes: Sequence[float], resolution: int, rounds: int
) -> list[dict]:
  """Returns a row a size: MACs and milliseconds, both of one image."""
  calls, rows = [], []
  for size in sizes:
    spec = variants.get_spec('b0', **overrides(axis, size, resolution))
    batch = int(size) if axis == 'batch' else BATCH[work]
    call = WORK[work](spec, batch)
    call()  # compiles
    calls.append(lambda call=call: interleaved.measure(call, 0, 1)[0])
    rows.append(
      {
        'work': work,
        'axis': axis,
        'size': size,
        'batch': batch,
        'resolution': spec.resolution,
        'macs': macs.count(spec).macs,
      }
    )
  times = interleaved.in_turns(dict(enumerate(calls)), rounds)
  for number, row in enumerate(rows):
    milliseconds = statistics.median(times[number]) / row['batch']
    row['milliseconds'] = round(milliseconds, 3)
  return rows


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
  """Returns the slope of y on x by least squares, and R^2."""
  slope = np.polyfit(x, y, 1)[0]
  return float(slope), float(np.corrcoef(x, y)[0, 1] ** 2)


def slopes(rows: Sequence[dict]) -> list[dict]:
  """Returns a row a work and axis: how time grows with MACs, or with batch."""
  found = []
  for work, axis in dict.fromkeys((row['work'], row['axis']) for row in rows):
    part = [r for r in rows if (r['work'], r['axis']) == (work, axis)]
    logs = [math.log(row['milliseconds']) for row in part]
    of = 'batch' if axis == 'batch' else 'macs'
    slope, r2 = fit([math.log(row[of]) for row in part], logs)
    row = {'work': work, 'axis': axis, 'on': of}
    row |= {'slope': round(slope, 3), 'r2': round(r2, 4)}
    if axis == 'phi':
      phi = [row['size'] for row in part]
      a_phi = lambda y, phi=phi: round(math.exp(fit(phi, y)[0]), 3)
      row['time_a_phi'] = a_phi(logs)
      row['macs_a_phi'] = a_phi([math.log(row['macs']) for row in part])
    found.append(row)
  return found


def draw(report: dict, path: Path) -> None:
  """Draws a panel an axis, time per image against MACs (or batch)."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  axes = list(dict.fromkeys(row['axis'] for row in report['rows']))
  figure = Figure(figsize=(3.4 * len(axes), 3.6), layout='constrained')
  FigureCanvasAgg(figure)
  panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
  for panel, axis in zip(panels, axes, strict=True):
    for number, (work, marker) in enumerate(zip(WORK, 'os', strict=True)):
      part = [
        row
        for row in report['rows']
        if (row['work'], row['axis']) == (work, axis)
      ]
      if not part:
        continue
      of = 'batch' if axis == 'batch' else 'macs'
      (found,) = (
        row
        for row in report['slopes']
        if (row['work'], row['axis']) == (work, axis)
      )
      x = [row[of] / (1 if axis == 'batch' else 1e9) for row in part]
      y = [row['milliseconds'] for row in part]
      label = f'{work}: slope {found["slope"]:.2f}'
      color = f'C{number}'
      panel.loglog(x, y, marker=marker, color=color, label=label)
      if axis != 'batch':  # as the MACs, from the first point on
        line = [y[0] * value / x[0] for value in x]
        panel.loglog(x, line, ls=':', color=color, lw=1)
      for row, left, up in zip(part, x, y, strict=True):
        panel.annotate(
          f'{row["size"]:g}', (left, up), (0, 5), textcoords='offset points',
          fontsize=7, ha='center',
        )  # fmt: skip
    panel.set_title('compound, phi' if axis == 'phi' else axis)
    panel.set_xlabel('batch' if axis == 'batch' else 'GMACs an image')
    panel.xaxis.set_minor_formatter('')  # they would overlap
    panel.grid(alpha=0.3, which='both')
    panel.legend(fontsize=8)
  panels[0].set_ylabel('milliseconds an image')
  figure.savefig(path, format='png', dpi=110)


def main() -> None:
  parser = reports.parser(__doc__, 'growth', 'training-width')
  parser.add_argument('--small', action='store_true', help='to try this script')
  arguments = parser.parse_args()
  small = arguments.small
  cases = {
    f'{work}-{axis}': (work, axis, sizes)
    for work in WORK
    for axis, sizes in (SMALL if small else AXES).items()
  }
  names = reports.matching(arguments.only, cases)
  environment.tune_malloc()  # as train.py is run
  environment.keep_compiled()
  # What is not measured again stays.
  rows = reports.read(arguments.out).get('rows', [])
  for name in names:
    work, axis, sizes = cases[name]
    rows = [r for r in rows if (r['work'], r['axis']) != (work, axis)]
    rows += measure(
      *(work, axis, sizes),
      resolution=32 if small else 224,
      rounds=SMALL_ROUNDS if small else ROUNDS,
    )
    report = {
      'command': 'python benchmarks/growth.py',
      'machine': reports.cores(),
      'versions': reports.versions(['jax']),
      'slopes': slopes(rows),
      'rows': rows,
    }
    print(json.dumps(report['slopes'][-1]), flush=True)
    reports.write(arguments.out, report)
  draw(report, arguments.out.with_suffix('.png'))


if __name__ == '__main__':
  main()
