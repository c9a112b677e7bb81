"""Two real processes on loopback: train, save, resume."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import effnet_jax

ROOT = Path(__file__).parents[2]
CONFIG = (
  '--config=configs/quickstart.py',
  '--config.batch_size=16',
  '--config.model.overrides.stages=r1_k3_s1_e1_o8_se r1_k3_s2_e2_o16_se',
  '--config.model.overrides.depth=1.0',
  '--config.model.overrides.resolution=8',
  '--config.model.overrides.head_filters=32',
  # One process with two devices must give the same as two with one each.
  '--config.model.bn_groups=global',
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


def run(workdir, duration, processes):
  port = free_port()
  started = [
    start(
      workdir,
      duration,
      2 // processes,
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


def test_two_processes_train_save_resume_like_one(tmp_path):
  outputs = run(tmp_path / 'two', '4 steps', processes=2)
  assert 'test top-1' in outputs[0] and 'step' not in outputs[1]
  outputs = run(tmp_path / 'two', '8 steps', processes=2)
  assert 'resumed after step 4' in outputs[0]
  run(tmp_path / 'one', '8 steps', processes=1)

  two, one = history(tmp_path / 'two'), history(tmp_path / 'one')
  assert [e['step'] for e in two] == [e['step'] for e in one]
  for ours, reference in zip(two, one, strict=True):
    for name in set(ours) - {'images_per_second', 'input_wait'}:
      # Every example once, over both processes.
      if name == 'eval_examples':
        assert ours[name] == 300
      np.testing.assert_allclose(
        ours[name], reference[name], rtol=2e-3, err_msg=name
      )
  _, two_variables = effnet_jax.load(tmp_path / 'two')
  _, one_variables = effnet_jax.load(tmp_path / 'one')
  # Only the order of sums differs between the two.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    two_variables,
    one_variables,
  )
