"""`evaluate --data run`: the images that a training run's config names."""

import json

import pytest

from configs import quickstart
from effnet_jax import cli
from effnet_jax.training import loop


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """Digits, two epochs: a network that has learned something."""
  config = quickstart.get_config()
  config.model.overrides.stages = 'r1_k3_s2_e1_o16'
  config.model.overrides.resolution = 8
  config.duration = '3 epochs'
  config.evaluation.every = '3 epochs'
  config.ema = 0.9
  workdir = tmp_path_factory.mktemp('runs') / 'digits'
  loop.train_and_evaluate(config, workdir)
  return workdir


def _evaluate(capsys, *argv):
  assert cli.main(['evaluate', '--data', 'run', *map(str, argv)]) == 0
  return json.loads(capsys.readouterr().out)


def _mistake(capsys, *argv):
  assert cli.main(['evaluate', '--data', 'run', *map(str, argv)]) == 2
  return capsys.readouterr().err


@pytest.mark.parametrize('raw', [False, True])
def test_it_says_what_the_run_has_said(run, capsys, raw):
  summary = json.loads((run / 'summary.json').read_text())
  result = _evaluate(
    capsys, '--weights', run, '--json', *(['--raw'] if raw else [])
  )
  expected = summary['test_top1' if raw else 'test_top1_ema']
  assert result['top1'] == pytest.approx(100 * expected)
  assert result['images'] == summary['test_examples']
  assert 20 < result['top1'] < 100  # neither chance nor without a mistake


def test_other_splits_and_some_of_the_images(run, capsys):
  sizes = [
    _evaluate(capsys, '--weights', run, '--json', '--split', split)['images']
    for split in ('eval', 'train', 'test[:7]')
  ]
  assert sizes == [300, 1497, 7]  # scikit-learn's 1797, 300 to test on
  few = _evaluate(capsys, '--weights', run, '--json', '--limit', 5)
  assert few['images'] == 5


def test_attacks_leave_less_the_stronger_they_are(run, capsys):
  def attacked(epsilon):
    argv = ('--attack', epsilon, '--attack-steps', 3, '--limit', 200)
    result = _evaluate(capsys, '--weights', run, '--json', *argv)
    return result['top1'], result['attack']

  clean, none = attacked(0)
  assert none['top1'] == clean
  again, strong = attacked(32)
  assert again == clean
  assert strong['epsilon'] == 32
  assert strong['steps'] == 3
  assert strong['top1'] < clean - 20
  assert clean > attacked(8)[1]['top1'] > strong['top1']


def test_corruptions_and_text(run, capsys):
  argv = ('--weights', run, '--limit', 50, '--corruptions', 'contrast')
  assert cli.main(['evaluate', '--data', 'run', *map(str, argv)]) == 0
  said = capsys.readouterr().out
  assert 'on digits test' in said
  assert 'contrast' in said


def test_what_is_not_there_is_named(run, capsys, tmp_path):
  said = _mistake(capsys, '--weights', run, '--split', 'tset')
  assert 'tset' in said
  said = _mistake(capsys, '--weights', run, '--restrict')
  assert '--restrict' in said
  assert 'training run' in _mistake(capsys, '--model', 'lite0')
