"""Inference on a CPU: `effnet_jax.predictor` against six runtimes.

    python benchmarks/inference.py [--only REGEX] [--again] [--rounds 30]
      [--seconds 15] [--peers REGEX] [--out FILE]

Two threads, float32, the networks at their native size; each runtime is a
process that sleeps while the others are timed, and they take turns. Ratios are
time(ours) / time(peer) of the medians; what counts are their geometric means
over networks and batches. ONNX Runtime and OpenVINO are given our export and
timm's, and keep the faster. For bfloat16 ours stands against OpenVINO with that
hint. Needs requirements-speed.txt, and a machine that does nothing else:
`cores_of_others` says. The results go to results/inference.json case by case; a
further call goes on with what it lacks, or what was measured with other
versions.
"""

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import case_report
import interleaved
import reports
import workers
from inference_runtimes import MODELS, RUNTIMES

FOLDER = Path(__file__).resolve().parent
CASES = tuple(
  (model, batch, dtype)
  for model, dtype, batches in (
    ('b0', 'float32', (1, 8, 32)),
    ('b0', 'bfloat16', (1, 8)),
    ('lite0', 'float32', (1, 8, 32)),
    ('v2_s', 'float32', (1, 8)),
    ('b4', 'float32', (1, 8)),
  )
  for batch in batches
)
# {peer: the largest geometric mean of the ratios}
BARS = {
  'keras_jax': 0.15,
  'torch_eager': 0.6,
  'torch_compile': 0.8,
  'tflite': 0.6,
  'onnxruntime': 0.9,
}
GOALS = {'openvino': 1.0, 'openvino_bfloat16': 1.0}
PACKAGES = (
  *('jax', 'jaxlib', 'keras', 'torch', 'timm'),
  *('ai-edge-litert', 'onnxruntime', 'openvino'),
)


def competitors(model: str, dtype: str) -> list[str]:
  """Returns the runtimes that have a network."""
  if dtype != 'float32':
    return ['ours', 'openvino']
  has_keras = MODELS[model][2]
  return [name for name in RUNTIMES if name != 'keras_jax' or has_keras]


def ratios(dtype: str, results: dict[str, dict]) -> dict[str, dict]:
  """Returns time(ours) / time(peer) for every peer that has a time."""
  found = {}
  for name, result in results.items():
    if name != 'ours':
      key = name if dtype == 'float32' else f'{name}_{dtype}'
      found[key] = interleaved.ratio(results['ours'], result)
  return {name: ratio for name, ratio in found.items() if ratio}


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, dict]:
  """Returns, for each peer, the geometric means over all cases."""
  rows, found = list(rows), {}
  for kind, limits in (('bar', BARS), ('goal', GOALS)):
    for peer, most in limits.items():
      of = [row['ratios'][peer] for row in rows if peer in row['ratios']]
      if of:
        found[peer] = {'kind': kind, **interleaved.means(of, most)}
  return found


class Pool:
  """The workers of one network, kept over its batches."""

  def __init__(self, model: str, peers: str, folder: str):
    self.model, self._peers, self._folder = model, peers, folder
    self._workers: dict[str, workers.Worker] = {}
    self._written: set[int] = set()

  def _worker(self, runtime):
    return workers.Worker(
      [str(FOLDER / 'inference_runtimes.py'), runtime, self.model, self._folder]
    )

  def write(self, batches: Sequence[int]) -> None:
    """Writes the files that runtimes read.

    In two processes, which then end: torch's export fails beside TensorFlow.
    """
    formats = ['onnx']
    if re.search(self._peers, 'tflite'):
      formats.append('tflite')
    with self._worker('write') as worker:
      worker.ask('write_ours', formats=formats)
    with self._worker('write') as worker:
      worker.ask('write_timm', batches=batches)

  def measure(
    self, batch: int, dtype: str, rounds: int, seconds: float
  ) -> tuple[dict[str, dict], float]:
    """Returns {competitor: its times and details, or its error}; see `race`."""
    details, ready = {}, {}
    for name in competitors(self.model, dtype):
      if name != 'ours' and not re.search(self._peers, name):
        continue
      if name not in self._workers:
        self._workers[name] = self._worker(name)
      try:
        details[name] = self._workers[name].ask(
          'prepare', batch=batch, dtype=dtype
        )
        ready[name] = self._workers[name]
      except workers.WorkerError as error:
        details[name] = {'error': str(error)}
    times, others = interleaved.race(ready, rounds, seconds)
    found = {name: of | times.get(name, {}) for name, of in details.items()}
    return found, others

  def close(self) -> None:
    for worker in self._workers.values():
      worker.close()


def main() -> None:
  arguments = case_report.parse(
    __doc__, 'inference', 'b0-8-float32', rounds=30, seconds=15, some='peers'
  )
  head = {'command': 'python benchmarks/inference.py'}
  if not interleaved.machine()['bfloat16_units']:
    head['bfloat16'] = (
      'this CPU has no units for it: ours converts, and OpenVINO computes in '
      'the `precision` that stands in its result, whatever the hint'
    )
  report = case_report.Report(arguments, CASES, head, PACKAGES, summary)
  wanted = report.wanted()
  interleaved.begin()
  for model in dict.fromkeys(case[0] for case in wanted):
    _run([case for case in wanted if case[0] == model], report, arguments)
  for peer, mean in report.summary().items():
    print(
      f'{peer:18} {mean["ratio"]:.3f} ({mean["kind"]} {mean["at_most"]}, '
      f'{mean["cases"]} cases{"" if mean["met"] else ", NOT met"})'
    )


def _run(cases, report, arguments):
  """Measures the cases of one network and writes each as it is done."""
  with tempfile.TemporaryDirectory() as folder:
    pool = Pool(cases[0][0], arguments.peers, folder)
    try:
      pool.write(sorted({batch for _, batch, _ in cases}))
      for case in cases:
        model, batch, dtype = case
        results, others = pool.measure(
          batch, dtype, arguments.rounds, arguments.seconds
        )
        row = {
          'case': reports.name_of(case),
          'model': model,
          'resolution': MODELS[model][0],
          'batch': batch,
          'dtype': dtype,
          'cores_of_others': others,
          'competitors': results,
          'ratios': ratios(dtype, results),
        }
        _show(row)
        report.add(row)
    finally:
      pool.close()


def _show(row):
  for name, result in row['competitors'].items():
    time = result.get('error') or f'{result["milliseconds"]:9.2f} ms'
    key = name if name in row['ratios'] else f'{name}_{row["dtype"]}'
    of = row['ratios'].get(key)
    ratio = f'  ours / it {of["ratio"]:.3f}' if of else ''
    graph = f'  graph of {result["graph"]}' if 'graph' in result else ''
    print(f'{row["case"]:20} {name:14} {time}{ratio}{graph}', flush=True)


if __name__ == '__main__':
  workers.run(main)
