"""What people see: figures, files, TensorBoard's events, curves."""

import io
import json
import struct
import sys
import types

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboardX.proto import event_pb2

from effnet_jax.errors import UserError
from effnet_jax.training import reporting


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0, '0s'),
    (12.4, '12s'),
    (59.6, '1m00s'),
    (200, '3m20s'),
    (3599.7, '1h00m'),
    (7500, '2h05m'),
    (90_061, '25h01m'),
    (-3, '0s'),
  ],
)
def test_durations(seconds, text):
  assert reporting.duration(seconds) == text


# The timer, under a clock of our own.


@pytest.fixture
def clock(monkeypatch):
  now = types.SimpleNamespace(seconds=100.0)
  fake = types.SimpleNamespace(perf_counter=lambda: now.seconds)
  monkeypatch.setattr(reporting, 'time', fake)
  return now


def test_figures_leave_out_compilation_and_evaluation(clock):
  timer = reporting.Timer(1000.0, 50, batch_size=8)
  with timer.waiting(lambda: True):
    clock.seconds += 5  # for the first batch
  clock.seconds += 60  # for the compiler
  text = timer.compiled({'loss': (np.float32(1), np.float32(1))}, 51)
  assert text.endswith('after 1m05s')
  # Ten steps of one second, of which .25 wait for input; one evaluation.
  for _ in range(10):
    with timer.waiting(lambda: True):
      clock.seconds += 0.25
    clock.seconds += 0.75
  with timer.paused():
    clock.seconds += 20
  assert timer.read(61) == {'images_per_second': 8.0, 'input_wait': 0.25}
  # Four more, twice as fast; what was read is not counted again.
  clock.seconds += 2
  assert timer.read(65) == {'images_per_second': 16.0, 'input_wait': 0.0}
  # 32 s for the 14 steps since the first, evaluation included.
  assert timer.left(65, 100) == pytest.approx(32 / 14 * 35)
  assert timer.left(100, 100) == 0
  # 97 s of this part, and those before.
  assert timer.seconds() == pytest.approx(1097)


def test_figures_leave_out_the_compilation_of_a_later_stage(clock):
  timer = reporting.Timer(0.0, 0, batch_size=8)
  metrics = {'loss': (np.float32(1), np.float32(1))}
  timer.compiled(metrics, 1)
  # Two steps of one second; then 30 s of compilation, 10 of them for data.
  with timer.waiting(lambda: True):
    clock.seconds += 0.5
  clock.seconds += 1.5
  timer.before_compiling(metrics)
  with timer.waiting(lambda: True):
    clock.seconds += 10
  clock.seconds += 20
  assert timer.compiled(metrics, 4).endswith('after 30s')
  clock.seconds += 3  # two steps of 1.5 s
  assert timer.read(6) == {'images_per_second': 32 / 5, 'input_wait': 0.1}
  # What is left is of the new stage, at its rate.
  assert timer.left(6, 16) == pytest.approx(15)
  # The next reading counts every step again.
  clock.seconds += 2
  assert timer.read(8) == {'images_per_second': 8.0, 'input_wait': 0.0}


def test_waiting_counts_while_the_devices_are_idle(clock):
  timer = reporting.Timer(0.0, 0, batch_size=8)
  for idle in ((True, True), (False, True), (False, False)):
    answers = iter(idle)
    with timer.waiting(lambda answers=answers: next(answers)):
      clock.seconds += 2
  assert timer.read(3)['input_wait'] == (2 + 1 + 0) / 6


def test_a_reading_without_steps(clock):
  timer = reporting.Timer(0.0, 0, batch_size=8)
  assert timer.read(0) == {'images_per_second': 0.0, 'input_wait': 0.0}
  assert timer.left(0, 10) == 0.0


# The reporter.

TRAINING = {'step': 2, 'epoch': 0.5, 'loss': 1.5, 'learning_rate': 0.1}
EVALUATION = {'step': 2, 'epoch': 0.5, 'eval_top1': 0.25}


def _reporter(tmp_path, history=None, step=0, enabled=True):
  history = [] if history is None else history
  workdir = epath.Path(tmp_path)
  report = reporting.Reporter(workdir, history, step, enabled)
  report.begin()
  return report


def _finish(report):
  """Ends a report: TensorBoard's events are written by a thread of its own."""
  report.__exit__()


def _lines(tmp_path):
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert text == '' or text.endswith('\n')
  return [json.loads(line) for line in text.splitlines()]


