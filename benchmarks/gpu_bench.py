"""How gpu.py measures: competitors in workers, window by window."""

import argparse
import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reports
import workers

FOLDER = Path(__file__).resolve().parent
SECTIONS = ('training', 'profile', 'inference', 'depthwise')
_OUT_OF_MEMORY = (
  *('RESOURCE_EXHAUSTED', 'out of memory', 'OutOfMemory', 'ALLOC_FAILED'),
)
_NO_COMMAND_BUFFERS = '--xla_gpu_enable_command_buffer='


@dataclasses.dataclass(frozen=True)
class Case:
  """What is measured together: one network at one size.

  Attributes:
    batches: the first that fits is measured.
  """

  section: str
  variant: str
  peer: str  # timm's name
  resolution: int
  batches: tuple[int, ...]
  overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

  def key(self) -> dict[str, Any]:
    return {
      'section': self.section,
      'variant': self.variant,
      'resolution': self.resolution,
      'batches': list(self.batches),
    }


class Bench:
  """Runs cases in workers and gathers what they say."""

  def __init__(self, arguments: argparse.Namespace):
    self._arguments = arguments
    self._begun = time.monotonic()
    self._formulations: list[str] = []
    self._peer_is_there = False
    self._bandwidth: float | None = None
    self._environment = {
      'JAX_PLATFORMS': 'cpu' if arguments.device == 'cpu' else 'cuda',
      # The other processes need some of the memory.
      'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
      # Of what is compiled again, by a further call or alone.
      'JAX_COMPILATION_CACHE_DIR': os.environ.get(
        'JAX_COMPILATION_CACHE_DIR',
        str(Path(tempfile.gettempdir(), 'effnet_jax_gpu')),
      ),
    }

  def minutes(self) -> float:
    return (time.monotonic() - self._begun) / 60

  def begin(self, out: Path) -> dict[str, Any]:
    """Returns the report to go on with, after a look at both frameworks.

    Raises:
      WorkerError: no GPU, or the file is of another machine.
    """
    with self._worker('ours') as worker:
      ours = worker.ask('about')
    try:
      with self._worker('timm') as worker:
        versions, peer = worker.ask('about')['versions'], 'measured'
      self._peer_is_there = True
    except workers.WorkerError as error:
      versions, peer = {}, str(error)
    self._formulations = self._arguments.formulations or ours['formulations']
    self._bandwidth = ours['bandwidth']
    report = {
      'command': 'python benchmarks/gpu.py'
      + ' --small' * self._arguments.small,
      'device': ours['device'],
      'bandwidth': ours['bandwidth'],
      'machine': reports.machine(),
      'versions': ours['versions'] | versions,
      'peer': peer,
      'rows': [],
    }
    if old := reports.read(out):
      for name in ('command', 'device'):
        if old[name] != report[name]:
          raise workers.WorkerError(
            f'{out} is of {old[name]!r}, this is {report[name]!r}: give '
            'another --out'
          )
      report['rows'] = old['rows']
    print(f'{ours["device"]}; timm: {peer}', flush=True)
    return report

  def _worker(self, framework, **environment):
    script = str(FOLDER / f'gpu_{framework}.py')
    device = 'cpu' if self._arguments.device == 'cpu' else 'cuda'
    return workers.Worker([script, device], self._environment | environment)

  def run(self, case: Case) -> dict[str, Any]:
    run = {
      'training': self._race,
      'inference': self._race,
      'profile': self._profile,
      'depthwise': self._depthwise,
    }
    return {'case': case.key(), **run[case.section](case)}

  def _race(self, case):
    row: dict[str, Any] = {}
    for batch in case.batches:
      competitors = self._together(case, batch)
      # Memory may be too small for all at once.
      together = {
        name: result['error']
        for name, result in competitors.items()
        if _too_large(result)
      }
      if together:
        competitors = self._alone(case, batch)
      row = {
        'batch': batch,
        'interleaved': not together,
        'competitors': competitors,
        'speedups': _speedups(competitors),
      }
      if together:
        row['errors_together'] = together
      if not any(map(_too_large, competitors.values())):
        break
    return row

  def _competitors(self, case, batch) -> Iterator[tuple[str, str, dict]]:
    """Yields a name, its framework, and what it has to prepare."""
    common = {
      'kind': case.section,
      'resolution': case.resolution,
      'batch': batch,
    }
    for formulation in self._formulations:
      ours = {'variant': case.variant, 'overrides': case.overrides}
      yield (
        f'ours_{formulation}',
        'ours',
        {**common, **ours, 'formulation': formulation},
      )
    if not self._peer_is_there:
      return
    theirs = {'peer': case.peer, 'compiled': not self._arguments.eager}
    if case.section == 'training':
      options = {
        'timm': {'optimizer': 'rmsprop_tf'},
        'timm_foreach': {'optimizer': 'rmsprop'},
      }
    else:
      options = {
        'timm': {'mode': 'default'},
        'timm_graphs': {'mode': 'reduce-overhead'},
      }
    for name, option in options.items():
      yield name, 'timm', {**common, **theirs, **option}

  def _together(self, case, batch):
    """Returns each competitor's result; one that fails leaves the others.

    The first that memory is too small for ends it.
    """
    results: dict[str, dict[str, Any]] = {}
    measured: dict[str, list] = {}
    with contextlib.ExitStack() as stack:
      pool = {}
      for name, framework, request in self._competitors(case, batch):
        pool[name] = stack.enter_context(self._worker(framework))
        with _reported(results, name):
          results[name] = pool[name].ask('prepare', **request)
        if _too_large(results[name]):
          return results
      for _ in range(self._arguments.windows):
        for name in _unfailed(results):
          with _reported(results, name):
            window = self._window(pool[name])
            measured.setdefault(name, []).append(window)
      for name in _unfailed(results):
        with _reported(results, name):
          self._finish(results[name], measured[name], batch, pool[name])
    return results

  def _alone(self, case, batch):
    results: dict[str, dict[str, Any]] = {}
    measured: dict[str, list] = {}
    for _ in range(2):
      for name, framework, request in self._competitors(case, batch):
        if 'error' in results.get(name, {}):
          continue
        with self._worker(framework) as worker, _reported(results, name):
          prepared = worker.ask('prepare', **request)
          results.setdefault(name, prepared)
          windows = measured.setdefault(name, [])
          for _ in range(-(-self._arguments.windows // 2)):
            windows.append(self._window(worker))
          self._finish(results[name], windows, batch, worker)
    return results

  def _window(self, worker):
    return worker.ask('measure', seconds=self._arguments.seconds)

  def _finish(self, result, windows, batch, worker):
    speeds = [w['calls'] * batch / w['seconds'] for w in windows]
    speed = statistics.median(speeds)
    result['images_per_second'] = round(speed, 1)
    result['windows'] = [round(value, 1) for value in speeds]
    result['peak_bytes'] = worker.ask('peak_bytes')
    if self._bandwidth and 'bytes_accessed' in result:
      rate = result['bytes_accessed'] * speed / batch
      result['share_of_bandwidth'] = round(rate / self._bandwidth, 3)

  def _profile(self, case):
    (batch,) = case.batches
    profiles: dict[str, Any] = {}
    training = dataclasses.replace(case, section='training')
    # Kernels of a command buffer are launched as one, and have no names.
    flags = '' if self._arguments.device == 'cpu' else _NO_COMMAND_BUFFERS
    flags = f'{os.environ.get("XLA_FLAGS", "")} {flags}'.strip()
    for name, framework, request in self._competitors(training, batch):
      if framework != 'ours':
        continue
      with (
        self._worker(framework, XLA_FLAGS=flags) as worker,
        _reported(profiles, name),
      ):
        worker.ask('prepare', **request)
        profiles[name] = worker.ask('profile')
    return {'batch': batch, 'profiles': profiles}

  def _depthwise(self, case):
    (batch,) = case.batches
    with self._worker('ours') as worker:
      layers = worker.ask(
        'layers',
        variant=case.variant,
        overrides=case.overrides,
        resolution=case.resolution,
      )
      common = {
        'batch': batch,
        'formulations': self._formulations,
        'seconds': self._arguments.seconds / 10,
      }
      rows = [
        worker.ask('depthwise', layer=layer, **common) for layer in layers
      ]
    return {'batch': batch, 'layers': rows}


@contextlib.contextmanager
def _reported(results, name):
  """What a competitor could not do becomes its result."""
  try:
    yield
  except workers.WorkerError as error:
    results[name] = {'error': str(error)}


def _unfailed(results):
  return [name for name, result in results.items() if 'error' not in result]


def _too_large(result):
  return any(sign in result.get('error', '') for sign in _OUT_OF_MEMORY)


def _speedups(competitors):
  """Returns, for each peer, our best images/s over theirs."""
  speed = {
    name: result['images_per_second']
    for name, result in competitors.items()
    if 'error' not in result
  }
  ours = [value for name, value in speed.items() if name.startswith('ours')]
  return {
    name: round(max(ours) / value, 3)
    for name, value in speed.items()
    if ours and not name.startswith('ours')
  }
