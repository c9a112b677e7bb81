"""Times of competitors that take turns, and what they say of each other.

A competitor is a worker (workers.py) that answers `measure(warm, calls)` with
the milliseconds of so many calls. It has its turn in a round, once what the
others left in the caches is warmed away; what the machine does to one for a
while it does to all.

Another process on the cores does not slow all of them alike: OpenMP's threads
wait for each other after every layer, and torch is five times slower beside one
busy process where ours is a third slower. So `race` says how busy others were.
"""

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import reports
import workers

from effnet_jax import environment

THREADS = 2
# A second is long enough to warm the caches in the call itself.
_SLOW = 1000.0  # milliseconds
_LEAST_TURNS, _MOST_CALLS = 5, 10
# Between two turns: threads of a pool spin for a while after the work is done.
# Then what the cores do is the work of others.
_REST, _LISTEN = 0.05, 0.05  # seconds
QUIET = 0.1  # cores that others may take, beyond which times mean little
# What changes the results, if this process was started with it.
_CHOSEN = (
  *('JAX_', 'XLA_', 'MALLOC_', 'GLIBC_TUNABLES', environment.SWITCH),
  *('OMP_', 'GOMP_', 'KMP_', 'MKL_', 'DNNL_', 'ONEDNN_'),
  *('TORCHINDUCTOR_', 'TF_', 'KERAS_', 'ORT_', 'OV_'),
)
_Name, _Found = TypeVar('_Name'), TypeVar('_Found')


def forget_settings() -> None:
  """Takes from this process, and what it starts, what changes the results."""
  for name in [name for name in os.environ if name.startswith(_CHOSEN)]:
    del os.environ[name]
  os.environ['JAX_PLATFORMS'] = 'cpu'


def begin() -> None:
  """Prepares this process, which its workers inherit from.

  Every runtime takes as many threads as it has cores, or is told to.
  """
  forget_settings()
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def measure(call: Callable[[], Any], warm: int, calls: int) -> list[float]:
  """Returns the milliseconds of `calls` calls, after `warm` others."""
  for _ in range(warm):
    call()
  times = []
  for _ in range(calls):
    begun = time.perf_counter()
    call()
    times.append(1e3 * (time.perf_counter() - begun))
  return times


def in_turns(
  calls: Mapping[_Name, Callable[[], _Found]], rounds: int
) -> dict[_Name, list[_Found]]:
  """Makes every call once a round, and returns what each has given."""
  found: dict[_Name, list[_Found]] = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      found[name].append(call())
  return found


@dataclasses.dataclass(frozen=True)
class Turns:
  """When a competitor takes part, and how often it is called then."""

  rounds: int
  turns: int
  warm: int
  calls: int

  def holds(self, round_: int) -> bool:
    """Whether it has a turn in a round: the turns are spread evenly."""
    done = lambda rounds: rounds * self.turns // self.rounds
    return done(round_ + 1) > done(round_)


def plan(milliseconds: float, rounds: int, seconds: float) -> Turns:
  """Returns the turns of a competitor.

  Args:
    milliseconds: of one call, about.
    rounds: of all; a slow competitor leaves some out, but has five turns.
    seconds: that all its calls together may take.
  """
  warm = int(milliseconds < _SLOW)
  calls = int(1e3 * seconds / rounds / milliseconds) - warm
  calls = min(max(calls, 1), _MOST_CALLS)
  turns = int(1e3 * seconds / (milliseconds * (warm + calls)))
  return Turns(rounds, min(rounds, max(turns, _LEAST_TURNS)), warm, calls)


class _Listener:
  """Hears what other processes do while the competitors sleep."""

  def __init__(self):
    self._busy = self._seconds = 0.0

  def rest(self) -> None:
    time.sleep(_REST)
    begun, before = time.perf_counter(), _busy()
    time.sleep(_LISTEN)
    self._busy += _busy() - before
    self._seconds += time.perf_counter() - begun

  def cores(self) -> float:
    """Returns how many cores others kept busy, in the mean."""
    return round(self._busy / max(self._seconds, 1e-9), 2)


