"""The step compiled for what is here, and what is made of what XLA says."""

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from effnet_jax.analysis import (
  chips,
  commands,
  compile_check,
  fitting,
  topologies,
)
from effnet_jax.errors import UserError

ROOT = Path(__file__).parents[2]
GIB = 2**30
TINY = (
  '--config=configs/quickstart.py',
  '--config.data.num_classes=4',
  '--config.data.train_examples=640',
  '--config.model.overrides.stages=r1_k3_s1_e2_o8_se',
  '--config.batch_size=64',
)


def _config(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT))  # as train.py has it
  config = importlib.import_module('configs.quickstart').get_config()
  config.data.num_classes, config.data.train_examples = 4, 640
  config.model.overrides.stages = 'r1_k3_s1_e2_o8_se'
  config.batch_size = 64
  return config


def _check(**fields):
  """A check of 8 GiB a chip, as if compiled."""
  return compile_check.Check(
    **{
      'fits': True,
      'chips': 4,
      'hbm_bytes': 16 * GIB,
      'peak_bytes': 8 * GIB,
      'flops': 2e12,
      'bytes_accessed': 40e9,
      'images_per_second_bound': 8000.0,
      'hbm_traffic_bytes': 20e9,
      'images_per_second_by_hbm': 16000.0,
      'compile_seconds': 61.0,
      'collective_bytes': 21_000_000,
      'arithmetic_seconds': 0.01,
      'traffic_seconds': 0.05,
      'bound_by': 'memory traffic',
      'batch_size': 400,
      'batch_per_chip': 100,
      'remat': 'none',
      'model': 'b0',
      'resolution': 224,
      'dtype': 'bfloat16',
      'topology': 'v5e:2x2',
      'versions': {'jax': '1.2.3'},
      **fields,
    }
  )


def test_for_the_devices_here(monkeypatch):
  config = _config(monkeypatch)
  found = compile_check.check(config, jax.devices())
  assert found.fits and found.chips == 4
  assert (found.batch_size, found.batch_per_chip) == (64, 16)
  assert 0 < found.peak_bytes < found.hbm_bytes
  # What is known of a CPU is its memory: no rates, so no bound.
  assert found.images_per_second_bound is None
  assert found.flops > 0 and found.bytes_accessed > 0
  # The gradient of every parameter and the new batch statistics are averaged.
  state = compile_check.program.build(config, jax.devices()).abstract_state()
  averaged = sum(
    leaf.size * 4 for leaf in jax.tree.leaves((state.params, state.batch_stats))
  )
  assert averaged <= found.collective_bytes < 1.1 * averaged + 100
  # It is the step that is compiled: how the evaluation is batched is no matter.
  config.evaluation.batch_size = 7
  # Per chip: half the batch is about half the arithmetic of a chip.
  half = compile_check.check(
    compile_check.changed(config, 4, batch_per_chip=8), jax.devices()
  )
  assert half.batch_size == 32
  assert 0.4 < half.flops / found.flops < 0.7


def _command(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'effnet_jax', 'compile-check', *arguments],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )


def test_the_command_prints_json():
  run = _command(*TINY, '--config.remat', 'block', '--json')
  assert run.returncode == 0, run.stderr
  found = json.loads(run.stdout)
  assert found['fits'] is True and found['ways_out'] == []
  assert (found['remat'], found['chips']) == ('block', 4)


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install '.[tpu-compile]'",
)


@needs_libtpu
def test_for_a_pod_that_is_not_here():
  run = _command(*TINY, '--topology=v5e:2x2', '--json')
  assert run.returncode == 0, run.stderr
  found = json.loads(run.stdout)
  assert found['chips'] == 4 and found['fits']
  assert found['bound_by'] == 'memory traffic'
  assert found['images_per_second_bound'] == pytest.approx(
    64 / (found['bytes_accessed'] / 819e9)
  )
  assert 'libtpu' in found['versions']


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['--topology=v5e'], "unknown topology 'v5e': write it like v4:2x2x1"),
    (['--topology=v9:2x2'], "unknown topology 'v9:2x2'"),
    (['--topology=v5e:4x4x4'], 'v5e has 2 axes'),
    (['--topology=v5e:16x32'], 'up to 256 chips'),
    (['--topology=v4:4x4'], 'v4 has 3 axes'),
    (['--config.batch_size=7'], 'config.batch_size=7 does not divide'),
    (['--config.remat=blok'], "unknown remat 'blok': did you mean block?"),
    (['--topologi=v5e:2x2'], 'did you mean --topology?'),
  ],
)
def test_a_mistake_is_one_line(arguments, text):
  run = _command(*TINY, *arguments)
  assert run.returncode == 2 and run.stdout == ''
  assert run.stderr.startswith('error: ') and run.stderr.count('\n') == 1
  assert text in run.stderr


@needs_libtpu
@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    (['--topology=v5e:4x4', '--config.batch_size=40'], '16 devices; 32 would'),
    (['--topology=v5e:3x5'], "libtpu has no topology 'v5e:3x5'"),
  ],
)
def test_a_pod_that_cannot_be_is_one_line(arguments, text):
  test_a_mistake_is_one_line(arguments, text)


def test_chips_that_do_not_divide_the_batch(monkeypatch):
  with pytest.raises(
    UserError, match=r'batch_size=64 does not divide over 3 devices; 63 would$'
  ):
    compile_check.check(_config(monkeypatch), jax.devices()[:3])


