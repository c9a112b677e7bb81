"""The paper's headline on this machine: how much faster, at batch 1.

    python benchmarks/headline.py [--parts resnet152 amoebanet] [--rounds 15]

Tan and Le (2019), Table 4: on one core, B1 is 5.7 times faster than ResNet-152,
and B7 6.1 times faster (and 8.4 times smaller) than GPipe, that is
AmoebaNet-B (18, 512). Here both sides run in one runtime: XLA
(`effnet_jax.predictor`; the others by the same means), and for context torch,
ONNX Runtime and OpenVINO. Each runtime is a process with both networks; they
take turns, two threads each. Needs the environment of `make parity` for the
other runtimes; the AmoebaNet part runs without. The results go to
results/headline.json.
"""

import functools
import itertools
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import interleaved
import reports
import workers
from networks import amoebanet, resnet

from effnet_jax.models import macs, variants

FOLDER = Path(__file__).resolve().parent
RUNTIMES = ('xla', 'torch_eager', 'torch_compile', 'onnxruntime', 'openvino')
LIMIT = 1e-4  # of the largest logit
# {part: (the large network, ours, published ratio of time)}
PARTS = {
  'resnet152': ('resnet152', 'b1', 5.7),
  'amoebanet': ('amoebanet', 'b7', 6.1),
}
PACKAGES = (
  *('python', 'jax', 'jaxlib'),
  *('torch', 'timm', 'onnxruntime', 'openvino'),
)


def main() -> None:
  parser = reports.parser(__doc__, 'headline')
  parser.add_argument(
    '--parts', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART'
  )
  parser.add_argument('--runtimes', nargs='+', choices=RUNTIMES)
  parser.add_argument('--rounds', type=int, default=15, metavar='N')
  arguments = parser.parse_args()
  interleaved.begin()
  report = reports.read(arguments.out) | {
    'command': 'python benchmarks/headline.py',
    'machine': reports.machine(),
    'versions': reports.versions(PACKAGES),
    'batch': 1,
    'threads': interleaved.THREADS,
    'dtype': 'float32',
  }
  for part in arguments.parts:
    report[part] = compare(part, arguments.runtimes, arguments.rounds)
    reports.write(arguments.out, report)
  print(f'{arguments.out} is written')


def compare(
  part: str, runtimes: list[str] | None, rounds: int
) -> dict[str, Any]:
  """Times both networks of a part in every runtime, in turns."""
  large, ours, published = PARTS[part]
  result = {
    'published_time_ratio': published,
    'networks': {ours: _ours(ours)},
  }
  if part == 'amoebanet':
    # It is in no other runtime.
    runtimes = ['xla']
    result |= _reconstruction()
    result['networks'][large] = _counts(amoebanet, result['parameters'])
    if not amoebanet.counts(result['parameters']):
      return result
  else:
    result['networks'][large] = _counts(resnet)
  sizes = {name: net['parameters'] for name, net in result['networks'].items()}
  result['parameter_ratio'] = round(sizes[large] / sizes[ours], 2)
  with tempfile.TemporaryDirectory() as folder:
    if part == 'resnet152':
      _write(folder)
    result['runtimes'] = _measure(
      runtimes or list(RUNTIMES), (large, ours), folder, rounds
    )
  return result


def _ours(name):
  spec = variants.get_spec(name)
  counts = macs.count(spec)
  return {
    'resolution': spec.resolution,
    'parameters': counts.params,
    'macs': counts.macs,
  }


def _counts(module, parameters=None):
  layers = module.layers_of().values()
  total = sum(layer.parameters for layer in layers)
  assert parameters in (None, total)
  return {
    'resolution': module.RESOLUTION,
    'parameters': total,
    'macs': sum(layer.macs for layer in layers),
  }


def _reconstruction():
  """Counts what AmoebaNet-B (18, 512) is under every reading of the tables."""
  rows = []
  for reading in amoebanet.readings():
    layers = amoebanet.layers_of(reading).values()
    total = sum(layer.parameters for layer in layers)
    rows.append(
      {
        **vars(reading),
        'parameters': total,
        'macs': sum(layer.macs for layer in layers),
        'counts': amoebanet.counts(total),
      }
    )
  return {
    'published_parameters': amoebanet.PUBLISHED_PARAMETERS,
    'published_parameter_ratio': 8.4,
    'parameters': rows[0]['parameters'],  # of the reading that is measured
    'readings': rows,
  }


def _write(folder):
  with workers.Worker([str(FOLDER / 'headline_runtimes.py'), '-', folder]) as w:
    w.ask('write')


def _measure(runtimes, networks, folder, rounds):
  runs = 1 if 'amoebanet' in networks else 3  # it takes seconds
  script = str(FOLDER / 'headline_runtimes.py')
  pool: dict[str, workers.Worker] = {}
  try:
    for runtime in runtimes:
      worker = pool[runtime] = workers.Worker([script, runtime, folder])
      for network in networks:
        worker.ask('prepare', network=network)
    rows = _check(pool, networks)

    def turn(runtime, network):
      workers.rest()
      return pool[runtime].ask('measure', network=network, runs=runs)

    calls = {
      (runtime, network): functools.partial(turn, runtime, network)
      for runtime in runtimes
      for network in networks
    }
    interleaved.in_turns(calls, 1)  # warms up
    times = interleaved.in_turns(calls, rounds)
  finally:
    for worker in pool.values():
      worker.close()
  for runtime, row in rows.items():
    large, ours = (
      statistics.median(itertools.chain(*times[runtime, network]))
      for network in networks
    )
    row['milliseconds'] = dict(
      zip(networks, (round(large, 2), round(ours, 2)), strict=True)
    )
    row['time_ratio'] = round(large / ours, 3)
    print(
      f'{networks[0]} / {networks[1]} {runtime:14} {large:9.1f} ms / '
      f'{ours:7.1f} ms = {large / ours:.2f}',
      flush=True,
    )
  return rows


def _check(pool, networks):
  """All runtimes must give the same logits; the first torch is the measure."""
  rows: dict[str, dict[str, Any]] = {name: {'differences': {}} for name in pool}
  by_torch = next((name for name in pool if name.startswith('torch')), None)
  for network in networks:
    logits = {
      name: worker.ask('logits', network=network)
      for name, worker in pool.items()
    }
    for name, values in logits.items():
      if not all(map(math.isfinite, values)):
        raise workers.WorkerError(f'{network} in {name}: logits not finite')
      if by_torch is None:
        continue
      expected = logits[by_torch]
      difference = max(
        abs(a - b) for a, b in zip(values, expected, strict=True)
      )
      difference /= max(map(abs, expected))
      if difference > LIMIT:
        raise workers.WorkerError(
          f'{network} in {name} differs from {by_torch} by {difference:.1e}'
        )
      rows[name]['differences'][network] = float(f'{difference:.2g}')
  return rows


if __name__ == '__main__':
  workers.run(main)
