"""What people see of a run: lines, metrics.jsonl, TensorBoard, curves."""

import contextlib
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import jax
import tensorboardX
import tqdm
from etils import epath

from effnet_jax import errors

History = list[dict[str, float]]

_PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


def duration(seconds: float) -> str:
  """Returns `2h05m`, `3m20s` or `12s`.

  >>> duration(200)
  '3m20s'
  """
  minutes, seconds = divmod(round(max(seconds, 0)), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}h{minutes:02d}m'
  return f'{minutes}m{seconds:02d}s' if minutes else f'{seconds}s'


class Reporter:
  """Keeps the metric history and shows it, on the first process only.

  Attributes:
    history: one dictionary an entry, `step` in each; also in `metrics.jsonl`.
  """

  def __init__(
    self, workdir: epath.Path, history: History, step: int, enabled: bool
  ):
    self.history = history
    self._workdir, self._step, self._enabled = workdir, step, enabled
    self._events = None

  def __enter__(self) -> 'Reporter':
    return self

  def __exit__(self, *_) -> None:
    if self._events is not None:
      self._events.close()

  def begin(self) -> None:
    """Makes the files ready for what comes after the step."""
    if not self._enabled:
      return
    (self._workdir / 'summary.json').unlink(missing_ok=True)  # of a shorter run
    try:
      self._events = tensorboardX.SummaryWriter(
        str(self._workdir / 'tensorboard'),
        # Later events are from a part of this run that was cut off.
        purge_step=self._step + 1,
        write_to_disk=True,
      )
    except ImportError as error:
      raise errors.UserError(
        f'TensorBoard events in {self._workdir} need a package ({error}): '
        'pip install google-cloud-storage'
      ) from error
    self._write()

  def say(self, text: str) -> None:
    if self._enabled:
      print(text, flush=True)

  def add(self, entry: dict[str, float]) -> None:
    """Adds an entry to the history, the file and TensorBoard."""
    self.history.append(entry)
    if self._events is None:
      return
    for name, value in entry.items():
      if name not in ('step', 'epoch'):
        group = 'eval' if name.startswith('eval_') else 'train'
        self._events.add_scalar(f'{group}/{name}', value, int(entry['step']))
    self._events.flush()
    self._write()

  def progress(self, items: Iterable[Any], what: str) -> Iterable[Any]:
    """Passes items on, with a bar where a person is watching."""
    # disable=None: no bar unless the output is a terminal.
    disable = None if self._enabled else True
    return tqdm.tqdm(items, what, leave=False, disable=disable)

  def finish(self, summary: dict[str, Any], title: str) -> None:
    """Writes summary.json and draws curves.png."""
    if not self._enabled:
      return
    try:
      with (self._workdir / 'curves.png').open('wb') as file:
        draw_curves(self.history, file, title)
    except errors.UserError as error:
      self.say(f'No curves.png: {error}')
    _write(self._workdir / 'summary.json', json.dumps(summary, indent=2))

  def conclude(self) -> None:
    """Says what a finished run reached and where its files lie."""
    if self._enabled:  # summary.json is this process's
      self.say(results(self._workdir))

  def _write(self):
    # Whole, for buckets cannot be appended to, and a resumed run takes back
    # what was written after its checkpoint.
    lines = ''.join(json.dumps(entry) + '\n' for entry in self.history)
    _write(self._workdir / 'metrics.jsonl', lines)


def _write(path: epath.Path, text: str) -> None:
  """Replaces a file; no reader sees half of it."""
  temporary = path.parent / f'.{path.name}.tmp'
  try:
    temporary.write_text(text)
    temporary.replace(path)
  except OSError as error:
    raise errors.UserError(
      f'{path} could not be written ({error}); make room there, then give the '
      'same command again'
    ) from error


class Timer:
  """Images per second, share of time spent waiting for input, time left."""

  def __init__(self, seconds: float, step: int, batch_size: int):
    self._before = seconds  # spent by earlier parts of this run
    self._batch_size = batch_size
    self._created = self._compiling = time.perf_counter()
    self._mark(step)
    self._first, self._begun = step, self._created

  def _mark(self, step):
    self._step, self._last = step, time.perf_counter()
    self._waited = self._left_out = self._waited_before = 0.0
    self._steps_left_out = 0

  def before_compiling(self, state: Any) -> None:
    """Waits for the steps so far: the next one is of another stage."""
    jax.block_until_ready(state)
    self._compiling = time.perf_counter()
    self._waited_before = self._waited

  def compiled(self, step_metrics: Any, step: int) -> str:
    """Waits for a stage's first step, which the figures leave out."""
    jax.block_until_ready(step_metrics)
    self._first, self._begun = step, time.perf_counter()
    taken = self._begun - self._compiling
    self._left_out += taken
    self._waited = self._waited_before
    self._steps_left_out += 1
    return f'first step done, compilation included, after {duration(taken)}'

  @contextlib.contextmanager
  def waiting(self, devices_idle: Callable[[], bool]):
    """Counts the time inside as spent waiting for input.

    Only time in which the devices have nothing to do: the host runs ahead of
    them, and what it waits for meanwhile costs nothing. Where they fall idle on
    the way, half of it.
    """
    start, idle_before = time.perf_counter(), devices_idle()
    yield
    waited = time.perf_counter() - start
    self._waited += waited * (idle_before + devices_idle()) / 2

  @contextlib.contextmanager
  def paused(self):
    """Leaves out the time inside, such as an evaluation's."""
    start = time.perf_counter()
    yield
    self._left_out += time.perf_counter() - start

  def read(self, step: int) -> dict[str, float]:
    """Returns the figures of the steps since the last reading."""
    elapsed = time.perf_counter() - self._last - self._left_out
    images = (step - self._step - self._steps_left_out) * self._batch_size
    figures = {
      'images_per_second': images / max(elapsed, 1e-9),
      'input_wait': self._waited / max(elapsed, 1e-9),
    }
    self._mark(step)
    return figures

  def left(self, step: int, total_steps: int) -> float:
    """Returns the seconds until `total_steps`, evaluations included."""
    done = max(step - self._first, 1)
    spent = time.perf_counter() - self._begun
    return spent / done * (total_steps - step)

  def seconds(self) -> float:
    """Returns the seconds of all parts of this run."""
    return self._before + time.perf_counter() - self._created


