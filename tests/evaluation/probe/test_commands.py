"""The command `probe` on a folder of real photos' pieces."""

import json

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from effnet_jax import cli
from effnet_jax.data.preprocess import Preprocess, decode, eval_image
from effnet_jax.evaluation.probe import classifiers
from effnet_jax.inference import features
from effnet_jax.models import efficientnet, variants
from effnet_jax.models.normalize import normalize
from effnet_jax.weights import native

TINY = {
  'stages': 'r1_k3_s1_e1_o8_se r1_k3_s2_e2_o16_se',
  'depth': 1.0,
  'resolution': 8,
  'head_filters': 32,
}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  folder = tmp_path_factory.mktemp('weights')
  spec = variants.get_spec('micro', num_classes=3, **TINY)
  model = efficientnet.build(spec)
  variables = efficientnet.init(model, seed=1)
  native.write(folder, spec, variables)
  return folder, model, variables


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Two classes of 20 pieces; and one file that is no image."""
  folder = tmp_path_factory.mktemp('photos')
  for name in ('china', 'flower'):
    image = load_sample_image(f'{name}.jpg')
    (folder / name).mkdir()
    for i in range(20):
      piece = image[80 * (i // 5) :, 120 * (i % 5) :][:16, :16, ::-1]
      cv2.imwrite(str(folder / name / f'{i}.png'), piece)
  (folder / 'china' / 'broken.png').write_bytes(b'no image')
  return folder


def _run(capsys, *argv):
  status = cli.main(['probe', *map(str, argv)])
  said = capsys.readouterr()
  assert status == 0, said.err
  return said.out


def _message(capsys, *argv):
  assert cli.main(['probe', *map(str, argv)]) == 2
  error = capsys.readouterr().err.strip()
  assert '\n' not in error
  return error


def test_folds_of_a_folder_of_classes(capsys, photos, weights):
  folder, *_ = weights
  argv = ('--data', photos, '--weights', folder, '--folds', 4)
  result = json.loads(_run(capsys, *argv, '--json'))
  assert (result['images'], result['unreadable']) == (40, 1)
  assert (result['classes'], result['resolution']) == (2, 8)
  assert (result['folds'], result['model']) == (4, 'micro')
  for part in ('linear', 'neighbours'):
    values = result[part]['values']
    assert len(values) == 4
    assert result[part]['mean'] == pytest.approx(np.mean(values))
    assert result[part]['std'] == pytest.approx(np.std(values))
    # Each fold tests 10 images: whole tenths, and better than by chance.
    assert all(value % 10 == pytest.approx(0) for value in values)
    assert np.mean(values) > 60
  assert result['neighbours']['count'] == 20
  assert set(result['linear']['C']) <= set(classifiers.STRENGTHS)
  text = _run(capsys, *argv)
  assert '40 images, 2 classes, 8 pixels, 1 unreadable' in text
  assert f'linear probe   {result["linear"]["mean"]:.2f} % +- ' in text


def test_one_split_against_another_is_what_one_computes(
  capsys, photos, weights
):
  folder, model, variables = weights
  argv = ('--weights', folder, '--train', 'train+validation', '--test', 'test')
  result = json.loads(
    _run(capsys, '--data', photos, *argv, '--neighbours', 99, '--json')
  )
  assert result['folds'] is None and len(result['linear']['values']) == 1

  from effnet_jax.data.sources import open_source

  def embedded(*splits):
    images, labels = [], []
    for split in splits:
      source = open_source('folder', split, path=str(photos))
      for record in map(source.__getitem__, range(len(source))):
        if not record['name'].endswith('broken.png'):
          preprocess = Preprocess.of(model.spec)
          images.append(eval_image(decode(record['image']), preprocess))
          labels.append(record['label'])
    pixels = normalize(np.stack(images), model.spec)
    found = features.embed(model, variables, pixels)
    return np.asarray(found), np.asarray(labels)

  known, asked = embedded('train', 'validation'), embedded('test')
  found, strength = classifiers.linear(*known, asked[0])
  expected = 100 * np.mean(found == asked[1])
  assert result['linear']['mean'] == pytest.approx(expected)
  assert result['linear']['C'] == [strength]
  count = result['neighbours']['count']  # as many as there are
  assert count == len(known[1])
  found = classifiers.neighbours(*known, asked[0], count)
  expected = 100 * np.mean(found == asked[1])
  assert result['neighbours']['mean'] == pytest.approx(expected)


def test_mistakes_are_one_line(capsys, photos, weights, tmp_path):
  network = ('--weights', weights[0])
  error = _message(capsys, '--data', 'digit', *network)
  assert '--data digit is no folder, and none of tfds, fashion_mnist' in error
  error = _message(capsys, '--data', photos, *network, '--folds', 1)
  assert '--folds must be 2 or more' in error
  error = _message(capsys, '--data', photos, *network, '--folds', 30)
  assert '--folds 30 needs 30 images of each class' in error
  error = _message(capsys, '--data', photos, *network, '--test', 'val')
  assert "no split 'val'" in error
  assert 'which network?' in _message(capsys, '--data', photos)
