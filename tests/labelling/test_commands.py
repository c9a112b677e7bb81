"""The command `pseudo-label`, from weights and images to a student's data."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from effnet_jax import cli
from effnet_jax.data import pseudo_labels
from effnet_jax.data.sources import open_source
from effnet_jax.inference.predictor import predictor
from effnet_jax.models import efficientnet
from effnet_jax.models.normalize import normalize
from effnet_jax.models.spec import ModelSpec, parse_stages
from effnet_jax.weights import native

DIGITS = tuple('0123456789')


def _spec():
  return ModelSpec(
    'tiny',
    parse_stages('r1_k3_s1_e1_o8'),
    resolution=8,
    stem_filters=8,
    head_filters=16,
    num_classes=10,
    resampling='pillow',
    crop_padding=0,
  )


def _variables(spec, scale=3.0):
  """Draws weights whose answers depend on the image."""
  variables = efficientnet.init(efficientnet.build(spec), seed=0)
  variables = jax.tree.map(np.asarray, variables)
  kernel = variables['params']['classifier']['kernel']
  variables['params']['classifier']['kernel'] = (
    np.random.default_rng(0).normal(0, scale, kernel.shape).astype(np.float32)
  )
  return variables


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  native.write(folder, _spec(), _variables(_spec()), class_names=DIGITS)
  return str(folder)


@pytest.fixture(scope='module')
def probabilities():
  """Of digits 0 to 49, by the predictor, which is another implementation."""
  source, spec = open_source('digits', 'train[:50]'), _spec()
  images = np.stack([source[i]['image'] for i in range(50)])[..., None]
  images = jnp.asarray(np.repeat(images, 3, -1))  # 8 pixels, as the network
  logits = predictor(efficientnet.build(spec), _variables(spec))(
    normalize(images, spec)
  )
  return np.asarray(jax.nn.softmax(logits), np.float64)


def _argv(weights, out, *more, data='digits:train[:50]'):
  return [
    *('pseudo-label', '--weights', weights, '--data', data),
    *('--out', str(out), '--batch', '8', *more),
  ]


def _run(capsys, *arguments, status=0, **named):
  assert cli.main(_argv(*arguments, **named)) == status
  return capsys.readouterr()


def _error(capsys, *arguments, **named):
  out, err = _run(capsys, *arguments, status=2, **named)
  assert out == '' and err.count('\n') == 1
  return err


def _files(folder):
  return {
    path.name: path.read_bytes()
    for path in folder.iterdir()
    if path.suffix == '.npy'
  }


@pytest.fixture(scope='module')
def finished(weights, tmp_path_factory):
  out = tmp_path_factory.mktemp('labels')
  more = ('--shard-size', '12', '--per-class', '3', '--min-confidence', '0.5')
  assert cli.main(_argv(weights, out, *more)) == 0
  return out, more


def test_labels_are_the_teachers(finished, probabilities):
  out, _ = finished
  names = [f'shard-0000{i}.npy' for i in range(5)]
  shards = [np.load(out / name) for name in names]
  assert [len(shard) for shard in shards] == [12] * 4 + [2]
  rows = np.concatenate(shards)
  np.testing.assert_allclose(rows['label'], probabilities, atol=1e-3)
  np.testing.assert_allclose(
    rows['confidence'], probabilities.max(1), rtol=1e-4
  )
  assert rows['top'].tolist() == probabilities.argmax(1).tolist()
  source = pseudo_labels.open_pseudo_labelled(str(out), DIGITS)
  manifest = json.loads((out / 'manifest.json').read_text())
  assert (
    len(source) == manifest['examples'] == sum(manifest['counts']['examples'])
  )
  chosen = np.load(out / 'examples.npy')
  assert (probabilities.max(1)[chosen] >= 0.5).all()
  used = set(probabilities.argmax(1)[chosen])
  assert len(used) > 1  # a teacher that says more than one thing
  assert len(chosen) == 3 * len(used)


def test_the_table_counts(finished, weights, probabilities, capsys):
  out, more = finished
  text, err = _run(capsys, weights, out, *more)
  assert err == ''
  first, header, *lines = text.splitlines()
  assert first == f'{out} is finished; nothing to do.'
  assert header.split() == [
    *('class', 'labelled', 'confident', 'taken', 'examples'),
  ]
  top, confidence = probabilities.argmax(1), probabilities.max(1)
  for digit, line in enumerate(lines[:10]):
    labelled = (top == digit).sum()
    confident = ((top == digit) & (confidence >= 0.5)).sum()
    counts = (labelled, confident, min(confident, 3), 3 * (confident > 0))
    assert [int(word) for word in line.split()] == [digit, *counts]
  assert lines[10].split()[:2] == ['all', '50']


@pytest.mark.parametrize('at', [1, 3])
def test_a_killed_command_goes_on(
  finished, weights, tmp_path, monkeypatch, capsys, at
):
  whole, more = finished
  written = []
  write = pseudo_labels.write_array

  def dying(path, array):
    if len(written) == at:
      raise KeyboardInterrupt
    written.append(path.name)
    write(path, array)

  with monkeypatch.context() as patch:
    patch.setattr(pseudo_labels, 'write_array', dying)
    assert cli.main(_argv(weights, tmp_path, *more)) == 130
  # What a process that is killed within a write leaves.
  (tmp_path / '.shard-00003.npy.1').write_bytes(b'half')
  assert not json.loads((tmp_path / 'manifest.json').read_text())['finished']
  with monkeypatch.context() as patch:
    patch.setattr(
      pseudo_labels,
      'write_array',
      lambda path, array: (written.append(path.name), write(path, array)),
    )
    assert cli.main(_argv(weights, tmp_path, *more)) == 0
  capsys.readouterr()
  shards = [name for name in written if name.startswith('shard')]
  assert shards == [f'shard-0000{i}.npy' for i in range(5)]  # each once
  visible = {k: v for k, v in _files(tmp_path).items() if k[0] != '.'}
  assert visible == _files(whole)


def test_other_arguments_are_refused(finished, weights, tmp_path, capsys):
  out, more = finished
  before = _files(out)
  line = _error(capsys, weights, out, '--hard', data='digits:train[:20]')
  for part in (
    "origin ({'kind': 'digits',",
    'min_confidence (0.5 before, 0.3 now)',
    'per_class (3 before, None now)',
    'hard (False before, True now)',
    'shard_size (12 before, 50000 now)',
  ):
    assert part in line
  other = tmp_path / 'other'
  native.write(other, _spec(), _variables(_spec(), 2.0), class_names=DIGITS)
  line = _error(capsys, str(other), out, *more)
  assert f"weights ('{weights}, " in line and f"'{other}, " in line
  assert 'min_confidence' not in line
  assert _files(out) == before
  # The batch is no argument of the labels, nor is the place of the weights.
  native.write(other, _spec(), _variables(_spec()), class_names=DIGITS)
  _run(capsys, str(other), out, *more, '--batch', '16')


def test_images_of_a_folder(weights, tmp_path, capsys):
  images = tmp_path / 'images'
  (images / 'deep').mkdir(parents=True)
  for number, name in enumerate(('a.png', 'deep/b.png', 'deep/c.png')):
    Image.new('RGB', (9, 8), (90 * number, 20, 200)).save(images / name)
  (images / 'broken.png').write_bytes(b'none')
  arguments = ('--min-confidence', '0', '--per-class', '2')
  text, _ = _run(
    capsys, weights, tmp_path / 'out', *arguments, data=str(images)
  )
  assert '1 images cannot be read' in text
  source = pseudo_labels.open_pseudo_labelled(str(tmp_path / 'out'), DIGITS)
  names = {source[i]['name'] for i in range(len(source))}
  # The second file in sorted order is none.
  assert names <= {
    str(images / n) for n in ('a.png', 'deep/b.png', 'deep/c.png')
  }
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert manifest['unreadable'] == 1
  assert sum(manifest['counts']['labelled']) == 3


@pytest.mark.parametrize(
  ('more', 'text'),
  [
    (['--min-confidence', '1.5'], '--min-confidence must be in 0..1'),
    (['--per-class', '0'], '--per-class must be 1 or more'),
    (['--temperature', '0'], '--temperature must be above 0'),
    (['--temperature', 'nan'], '--temperature must be above 0'),
    (['--temperature', '2', '--hard'], 'leave one out'),
  ],
)
def test_mistakes_are_one_line(weights, tmp_path, capsys, more, text):
  assert text in _error(capsys, weights, tmp_path / 'out', *more)


def test_a_directory_of_something_else_is_left_alone(weights, tmp_path, capsys):
  (tmp_path / 'thesis.tex').write_text('years of work')
  assert 'holds something else' in _error(capsys, weights, tmp_path)


def test_nobody_confident_is_said(weights, tmp_path, capsys):
  variables = _variables(_spec(), scale=0.0)
  flat = tmp_path / 'flat'
  native.write(flat, _spec(), variables, class_names=DIGITS)
  line = _error(capsys, str(flat), tmp_path / 'out')
  assert 'the highest is 0.100' in line


def test_weights_that_are_damaged_are_said(tmp_path, capsys):
  variables = _variables(_spec())
  variables['params']['classifier']['bias'] = np.full(10, np.nan, np.float32)
  native.write(tmp_path / 'nan', _spec(), variables, class_names=DIGITS)
  line = _error(capsys, str(tmp_path / 'nan'), tmp_path / 'out')
  assert 'not finite' in line