def progress_line(
  entry: dict[str, float], total_steps: int, left: float
) -> str:
  """Returns one line on where training is."""
  return (
    f'step {entry["step"]:>6.0f}/{total_steps}  epoch {entry["epoch"]:6.2f}  '
    f'loss {entry["loss"]:.4f}  top-1 {entry["top1"]:7.2%}  '
    f'lr {entry["learning_rate"]:.2e}  '
    f'{entry["images_per_second"]:7.1f} images/s  '
    f'input wait {entry["input_wait"]:4.0%}  ETA {duration(left)}'
  )


def evaluation_line(step: int, results: dict[str, float]) -> str:
  """Returns one line on an evaluation."""
  return (
    f'step {step:>6}  evaluated on {results["examples"]:.0f} images: '
    f'top-1 {results["top1"]:.2%}, EMA {results["top1_ema"]:.2%}'
  )


def stopped_line(step: int, patience: int) -> str:
  """Returns one line on a run that ends early."""
  return (
    f'step {step:>6}  stopped early: the last {patience} evaluations were no '
    'better than the best before them'
  )


def environment(devices: Sequence[jax.Device]) -> dict[str, Any]:
  """Returns the commit, versions and device that a result belongs to."""
  return {
    'git_commit': _git_commit(),
    'versions': {
      'python': platform.python_version(),
      **{name: metadata.version(name) for name in _PACKAGES},
    },
    'device': f'{len(devices)} x {devices[0].device_kind}',
  }


def _git_commit() -> str | None:
  git = ['git', '-C', str(Path(__file__).parent)]
  try:
    commit, changes = (
      subprocess.run(
        [*git, *arguments], capture_output=True, text=True, check=True
      ).stdout.strip()
      for arguments in (['rev-parse', 'HEAD'], ['status', '--porcelain'])
    )
  except (OSError, subprocess.CalledProcessError):
    return None  # installed from a wheel
  return commit + ('+changes' if changes else '')


def draw_curves(history: History, file: BinaryIO, title: str) -> None:
  """Draws loss, top-1 and learning rate over epochs as a PNG.

  Raises:
    UserError: matplotlib is missing.
  """
  try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
  except ImportError as error:
    raise errors.UserError(
      'curves need matplotlib: pip install matplotlib'
    ) from error

  figure = Figure(figsize=(13, 4), layout='constrained')
  FigureCanvasAgg(figure)
  loss, top1, rate = figure.subplots(1, 3)
  for axes, curves in (
    (loss, (('loss', 'training'), ('eval_cross_entropy', 'evaluation'),
            ('eval_cross_entropy_ema', 'evaluation, EMA'))),
    (top1, (('top1', 'training'), ('eval_top1', 'evaluation'),
            ('eval_top1_ema', 'evaluation, EMA'))),
    (rate, (('learning_rate', 'learning rate'),)),
  ):  # fmt: skip
    for name, label in curves:
      points = [(e['epoch'], e[name]) for e in history if name in e]
      if points:
        marker = 'o' if len(points) < 60 and name.startswith('eval') else None
        axes.plot(*zip(*points, strict=True), label=label, marker=marker, ms=3)
    axes.set_xlabel('epoch')
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
      axes.legend()
  loss.set_title('cross-entropy (training: with label smoothing)')
  top1.set_title('top-1')
  top1.set_ylim(top=1.0)
  rate.set_title('learning rate')
  figure.suptitle(title)
  figure.savefig(file, format='png', dpi=110)


def finished_step(workdir: epath.Path) -> int | None:
  """Returns the step that summary.json reports, None without one."""
  summary = workdir / 'summary.json'
  return json.loads(summary.read_text())['step'] if summary.exists() else None


def results(workdir: epath.Path) -> str:
  """Returns what a finished run reached and where its files lie."""
  summary = json.loads((workdir / 'summary.json').read_text())
  files = {
    'checkpoints': 'checkpoints',
    'metrics': 'metrics.jsonl',
    'summary': 'summary.json',
    'TensorBoard': 'tensorboard',
    'curves': 'curves.png',
  }
  lines = [f'  {what:<12} {workdir / name}' for what, name in files.items()]
  return '\n'.join(
    [
      f'test top-1 {summary["test_top1"]:.2%} (raw weights), '
      f'{summary["test_top1_ema"]:.2%} (EMA weights), on '
      f'{summary["test_examples"]:.0f} images, step {summary["step"]}, '
      f'{duration(summary["seconds"])} of training',
      *lines,
    ]
  )
