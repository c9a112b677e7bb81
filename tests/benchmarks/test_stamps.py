"""Stamps: which count, how they are laid out, what is not run again."""

import collections
import json

import numpy as np
import pytest
from PIL import Image

COUNTED = {
  'animals/birds/duck.png': 'bird',
  'animals/mammals/cats/cat.png': 'mammal',
  'animals/fish/fish.png': 'animal',
  'animals/lizards/gecko.png': 'animal',
  'clothes/hats/hat.png': 'clothes',
  'food/fruit/apple.png': 'food',
  'household/tools/saw.png': 'household',
  'plants/trees/oak.png': 'plants',
  'vehicles/ship/boat.png': 'vehicles',
}
LEFT_OUT = (
  'animals/birds/cartoon/duck.png',
  'animals/dinosaur/cartoon/rex.png',
  'animals/birds/duck_mirror.png',
  'animals/birds/duck.txt',
  'food/apple_cartoon.png',
  'seasonal/easter/egg.png',
  'symbols/math/plus.png',
  'town/houses/house.png',
  'hobbies/music/brass/horn.png',
)


@pytest.fixture
def stamps(script):
  return script('stamps')


@pytest.fixture
def package(tmp_path):
  """Ten transparent stamps of each class, a blue dot on each."""
  root = tmp_path / 'package' / 'usr/share/tuxpaint/stamps'
  image = np.zeros((5, 4, 4), np.uint8)
  image[2, 2] = (0, 0, 255, 255)
  for path in (*COUNTED, *LEFT_OUT):
    for i in range(10):
      file = root / path
      file = file.with_name(f'{i}_{file.name}')
      file.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image).save(file, 'PNG')
  return tmp_path / 'package'


def test_which_stamps_count(stamps, package):
  assert {path: stamps.class_of(path) for path in COUNTED} == COUNTED
  assert not any(map(stamps.class_of, LEFT_OUT))
  found = stamps.find(package)
  assert found == sorted(found)
  counts = collections.Counter(name for _, name in found)
  assert counts == dict.fromkeys(COUNTED.values(), 10) | {'animal': 20}
  with pytest.raises(SystemExit, match='apt-get download tuxpaint-stamps'):
    stamps.find(package / 'usr')


def test_every_stamp_is_tested_on_once(stamps):
  names = [name for name in 'abc' for _ in range(20)]
  folds = stamps.folds(names)
  assert sorted(i for fold in folds for i in fold['test']) == list(range(60))
  for fold in folds:
    assert sorted(i for part in fold.values() for i in part) == list(range(60))
    counts = collections.Counter(names[i] for i in fold['test'])
    assert counts == {'a': 4, 'b': 4, 'c': 4}


def test_a_fold_on_disk_is_on_white(stamps, package, tmp_path):
  folder = stamps.lay_out(package, tmp_path / 'work', 1)
  found = list(folder.rglob('*.png'))
  assert len(found) == 90
  assert {f.relative_to(folder).parts[0] for f in found} == {
    'train',
    'test',
  }
  assert {f.parent.name for f in found} == set(COUNTED.values())
  pixels = np.asarray(Image.open(found[0]))
  assert pixels.shape == (5, 5, 3)  # the stamps are 4 wide
  assert (pixels[2, 2] == (0, 0, 255)).all()
  assert (pixels[0] == 255).all()


def test_what_was_run_is_not_run_again(stamps, package, tmp_path, monkeypatch):
  calls, scores = [], iter((0.5, 0.8, 0.6))

  def run(method, images, workdir, extra):
    calls.append((method, images.name, workdir.name, extra))
    return {'top1': next(scores)}

  monkeypatch.setattr(stamps, 'run', run)
  out = tmp_path / 'stamps.json'
  argv = ['--stamps', str(package), '--work', str(tmp_path), '--out', str(out)]
  stamps.main([*argv, '--methods', 'probe', '--fold', '3'])
  stamps.main(
    [*argv, '--methods', 'finetune', '--fold', '0', '--', '--config.seed=1']
  )
  stamps.main([*argv, '--methods', 'finetune', '--fold', '0'])
  stamps.main([*argv, '--methods', 'finetune', '--fold', '2'])
  assert calls == [
    ('probe', 'fold_3', 'probe_3', []),
    ('finetune', 'fold_0', 'finetune_0', ['--config.seed=1']),
    ('finetune', 'fold_2', 'finetune_2', []),
  ]
  report = json.loads(out.read_text())
  assert report['top1']['probe']['mean'] == 0.5
  assert report['top1']['finetune']['folds'] == 2
  assert report['top1']['finetune']['mean'] == pytest.approx(0.7)
  assert report['top1']['finetune']['mean_without_fold_0'] == 0.6
  assert report['top1']['finetune']['std'] == pytest.approx(0.1)
  with pytest.raises(SystemExit, match='--methods'):
    stamps.main([*argv, '--methods', 'prob'])
