"""Real processes on loopback: train, save and resume like one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from effnet_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
DEVICES = 4  # over all processes
CONFIG = (
  '--config=configs/quickstart.py',
  '--config.batch_size=32',
  '--config.accumulate=2',
  '--config.model.overrides.stages=r1_k3_s2_e1_o8 r1_k3_s1_e2_o8',
  '--config.model.overrides.depth=1.0',
  '--config.model.overrides.resolution=8',
  '--config.model.overrides.head_filters=32',
  # Everything that draws, averages or sums over devices.
  '--config.model.overrides.dropout_rate=0.3',
  '--config.model.overrides.survival_probability=0.7',
  '--config.objective.mixup=0.2',
  '--config.objective.cutmix=0.5',
  '--config.data.augment=randaugment',
  '--config.data.erasing=0.2',
  '--config.log.every=2 steps',
  '--config.evaluation.every=4 steps',
  '--config.evaluation.batch_size=128',
  '--config.checkpoint.every=4 steps',
  '--config.schedule.decay=constant',
)


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def start(workdir, duration, devices, *arguments):
  return subprocess.Popen(
    [
      sys.executable,
      'train.py',
      *CONFIG,
      f'--config.duration={duration}',
      f'--workdir={workdir}',
      *arguments,
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': str(devices)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def run(workdir, duration, processes, bn_groups):
  port = free_port()
  started = [
    start(
      workdir,
      duration,
      DEVICES // processes,
      f'--config.model.bn_groups={bn_groups}',
      *(
        (
          f'--coordinator=127.0.0.1:{port}',
          f'--process_count={processes}',
          f'--process_id={i}',
        )
        if processes > 1
        else ()
      ),
    )
    for i in range(processes)
  ]
  results = [process.communicate(timeout=240) for process in started]
  for process, (_, err) in zip(started, results, strict=True):
    assert process.returncode == 0, err
  return [out for out, _ in results]


def history(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def check_same(workdir, reference):
  """That two runs are one but for the order of their sums."""
  ours, theirs = history(workdir), history(reference)
  assert [e['step'] for e in ours] == [e['step'] for e in theirs]
  for mine, other in zip(ours, theirs, strict=True):
    for name in set(mine) - {'images_per_second', 'input_wait'}:
      # Every example once, over all processes.
      if name == 'eval_examples':
        assert mine[name] == 300
      np.testing.assert_allclose(
        mine[name], other[name], rtol=2e-3, atol=1e-6, err_msg=name
      )
  for ema in (True, False):
    with (
      Checkpoints(workdir, writing=False) as mine,
      Checkpoints(reference, writing=False) as other,
    ):
      assert mine.run(8)['data'] == other.run(8)['data']
      a, b = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(variables)])
        for variables in (
          mine.variables(8, ema=ema),
          other.variables(8, ema=ema),
        )
      )
    # float32 rounds at 6e-8; eight steps of sums in another order.
    apart = np.linalg.norm(a - b) / np.linalg.norm(b)
    print(f'{workdir.name}, ema={ema}: {apart:.1e}, {np.abs(a - b).max():.1e}')
    assert apart < 1e-5
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_two_processes_train_save_resume_like_one(tmp_path):
  outputs = run(tmp_path / 'two', '4 steps', processes=2, bn_groups=4)
  # Lines come from process 0 alone.
  assert 'step ' in outputs[0]
  said = outputs[1].splitlines()
  assert all(line.startswith('[Gloo]') for line in said), said
  outputs = run(tmp_path / 'two', '8 steps', processes=2, bn_groups=4)
  assert 'resumed after step 4' in outputs[0]
  run(tmp_path / 'one', '8 steps', processes=1, bn_groups=4)
  check_same(tmp_path / 'two', tmp_path / 'one')


@pytest.mark.soak
def test_four_processes_and_what_they_saved_goes_on_with_any_number(tmp_path):
  run(tmp_path / 'one', '8 steps', processes=1, bn_groups=2)
  run(tmp_path / 'four', '4 steps', processes=4, bn_groups=2)
  for processes in (1, 2, 4):
    workdir = tmp_path / f'four_then_{processes}'
    shutil.copytree(tmp_path / 'four', workdir)
    outputs = run(workdir, '8 steps', processes, bn_groups=2)
    assert 'resumed after step 4' in outputs[0]
    check_same(workdir, tmp_path / 'one')
