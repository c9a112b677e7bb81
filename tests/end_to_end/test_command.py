"""train.py as people run it: real processes, real signals, one-line errors."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

import effnet_jax

ROOT = Path(__file__).parents[2]
TINY = (
  '--config=configs/quickstart.py',
  '--config.batch_size=16',
  '--config.model.overrides.stages=r1_k3_s1_e1_o8_se r2_k3_s2_e2_o16_se',
  '--config.model.overrides.depth=1.0',
  '--config.model.overrides.resolution=8',
  '--config.model.overrides.head_filters=32',
)


def train(*arguments):
  return subprocess.Popen(
    [sys.executable, 'train.py', *arguments],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


BAD = {
  'no config': (['--workdir=w'], '--config is missing'),
  'no workdir': (['--config=configs/b0.py'], '--workdir is missing'),
  'missing file': (
    ['--config=configs/b99.py', '--workdir=w'],
    "no config file 'configs/b99.py'",
  ),
  'unknown recipe': (
    ['--config=configs/b0.py:baselin', '--workdir=w'],
    "no recipe 'baselin': did you mean baseline?",
  ),
  'misspelt key': (
    [*TINY, '--config.bach_size=3', '--workdir=w'],
    'unknown key config.bach_size: did you mean batch_size?',
  ),
  'misspelt inner key': (
    [*TINY, '--config.model.overrides.se_ration=0', '--workdir=w'],
    'unknown key config.model.overrides.se_ration: did you mean se_ratio?',
  ),
  'wrong type': (
    [*TINY, '--config.batch_size=many', '--workdir=w'],
    '--config.batch_size=many',
  ),
  'unknown flag': ([*TINY, '--workdr=w'], "flag 'workdr'. Did you mean"),
  'stray argument': ([*TINY, '--workdir=w', 'now'], "'now' is no flag"),
  'batch that does not divide': (
    [*TINY, '--config.batch_size=10', '--config.accumulate=4', '--workdir=w'],
    'config.batch_size=10 does not divide over 1 devices x 4 parts',
  ),
  'unknown variant': (
    [*TINY, '--config.model.name=b11', '--workdir=w'],
    "unknown variant 'b11': did you mean b1",
  ),
  'unknown data source': (
    [*TINY, '--config.data.source=digit', '--workdir=w'],
    'did you mean digits',
  ),
  'unknown split': (
    [*TINY, '--config.data.test_split=tset', '--workdir=w'],
    'tset',
  ),
  'data set not prepared': (
    ['--config=configs/b0.py', '--config.data.path=/nowhere', '--workdir=w'],
    'imagenet2012',
  ),
  'negative seed': (
    [*TINY, '--config.seed=-1', '--workdir=w'],
    'config.seed=-1 must be in 0..2**32-1',
  ),
  'half a crop': (
    [*TINY, '--config.data.crop_area=(0.5,)', '--workdir=w'],
    'crop_area (0.5,)',
  ),
  'bucket without its package': (
    [*TINY, '--workdir=gs://no-such-bucket/run'],
    'pip install',
  ),
  'malformed duration': (
    [*TINY, '--config.duration=soon', '--workdir=w'],
    "config.duration='soon' is no duration",
  ),
  'workdir is a file': (
    [*TINY, '--config.duration=1 step', '--workdir=README.md'],
    'README.md',
  ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_ends_in_one_line(case):
  arguments, expected = BAD[case]
  process = train(*arguments)
  out, err = process.communicate(timeout=120)
  assert process.returncode == 2, err
  assert expected in err
  assert 'Traceback' not in out + err
  errors = [line for line in err.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1 and errors[0] == err.strip().splitlines()[-1]


def wait_for_line(process, pattern):
  watchdog = threading.Timer(240, process.kill)
  watchdog.start()
  try:
    for line in process.stdout:
      if re.search(pattern, line):
        return line
  finally:
    watchdog.cancel()
  raise AssertionError(f'{pattern!r} never came: {process.stderr.read()}')


def assert_same_weights(left, right):
  for ema in (False, True):
    _, ours = effnet_jax.load(left, ema=ema)
    _, theirs = effnet_jax.load(right, ema=ema)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_killed_and_terminated_runs_resume_to_the_same_weights(tmp_path):
  arguments = [
    *TINY,
    '--config.duration=60 steps',
    '--config.log.every=1 step',
    '--config.checkpoint.every=5 steps',
    '--config.evaluation.every=30 steps',
  ]
  straight = train(*arguments, f'--workdir={tmp_path / "straight"}')
  out, err = straight.communicate(timeout=300)
  assert straight.returncode == 0, err
  assert 'ETA' in out and 'images/s' in out

  again = [*arguments, f'--workdir={tmp_path / "broken"}']
  process = train(*again)
  wait_for_line(process, r'step +17/60')
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=60)

  process = train(*again)
  assert 'resumed after step' in wait_for_line(process, 'steps of 16 images')
  wait_for_line(process, r'step +31/60')
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM, err
  assert 'The same command goes on' in out

  process = train(*again)
  out, err = process.communicate(timeout=300)
  assert process.returncode == 0, err
  assert_same_weights(tmp_path / 'broken', tmp_path / 'straight')
  first, second = (
    list(
      map(
        json.loads, (tmp_path / name / 'metrics.jsonl').read_text().splitlines()
      )
    )
    for name in ('straight', 'broken')
  )
  assert [e['loss'] for e in first if 'loss' in e] == [
    e['loss'] for e in second if 'loss' in e
  ]


@pytest.mark.soak
def test_a_folder_of_images_trains(tmp_path):
  rng = np.random.default_rng(0)
  for split, count in (('train', 12), ('test', 5)):
    for name, tint in (('red', 2), ('blue', 0)):
      folder = tmp_path / 'images' / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        image = rng.integers(0, 100, (20 + i, 30, 3), dtype=np.uint8)
        image[..., tint] = 255  # cv2 writes blue, green, red
        suffix = ('jpg', 'png', 'webp')[i % 3]
        assert cv2.imwrite(str(folder / f'{i}.{suffix}'), image)
  process = train(
    '--config=configs/folder.py',
    *TINY[1:],
    f'--config.data.path={tmp_path / "images"}',
    '--config.data.workers=1',
    '--config.data.crop_area=(0.5,1.0)',
    '--config.duration=30 steps',
    f'--workdir={tmp_path / "run"}',
  )
  out, err = process.communicate(timeout=240)
  assert process.returncode == 0, err
  assert '24 training images, 2 classes' in out
  summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
  assert summary['test_examples'] == 10
  assert summary['test_top1'] == 1.0  # red and blue


def test_help_teaches():
  process = train('--help')
  out, _ = process.communicate(timeout=60)
  assert '--config' in out and '--workdir' in out and 'Exit status' in out