def _events(tmp_path):
  """TensorBoard's records: length, its checksum, event, its checksum."""
  events = []
  for path in sorted((tmp_path / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event()
      event.ParseFromString(data[12 : 12 + length])
      events.append(event)
      data = data[16 + length :]
  return events


def _scalars(tmp_path):
  return [
    (value.tag, event.step, value.simple_value)
    for event in _events(tmp_path)
    for value in event.summary.value
  ]


def test_entries_go_to_the_history_the_file_and_tensorboard(tmp_path):
  report = _reporter(tmp_path)
  assert _lines(tmp_path) == []
  report.add(TRAINING)
  assert _lines(tmp_path) == [TRAINING]  # at once
  report.add(EVALUATION)
  assert report.history == [TRAINING, EVALUATION]
  assert _lines(tmp_path) == [TRAINING, EVALUATION]
  _finish(report)
  assert _scalars(tmp_path) == [
    ('train/loss', 2, 1.5),
    ('train/learning_rate', 2, pytest.approx(0.1)),
    ('eval/eval_top1', 2, 0.25),
  ]


def test_a_resumed_run_takes_back_what_came_after_its_checkpoint(
  tmp_path,
):
  report = _reporter(tmp_path)
  report.add(TRAINING)
  report.add({**TRAINING, 'step': 4})
  _finish(report)
  report = _reporter(tmp_path, [dict(TRAINING)], step=2)
  assert _lines(tmp_path) == [TRAINING]
  report.add({**TRAINING, 'step': 3})
  assert [line['step'] for line in _lines(tmp_path)] == [2, 3]
  _finish(report)
  # TensorBoard drops the events from this step on that were written before.
  starts = [
    event.step
    for event in _events(tmp_path)
    if event.session_log.status == event_pb2.SessionLog.START
  ]
  # A second writer of the same second takes the name of the first.
  assert starts in ([1, 3], [3])


def test_the_file_is_replaced_whole(tmp_path):
  report = _reporter(tmp_path)
  report.add(TRAINING)
  with (tmp_path / 'metrics.jsonl').open() as file:
    report.add(EVALUATION)
    # A reader that came before sees the old file, untouched.
    assert file.read() == json.dumps(TRAINING) + '\n'
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {'metrics.jsonl', 'tensorboard'}


def test_other_processes_keep_the_history_alone(tmp_path, capsys):
  report = _reporter(tmp_path, enabled=False)
  report.add(TRAINING)
  report.say('hello')
  report.finish({'step': 2}, 'title')
  assert report.history == [TRAINING]
  assert list(report.progress(iter([1, 2]), 'counting')) == [1, 2]
  assert list(tmp_path.iterdir()) == []
  assert capsys.readouterr() == ('', '')


def test_no_bar_without_a_terminal(tmp_path, capsys):
  report = _reporter(tmp_path)
  assert list(report.progress(iter([1, 2]), 'counting')) == [1, 2]
  report.say('hello')
  assert capsys.readouterr() == ('hello\n', '')


def test_the_end_of_a_run(tmp_path):
  report = _reporter(tmp_path)
  report.add(TRAINING)
  summary = {
    'test_top1': 0.5,
    'test_top1_ema': 0.75,
    'test_examples': 300.0,
    'step': 20,
    'seconds': 200.0,
  }
  report.finish(summary, 'title')
  assert json.loads((tmp_path / 'summary.json').read_text()) == summary
  assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
  head, *files = reporting.results(epath.Path(tmp_path)).splitlines()
  assert head == (
    'test top-1 50.00% (raw weights), 75.00% (EMA weights), on 300 images, '
    'step 20, 3m20s of training'
  )
  named = {line.split()[-1] for line in files}
  for name in ('metrics.jsonl', 'summary.json', 'tensorboard', 'curves.png'):
    assert str(tmp_path / name) in named
    assert (tmp_path / name).exists()


def test_the_end_of_a_run_without_matplotlib(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
  report = _reporter(tmp_path)
  report.finish({'step': 2}, 'title')
  assert 'pip install' in capsys.readouterr().out
  assert json.loads((tmp_path / 'summary.json').read_text()) == {'step': 2}
  with pytest.raises(UserError, match='pip install') as caught:
    reporting.draw_curves([], io.BytesIO(), 'title')
  assert '\n' not in str(caught.value)


# Lines.


def test_the_progress_line():
  entry = {
    'step': 120,
    'epoch': 1.25,
    'loss': 2.34567,
    'top1': 0.125,
    'learning_rate': 0.0256,
    'images_per_second': 1234.56,
    'input_wait': 0.043,
  }
  assert reporting.progress_line(entry, 900, 200) == (
    'step    120/900  epoch   1.25  loss 2.3457  top-1  12.50%  lr 2.56e-02  '
    ' 1234.6 images/s  input wait   4%  ETA 3m20s'
  )


def test_the_evaluation_line():
  results = {'examples': 300.0, 'top1': 0.9, 'top1_ema': 0.95}
  assert reporting.evaluation_line(120, results) == (
    'step    120  evaluated on 300 images: top-1 90.00%, EMA 95.00%'
  )


def test_the_environment():
  found = reporting.environment(jax.devices()[:2])
  assert found['device'] == '2 x cpu'
  assert found['versions']['jax'] == jax.__version__
  assert found['versions']['numpy'] == np.__version__
  assert json.loads(json.dumps(found)) == found


# Curves.

BLUE = (31, 119, 180)  # the first line of every plot


def _curves(history):
  """(size, pixels of the first line's colour) of the picture."""
  file = io.BytesIO()
  reporting.draw_curves(history, file, 'micro on digits')
  image = Image.open(file)
  assert image.format == 'PNG'
  pixels = np.asarray(image.convert('RGB'))
  return image.size, int((pixels == BLUE).all(-1).sum())


def _history(count):
  return [
    {**TRAINING, 'epoch': float(n), 'loss': 1 / (n + 1), 'top1': n / count}
    for n in range(count)
  ]


def test_curves_of_a_run():
  size, blue = _curves([*_history(100), EVALUATION])
  assert size == (1430, 440)  # 13 x 4 inches of 110 dots
  # Three lines, each wider than half a third of the picture.
  assert blue > 3 * 1430 / 6


@pytest.mark.parametrize(
  'history', [[], [EVALUATION], [{'step': 1, 'epoch': 1.0}]]
)
def test_curves_of_next_to_nothing(history):
  size, blue = _curves(history)
  assert size == (1430, 440)
  assert blue < 100