def _measure(peak, hbm=16 * GIB, remats=()):
  """A compiler whose peak is a function of the batch, and what it was asked."""
  asked = []

  def measure(batch_per_chip=100, remat='none'):
    asked.append(batch_per_chip if remat == 'none' else remat)
    bytes_ = peak(batch_per_chip) if remat == 'none' else hbm + 1
    return _check(
      fits=bytes_ <= hbm or remat in remats,
      hbm_bytes=hbm,
      peak_bytes=bytes_,
      batch_per_chip=batch_per_chip,
      batch_size=4 * batch_per_chip,
      remat=remat,
    )

  return measure, asked


@pytest.mark.parametrize(
  ('peak', 'batch', 'compiles'),
  [
    # .19 GiB an image and 1 GiB besides: 78 images, from two points.
    (lambda n: int((1 + 0.19 * n) * GIB), 78, [50, 78]),
    # Half does not fit either.
    (lambda n: int((1 + 0.5 * n) * GIB), 30, [50, 30]),
    # Bent: what the line promises does not fit, the next point does.
    (lambda n: int((1 + 0.0022 * n**2) * GIB), None, None),
    # Not one image.
    (lambda n: 20 * GIB + n, None, None),
  ],
)
def test_the_largest_batch(peak, batch, compiles):
  measure, asked = _measure(peak)
  found = fitting.largest_batch(measure, measure())
  del asked[0]
  if compiles:
    assert found.batch_per_chip == batch and asked == compiles
  elif peak(1) > 16 * GIB:
    assert found is None
  else:
    # 82 would fit.
    assert found.fits and 70 <= found.batch_per_chip <= 82
  assert len(asked) <= 4


def test_ways_out():
  measure, asked = _measure(lambda n: n * GIB, remats=('stage',))
  ways = fitting.ways_out(measure(), measure)
  assert [(way.remat, way.fits) for way in ways] == [
    ('none', True),
    ('block', False),
    ('stage', True),
  ]
  assert ways[0].batch_per_chip == 16
  assert asked == [100, 50, 16, 'block', 'stage']


@pytest.mark.parametrize(
  ('message', 'sizes'),
  [
    (
      'XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
      'Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.',
      (20.5 * GIB, 15.75 * GIB),
    ),
    (
      'Ran out of memory on HBM, the total memory required for HLO temporaries '
      '(111.00G) exceeds available HBM (15.75G).',
      (111 * GIB, 15.75 * GIB),
    ),
    ('Out of memory.', (None, None)),
  ],
)
def test_no_room_is_read_from_the_message(message, sizes):
  error = RuntimeError(f'RESOURCE_EXHAUSTED: {message}')
  assert compile_check._no_room(error) == sizes


def test_another_failure_of_the_compiler_is_one_line(monkeypatch):
  def compile():
    raise jax.errors.JaxRuntimeError('INTERNAL: bug\nstack')

  build = compile_check.program.build
  lowered = types.SimpleNamespace(compile=compile)
  step = types.SimpleNamespace(lower=lambda *_: lowered)
  monkeypatch.setattr(
    compile_check.program,
    'build',
    lambda *arguments: dataclasses.replace(
      build(*arguments), train_steps=(step,)
    ),
  )
  with pytest.raises(UserError) as found:
    compile_check.check(_config(monkeypatch), jax.devices())
  text = str(found.value)
  assert f'could not compile the step (jax {jax.__version__}, ' in text
  assert ': INTERNAL: bug. Another config.batch_size, ' in text
  assert topologies.INSTALL in text and '\n' not in text


def test_text():
  text = commands.text(_check())
  assert 'fits: 8.00 GiB of 16.00 GiB a chip, 8.00 GiB to spare' in text
  assert '2,000.0 GFLOP a chip, 10.0 ms at best' in text
  assert '40.0 GB a chip, 50.0 ms at best' in text
  assert '8,000 images/s, 2,000 a chip, by memory traffic' in text


def test_advice_says_what_rematerialisation_costs():
  full = _check(fits=False, peak_bytes=20 * GIB, flops=None)
  half = _check(batch_per_chip=50, batch_size=200)
  # Twice the images for 2.6 times the arithmetic and 2.2 times the bytes.
  remat = _check(remat='block', flops=5.2e12, bytes_accessed=88e9)
  text = commands._advice(full, [half, remat])
  assert '50 images a chip: --config.batch_size=200' in text
  assert '--config.remat=block fits' in text
  assert '1.30 times the arithmetic and 1.10 times the traffic' in text


def test_chips():
  device = lambda kind, platform='tpu', limit=None: types.SimpleNamespace(
    device_kind=kind,
    platform=platform,
    memory_stats=lambda: limit and {'bytes_limit': limit},
  )
  assert chips.of_device(device('TPU v5 lite')).flops_per_second == 197e12
  assert chips.of_device(device('TPU v5')).name == 'v5p'
  gpu = chips.of_device(device('NVIDIA H100 80GB HBM3', 'gpu', 60 * GIB))
  assert (gpu.hbm_bytes, gpu.bytes_per_second) == (60 * GIB, 3350e9)
  other = chips.of_device(device('NVIDIA L4', 'gpu', 20 * GIB))
  assert (other.hbm_bytes, other.flops_per_second) == (20 * GIB, None)
  whole = chips.of_device(device('cpu', 'cpu')).hbm_bytes
  assert chips.of_device(device('cpu', 'cpu'), 4).hbm_bytes == whole // 4
