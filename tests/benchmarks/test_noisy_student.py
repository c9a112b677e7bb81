"""Noisy Student's experiment: what learns from what, at no cost."""

import json

import jax
import numpy as np
import pytest

from configs import quickstart
from effnet_jax import pretrained
from effnet_jax.models import efficientnet
from effnet_jax.training import inputs, program
from effnet_jax.weights import native

TINY = 'r1_k3_s1_e1_o8'


@pytest.fixture
def benchmark(script):
  return script('noisy_student')


def _config():
  config = quickstart.get_config()
  config.model.overrides.stages = TINY
  config.model.overrides.resolution = 8
  return config


def _experiment(benchmark):
  return benchmark.Experiment(
    config=_config,
    labelled='train[:200]',
    unlabelled='digits:train[200:260]',
    teacher={'batch_size': 64},
    student={'batch_size': 32, 'data.unlabelled_ratio': 3},
    min_confidence=0.0,
  )


@pytest.fixture
def trained(benchmark, monkeypatch):
  """What is asked of the loop, which leaves random weights."""
  asked = []

  def train(config, workdir):
    config = inputs.Data(config).config  # the labels must be there, and fit
    asked.append((workdir.name, config))
    model = efficientnet.build(pretrained.spec_of_run(config))
    variables = jax.device_get(efficientnet.init(model, config.seed))
    workdir.mkdir(parents=True, exist_ok=True)
    native.write(workdir, model.spec, variables, class_names='0123456789')
    scores = {'test_top1': 0.5, 'test_top1_ema': 0.6 + 0.01 * config.seed}
    text = json.dumps(
      {**scores, 'step': 9, 'seconds': 1.0, 'device': '1 x cpu'}
    )
    (workdir / 'summary.json').write_text(text)

  monkeypatch.setattr(benchmark.loop, 'train_and_evaluate', train)
  return asked


def test_each_student_learns_from_the_one_before(benchmark, trained, tmp_path):
  out = tmp_path / 'out.json'
  report = benchmark.measure(_experiment(benchmark), 2, tmp_path / 'runs', out)
  assert json.loads(out.read_text()) == report
  assert [name for name, _ in trained] == [
    f'{stage}-{seed}' for seed in (0, 1) for stage in benchmark.STAGES
  ]
  for name, config in trained[:3]:
    student = name != 'teacher-0'
    assert config.seed == 0
    assert config.data.train_examples == 200
    assert config.batch_size == (32 if student else 64)
    assert config.objective.name == (
      'noisy_student' if student else 'supervised'
    )
  labels = [config.data.unlabelled for _, config in trained[:3]]
  assert labels[0] == ''
  assert labels[1].endswith('/labels-teacher-0')
  assert labels[2].endswith('/labels-student-0')
  truth = benchmark.unlabelled.open_unlabelled('digits:train[200:260]')[0]
  rows = np.load(tmp_path / 'runs' / 'labels-teacher-1' / 'shard-00000.npy')
  right = np.mean([rows['top'][i] == truth[i]['label'] for i in range(60)])
  of_seed_1 = [row for row in report['rows'] if row['seed'] == 1]
  assert of_seed_1[1]['labels_right'] == pytest.approx(right)
  first = report['summary'][0]
  assert (first['stage'], first['seeds']) == ('teacher', 2)
  # 60 and 61 per cent: mean 60.5, deviation 1 / sqrt 2.
  assert (first['mean'], first['standard_deviation']) == (60.5, 0.707)
  assert str(tmp_path) not in out.read_text()


def test_the_size_is_as_said(benchmark):
  experiment = benchmark.of_fashion_mnist('/somewhere')
  assert experiment.unlabelled == 'fashion_mnist:/somewhere:train[2000:]'
  images = {}
  for name, changes in (
    ('teacher', experiment.teacher),
    ('student', experiment.student),
  ):
    config = experiment.config()
    config.update_from_flattened_dict(
      {**changes, 'data.num_classes': 10, 'data.train_examples': 2000}
    )
    built = program.build(config, jax.devices()[:2])
    ratio = config.data.unlabelled_ratio if name == 'student' else 0
    images[name] = built.total_steps * config.batch_size * (1 + ratio)
    # A step has 64 images of both kinds, and the rate that goes with them; the
    # warm-up of an epoch ends after 250 and 31 steps.
    peak = max(float(built.schedule(i)) for i in range(0, 400, 10))
    assert peak == pytest.approx(0.004, 0.05)
  assert images == {'teacher': 200_000, 'student': 256_000}
