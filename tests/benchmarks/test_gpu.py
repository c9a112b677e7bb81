"""The script for a GPU, tried on a CPU, without torch."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu_ours(script):
  return script('gpu_ours')


def _run(*arguments):
  return subprocess.run(
    [sys.executable, 'benchmarks/gpu.py', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''},
  )


@pytest.mark.soak
def test_it_measures_and_goes_on_where_it_stopped(tmp_path):
  out = tmp_path / 'gpu.json'
  tiny = ('--device', 'cpu', '--small', '--out', str(out), '--windows', '2')
  tiny += ('--seconds', '0.01', '--formulations', 'grouped', '--only')
  for sections in (('training',), ('profile', 'inference', 'depthwise')):
    result = _run(*tiny, *sections)
    assert result.returncode == 0, result.stderr
  report = json.loads(out.read_text())
  assert report['device'] == 'cpu' and report['bandwidth'] is None
  assert report['peer'] == 'measured' or 'not installed' in report['peer']
  training, profile, inference, depthwise = report['rows']
  for row in (training, inference):
    assert row['interleaved']
    ours = row['competitors']['ours_grouped']
    assert ours['images_per_second'] > 0 and len(ours['windows']) == 2
  assert training['competitors']['ours_grouped']['bytes_accessed'] > 0
  share = profile['profiles']['ours_grouped']['share']
  assert sum(share.values()) == pytest.approx(1, abs=0.01)
  assert min(share['depthwise'], share['batch_norm_reduction']) > 0
  (layer,) = depthwise['layers']
  assert (layer['kernel'], layer['stride'], layer['size']) == (3, 2, 32)
  # What is there is not measured again.
  before = out.stat().st_mtime_ns
  result = _run(*tiny, 'training')
  assert result.returncode == 0 and out.stat().st_mtime_ns == before


def test_without_a_gpu_it_says_so():
  result = _run()
  assert result.returncode == 1
  assert result.stderr.startswith('gpu: JAX finds no GPU')
  assert len(result.stderr.splitlines()) == 1


_COMPETITOR = """
import os, sys
from pathlib import Path
sys.path.insert(0, 'benchmarks')
import workers
def prepare(optimizer='', **request):
  once = Path(__file__).with_name('once')
  if optimizer == 'rmsprop' and not once.exists():
    once.touch()
    raise workers.WorkerError(os.environ['FAILURE'])
  return {'prepare_seconds': 1}
workers.serve({
  'about': lambda: {
    **{'device': 'cpu', 'bandwidth': None, 'versions': {}},
    'formulations': ['grouped'],
  },
  'prepare': prepare,
  'measure': lambda seconds: {'calls': 3, 'seconds': 2.0},
  'peak_bytes': lambda: 7,
})
"""


@pytest.fixture
def row_where_one_fails(script, tmp_path, monkeypatch):
  """Measures a case in which one of three competitors fails, once."""
  gpu_bench, gpu = script('gpu_bench'), script('gpu')
  for framework in ('ours', 'timm'):
    (tmp_path / f'gpu_{framework}.py').write_text(_COMPETITOR)
  monkeypatch.setattr(gpu_bench, 'FOLDER', tmp_path)
  arguments = argparse.Namespace(
    **{'device': 'cpu', 'small': True, 'eager': True, 'formulations': None},
    **{'windows': 2, 'seconds': 1},
  )

  def measured(failure):
    monkeypatch.setenv('FAILURE', failure)
    bench = gpu_bench.Bench(arguments)
    bench.begin(tmp_path / 'gpu.json')
    row = bench.run(gpu.SMALL[0])
    gpu._show(row)
    return row

  return measured


def test_one_that_fails_leaves_the_others(row_where_one_fails, capsys):
  row = row_where_one_fails('no compiler')
  assert row['interleaved'] and 'errors_together' not in row
  assert row['competitors']['timm_foreach'] == {'error': 'no compiler'}
  for name in ('ours_grouped', 'timm'):
    assert row['competitors'][name]['windows'] == [3.0, 3.0]
  assert row['speedups'] == {'timm': 1.0}
  assert 'timm_foreach   no compiler' in capsys.readouterr().out


def test_what_does_not_fit_together_runs_alone(row_where_one_fails, capsys):
  row = row_where_one_fails('CUDA out of memory')
  assert not row['interleaved']
  assert row['errors_together'] == {'timm_foreach': 'CUDA out of memory'}
  assert row['speedups'] == {'timm': 1.0, 'timm_foreach': 1.0}
  assert 'together: CUDA out of memory' in capsys.readouterr().out


def test_layers_of_b0(gpu_ours):
  layers = gpu_ours.depthwise_layers('b0', {}, 224)
  shapes = [tuple(layer.values()) for layer in layers]
  # By hand, from the paper's table: k, stride, pixels, channels.
  assert shapes == [
    (3, 1, 112, 32),
    (3, 2, 112, 96),
    (3, 1, 56, 144),
    (5, 2, 56, 144),
    (5, 1, 28, 240),
    (3, 2, 28, 240),
    (3, 1, 14, 480),
    (5, 1, 14, 480),
    (5, 1, 14, 672),
    (5, 2, 14, 672),
    (5, 1, 7, 1152),
    (3, 1, 7, 1152),
  ]


@pytest.mark.parametrize(
  'kind, expected',
  [
    ('NVIDIA H100 80GB HBM3', 3.35e12),
    ('NVIDIA H100 PCIe', 2.0e12),
    ('NVIDIA A100-SXM4-40GB', 1.555e12),
    ('NVIDIA A100-SXM4-80GB', 2.039e12),
    ('NVIDIA T1000', None),
  ],
)
def test_bandwidth(gpu_ours, kind, expected):
  assert gpu_ours.bandwidth(kind) == expected