def _busy() -> float:
  """Returns the seconds that all cores have worked or were taken away."""
  path = Path('/proc/stat')
  if not path.exists():
    return 0.0
  ticks = [int(word) for word in path.read_text().split('\n')[0].split()[1:9]]
  user, nice, system, _idle, _iowait, *interrupts_and_stolen = ticks
  total = user + nice + system + sum(interrupts_and_stolen)
  return total / os.sysconf('SC_CLK_TCK')


def race(
  pool: Mapping[str, workers.Worker], rounds: int, seconds: float
) -> tuple[dict[str, dict[str, Any]], float]:
  """Times workers that are prepared, in turns.

  Returns:
    For each the `milliseconds` in the median, those of the `fastest` call and
    the number of `calls`, or the `error` that took it out; and how many cores
    other processes kept busy meanwhile.
  """
  plans: dict[str, Turns] = {}
  times: dict[str, list[float]] = {name: [] for name in pool}
  errors: dict[str, dict[str, Any]] = {}
  listener = _Listener()

  def ask(name, warm, calls):
    listener.rest()
    try:
      return pool[name].ask('measure', warm=warm, calls=calls)
    except workers.WorkerError as error:
      errors[name] = {'error': str(error)}
      return []

  for name in pool:
    # The first call is often slow beyond what the next ones are.
    if about := ask(name, 1, 1):
      plans[name] = plan(about[0], rounds, seconds)
  for round_ in range(rounds):
    for name, turns in plans.items():
      if name not in errors and turns.holds(round_):
        times[name] += ask(name, turns.warm, turns.calls)
  found = {name: errors.get(name) or summary(times[name]) for name in pool}
  if listener.cores() > QUIET:
    print(f'NOT quiet: others kept {listener.cores()} cores busy', flush=True)
  return found, listener.cores()


def summary(milliseconds: Sequence[float]) -> dict[str, Any]:
  return {
    'milliseconds': round(statistics.median(milliseconds), 3),
    'fastest': round(min(milliseconds), 3),
    'calls': len(milliseconds),
  }


def ratio(ours: Mapping, theirs: Mapping) -> dict[str, float] | None:
  """Returns time(ours) / time(theirs); None where one has failed."""
  if 'error' in ours or 'error' in theirs:
    return None
  return {
    'ratio': round(ours['milliseconds'] / theirs['milliseconds'], 4),
    'fastest_ratio': round(ours['fastest'] / theirs['fastest'], 4),
  }


def means(ratios: Iterable[Mapping[str, float]], most: float) -> dict[str, Any]:
  """Returns the geometric means of `ratio`s, to be at most `most`."""
  ratios = list(ratios)
  mean = lambda key: round(
    math.exp(statistics.fmean(math.log(each[key]) for each in ratios)), 4
  )
  return {
    'ratio': mean('ratio'),
    'fastest_ratio': mean('fastest_ratio'),
    'cases': len(ratios),
    'at_most': most,
    'met': mean('ratio') <= most,
  }


def machine() -> dict[str, Any]:
  """Returns what a result is to be read with."""
  flags = Path('/proc/cpuinfo')
  words = set(flags.read_text().split()) if flags.exists() else set()
  return {
    **reports.machine(),
    'threads': THREADS,
    'avx512': 'avx512f' in words,
    'bfloat16_units': bool(words & {'avx512_bf16', 'amx_bf16'}),
  }


def huge_pages() -> dict[str, str]:
  """Returns what the kernel does of itself, and what malloc is to ask for."""
  pages = Path('/sys/kernel/mm/transparent_hugepage/enabled')
  return {
    'transparent_hugepage': pages.read_text().strip(),
    'tunables': environment.MALLOC,
  }
