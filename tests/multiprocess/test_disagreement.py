"""Real processes that do not fit together end, and all say why."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 120  # most of it is importing JAX on a busy machine


def _start(workdirs, arguments, program=('train.py',)):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  return [
    subprocess.Popen(
      [
        sys.executable,
        *program,
        '--config=configs/quickstart.py',
        '--config.model.overrides.stages=r1_k3_s2_e1_o8',
        f'--workdir={workdir}',
        f'--coordinator=127.0.0.1:{port}',
        '--process_count=2',
        f'--process_id={index}',
        *(a[index] for a in arguments),
      ],
      cwd=ROOT,
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, workdir in enumerate(workdirs)
  ]


def _run(workdirs, *arguments):
  """The two processes' exit status and stderr."""
  started = _start(workdirs, arguments)
  results = [process.communicate(timeout=SECONDS)[1] for process in started]
  return [process.returncode for process in started], results


def _one_line(status, told, *expected):
  assert status == [2, 2], told
  for text in told:
    (line,) = [t for t in text.splitlines() if t.startswith('error: ')]
    assert all(part in line for part in expected), line


def test_another_batch_size_and_other_images(tmp_path):
  for index, level in enumerate((10, 200)):
    for split in ('train', 'test'):
      for name in 'ab':
        path = tmp_path / str(index) / split / name / '0.png'
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), level, np.uint8))
  _one_line(
    *_run(
      [tmp_path / 'run'] * 2,
      ['--config.data.source=folder'] * 2,
      [f'--config.data.path={tmp_path / str(i)}' for i in (0, 1)],
      ['--config.batch_size=64', '--config.batch_size=32'],
    ),
    'process 0 and process 1 differ in config.batch_size (64 and 32)',
    'the digest of train data',
  )
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.soak  # waits half a minute for the file
def test_a_work_directory_of_its_own(tmp_path):
  _one_line(
    *_run(
      [tmp_path / 'one', tmp_path / 'two'],
      ['--config.batch_size=64'] * 2,
    ),
    f'process 1: what process 0 writes to {tmp_path / "two"} is not there',
    'storage that all processes share',
  )


@pytest.mark.soak
def test_what_is_wrong_in_one_is_said_by_both(tmp_path):
  _one_line(
    *_run(
      [tmp_path / 'run'] * 2,
      ['--config.data.source=digits', '--config.data.source=folder'],
      ['--config.data.path=', f'--config.data.path={tmp_path / "nowhere"}'],
    ),
    f'process 1: no folder {tmp_path / "nowhere"}',
  )


FAILS = """
import sys, time
import train
from effnet_jax.training import loop, parallel
def train_and_evaluate(config, workdir):
  if parallel.process_index() == 1:
    raise RuntimeError('nobody thought of this')
  time.sleep(200)  # as in a sum over all devices
loop.train_and_evaluate = train_and_evaluate
sys.exit(train.main(sys.argv))
"""


@pytest.mark.soak
def test_a_traceback_does_not_wait_for_the_others(tmp_path):
  zero, one = _start([tmp_path] * 2, (), ['-c', FAILS])
  try:
    _, told = one.communicate(timeout=SECONDS)
  finally:
    zero.kill()
    zero.communicate()
  assert one.returncode == 1
  assert 'RuntimeError: nobody thought of this' in told
  assert 'Traceback' in told
