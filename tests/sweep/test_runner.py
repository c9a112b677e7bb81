"""Claims and runs, with a stand-in for training; and one real sweep."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from effnet_jax.errors import UserError
from effnet_jax.sweep import claims, commands, plan, results, runner

ROOT = Path(__file__).parents[2]
# Trains: appends to `calls`, then does what the run's name says. A run called
# `slow` saves when it is told to stop and goes on from there.
TRAIN = """
import json, os, pathlib, signal, sys, time
workdir, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with (workdir / 'calls').open('a') as calls: calls.write('x')
print('cores', len(os.sched_getaffinity(0)), flush=True)
if name.startswith('bad'): sys.exit('error: no such data')
if name.startswith('silent'): sys.exit(0)
if name.startswith('slow') and not (workdir / 'saved').exists():
  def stop(number, frame):
    (workdir / 'saved').touch()
    sys.exit(143)
  signal.signal(signal.SIGTERM, stop)
  (workdir / 'ready').touch()
  time.sleep(60)
top1 = {'seed0': .5, 'seed1': .7}[name.rpartition('-')[2]]
(workdir / 'summary.json').write_text(json.dumps(
  {'test_top1': top1, 'test_top1_ema': top1, 'seconds': 1.0}))
"""


def _command(run, workdir):
  return [sys.executable, '-c', TRAIN, str(workdir), run.name]


def _runs(*variants, seeds=(0, 1)):
  named = dict.fromkeys(variants, {})
  return plan.runs(plan.Sweep('base.py', runs=named, seeds=seeds))


def _run(directory, runs, workers=1):
  said = []
  status = runner.Runner(directory, _command, workers, said.append).run(runs)
  return status, said


def _calls(directory, run):
  return len((directory / run.name / 'calls').read_text())


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  directory = tmp_path_factory.mktemp('sweep')
  runs = _runs('good', 'bad', 'silent')
  return directory, runs, *_run(directory, runs, workers=2)


def test_a_failed_run_is_named_and_the_rest_go_on(ran):
  directory, runs, status, said = ran
  assert status == 1
  states = [results.state(directory / run.name) for run in runs]
  assert states == ['done'] * 2 + ['failed'] * 4
  (told,) = [line for line in said if line.startswith('bad-seed1: failed')]
  assert 'error: no such data' in told and 'status 1' in told
  error = (directory / 'bad-seed0' / 'error.txt').read_text()
  assert error == 'error: no such data\n'
  # An end without a result is no success.
  assert any('silent-seed0: failed, exit status 0' in line for line in said)


def test_results_are_means_and_spreads_over_seeds(ran):
  directory, runs, *_ = ran
  rows = results.collect(directory, runs)
  results.write(directory, rows)
  report = json.loads((directory / 'results.json').read_text())
  good, bad, _ = report['variants']
  assert good['runs'] == 2 and bad == {'variant': 'bad', 'runs': 0}
  assert good['test_top1'] == pytest.approx(0.6)
  assert good['test_top1_std'] == pytest.approx(0.02**0.5)  # .1^2 + .1^2, n - 1
  table = (directory / 'results.csv').read_text().splitlines()
  assert table[0].startswith('run,variant,seed,state,test_top1')
  assert table[1] == 'good-seed0,good,0,done,0.5,0.5,1.0'
  assert '60.00 +- 14.14' in results.table(rows)


def test_what_is_done_is_not_repeated_and_what_failed_is(ran):
  directory, runs, *_ = ran
  before = [_calls(directory, run) for run in runs]
  status, said = _run(directory, runs)
  assert status == 1
  after = [_calls(directory, run) for run in runs]
  assert [b - a for a, b in zip(before, after, strict=True)] == [0] * 2 + [
    1
  ] * 4
  assert not any(line.startswith('good') for line in said)


def test_cores_are_divided(ran, monkeypatch):
  directory, *_ = ran
  total = len(os.sched_getaffinity(0))
  log = (directory / 'good-seed0' / 'log.txt').read_text()
  assert log.splitlines()[0] == f'cores {max(total // 2, 1)}'
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3')
  many = runner.Runner(directory, _command, 2)
  assert many._devices(0) == {'CUDA_VISIBLE_DEVICES': '0,2'}
  assert many._devices(1) == {'CUDA_VISIBLE_DEVICES': '1,3'}
  assert runner.Runner(directory, _command, 1)._devices(0) == {}


def _try(workdir, barrier, won):
  barrier.wait()
  if claims.take(workdir):
    won.put(os.getpid())
    time.sleep(0.5)  # alive while the others try


def test_of_many_one_wins(tmp_path):
  context = multiprocessing.get_context('spawn')
  won, barrier = context.Queue(), context.Barrier(4)
  tries = [
    context.Process(target=_try, args=(tmp_path, barrier, won))
    for _ in range(4)
  ]
  for process in tries:
    process.start()
  for process in tries:
    process.join()
  winner = won.get(timeout=5)
  assert won.empty()
  owner = json.loads((tmp_path / 'claim.json').read_text())
  assert owner['pid'] == winner
  # It is dead now: the claim can be had.
  assert not claims.is_taken(tmp_path)
  assert claims.take(tmp_path)


def test_whose_claims_hold(tmp_path):
  path = tmp_path / 'claim.json'
  assert claims.take(tmp_path) and not claims.take(tmp_path)
  own = json.loads(path.read_text())
  # The number of a process that has ended is used again.
  path.write_text(json.dumps({**own, 'started': '1'}))
  assert not claims.is_taken(tmp_path)
  # Another machine's holds while it is kept.
  path.write_text(json.dumps({**own, 'host': 'another'}))
  assert claims.is_taken(tmp_path) and not claims.take(tmp_path)
  old = time.time() - claims.STALE_SECONDS - 1
  os.utime(path, (old, old))
  assert not claims.is_taken(tmp_path)
  claims.keep(tmp_path)
  assert claims.is_taken(tmp_path)
  path.write_text('{"host"')  # torn
  os.utime(path, (old, old))
  assert claims.take(tmp_path)
  assert json.loads(path.read_text())['host'] == socket.gethostname()
  names = {p.name for p in tmp_path.iterdir()}
  assert names == {'claim.json', '.claim.lock'}


def _take_over(workdir, barrier, dead, won):
  for _ in range(20):
    if barrier.wait() == 0:
      (workdir / 'claim.json').write_text(dead)
    barrier.wait()
    won.put(claims.take(workdir))
    barrier.wait()  # alive while the others try


def test_of_many_one_takes_over_a_dead_ones(tmp_path):
  """Who judged the old claim as dead must not remove the new one."""
  assert claims.take(tmp_path)
  own = json.loads((tmp_path / 'claim.json').read_text())
  dead = json.dumps({**own, 'started': '1'})
  context = multiprocessing.get_context('spawn')
  won, barrier = context.SimpleQueue(), context.Barrier(4)
  tries = [
    context.Process(target=_take_over, args=(tmp_path, barrier, dead, won))
    for _ in range(4)
  ]
  for process in tries:
    process.start()
  answers = [won.get() for _ in range(80)]
  for process in tries:
    process.join()
  assert sum(answers) == 20


def test_a_run_outlives_its_sweep(tmp_path):
  """After kill -9 of the sweep its run goes on, and no other one begins it."""
  (run,) = _runs('slow', seeds=(0,))
  sweep = multiprocessing.get_context('spawn').Process(
    target=_run, args=(tmp_path, [run])
  )
  sweep.start()
  ready = tmp_path / run.name / 'ready'
  while not ready.exists():
    time.sleep(0.02)
  sweep.kill()
  sweep.join()
  status, said = _run(tmp_path, [run])
  assert (status, said) == (0, [f'{run.name}: running elsewhere'])
  owner = json.loads((ready.parent / 'claim.json').read_text())
  os.kill(owner['pid'], signal.SIGKILL)
  while claims.is_taken(ready.parent):
    time.sleep(0.02)
  (ready.parent / 'saved').touch()
  assert _run(tmp_path, [run])[0] == 0
  assert _calls(tmp_path, run) == 2


def test_another_processs_run_is_left_alone(tmp_path):
  (first, second) = _runs('good')
  assert claims.take(tmp_path / first.name)
  status, said = _run(tmp_path, [first, second])
  assert status == 0
  assert f'{first.name}: running elsewhere' in said
  assert results.state(tmp_path / first.name) == 'running'
  assert results.state(tmp_path / second.name) == 'done'


def test_a_signal_is_passed_on_and_the_run_resumes(tmp_path):
  runs = _runs('slow', 'good', seeds=(0,))

  def interrupt():
    while not (tmp_path / 'slow-seed0' / 'ready').exists():
      time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)

  thread = threading.Thread(target=interrupt)
  thread.start()
  status, said = _run(tmp_path, runs)
  thread.join()
  assert status == 128 + signal.SIGTERM
  assert 'slow-seed0: stopped, to be resumed' in said
  assert results.state(tmp_path / 'slow-seed0') == 'stopped'
  assert results.state(tmp_path / 'good-seed0') == 'waiting'
  status, _ = _run(tmp_path, runs)
  assert status == 0
  assert _calls(tmp_path, runs[0]) == 2


def test_the_root_is_needed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=r'no train\.py here'):
    commands.sweep(['--config=configs/ablations/se.py', '--workdir=x'])


def test_a_real_sweep(tmp_path):
  sweep = tmp_path / 'tiny.py'
  sweep.write_text(
    'from effnet_jax.sweep.plan import Sweep\n'
    'def get_sweep():\n'
    "  return Sweep('configs/quickstart.py', shared={\n"
    "    'model.overrides.stages': 'r1_k3_s2_e1_o8',\n"
    "    'model.overrides.head_filters': 16, 'duration': '2 steps',\n"
    "    'data.eval_split': 'test[:20]', 'data.test_split': 'test[:20]',\n"
    "    'evaluation.batch_size': 20, 'batch_size': 16},\n"
    "    runs={'fine': {}, 'broken': {'batch_size': 15}})\n"
  )
  command = [sys.executable, '-m', 'effnet_jax', 'sweep', f'--config={sweep}']
  environment = {**os.environ, 'JAX_NUM_CPU_DEVICES': '2'}
  done = subprocess.run(
    [*command, f'--workdir={tmp_path / "runs"}', '--config.duration=1 step'],
    capture_output=True,
    text=True,
    cwd=ROOT,
    env=environment,
  )
  assert done.returncode == 1, done.stderr
  assert 'fine-seed0: done' in done.stdout
  # What the command says stands over what the sweep shares.
  fine = json.loads((tmp_path / 'runs/fine-seed0/summary.json').read_text())
  assert fine['step'] == 1
  assert 'failed: broken-seed0: error: config.batch_size=15' in done.stdout
  report = json.loads((tmp_path / 'runs' / 'results.json').read_text())
  assert [line['runs'] for line in report['variants']] == [1, 0]
