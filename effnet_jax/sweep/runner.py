"""Runs what is left of a sweep, some side by side, each in its own process."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from effnet_jax import environment
from effnet_jax.errors import UserError
from effnet_jax.sweep import claims, results
from effnet_jax.sweep.plan import Run
from effnet_jax.training.guards import Interruption
from effnet_jax.training.reporting import duration

_POLL, _HEARTBEAT = 0.1, 30.0  # seconds
_LOG = 'log.txt'
# Of train.py, told to stop: it saves first.
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclasses.dataclass
class _Job:
  run: Run
  workdir: Path
  process: subprocess.Popen
  slot: int
  begun: float
  kept: float


class Runner:
  """Works through runs.

  Args:
    directory: of the sweep; a run's is below it.
    command: from a run and its work directory to what is executed.
    workers: runs at a time; the cores and GPUs of the machine are divided
      among them.
    say: takes one line for people.
  """

  def __init__(
    self,
    directory: Path,
    command: Callable[[Run, Path], Sequence[str]],
    workers: int,
    say: Callable[[str], None] = print,
  ):
    self._directory, self._command = directory, command
    self._workers, self._say = workers, say
    self._cores, self._gpus = _cores(), _gpus()
    self._spent: list[float] = []

  def run(self, runs: Sequence[Run]) -> int:
    """Runs what is neither done nor another process's.

    Returns:
      0; 1 if a run failed; 128 + the signal that stopped it.
    """
    waiting = [r for r in runs if results.state(self._of(r)) != 'done']
    total, failed = len(waiting), 0
    jobs: list[_Job] = []
    with Interruption() as interruption:
      while waiting or jobs:
        while waiting and len(jobs) < self._workers and not interruption.caught:
          job = self._start(waiting.pop(0), jobs)
          if job:
            jobs.append(job)
        if interruption.caught:
          waiting = []
          self._stop(jobs)
        for job in [j for j in jobs if j.process.poll() is not None]:
          jobs.remove(job)
          left = len(waiting) + len(jobs)
          failed += not self._finish(job, total - left, total, left)
        for job in jobs:
          if time.monotonic() - job.kept > _HEARTBEAT:
            claims.keep(job.workdir)
            job.kept = time.monotonic()
        time.sleep(_POLL)
      stopped = interruption.signal
    return 128 + stopped if stopped else int(failed > 0)

  def _of(self, run):
    return self._directory / run.name

  def _start(self, run, jobs):
    workdir = self._of(run)
    if not claims.take(workdir):
      self._say(f'{run.name}: running elsewhere')
      return None
    if results.state(workdir) == 'done':  # by another process, meanwhile
      claims.release(workdir)
      return None
    (workdir / results.ERROR).unlink(missing_ok=True)
    slot = min(set(range(self._workers)) - {job.slot for job in jobs})
    with (workdir / _LOG).open('ab') as log:
      process = subprocess.Popen(
        self._command(run, workdir),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A Ctrl-C of the terminal reaches us alone, and is passed on once.
        start_new_session=True,
        env={**os.environ, **self._devices(slot)},
      )
    claims.hand_over(workdir, process.pid)
    share = self._share(self._cores, slot)
    if share and self._workers > 1:
      os.sched_setaffinity(process.pid, share)  # its threads inherit it
    self._say(f'{run.name}: started')
    now = time.monotonic()
    return _Job(run, workdir, process, slot, now, now)

  def _devices(self, slot):
    if not self._gpus or self._workers == 1:
      return {}
    share = self._share(self._gpus, slot)
    return {'CUDA_VISIBLE_DEVICES': ','.join(share)}

  def _share(self, things, slot):
    """Equal parts; where there are fewer things than workers, one in turn."""
    if len(things) < self._workers:
      return things[slot % len(things) :][:1] if things else []
    return things[slot :: self._workers]

  def _stop(self, jobs):
    for job in jobs:
      # Once each: a second signal would end it before it has saved.
      if job.kept != float('inf'):
        job.process.send_signal(signal.SIGTERM)
        job.kept = float('inf')

  def _finish(self, job, done, total, left) -> bool:
    """Tells how a run ended; returns False if it failed."""
    status, spent = job.process.returncode, time.monotonic() - job.begun
    try:
      if status in _STOPPED:
        self._say(f'{job.run.name}: stopped, to be resumed')
        return True
      if status or not (job.workdir / 'summary.json').exists():
        line = _last_line(job.workdir / _LOG)
        (job.workdir / results.ERROR).write_text(line + '\n')
        self._say(f'{job.run.name}: failed, exit status {status}: {line}')
        return False
    finally:
      claims.release(job.workdir)
    self._spent.append(spent)
    (row,) = results.collect(self._directory, [job.run])
    mean = sum(self._spent) / len(self._spent)
    eta = f', ETA {duration(mean * left / self._workers)}' if left else ''
    self._say(
      f'{job.run.name}: done in {duration(spent)}, test top-1 '
      f'{row["test_top1"]:.2%}, EMA {row["test_top1_ema"]:.2%} '
      f'({done} of {total}{eta})'
    )
    return True


def train_command(arguments: Sequence[str], workdir: Path) -> list[str]:
  """Returns the command of one training run."""
  return [sys.executable, 'train.py', *arguments, f'--workdir={workdir}']


def check_root() -> None:
  """Raises `UserError` where there is no train.py to run."""
  if not Path('train.py').is_file():
    raise UserError(
      'no train.py here: sweep runs in the root of the repository'
    )


def _last_line(path: Path) -> str:
  lines = path.read_text(errors='replace').splitlines()
  return next((line for line in reversed(lines) if line.strip()), 'no output')


def _cores() -> list[int]:
  if not hasattr(os, 'sched_getaffinity'):
    return []
  return sorted(os.sched_getaffinity(0))[: environment.cores()]


def _gpus() -> list[str]:
  """The GPUs that may be used, by number or name."""
  visible = os.environ.get('CUDA_VISIBLE_DEVICES')
  if visible is not None:
    return [gpu for gpu in visible.split(',') if gpu]
  if not shutil.which('nvidia-smi'):
    return []
  listed = subprocess.run(
    ['nvidia-smi', '--list-gpus'], capture_output=True, text=True
  )
  lines = [x for x in listed.stdout.splitlines() if x.startswith('GPU ')]
  return [str(i) for i in range(len(lines))]
